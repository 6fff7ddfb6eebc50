"""Entry point: `python -m mineonline.evaluate checkpoint=<file>` plays complete episodes and prints their scores.

    python -m mineonline.evaluate checkpoint=runs/<...>/checkpoints/last.ckpt episodes=20 video=hunt.mp4

Keys: see `Arguments`. What the agent plays, and the shape of its policy, stand in the run folder's config.yaml.
"""

from __future__ import annotations

import difflib
import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from mineonline.checkpoint_file import find_checkpoint, read_iteration, read_policy_state
from mineonline.command_line import report_errors
from mineonline.config import Config, GymEnvConfig, MineStudioEnvConfig, WorldEnvConfig
from mineonline.devices import check_device
from mineonline.envs.build import build_env, env_spec
from mineonline.envs.contract import VectorEnv
from mineonline.envs.minestudio.env import MineStudioEnv
from mineonline.errors import ConfigError
from mineonline.fragment import Episode
from mineonline.frames import VideoFile
from mineonline.policies.build import build_policy
from mineonline.policies.policy import Policy
from mineonline.processes import die_with_parent
from mineonline.recording import FilmedGymEnv, Recording, Watch, camera_on
from mineonline.run_folder import read_config
from mineonline.supervisor import PARENT_VARIABLE

MOST_ENVS = 8
FIRST_INDEX = 1 << 40
"""Global index of the first environment: far from those of collectors, so that no episode was ever trained on."""


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand on the command line, each as key=value."""

    checkpoint: str
    """File with the weights, its run folder, or `latest`; the run folder says what is played."""
    run_dir: str | None = None
    """The run that `checkpoint=latest` is looked for in; None is the newest under `runs/`."""
    config: str | None = None
    """File like a run's config.yaml; None is that of the checkpoint's run folder."""
    episodes: int = 10
    """Complete episodes to play."""
    video: str | None = None
    """An mp4 file for the first episode."""
    json: str | None = None
    """A file for the scores."""
    seed: int | None = None
    """Decides episodes and sampled actions; None is the run's."""
    best: bool = False
    """Always take the most probable action; otherwise sample, as in training."""
    device: str = "cpu"
    """Where the policy runs, for example `cuda`."""


class Score(NamedTuple):
    """One number of all episodes."""

    mean: float
    spread: float
    """Standard deviation over episodes (n - 1); 0 for a single one."""
    min: float
    max: float


