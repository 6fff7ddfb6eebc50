"""`python -m mineonline.collect checkpoint=<file> record=<folder>`: a checkpoint's policy plays, and the disk gets it.

No trainer and no socket: the same workers as in a run, with weights that stay what they are.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from mineonline.checkpoint_file import find_checkpoint, read_policy_state
from mineonline.config import Config
from mineonline.devices import check_device
from mineonline.envs.build import build_env, env_spec, is_staggered, prepare
from mineonline.envs.contract import EnvSpec
from mineonline.errors import ConfigError
from mineonline.experience.collector import Watchdog, Workers
from mineonline.experience.episodes import EpisodeCount
from mineonline.experience.rollout import RolloutSettings
from mineonline.fragment import Episode, Fragments
from mineonline.policies.actor import Actor
from mineonline.policies.build import build_policy
from mineonline.recorded import write
from mineonline.run_folder import label_of, read_config

log = logging.getLogger("mineonline.collect")

FIRST_ENV = 1 << 41
"""Global index of the first environment: far from those of collectors and evaluations, so that episodes are new."""


class RecordArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The command line."""

    checkpoint: str
    """File with the weights, its run folder, or `latest`; the run folder says what is played, with how many workers and
    environments."""
    run_dir: str | None = None
    """The run that `checkpoint=latest` is looked for in; None is the newest under `runs/`."""
    record: str
    """Folder for the fragments; it is made, and may exist if it is empty."""
    fragments: int
    """How many to write at least; whole batches are written, one fragment an environment each."""
    seed: int | None = None
    """Decides episodes and sampled actions; None is the run's. Two recordings with one seed are the same."""
    device: str | None = None
    """Where the workers' policy runs; None is the run's `collector.device`."""


@dataclass
class _Written:
    """What a recording has written so far."""

    folder: Path
    batches: int = 0
    fragments: int = 0
    decisions: int = 0
    megabytes: float = 0.0
    episodes: list[Episode] = field(default_factory=list)
    """Those that were played from their beginning to their end."""

    def add(self, fragments: Fragments, *, env: str, actions: dict[str, int]) -> None:
        """Write a batch as the next file."""
        file = write(self.folder, self.batches, fragments, env=env, actions=actions)
        self.batches += 1
        self.fragments += len(fragments)
        self.decisions += int((~fragments.final_BT).sum())
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

    MineonlineError: what the user can mend. What was written before an error or an interrupt is a usable set.
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
    spec = env_spec(config)
    policy = build_policy(config, spec)
    policy.load_state_dict(read_policy_state(checkpoint, policy))
    written = _Written(_new_folder(Path(arguments.record)))
    try:
        prepare(config)
        _play(config, spec, Actor(policy, None), written, arguments.fragments)
    finally:
        if written.batches:
            print(written.summary(), flush=True)
        elif not any(written.folder.iterdir()):
            written.folder.rmdir()


def _play(config: Config, spec: EnvSpec, actor: Actor, written: _Written, wanted: int) -> None:
    collector = config.collector
    settings = RolloutSettings(
        env_spec=spec, length=config.fragment.length, envs_per_worker=collector.envs_per_worker, first_env=FIRST_ENV,
        seed=config.seed, device=collector.device, torch_threads=collector.torch_threads, worker_log=None,
    )  # fmt: skip
    environments = collector.workers * collector.envs_per_worker
    episodes = EpisodeCount(
        environments, statistics=spec.statistics, task=config.task.name if config.task else "",
        staggered=is_staggered(config),
    )  # fmt: skip
    names = [leaf.name for leaf in settings.schema(actor)]
    with ExitStack() as stack:
        watchdog = Watchdog()
        stack.callback(watchdog.close)
        watchdog.feed(collector.start_timeout_s)
        workers = stack.enter_context(Workers(partial(build_env, config), actor, settings, workers=collector.workers))
        for batch in workers:
            watchdog.feed(collector.batch_timeout_s)
            played_N = ~batch["final_BT"].all(1)  # the others waited for an episode all the time
            if played_N.any():
                fragments = Fragments.from_leaves({name: batch[name][played_N] for name in names})
                written.add(fragments, env=label_of(msgspec.to_builtins(config)), actions=spec.action)
            for n in range(environments):
                written.episodes += episodes.finished(batch, n)
            log.info("%d of %d fragments", written.fragments, wanted)
            if written.fragments >= wanted:
                return


def _new_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"record={folder}: cannot be a folder ({error.strerror}).") from None
    if taken:
        raise ConfigError(f"record={folder} is not empty. Give a new folder; a set is never added to.")
    return folder
