"""Plays complete episodes with a checkpoint's policy: prints their scores, and films the first."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from mineonline.envs.build import build_env, env_spec, prepare
from mineonline.envs.contract import VectorEnv
from mineonline.envs.settings import GymEnvConfig
from mineonline.envs.task_mix import TASK
from mineonline.errors import ConfigError
from mineonline.fragment import Episode
from mineonline.policies.build import build_policy
from mineonline.policies.policy import Policy
from mineonline.run.checkpoint import find_checkpoint, read_iteration, read_policy_state
from mineonline.run.folder import read_config, saved_overrides
from mineonline.run.tasks import on_each_task
from mineonline.settings.arguments import EvaluateArguments
from mineonline.settings.config import Config
from mineonline.settings.devices import check_device
from mineonline.video.file import VideoFile
from mineonline.video.film import FilmedGymEnv, Recording, Watch, camera_on

MOST_ENVS = 8
FIRST_INDEX = 1 << 40
"""Global index of the first environment: far from those of collectors, so that no episode was seen in training."""


class Score(NamedTuple):
    """One statistic, over all episodes."""

    mean: float
    spread: float
    """Standard deviation over episodes (n - 1 in the denominator); 0 for a single episode."""
    min: float
    max: float


def evaluate(arguments: EvaluateArguments) -> None:
    """Play the episodes that `arguments` ask for, print their scores, and write the scores and the video."""
    checkpoint = find_checkpoint(arguments.checkpoint, arguments.run_dir)
    iteration = read_iteration(checkpoint)
    for key, file in {"video": arguments.video, "json": arguments.json}.items():
        if file is not None:
            _check_output(key, Path(file))
    config = read_config(checkpoint, Path(arguments.config) if arguments.config else None)
    check_device("device", arguments.device)
    if arguments.seed is not None:
        config = msgspec.structs.replace(config, seed=arguments.seed)
    names = [name.strip() for name in arguments.tasks.strip("[]").split(",") if name.strip()]
    others = set(names) - {task.name for task in config.all_tasks}
    folders = [word for word in saved_overrides(checkpoint) if word.startswith("hydra.")] if others else []
    configs = on_each_task(config, names, folders)
    for task, each in configs.items():
        if len(configs) > 1:
            print(f"{task}:")
        _evaluate_on(each, f"_{task}" if len(configs) > 1 else "", arguments, checkpoint, iteration)


def _evaluate_on(config: Config, suffix: str, arguments: EvaluateArguments, checkpoint: Path, iteration: int) -> None:
    """Play one task. `suffix`: of the names of files, which then hold this task alone."""
    arguments = msgspec.structs.replace(
        arguments, video=_with_suffix(arguments.video, suffix), json=_with_suffix(arguments.json, suffix)
    )
    policy = build_policy(config, env_spec(config.env, config.played))
    policy.load_state_dict(read_policy_state(checkpoint, policy))
    # as in a worker: with more threads on such small inputs, most of the time is spent waiting
    torch.set_num_threads(min(torch.get_num_threads(), config.collector.torch_threads))
    torch.manual_seed(config.seed)
    policy.eval().to(arguments.device)
    prepare(config.env, say=lambda text: print(text, file=sys.stderr, flush=True))
    num_envs = min(arguments.episodes, MOST_ENVS)
    with ExitStack() as stack:
        env = _build_env(config, num_envs=num_envs, filmed=arguments.video is not None)
        stack.callback(env.close)
        watch = None
        if arguments.video is not None:
            camera = camera_on(config, env)
            watch = Recording(camera, stack.enter_context(VideoFile(Path(arguments.video), camera.fps))).watch
        episodes = play(env, policy, arguments.episodes, best=arguments.best, watch=watch)
    report(arguments, checkpoint, config.seed, iteration, episodes)


def report(arguments: EvaluateArguments, checkpoint: Path, seed: int, iteration: int, episodes: list[Episode]) -> None:
    """Print the scores as a table, and write them to `arguments.json`."""
    scores = scores_of(episodes)
    crashed = sum(episode.crashed for episode in episodes)
    actions = "the most probable actions" if arguments.best else "sampled actions"
    print(f"{checkpoint}: iteration {iteration}, {len(episodes)} episodes, {actions}, seed {seed}")
    if crashed:
        print(f"{crashed} of them were truncated because their environment failed")
    width = max(len(name) for name in scores) + 2
    print(" " * width + "".join(f"{column:>10}" for column in Score._fields))
    for name, score in scores.items():
        print(f"{name:<{width}}" + "".join(f"{number:10.2f}" for number in score))
    if arguments.json is not None:
        results = {
            "checkpoint": str(checkpoint),
            "iteration": iteration,
            "seed": seed,
            "best": arguments.best,
            "episodes": len(episodes),
            "crashed": crashed,
            "scores": {name: score._asdict() for name, score in scores.items()},
        }
        Path(arguments.json).write_text(json.dumps(results, indent=2) + "\n")
    if arguments.video is not None:
        print(f"video: {arguments.video}")


@torch.inference_mode()
def play(env: VectorEnv, policy: Policy, episodes: int, *, best: bool, watch: Watch | None = None) -> list[Episode]:
    """Play complete episodes, and return them in the order in which they end.

    Each environment plays a fixed number of them: taking those that end first would favour short episodes.
    """
    device = policy.version.device
    remaining_N = np.array([len(range(n, episodes, env.num_envs)) for n in range(env.num_envs)])
    return_N, length_N = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    memory = policy.initial_memory(env.num_envs)
    observation = env.reset(np.ones(env.num_envs, np.bool_))
    waiting_N = env.waiting_N.copy()
    first_N = ~waiting_N
    done: list[Episode] = []
    tasks = list(env.spec.tasks.values())
    while remaining_N.any():
        active_N = (remaining_N > 0) & ~waiting_N
        seen = {name: torch.from_numpy(array).unsqueeze(1).to(device) for name, array in observation.items()}
        output = policy(seen, torch.from_numpy(first_N).unsqueeze(1).to(device), memory)
        memory = output.memory
        chosen = policy.head.best(output.logits) if best else policy.head.sample(output.logits)
        action = {name: classes[:, 0].cpu().numpy() for name, classes in chosen.items()}
        step = env.step(action, active_N)
        return_N += step.reward_N
        length_N += active_N
        if watch is not None:
            watch(output.value_BT[:, 0].cpu().numpy(), action, step)
        ended_N = active_N & (step.terminated_N | step.truncated_N)
        for n in np.flatnonzero(ended_N):
            statistics = dict(zip(env.spec.statistics, map(float, step.statistics_NK[n]), strict=True))
            if tasks:
                statistics = {name: statistics[name] for name in tasks[int(step.observation[TASK][n])]}
            done.append(Episode(float(return_N[n]), int(length_N[n]), "", statistics, bool(step.crashed_N[n])))
        return_N[ended_N], length_N[ended_N] = 0.0, 0
        remaining_N -= ended_N
        reset_N = ended_N & (remaining_N > 0)
        observation = env.reset(reset_N) if reset_N.any() else step.observation
        first_N = (reset_N | waiting_N) & ~env.waiting_N
        waiting_N = env.waiting_N.copy()
    return done


def scores_of(episodes: list[Episode]) -> dict[str, Score]:
    """Return, length and each statistic, over the episodes (at least one)."""
    columns = {
        "return": [episode.episode_return for episode in episodes],
        "length": [float(episode.length) for episode in episodes],
        **{name: [episode.statistics[name] for episode in episodes] for name in episodes[0].statistics},
    }
    return {
        name: Score(
            float(np.mean(column)), float(np.std(column, ddof=1)) if len(column) > 1 else 0.0, min(column), max(column)
        )
        for name, column in columns.items()
    }


def _with_suffix(file: str | None, suffix: str) -> str | None:
    return None if file is None else str(Path(file).with_stem(Path(file).stem + suffix))


def _check_output(key: str, file: Path) -> None:
    """ConfigError, before anything is played, if `file` cannot be written."""
    try:
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{key}={file}: its folder cannot be created ({error.strerror}).") from None
    if file.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        raise ConfigError(f"{key}={file}: cannot be written. Give a file in a folder that you may write to.")


def _build_env(config: Config, *, num_envs: int, filmed: bool) -> VectorEnv:
    """As in training, but every episode has the full time limit."""
    if isinstance(config.env, GymEnvConfig) and filmed:
        return FilmedGymEnv(config.env, num_envs=num_envs, seed=config.seed, first_index=FIRST_INDEX)
    return build_env(
        config.env, config.played, seed=config.seed, num_envs=num_envs, first_index=FIRST_INDEX, stagger=False
    )
