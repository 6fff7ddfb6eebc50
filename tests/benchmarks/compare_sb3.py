"""Does asynchrony hurt learning? Our program against stable-baselines3's PPO, at equal settings and env steps.

    pip install stable-baselines3
    python -m tests.benchmarks.compare_sb3 cartpole|lunarlander|crafter [seeds] [steps] [key=value ...]

`key=value` changes only our settings, to find out where a difference comes from.

Both get the same network, initialisation, number of environments, rollout, minibatch size, epochs, learning rate and
loss coefficients. Ours is the real program with its collector processes. Both get the same scores: the mean return of
the last 100 training episodes, of all of them (how fast it learnt), and of 20 fresh episodes (the same for both) with
sampled actions; for Crafter also the score of all training episodes. Ours is worse if its mean over seeds is lower by
more than the spread, which is the standard deviation over seeds, pooled over both.

Remaining differences: ours learns from a behaviour policy that is a version or more behind, and normalises advantages
over an iteration, theirs over a minibatch. Only our value loss has a factor of 1/2, so its coefficient is doubled.

`collector.mode=lockstep` shows ours without lag.
"""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import lightning
import msgspec
import numpy as np
import torch

from mineonline.envs.build import build_env, env_spec
from mineonline.envs.settings import CrafterEnvConfig
from mineonline.experience.buffer import Batch
from mineonline.policies.build import build_policy
from mineonline.policies.heads import CategoricalHead
from mineonline.policies.policy import Memory, Policy, PolicyOutput
from mineonline.run.checkpoint import read_policy_state
from mineonline.run.evaluation import FIRST_INDEX, play
from mineonline.settings.config import Config
from tests.helpers.settings import config_of

FRESH_EPISODES = 20
LAST_EPISODES = 100


class Case(msgspec.Struct, frozen=True):
    """One environment and the settings of both systems."""

    env: list[str]
    """Our overrides that choose environment and network."""
    network: str
    """Name of stable-baselines3's policy with the same network."""
    steps: int
    seeds: int
    workers: int
    envs: int
    rollout: int
    """Steps of each environment that an iteration learns from."""
    fragment: int
    """Length of our fragments, in steps."""
    minibatch: int
    """Steps."""
    epochs: int
    learning_rate: float
    anneal: bool
    discount: float
    trace: float
    entropy: float
    clip: float = 0.2
    value: float = 0.5
    """Weight of the mean squared error."""
    grad_norm: float = 0.5
    only_ours: list[str] = []
    """Overrides of our settings, without a counterpart in stable-baselines3."""


CASES = {
    # settings of rl-baselines3-zoo, but with a constant clip range
    "cartpole": Case(
        ["env=gym", "env.id=CartPole-v1", "policy=mlp"], "MlpPolicy", steps=100_000, seeds=5, workers=1, envs=8,
        rollout=32, fragment=32, minibatch=256, epochs=20, learning_rate=1e-3, anneal=True, discount=0.98, trace=0.8,
        entropy=0.0,
    ),
    # as rl-baselines3-zoo, but not for a million steps: shorter iterations, larger minibatches and learning rate
    "lunarlander": Case(
        ["env=gym", "env.id=LunarLander-v3", "policy=mlp"], "MlpPolicy", steps=150_000, seeds=5, workers=1, envs=16,
        rollout=256, fragment=16, minibatch=256, epochs=4, learning_rate=1e-3, anneal=False, discount=0.999, trace=0.98,
        entropy=0.01,
    ),
    # as the PPO of Moon et al. 2023, but with the Nature CNN instead of their ResNet
    "crafter": Case(
        ["env=crafter", "policy=nature"], "CnnPolicy", steps=50_000, seeds=2, workers=2, envs=8,
        rollout=256, fragment=32, minibatch=512, epochs=3, learning_rate=3e-4, anneal=False, discount=0.95, trace=0.65,
        entropy=0.01,
    ),
}  # fmt: skip


class Outcome(NamedTuple):
    """The results of one run."""

    last: float
    """Mean return of the last training episodes."""
    all: float
    """Mean return of all training episodes."""
    fresh: float
    """Mean return of the fresh episodes."""
    score: float | None
    """Crafter's score of all training episodes, in percent."""
    episodes: int
    wall_s: float
    lag: float = 0.0
    """Mean lag of the fragments, in versions."""
    dropped: float = 0.0
    """Fraction of the fragments that arrived too old to learn from."""


