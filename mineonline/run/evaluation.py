"""Plays complete episodes with checkpoints' policies: prints their scores, and films some.

The episodes of a match are played in parts, each in one process with all its environments at once. Parts depend neither
on one another nor on how many processes play them: a seed repeats the scores.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from mineonline.atomic import written_whole
from mineonline.envs.build import build_env, check_ready, env_spec, prepare
from mineonline.envs.contract import VectorEnv
from mineonline.envs.settings import GymEnvConfig, MineStudioEnvConfig
from mineonline.envs.task_mix import TASK
from mineonline.errors import ConfigError, EnvError
from mineonline.fragment import Episode
from mineonline.policies.build import build_policy, load_policy_weights
from mineonline.policies.policy import Policy
from mineonline.processes import fork_server
from mineonline.processes.lifetimes import TemporaryFolder
from mineonline.run.matches import Match, find_matches
from mineonline.run.scores import SUCCESS, Result, report, write_json
from mineonline.run.trained import read_policy
from mineonline.settings.arguments import EvaluateArguments
from mineonline.settings.config import Config
from mineonline.settings.devices import check_device
from mineonline.video.file import VideoFile
from mineonline.video.film import FilmedGymEnv, Recording, Watch, camera_on
from mineonline.video.grid import MOST_TILES, SMALLEST_WITH_OVERLAY, Tile, compose, tile_width

FIRST_INDEX = 1 << 40
"""Global index of the first environment: far from those of collectors, so that no episode was seen in training."""
_MOST_ENVS = 32
_MOST_SIMULATORS = 8
"""Of MineStudio, each of which is a game of its own."""


class _Part(NamedTuple):
    """Episodes of a match that are played together."""

    match: int
    first: int
    """Position of its first episode among those of the match."""
    episodes: int
    film: Path | None
    """Where the first of them is filmed."""


class _Played(NamedTuple):
    """What came of a part."""

    episodes: list[Episode]
    filmed_return: float
    """Of the episode that was filmed; 0 without a film."""


def evaluate(arguments: EvaluateArguments) -> list[Result]:
    """Play the episodes that `arguments` ask for, print their scores, and write the scores and the video."""
    matches = find_matches(arguments)
    for key, file in {"video": arguments.video, "json": arguments.json}.items():
        if file is not None:
            _check_output(key, Path(file))
    check_device("device", arguments.device)
    tiles = 0 if arguments.video is None else len(matches) * _filmed(arguments)
    if tiles > MOST_TILES:
        raise ConfigError(f"video={arguments.video}: {tiles} episodes do not fit side by side; {MOST_TILES} do.")
    with ExitStack() as stack:
        folder = Path()
        if tiles > 1 or (tiles and arguments.episodes > 1):  # a single episode is filmed where its video belongs
            folder = stack.enter_context(TemporaryFolder("mineonline-films-", tempfile.gettempdir()))
        width = tile_width(tiles, _filmed(arguments)) if tiles > 1 else None
        if width is not None:
            matches = [_drawn_small(match, width) for match in matches]
        parts = _parts(arguments, matches, folder, tiles)
        results = [Result(match, []) for match in matches]
        films: list[Tile] = []
        # a small picture, without what is drawn on larger ones
        bare = width is not None and width < SMALLEST_WITH_OVERLAY
        progress = _Progress(len(matches) * arguments.episodes)
        for part, played in zip(parts, _play_all(arguments, matches, parts, bare=bare), strict=True):
            progress.played(part.episodes)
            result = results[part.match]
            if part.film is not None:
                label = f"{_label(result.match, matches)}, episode {part.first + 1}: {played.filmed_return:.2f}"
                films.append(Tile(part.film, label))
            result.episodes.extend(played.episodes)
        print(report(results, best=arguments.best))
        if arguments.json is not None:
            write_json(results, Path(arguments.json), best=arguments.best)
        if arguments.video is not None:
            if tiles > 1:
                compose(films, Path(arguments.video), _filmed(arguments))
            elif films[0].file != Path(arguments.video):
                with written_whole(Path(arguments.video)) as partial:
                    shutil.copyfile(films[0].file, partial)
    return results


class _Progress:
    """A line in a terminal that says how many episodes have been played; gone when all have."""

    def __init__(self, total: int) -> None:
        self._done, self._total = 0, total
        self._say()

    def played(self, episodes: int) -> None:
        """So many more."""
        self._done += episodes
        self._say()

    def _say(self) -> None:
        if sys.stderr.isatty():
            left = f"{self._done} of {self._total} episodes played" if self._done < self._total else ""
            print(f"\r\x1b[K{left}", end="", file=sys.stderr, flush=True)


def _filmed(arguments: EvaluateArguments) -> int:
    return arguments.episodes if arguments.filmed == "all" else min(arguments.filmed, arguments.episodes)


def _parts(arguments: EvaluateArguments, matches: list[Match], folder: Path, tiles: int) -> list[_Part]:
    """The parts of all matches, in order. A film shows one environment, so each filmed episode is a part."""
    parts: list[_Part] = []
    for index, match in enumerate(matches):
        most = _MOST_SIMULATORS if isinstance(match.config.env, MineStudioEnvConfig) else _MOST_ENVS
        filmed = _filmed(arguments) if tiles else 0
        alone = filmed if filmed > 1 else 0
        sizes = [1] * alone
        rest = arguments.episodes - alone
        sizes += [len(each) for each in np.array_split(np.arange(rest), -(-rest // most))] if rest else []
        first = 0
        for number, size in enumerate(sizes):
            film = folder / f"{index}-{number}.mp4" if number < filmed else None
            if film is not None and len(sizes) == tiles == 1:
                # this process writes it where it belongs, and removes it if it is stopped; one of several is killed
                assert arguments.video is not None
                film = Path(arguments.video)
            parts.append(_Part(index, first, size, film))
            first += size
    return parts


def _play_all(
    arguments: EvaluateArguments, matches: list[Match], parts: list[_Part], *, bare: bool
) -> Iterator[_Played]:
    """What came of each part, in order. EnvError if a process that plays has died."""
    play_one = functools.partial(_play_part, device=arguments.device, best=arguments.best, bare=bare)
    for match in matches:
        check_ready(match.config.env)
        prepare(match.config.env, say=lambda text: print(text, file=sys.stderr, flush=True))
    processes = arguments.processes
    if processes is None:
        simulators = any(isinstance(match.config.env, MineStudioEnvConfig) for match in matches)
        alone = simulators or arguments.device != "cpu"
        processes = 1 if alone else len(os.sched_getaffinity(0))
    processes = min(processes, len(parts))
    played = [matches[part.match] for part in parts]
    if processes == 1:
        yield from map(play_one, played, parts)
        return
    fork_server.start(["mineonline.run.evaluation"])
    with ProcessPoolExecutor(processes, initializer=fork_server.die_with_fork_server) as pool:
        try:
            yield from pool.map(play_one, played, parts)
        except BaseException as error:
            # the pool would wait until they have played to the end
            for process in multiprocessing.active_children():
                process.kill()
            if isinstance(error, BrokenProcessPool):
                raise EnvError(
                    "a process that played has died; perhaps memory was short. Fewer play at once with processes=1."
                ) from None
            raise


def _play_part(match: Match, part: _Part, *, device: str, best: bool, bare: bool) -> _Played:
    config = match.config
    if match.checkpoint is None:
        policy = build_policy(config, env_spec(config.env, config.played))
        load_policy_weights(policy, config)
    else:
        policy = read_policy(match.checkpoint, config)
    # as in a worker: with more threads on such small inputs, most of the time is spent waiting
    torch.set_num_threads(min(torch.get_num_threads(), config.collector.torch_threads))
    torch.manual_seed(config.seed + part.first)
    policy.eval().to(device)
    with ExitStack() as stack:
        env = _build_env(
            config, num_envs=part.episodes, first_index=FIRST_INDEX + part.first, filmed=part.film is not None
        )
        stack.callback(env.close)
        recording = None
        if part.film is not None:
            camera = camera_on(config, env)
            recording = Recording(camera, stack.enter_context(VideoFile(part.film, camera.fps)), bare=bare)
        episodes = play(env, policy, part.episodes, best=best, watch=recording.watch if recording else None)
        episodes = [_with_success(episode, match) for episode in episodes]
        return _Played(episodes, recording.episode_return if recording else 0.0)


def _with_success(episode: Episode, match: Match) -> Episode:
    """With the statistic `success`, 0 or 1, if the task says what that is."""
    for task in match.config.all_tasks:
        if task.name == match.task and (succeeded := task.succeeded(episode.statistics)) is not None:
            statistics = {**episode.statistics, SUCCESS: float(succeeded)}
            return msgspec.structs.replace(episode, statistics=statistics)
    return episode


def _drawn_small(match: Match, width: int) -> Match:
    """The match with pictures for a video that are no wider than a tile, where their size can be chosen."""
    env = match.config.env
    size = getattr(env, "video_size", None)
    if size is None or size[0] <= width:
        return match
    height = round(size[1] * width / size[0] / 2) * 2
    env = msgspec.structs.replace(env, video_size=(width, height))
    return msgspec.structs.replace(match, config=msgspec.structs.replace(match.config, env=env))


def _label(match: Match, matches: list[Match]) -> str:
    """The checkpoint, and where the matches differ, task and environment."""
    words = [match.name, *([match.task] if len({each.task for each in matches}) > 1 else [])]
    return " ".join([*words, *([match.env] if len({each.env for each in matches}) > 1 else [])])


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


def _check_output(key: str, file: Path) -> None:
    """ConfigError, before anything is played, if `file` cannot be written."""
    try:
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{key}={file}: its folder cannot be created ({error.strerror}).") from None
    if file.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        raise ConfigError(f"{key}={file}: cannot be written. Give a file in a folder that you may write to.")


def _build_env(config: Config, *, num_envs: int, first_index: int, filmed: bool) -> VectorEnv:
    """As in training, but every episode has the full time limit."""
    if isinstance(config.env, GymEnvConfig) and filmed:
        return FilmedGymEnv(config.env, num_envs=num_envs, seed=config.seed, first_index=first_index)
    return build_env(
        config.env, config.played, seed=config.seed, num_envs=num_envs, first_index=first_index, stagger=False
    )
