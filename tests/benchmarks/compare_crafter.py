"""Crafter at full speed, played by ours and by other systems: what is left of what the bare game does on this machine?

    pip install -e '.[crafter]'
    python -m tests.benchmarks.compare_crafter [seconds] [<system>=<interpreter that has it> ...]

8 environments, the Nature CNN, rollouts of 128 steps, minibatches of 256, one epoch, one torch thread a process; beside
them the bare game with random actions in two processes. Each plays for 5 s in turn, while the others are suspended, so
that all see the same machine. Prints their steps per second and per CPU second of all their processes, as a share of
the bare game's, and the range of that share over the thirds of the time.

Systems: `ours`; `sample_factory`, with 2 workers that alternate between two halves of their 4 games; `sb3`,
stable-baselines3's PPO with SubprocVecEnv. Without an interpreter of its own, a system runs in this one, and is left
out if that lacks it.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np

from mineonline.envs.crafter import SPEC, CrafterEnv
from tests.benchmarks.compare_sb3 import CrafterGym
from tests.benchmarks.system import System
from tests.helpers.counted_game import StepCount
from tests.helpers.settings import ROOT

ENVS, ROLLOUT, MINIBATCH, WORKERS = 8, 128, 256, 2
LENGTH = 10_000
TURN_S, WARM_UP_TURNS = 5.0, 8


class CountedCrafter(CrafterEnv):
    """Ours, for `env=own`."""

    @staticmethod
    def spec_of():
        return SPEC

    def __init__(self, num_envs: int, seed: int, first_index: int) -> None:
        super().__init__(num_envs=num_envs, length=LENGTH, seed=seed, first_index=first_index)
        self._count = StepCount()

    def step(self, action, active_N):
        self._count.add(int(active_N.sum()))
        return super().step(action, active_N)


class CountedCrafterGym(CrafterGym):
    """As the other systems play it."""

    def __init__(self) -> None:
        super().__init__()
        self._count = StepCount()

    def step(self, action):
        self._count.add(1)
        return super().step(action)


def bare(folder: str) -> None:
    games = [multiprocessing.Process(target=_play_at_random) for _ in range(WORKERS)]
    for game in games:
        game.start()
    for game in games:
        game.join()


def _play_at_random() -> None:
    game, dice = CountedCrafterGym(), np.random.default_rng()
    game.reset()
    while True:
        _, _, terminated, truncated, _ = game.step(dice.integers(game.action_space.n))
        if terminated or truncated:
            game.reset()


def ours(folder: str) -> None:
    words = [
        "experiment=crafter", "env=own", f"env._target_={__spec__.name}.CountedCrafter", f"collector.workers={WORKERS}",
        f"collector.envs_per_worker={ENVS // WORKERS}", "buffer.fragments_per_iteration=32",
        f"fragment.length={ENVS * ROLLOUT // 32}", f"optimizer.minibatches={ENVS * ROLLOUT // MINIBATCH}",
        "optimizer.epochs=1", "torch_threads=1", "video.every=0", "iterations=1000000", f"run_dir={folder}/run",
    ]  # fmt: skip
    os.execv(sys.executable, [sys.executable, "-m", "mineonline.train", *words])


def sb3(folder: str) -> None:
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import SubprocVecEnv

    torch.set_num_threads(1)
    games = SubprocVecEnv([lambda: Monitor(CountedCrafterGym())] * ENVS)
    PPO("CnnPolicy", games, n_steps=ROLLOUT, batch_size=MINIBATCH, n_epochs=1, device="cpu").learn(10**9)


def sample_factory(folder: str) -> None:
    from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
    from sample_factory.envs.env_utils import register_env
    from sample_factory.train import run_rl

    register_env("crafter", _named_game)
    words = [
        "--algo=APPO", "--env=crafter", "--experiment=crafter", f"--train_dir={folder}", "--device=cpu",
        f"--num_workers={WORKERS}", f"--num_envs_per_worker={ENVS // WORKERS}", "--worker_num_splits=2",
        f"--rollout={ROLLOUT}", f"--recurrence={ROLLOUT}", f"--batch_size={MINIBATCH}",
        f"--num_batches_per_epoch={ENVS * ROLLOUT // MINIBATCH}", "--num_epochs=1", "--use_rnn=False",
        "--encoder_conv_architecture=convnet_atari", "--train_for_env_steps=1000000000",
    ]  # fmt: skip
    parser, _ = parse_sf_args(words)
    run_rl(parse_full_cfg(parser, words))


def _named_game(name: str, cfg: object, env_config: object, render_mode: str | None = None) -> gymnasium.Env:
    space = gymnasium.spaces.Box(0, 255, (3, 64, 64), np.uint8)
    return gymnasium.wrappers.TransformObservation(CountedCrafterGym(), lambda seen: seen.transpose(2, 0, 1), space)


SYSTEMS = ("bare", "sample_factory", "sb3", "ours")
"""In the order of their start: ours takes workers that were suspended for two minutes for hanging."""
NEEDS = {"sb3": "stable_baselines3", "sample_factory": "sample_factory"}


class Turn(NamedTuple):
    steps: int
    used_s: float
    took_s: float

    @staticmethod
    def per_s(turns: list[Turn]) -> float:
        return sum(turn.steps for turn in turns) / sum(turn.took_s for turn in turns)

    @staticmethod
    def per_cpu_s(turns: list[Turn]) -> float:
        return sum(turn.steps for turn in turns) / sum(turn.used_s for turn in turns)


def main() -> None:
    seconds, *others = sys.argv[1:] or ["120"]
    interpreters = dict(word.split("=", 1) for word in others)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        systems: dict[str, System] = {}
        try:
            for name in SYSTEMS:
                python, needs = interpreters.get(name, sys.executable), NEEDS.get(name, "crafter")
                if subprocess.run([python, "-c", f"import {needs}"], capture_output=True, cwd=ROOT).returncode:
                    print(f"{name}: {python} lacks {needs}")
                    continue
                words = [python, "-m", __spec__.name, "play", name, f"{folder}/{name}"]
                systems[name] = System(words, Path(folder, name))
                systems[name].wait_for(WORKERS if name in ("bare", "ours") else ENVS)
                systems[name].suspend()
            # by then, ours has started its spare collector
            take_turns(systems, WARM_UP_TURNS)
            print_ratios(take_turns(systems, math.ceil(float(seconds) / TURN_S)))
        finally:
            for system in systems.values():
                system.close()


def take_turns(systems: dict[str, System], turns: int) -> dict[str, list[Turn]]:
    """Let each play for `TURN_S`, in turn, while the others are suspended."""
    found: dict[str, list[Turn]] = {name: [] for name in systems}
    for _ in range(turns):
        for name, system in systems.items():
            (steps, used_s), began = system.played(), time.monotonic()
            system.resume()
            time.sleep(TURN_S)
            system.suspend()
            (steps_then, used_then_s), took_s = system.played(), time.monotonic() - began
            found[name].append(Turn(steps_then - steps, used_then_s - used_s, took_s))
    return found


def print_ratios(found: dict[str, list[Turn]]) -> None:
    """Of all turns; and the range of its thirds."""
    third = len(found["bare"]) // 3
    parts = [slice(None), *(slice(i * third, (i + 1) * third) for i in range(3))]
    for name, turns in found.items():
        print(f"{name:15}", end="")
        for what, speed in (("second", Turn.per_s), ("CPU second", Turn.per_cpu_s)):
            whole, *thirds = (speed(turns[part]) / speed(found["bare"][part]) for part in parts)
            print(
                f"  {speed(turns):4.0f} steps per {what}: {whole:.2f} ({min(thirds):.2f} to {max(thirds):.2f})", end=""
            )
        print(flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["play"]:
        # by its real name, under which the games' processes can import what they are given
        from tests.benchmarks import compare_crafter

        getattr(compare_crafter, sys.argv[2])(sys.argv[3])
    else:
        main()