def main() -> None:
    """Play, print, write."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    parent = int(os.environ.get(PARENT_VARIABLE, "0"))
    if parent:
        die_with_parent(parent, signal.SIGTERM)
    evaluate(parse_arguments(sys.argv[1:]))


def evaluate(arguments: Arguments) -> None:
    """Play the episodes that `arguments` ask for; print their scores, and write them and the video."""
    checkpoint = find_checkpoint(arguments.checkpoint, arguments.run_dir)
    config = read_config(checkpoint, Path(arguments.config) if arguments.config else None)
    check_device("device", arguments.device)
    if arguments.seed is not None:
        config = msgspec.structs.replace(config, seed=arguments.seed)
    policy = build_policy(config, env_spec(config))
    policy.load_state_dict(read_policy_state(checkpoint, policy))
    # as in a worker: more threads on a small batch wait for each other most of their time
    torch.set_num_threads(min(torch.get_num_threads(), config.collector.torch_threads))
    torch.manual_seed(config.seed)
    policy.eval().to(arguments.device)
    num_envs = min(arguments.episodes, MOST_ENVS)
    with ExitStack() as stack:
        env = _build_env(config, num_envs=num_envs, filmed=arguments.video is not None)
        stack.callback(env.close)
        watch = None
        if arguments.video is not None:
            camera = camera_on(config, env)
            watch = Recording(camera, stack.enter_context(VideoFile(Path(arguments.video), camera.fps))).watch
        episodes = play(env, policy, arguments.episodes, best=arguments.best, watch=watch)
    report(arguments, checkpoint, config.seed, read_iteration(checkpoint), episodes)


def report(arguments: Arguments, checkpoint: Path, seed: int, iteration: int, episodes: list[Episode]) -> None:
    """Print the scores as a table, and write them to `arguments.json`."""
    scores = scores_of(episodes)
    crashed = sum(episode.crashed for episode in episodes)
    actions = "the most probable actions" if arguments.best else "sampled actions"
    print(f"{checkpoint}: iteration {iteration}, {len(episodes)} episodes, {actions}, seed {seed}")
    if crashed:
        print(f"{crashed} of them were cut because their environment failed")
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
        Path(arguments.json).absolute().parent.mkdir(parents=True, exist_ok=True)
        Path(arguments.json).write_text(json.dumps(results, indent=2) + "\n")
    if arguments.video is not None:
        print(f"video: {arguments.video}")


@torch.inference_mode()
def play(env: VectorEnv, policy: Policy, episodes: int, *, best: bool, watch: Watch | None = None) -> list[Episode]:
    """Play complete episodes, in the order in which they end.

    Each environment gets a fixed share of them: taking those that end first would favour short ones.
    """
    device = policy.version.device
    remaining_N = np.array([len(range(n, episodes, env.num_envs)) for n in range(env.num_envs)])
    return_N, length_N = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    memory = policy.initial_memory(env.num_envs)
    observation = env.reset(np.ones(env.num_envs, np.bool_))
    waiting_N = env.waiting_N.copy()
    first_N = ~waiting_N
    done: list[Episode] = []
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
            done.append(Episode(float(return_N[n]), int(length_N[n]), "", statistics, bool(step.crashed_N[n])))
        return_N[ended_N], length_N[ended_N] = 0.0, 0
        remaining_N -= ended_N
        begins_N = ended_N & (remaining_N > 0)
        observation = env.reset(begins_N) if begins_N.any() else step.observation
        first_N = (begins_N | waiting_N) & ~env.waiting_N
        waiting_N = env.waiting_N.copy()
    return done


def scores_of(episodes: list[Episode]) -> dict[str, Score]:
    """Return, length and each statistic over at least one episode."""
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


def parse_arguments(words: list[str]) -> Arguments:
    """ConfigError says which word cannot be used, and what may stand there."""
    known = [field.name for field in msgspec.structs.fields(Arguments)]
    usage = f"python -m mineonline.evaluate checkpoint=<file> [{'=...] ['.join(known[1:])}=...]"
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word}: arguments are key=value. Usage: {usage}")
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Usage: {usage}"
            raise ConfigError(f"{key}: there is no such key. {hint}")
        values[key] = value
    if "checkpoint" not in values:
        raise ConfigError(f"checkpoint: a value is missing. Usage: {usage}")
    try:
        arguments = msgspec.convert(values, Arguments, strict=False)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        key = path.strip("`$.")
        raise ConfigError(f"{key}={values[key]}: {text[0].lower()}{text[1:]}.") from None
    if arguments.episodes < 1:
        raise ConfigError(f"episodes={arguments.episodes}: must be at least 1.")
    if arguments.video is not None and not arguments.video.endswith(".mp4"):
        raise ConfigError(f"video={arguments.video}: must end in .mp4.")
    return arguments


def _build_env(config: Config, *, num_envs: int, filmed: bool) -> VectorEnv:
    """As in training, but every episode has its full time limit."""
    if isinstance(config.env, WorldEnvConfig):
        from mineonline.envs.world import WorldEnv  # numba: half a second that gym does not need

        assert config.task is not None
        return WorldEnv(
            config.task, num_envs=num_envs, image_size=config.env.image_size, seed=config.seed, first_index=FIRST_INDEX
        )
    if isinstance(config.env, MineStudioEnvConfig):
        assert config.task is not None
        return MineStudioEnv(config.env, config.task, num_envs=num_envs, seed=config.seed, first_index=FIRST_INDEX)
    if isinstance(config.env, GymEnvConfig) and filmed:
        return FilmedGymEnv(config.env, num_envs=num_envs, seed=config.seed, first_index=FIRST_INDEX)
    return build_env(config, num_envs=num_envs, first_index=FIRST_INDEX)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    report_errors(main)
