"""Records play: a checkpoint's policy plays, and its fragments are written to disk.

It uses no trainer and no sockets, only the same workers as in a run, with weights that do not change.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from mineonline.envs.build import build_env, env_spec, prepare
from mineonline.envs.contract import ActionSpec, EnvSpec
from mineonline.errors import ConfigError
from mineonline.experience.collector import Workers
from mineonline.experience.fragment_files import check_unused, write
from mineonline.fragment import Episode, Fragments
from mineonline.policies.actor import Actor
from mineonline.run.checkpoint import find_checkpoint
from mineonline.run.collector import episode_scores, rollout_settings
from mineonline.run.folder import label_of, read_config
from mineonline.run.trained import read_policy
from mineonline.settings.arguments import RecordArguments
from mineonline.settings.config import Config
from mineonline.settings.devices import check_device

log = logging.getLogger("mineonline.collect")

FIRST_ENV = 1 << 41
"""Global index of the first environment: far from those of collectors and evaluations, so that all episodes are new."""


@dataclass
class _Written:
    """What a recording has written so far."""

    folder: Path
    files: int = 0
    fragments: int = 0
    decisions: int = 0
    megabytes: float = 0.0
    episodes: list[Episode] = field(default_factory=list)
    """Episodes played from start to end."""

    def add(self, fragments: Fragments, *, env: str, actions: dict[str, ActionSpec]) -> None:
        """Write fragments as the next file."""
        file = write(self.folder, self.files, fragments, env=env, actions=actions)
        self.files += 1
        self.fragments += len(fragments)
        self.decisions += int((~fragments.idle_BT).sum())
        self.megabytes += file.stat().st_size / 1e6

    def summary(self) -> str:
        """One line."""
        count = len(self.episodes)
        mean = sum(episode.episode_return for episode in self.episodes) / max(count, 1)
        played = f"{count} complete episodes, mean return {mean:.2f}" if count else "no complete episode"
        return (
            f"{self.folder}: {self.fragments} fragments, {self.decisions} decisions, {played}, {self.megabytes:.1f} MB"
        )


def record(arguments: RecordArguments) -> None:
    """Play and write until there are enough fragments; then, or when interrupted, print what was written.

    MineonlineError for what the user can fix. Fragments written before an error or an interrupt are a usable set.
    """
    checkpoint = find_checkpoint(arguments.checkpoint, arguments.run_dir)
    config = read_config(checkpoint)
    if arguments.seed is not None:
        config = msgspec.structs.replace(config, seed=arguments.seed)
    if arguments.device is not None:
        config = msgspec.structs.replace(
            config, collector=msgspec.structs.replace(config.collector, device=arguments.device)
        )
    check_device("device" if arguments.device else "collector.device", config.collector.device)
    spec = env_spec(config.env, config.played)
    policy = read_policy(checkpoint, config, spec)
    written = _Written(_new_folder(Path(arguments.record)))
    try:
        prepare(config.env)
        _play(config, spec, Actor(policy, None), written, arguments.fragments)
    finally:
        if written.files:
            print(written.summary(), flush=True)
        elif not any(written.folder.iterdir()):
            written.folder.rmdir()


def _play(config: Config, spec: EnvSpec, actor: Actor, written: _Written, wanted: int) -> None:
    collector = config.collector
    settings = rollout_settings(config, spec, first_env=FIRST_ENV, collector_log=None, asynchronous=False)
    episodes = episode_scores(config, spec)
    names = [field.name for field in settings.schema(actor)]
    build = partial(build_env, config.env, config.played, seed=config.seed)
    with Workers(
        build, actor, settings, workers=collector.workers,
        start_timeout_s=collector.start_timeout_s, batch_timeout_s=collector.batch_timeout_s,
    ) as workers:  # fmt: skip
        for rollout in workers:
            played_N = ~rollout["idle_BT"].all(1)  # the others only waited for an episode to start
            if played_N.any():
                fragments = Fragments.from_named_tensors({name: rollout[name][played_N] for name in names})
                written.add(fragments, env=label_of(msgspec.to_builtins(config)), actions=spec.action)
            for n in range(len(played_N)):
                written.episodes += episodes.finished(rollout, n, n)
            log.info("%d of %d fragments", written.fragments, wanted)
            if written.fragments >= wanted:
                return


def _new_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"record={folder}: cannot be a folder ({error.strerror}).") from None
    check_unused(folder)
    return folder