def main() -> None:
    name, seeds, steps = (*(word for word in sys.argv[1:] if "=" not in word), None, None, None)[:3]
    if name not in CASES:
        raise SystemExit(f"Usage: python -m tests.benchmarks.compare_sb3 {'|'.join(CASES)} [seeds] [steps] [key=value]")
    case = CASES[name]
    case = msgspec.structs.replace(case, seeds=int(seeds or case.seeds), steps=int(steps or case.steps))
    case = msgspec.structs.replace(case, only_ours=[word for word in sys.argv[1:] if "=" in word])
    torch.set_num_threads(1)
    outcomes: dict[str, list[Outcome]] = {"theirs": [], "ours": []}
    for seed in range(case.seeds):
        for system, run in (("theirs", run_theirs), ("ours", run_ours)):
            with tempfile.TemporaryDirectory() as folder:
                outcome = run(case, seed, Path(folder))
            outcomes[system].append(outcome)
            print(f"seed {seed} {system:<7}" + _row(outcome), flush=True)
    print_verdict(name, case, outcomes)


def run_ours(case: Case, seed: int, folder: Path) -> Outcome:
    """Train with `python -m mineonline.train`."""
    run_dir, episodes = folder / "run", folder / "episodes.jsonl"
    overrides = overrides_of(case, seed)
    began = time.monotonic()
    with (folder / "output.txt").open("wb") as output:
        code = subprocess.run(
            [
                sys.executable, "-m", "mineonline.train", *overrides, f"run_dir={run_dir}",
                f"callbacks=[{{_target_: tests.benchmarks.compare_sb3.EpisodeLog, file: {episodes}}}]",
            ],
            stdout=output, stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
    if code:
        raise SystemExit(f"our run ended with exit code {code}:\n{(folder / 'output.txt').read_text()}")
    wall_s = time.monotonic() - began
    config = config_of(*overrides)
    policy = build_policy(config, env_spec(config.env, config.task))
    policy.load_state_dict(read_policy_state(run_dir / "checkpoints" / "last.ckpt", policy))
    with (run_dir / "metrics.csv").open() as file:
        metrics = list(csv.DictReader(file))
    stale = sum(float(row["dropped/stale"]) for row in metrics)
    done = [json.loads(line) for line in episodes.read_text().splitlines()]
    return outcome_of(done, policy, config, wall_s)._replace(
        lag=statistics.mean(float(row["lag_versions"]) for row in metrics),
        dropped=stale / (stale + len(metrics) * config.buffer.fragments_per_iteration),
    )


def overrides_of(case: Case, seed: int) -> list[str]:
    """The case as overrides on our command line."""
    rows = case.envs * case.rollout
    return [
        *case.env,
        f"seed={seed}",
        f"iterations={case.steps // rows}",
        f"collector.workers={case.workers}",
        f"collector.envs_per_worker={case.envs // case.workers}",
        f"fragment.length={case.fragment}",
        f"buffer.fragments_per_iteration={rows // case.fragment}",
        f"objective.discount={case.discount}",
        f"objective.trace={case.trace}",
        f"objective.clip={case.clip}",
        f"objective.value_coef={2 * case.value}",
        "objective.normalize_value=false",
        f"objective.entropy_coef={case.entropy}",
        f"optimizer.learning_rate={case.learning_rate}",
        f"optimizer.anneal={case.anneal}",
        "optimizer.eps=1e-5",
        "optimizer.context_length=1",
        "optimizer.weight_decay=0",
        f"optimizer.max_grad_norm={case.grad_norm}",
        f"optimizer.epochs={case.epochs}",
        f"optimizer.minibatches={rows // case.minibatch}",
        "torch_threads=1",
        "video.every=0",
        "checkpointing.every=1000",
        "trainer.accelerator=cpu",
        *case.only_ours,
    ]


class EpisodeLog(lightning.Callback):
    """Writes every training episode, one line of JSON each."""

    def __init__(self, file: str) -> None:
        self._file = Path(file)
        self._file.touch()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: object, batch: Batch,
        batch_idx: int,
    ) -> None:  # fmt: skip
        with self._file.open("a") as file:
            for episode in batch.arrivals.episodes:
                file.write(json.dumps({"return": episode.episode_return, **episode.statistics}) + "\n")


