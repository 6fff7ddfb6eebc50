"""Crafter at full speed, played by ours and by other systems: what is left of what the bare game does on this machine?

    pip install -e '.[crafter]'
    python -m tests.benchmarks.compare_crafter [seconds] [<system>=<interpreter that has it> ...]

8 environments, the Nature CNN, rollouts of 128 steps, minibatches of 256, one epoch, one torch thread a process; beside
each system the bare game with random actions in two processes. They take turns, 12 s and 4 s, while the other one is
suspended, so that both see the same machine. Prints a system's steps per second and per CPU second of all its
processes, as a share of the bare game's, and the range of that share over the thirds of the time.

Systems: `ours`, without a spare collector; `sample_factory`, with 2 workers that alternate between two halves of their
4 games; `sb3`, stable-baselines3's PPO with SubprocVecEnv. Without an interpreter of its own, a system runs in this
one, and is left out if that lacks it.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np

from mineonline.envs.crafter import SPEC, CrafterEnv
from tests.benchmarks.compare_sb3 import CrafterGym
from tests.helpers.counted_game import StepCount
from tests.helpers.settings import ROOT
from tests.helpers.training_system import DoesNotPlay, System

ENVS, ROLLOUT, MINIBATCH, WORKERS = 8, 128, 256, 2
LENGTH = 32
"""Of our fragments; a rollout of 128 steps is four."""
TIME_LIMIT_STEPS = 10_000
TURN_S, BARE_TURN_S, WARM_UP_TURNS = 12.0, 4.0, 4


class CountedCrafter(CrafterEnv):
    """Ours, for `env=own`."""

    @staticmethod
    def spec_of():
        return SPEC

    def __init__(self, num_envs: int, seed: int, first_index: int) -> None:
        super().__init__(num_envs=num_envs, length=TIME_LIMIT_STEPS, seed=seed, first_index=first_index)
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
        "experiment=crafter", "env=own", "env._target_=tests.benchmarks.compare_crafter.CountedCrafter",
        f"collector.count={WORKERS}", "collector.workers=1", f"collector.envs_per_worker={ENVS // WORKERS}",
        "collector.spare=false", f"fragment.length={LENGTH}",
        f"buffer.fragments_per_iteration={ENVS * ROLLOUT // LENGTH}",
        f"optimizer.minibatches={ENVS * ROLLOUT // MINIBATCH}",
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
        "--encoder_conv_architecture=convnet_atari", "--normalize_input=False", "--obs_scale=255",
        "--train_for_env_steps=1000000000",
    ]  # fmt: skip
    parser, _ = parse_sf_args(words)
    run_rl(parse_full_cfg(parser, words))


def _named_game(name: str, cfg: object, env_config: object, render_mode: str | None = None) -> gymnasium.Env:
    space = gymnasium.spaces.Box(0, 255, (3, 64, 64), np.uint8)
    return gymnasium.wrappers.TransformObservation(CountedCrafterGym(), lambda seen: seen.transpose(2, 0, 1), space)


SYSTEMS = ("ours", "sample_factory", "sb3")
PLAY = ["-m", "tests.benchmarks.compare_crafter", "play"]
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
    seconds, *others = sys.argv[1:] or ["144"]
    interpreters = dict(word.split("=", 1) for word in others)
    turns = 3 * math.ceil(float(seconds) / TURN_S / 3)
    for name in SYSTEMS:
        python, needs = interpreters.get(name, sys.executable), NEEDS.get(name, "mineonline")
        if subprocess.run([python, "-c", f"import {needs}"], capture_output=True, cwd=ROOT).returncode:
            print(f"{name}: {python} lacks {needs}")
            continue
        try:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
                bare, system = (
                    stack.enter_context(closing(System([*play, which, f"{folder}/{which}"], folder / which)))
                    for which, play in (("bare", [sys.executable, *PLAY]), (name, [python, *PLAY]))
                )
                bare.wait_for(WORKERS)
                system.wait_for(WORKERS if name == "ours" else ENVS)
                take_turns(bare, system, turns=WARM_UP_TURNS)
                print_ratios(name, *take_turns(bare, system, turns=turns))
        except DoesNotPlay as error:
            print(name, error)


def take_turns(bare: System, system: System, *, turns: int) -> tuple[list[Turn], list[Turn]]:
    """What both do in each of their turns, while the other one is suspended."""
    found: tuple[list[Turn], list[Turn]] = ([], [])
    bare.suspend()
    system.suspend()
    for _ in range(turns):
        for each, turn_s, done in zip((bare, system), (BARE_TURN_S, TURN_S), found, strict=True):
            (steps, used_s), began = each.played(), time.monotonic()
            each.resume()
            time.sleep(turn_s)
            each.suspend()
            took_s = time.monotonic() - began
            steps_then, used_then_s = each.played()
            done.append(Turn(steps_then - steps, used_then_s - used_s, took_s))
    return found


def print_ratios(name: str, bare: list[Turn], system: list[Turn]) -> None:
    """Of all turns; and the range over their thirds."""
    third = len(bare) // 3
    parts = [slice(None), *(slice(i * third, (i + 1) * third) for i in range(3))]
    for what, speed in (("second", Turn.per_s), ("CPU second", Turn.per_cpu_s)):
        whole, *thirds = (speed(system[part]) / speed(bare[part]) for part in parts)
        print(
            f"{name:15} {speed(system):4.0f} of {speed(bare):4.0f} steps per {what}: {whole:.2f} "
            f"({min(thirds):.2f} to {max(thirds):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["play"]:
        # by its real name, under which the games' processes can import what they are given
        from tests.benchmarks import compare_crafter

        getattr(compare_crafter, sys.argv[2])(sys.argv[3])
    else:
        main()
