"""PPO in one process: plays a batch, learns from it, plays the next. At lag 0 the distributed system must equal it.

With `lag`, it plays with weights that are exactly that many versions old; a distributed run cannot keep lag constant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import torch

from mineonline.envs.build import build_env, env_spec
from mineonline.experience.buffer import Batch
from mineonline.experience.rollout import Player, RolloutSettings
from mineonline.fragment import Fragments, concatenate
from mineonline.learning.module import PPO
from mineonline.policies.build import build_actor
from mineonline.run.learner import build_learner
from mineonline.settings.config import Config
from tests.helpers.fit import fit, fresh


class Synchronous:
    """All workers of a run, one after the other, in this process."""

    def __init__(self, config: Config, *, lag: int = 0, learner_class: Callable[..., PPO] = PPO, folder: Path) -> None:
        spec = env_spec(config.env, config.played)
        per_worker = config.collector.envs_per_worker
        torch.set_num_threads(config.torch_threads or 1)
        lightning.seed_everything(config.seed, verbose=False)
        self.learner = build_learner(config, spec, bad_batch_file=folder / "bad.pt", learner_class=learner_class)
        self.returns: list[list[float]] = []
        """Returns of the episodes that ended in each iteration."""
        self._folder = folder
        self._rollouts = config.buffer.fragments_per_iteration // (config.collector.workers * per_worker)
        self._iterations = config.iterations
        self._precision = str(config.trainer["precision"])
        self._lag = lag
        self._published: deque[dict[str, torch.Tensor]] = deque(maxlen=lag + 1)
        self._actor = build_actor(config, spec)
        self._random: list[torch.Tensor] = []
        self._players = []
        for first_env in range(0, config.collector.workers * per_worker, per_worker):
            settings = RolloutSettings(
                env_spec=spec, length=config.fragment.length, envs_per_worker=per_worker, first_env=0,
                seed=config.seed, device="cpu", precision=self._precision, torch_threads=1,
                collector_log=None,
            )  # fmt: skip
            env = build_env(config.env, config.played, seed=config.seed, num_envs=per_worker, first_index=first_env)
            observation = env.reset(np.ones(per_worker, np.bool_))
            self._players.append(Player(env, observation, self._actor, settings, first_env=first_env))
            self._random.append(torch.get_rng_state())  # each worker has its own generator
        self._return = np.zeros(config.collector.workers * per_worker)

    def run(self) -> PPO:
        """Run all iterations; returns the learner."""
        return fit(self.learner, self.play, self._iterations, self._folder, precision=self._precision)

    def play(self) -> Batch:
        """The batch of an iteration: equally many fragments of each environment, sorted by environment."""
        state = self.learner.published()
        self._published.append({name: tensor.clone() for part in state for name, tensor in part.items()})
        self._actor.load_state_dict(self._published[0])
        self.returns.append([])
        rollouts = [self._rollout() for _ in range(self._rollouts)]
        every = concatenate(rollouts)
        return fresh(every[torch.argsort(every.env_B, stable=True)])

    def _rollout(self) -> Fragments:
        parts = []
        for number, player in enumerate(self._players):
            torch.set_rng_state(self._random[number])
            player.play()
            self._random[number] = torch.get_rng_state()
            played = {name: t.clone() for name, t in player.tensors.items() if not name.startswith("report.")}
            parts.append(Fragments.from_named_tensors(played))
        fragments = concatenate(parts)
        self._note_returns(fragments)
        return fragments

    def _note_returns(self, fragments: Fragments) -> None:
        ended_BT = fragments.terminated_BT | fragments.truncated_BT
        reward_BT = fragments.reward_BT * ~fragments.idle_BT
        for t in range(reward_BT.shape[1]):
            self._return += reward_BT[:, t].numpy()
            ended = ended_BT[:, t].numpy()
            self.returns[-1] += self._return[ended].tolist()
            self._return[ended] = 0.0
