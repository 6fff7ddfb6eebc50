"""Games at Minecraft's pace, played by ours and by other systems: which part of the steps that they could take?

    python -m tests.benchmarks.compare_pace [seconds] [<system>=<interpreter that has it> ...]

16 games whose step sleeps 25 ms on average (constant, or lognormal with sigma 0.5 and 1.0), on each system in turn, as
a program of its own. The games count their own steps: the share of the ideal 640 steps per second, while the system
learns (MineStudio's worker only plays; it has no learner here), and the CPU of all its processes, as a share of one
core. All use a small network on a vector of two numbers, fragments of 32 steps and batches of 512.

Systems: `ours`; `sb3`, stable-baselines3's PPO with SubprocVecEnv; `sample_factory`, with 16 workers, and
`sample_factory_4`, with 4 that alternate between two halves of their 4 games; `minestudio`, the rollout worker of its
online module, which decides for 4 games at a time. Without an interpreter of its own, a system runs in this one, and is
left out if that lacks it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.benchmarks.bench_pace import ENVS, SHAPE, STEP_MS
from tests.helpers.counted_game import CountedGame
from tests.helpers.settings import ROOT
from tests.helpers.training_system import DoesNotPlay, System

N, ROLLOUT = ENVS, 32
WARM_UP_S = 10.0


def ours(sigma: float, folder: str) -> None:
    words = [
        *SHAPE, "env=gym", "env.id=tests.helpers.counted_game:Counted-v0", f"+env.kwargs.sigma={sigma}", "policy=mlp",
        "iterations=1000000", f"run_dir={folder}/run",
    ]  # fmt: skip
    os.execv(sys.executable, [sys.executable, "-m", "mineonline.train", *words])


def sb3(sigma: float, folder: str) -> None:
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import SubprocVecEnv

    torch.set_num_threads(1)
    games = SubprocVecEnv([lambda: Monitor(CountedGame(sigma=sigma))] * N)
    PPO("MlpPolicy", games, n_steps=ROLLOUT, batch_size=128, n_epochs=1, device="cpu").learn(10**9)


def _named_game(sigma: float, name: str, cfg: object, env_config: object, render_mode: str | None = None):
    return CountedGame(sigma=sigma)


def sample_factory(sigma: float, folder: str, workers: int = N, splits: int = 1) -> None:
    from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
    from sample_factory.envs.env_utils import register_env
    from sample_factory.train import run_rl

    register_env("sleeps", partial(_named_game, sigma))
    words = [
        "--algo=APPO", "--env=sleeps", "--experiment=pace", f"--train_dir={folder}", "--device=cpu",
        f"--num_workers={workers}", f"--num_envs_per_worker={N // workers}", f"--worker_num_splits={splits}",
        f"--rollout={ROLLOUT}", f"--recurrence={ROLLOUT}", f"--batch_size={N * ROLLOUT}", "--use_rnn=False",
        "--train_for_env_steps=1000000000",
    ]  # fmt: skip
    parser, _ = parse_sf_args(words)
    run_rl(parse_full_cfg(parser, words))


class _SleepingSim:
    """The game as MineStudio's worker takes one: observations and actions are dictionaries."""

    def __init__(self, sigma: float) -> None:
        self._game = CountedGame(sigma=sigma)

    def reset(self):
        observation, info = self._game.reset()
        return {"vector": observation}, info

    def step(self, action):
        observation, *rest = self._game.step(int(action["action"][0]))
        return {"vector": observation}, *rest

    def close(self) -> None:
        """Nothing to free."""


def minestudio(sigma: float, folder: str) -> None:
    import types

    import torch

    # the worker needs one name of this package, for its annotations; the package imports every model's libraries
    models = types.ModuleType("minestudio.models")
    models.MinePolicy = torch.nn.Module
    sys.modules["minestudio.models"] = models
    from minestudio.online.rollout.rollout_worker import RolloutWorker

    torch.set_num_threads(1)
    RolloutWorker(
        num_envs=N, policy_generator=_small_policy, env_generator=partial(_SleepingSim, sigma), batch_size=4,
        video_output_dir=folder,
    ).rollout(10**9)  # fmt: skip


def _small_policy():
    import torch
    from torch import nn

    class Head(nn.Linear):
        def sample(self, logits, deterministic):
            return {"action": torch.distributions.Categorical(logits=logits).sample()}

    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
            self.pi_head, self.value_head = Head(64, 2), nn.Linear(64, 1)

        def forward(self, input, state_in):
            hidden = self.body(input["vector"])
            return {"pi_logits": self.pi_head(hidden), "vpred": self.value_head(hidden)}, state_in

        def initial_state(self, batch):
            return []

        def merge_state(self, states):
            return []

        def split_state(self, state, parts):
            return [[]] * parts

        def split_action(self, action, parts):
            return [{"action": action["action"][i]} for i in range(parts)]

    return Policy()


SYSTEMS = {
    "ours": ours,
    "sample_factory": sample_factory,
    "sample_factory_4": partial(sample_factory, workers=4, splits=2),
    "sb3": sb3,
    "minestudio": minestudio,
}
NEEDS = {
    "sb3": "stable_baselines3",
    "sample_factory": "sample_factory",
    "sample_factory_4": "sample_factory",
    "minestudio": "minestudio, ray",
}


def main() -> None:
    seconds, *others = sys.argv[1:] or ["30"]
    interpreters = dict(word.split("=", 1) for word in others)
    for sigma in (0.0, 0.5, 1.0):
        for name in SYSTEMS:
            python = interpreters.get(name, interpreters.get(name.removesuffix("_4"), sys.executable))
            needs = NEEDS.get(name, "mineonline")
            if subprocess.run([python, "-c", f"import {needs}"], capture_output=True, cwd=ROOT).returncode:
                print(f"{name}: {python} lacks {needs}")
                continue
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                words = [python, "-m", __spec__.name, "play", name, str(sigma), folder]
                with closing(System(words, Path(folder))) as system:
                    try:
                        found = measured(system, float(seconds))
                    except DoesNotPlay as error:
                        found = str(error)
            print(f"sigma {sigma:g}, {name:18} {found}", flush=True)


def measured(system: System, seconds: float) -> str:
    """The share of the ideal, and of one core."""
    system.wait_for(N)
    time.sleep(WARM_UP_S)
    (steps, used_s), began = system.played(), time.monotonic()
    time.sleep(seconds)
    (steps_then, used_then_s), took_s = system.played(), time.monotonic() - began
    share, cores = (steps_then - steps) / took_s / (N / STEP_MS * 1000), (used_then_s - used_s) / took_s
    return f"{share:.2f} of the ideal, {cores:.0%} of a core"


if __name__ == "__main__":
    if sys.argv[1:2] == ["play"]:
        # by its real name, under which the games' processes can import what they are given
        from tests.benchmarks import compare_pace

        compare_pace.SYSTEMS[sys.argv[2]](float(sys.argv[3]), sys.argv[4])
    else:
        main()