def run_theirs(case: Case, seed: int, folder: Path) -> Outcome:
    """Train with stable-baselines3's PPO."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    done: list[dict[str, float]] = []

    class Episodes(BaseCallback):
        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    done.append({"return": float(info["episode"]["r"]), **info.get("statistics", {})})
            return True

    config = config_of(*overrides_of(case, seed))
    crafter = case.env[0] == "env=crafter"
    began = time.monotonic()
    env = make_vec_env(
        CrafterGym if crafter else config.env.id, case.envs, seed,
        vec_env_cls=SubprocVecEnv if crafter else DummyVecEnv,
    )  # fmt: skip
    learner = PPO(
        case.network, env, seed=seed, device="cpu", n_steps=case.rollout, batch_size=case.minibatch,
        n_epochs=case.epochs, gamma=case.discount, gae_lambda=case.trace, clip_range=case.clip, ent_coef=case.entropy,
        vf_coef=case.value, max_grad_norm=case.grad_norm,
        learning_rate=lambda remaining: case.learning_rate * (max(0.0, remaining) if case.anneal else 1.0),
    )  # fmt: skip
    rows = case.envs * case.rollout
    learner.learn(case.steps // rows * rows, callback=Episodes())
    env.close()
    theirs = Theirs(learner.policy, env_spec(config.env, config.task).action)
    return outcome_of(done, theirs, config, time.monotonic() - began)


class Theirs(Policy):
    """A policy of stable-baselines3 in our interface, so that both play the same fresh episodes."""

    def __init__(self, policy: Any, action: dict[str, int]) -> None:
        super().__init__()
        self.policy = policy.eval()
        self.head = CategoricalHead(1, action)

    def forward(self, observation: dict[str, torch.Tensor], first_BT: torch.Tensor, memory: Memory) -> PolicyOutput:
        (seen,) = (tensor[:, 0] for tensor in observation.values())
        seen = seen.permute(0, 3, 1, 2) if seen.dtype == torch.uint8 else seen
        logits = self.policy.get_distribution(seen).distribution.logits
        return PolicyOutput(logits[:, None, None], self.policy.predict_values(seen), memory)


class CrafterGym(gymnasium.Env):
    """Crafter for stable-baselines3, without any of our code for environments."""

    def __init__(self) -> None:
        import crafter

        self._new = crafter.Env
        self.observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(crafter.constants.actions))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._env = self._new(seed=int(self.np_random.integers(2**31 - 1)))
        return self._env.reset(), {}

    def step(self, action: int):
        picture, reward, ended, info = self._env.step(int(action))
        dead = info["discount"] == 0
        statistics = {f"achievement/{name}": float(count > 0) for name, count in info["achievements"].items()}
        return picture, float(reward), dead, ended and not dead, {"statistics": statistics} if ended else {}


def outcome_of(done: Sequence[dict[str, float]], policy: Policy, config: Config, wall_s: float) -> Outcome:
    """Scores of a run from its training episodes, in order, and from fresh ones that are played here."""
    score = None
    if isinstance(config.env, CrafterEnvConfig):
        from mineonline.envs.crafter import ACHIEVEMENTS
        from mineonline.envs.crafter import score as crafter_score

        score = crafter_score(statistics.mean(e[f"achievement/{name}"] for e in done) for name in ACHIEVEMENTS)
    torch.manual_seed(config.seed)
    env = build_env(config.env, config.task, seed=config.seed, num_envs=5, first_index=FIRST_INDEX)
    fresh = play(env, policy.eval(), FRESH_EPISODES, best=False)
    env.close()
    return Outcome(
        last=statistics.mean(episode["return"] for episode in done[-LAST_EPISODES:]),
        all=statistics.mean(episode["return"] for episode in done),
        fresh=statistics.mean(episode.episode_return for episode in fresh),
        score=score, episodes=len(done), wall_s=wall_s,
    )  # fmt: skip


def _row(outcome: Outcome) -> str:
    score = "" if outcome.score is None else f"  score {outcome.score:5.2f} %"
    return (
        f"  last {LAST_EPISODES} {outcome.last:8.2f}  all {outcome.all:8.2f}  "
        f"fresh {FRESH_EPISODES} {outcome.fresh:8.2f}{score}  "
        f"{outcome.episodes:5} episodes  {outcome.wall_s:5.0f} s  lag {outcome.lag:.2f}  "
        f"dropped {100 * outcome.dropped:.1f} %"
    )


def print_verdict(name: str, case: Case, outcomes: dict[str, list[Outcome]]) -> None:
    """Mean and standard deviation over seeds, and whether ours is worse by more than the pooled deviation."""
    print(f"{name}, {case.steps:,} steps, {case.seeds} seeds: mean ± standard deviation over seeds")
    for measure in ("last", "all", "fresh", "score"):
        values = {system: [getattr(o, measure) for o in found] for system, found in outcomes.items()}
        if None in values["ours"]:
            continue
        mean = {system: statistics.mean(found) for system, found in values.items()}
        spread = {system: statistics.stdev(found) if len(found) > 1 else 0.0 for system, found in values.items()}
        pooled = (sum(deviation**2 for deviation in spread.values()) / 2) ** 0.5
        verdict = "WORSE" if mean["ours"] < mean["theirs"] - pooled else "not worse"
        cells = "  ".join(f"{system} {mean[system]:8.2f} ± {spread[system]:6.2f}" for system in values)
        print(f"  {measure:<6} {cells}  ours is {verdict} (pooled spread {pooled:.2f})")


if __name__ == "__main__":
    main()
