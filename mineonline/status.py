"""What a run is doing now, in one record: the panel in the terminal draws it, and `<run>/status.json` holds it.

Rank 0 writes the file about once a second, for as long as it trains. A `written_at` that is more than a few seconds
old, with a phase that is not an end, shows that the trainer is gone or hangs. All times ending in `_at` are in seconds
since the epoch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from mineonline.atomic import written_whole

STATUS_FILE = "status.json"
"""In the run folder."""


Phase = Literal["waiting", "learning", "finished", "stopped", "failed"]
"""`waiting`: for the first fragments of this session. The last three are ends."""


CollectorState = Literal["starting", "playing", "waiting", "silent", "restarting", "left"]
"""`waiting`: it has sent nothing for a while, but the learner does not wait for it. `silent`: and the learner does.
`restarting`: it has failed, and another takes its place, or it makes new workers. `left`: its process is gone; it is
still listed for a minute."""


class Link(msgspec.Struct, frozen=True):
    """One of the links of the chain from the environments to the learner."""

    name: str
    """`environments`, `inference` or `sending`, whose shares are of the collectors' time; `learner`: of the learner's.
    """
    share: float
    """Fraction of the time that it works, 0 to 1, over the last 10 s (or the last iteration, if that is longer)."""


class Score(msgspec.Struct, frozen=True):
    """A number that episodes are judged by."""

    name: str
    """As in `metrics.csv` without `episode/`: `return`, or a statistic such as `kill_entity/cow`."""
    value: float
    """Mean over the last 100 episodes or more."""
    history: tuple[float, ...]
    """The same over this session, oldest first, evenly spaced in iterations; at most 120 points."""


class Collector(msgspec.Struct, frozen=True):
    """A collector, of this machine or another."""

    name: str
    """`collector-0`, as its log is called, if the trainer has started it; otherwise `<host>:<process id>`."""
    state: CollectorState
    detail: str = ""
    """Why it failed, or what it last wrote to its log; one line."""
    last_fragment_at: float | None = None
    """When its newest fragment came to rank 0."""
    fragments: int = 0
    """That rank 0 has received from it, since it joined."""


class Failure(msgspec.Struct, frozen=True):
    """Environments, such as Minecraft's engines, that failed for one reason."""

    reason: str
    """One line."""
    times: int
    """In this session, as far as rank 0 was told."""
    last_env: int
    """Global index of the last one."""
    last_at: float


class Status(msgspec.Struct, frozen=True):
    """The facts about a run at one moment."""

    run_dir: str
    started_at: float
    """Of this session: a resumed run starts anew."""
    written_at: float
    phase: Phase
    headline: str
    """What to know first, in words: the bottleneck, or why nothing happens."""
    silent_s: float
    """How long the learner has waited without a fragment coming; 0 while it does not wait."""
    add_collector: str
    """The command that adds a collector to this run."""
    iteration: int
    """The last one that is complete, from 1; 0 before the first."""
    iterations: int
    """After which the run is complete."""
    ends_at: float | None
    """When it will be, at the present pace."""
    episodes: int
    env_steps: int
    """Decisions in the whole run."""
    scores: tuple[Score, ...]
    """The return first; none before the first episode has ended."""
    success_rate: float | None
    """In a run of several tasks that say what a success is: fraction of the last episodes that were one, mean over the
    tasks. None in other runs."""
    env_steps_per_s: float
    lag_versions: float
    lag_versions_max: float
    buffer_fragments: int
    """Waiting in rank 0's buffer now."""
    buffer_wanted: int
    """That an iteration of rank 0 takes."""
    buffer_capacity: int
    learner_waits: float
    """Fraction of the learner's time spent waiting for fragments."""
    links: tuple[Link, ...]
    """In the order of the path; none before the first iteration."""
    collectors: tuple[Collector, ...]
    env_failures: int
    """How often environments have failed and were replaced, in the whole run."""
    failures: tuple[Failure, ...]
    """Why, newest first; at most 20 reasons."""
    newest_video: str | None
    newest_video_at: float | None


def write_status(status: Status, run_dir: Path) -> None:
    """Replace `<run>/status.json`. OSError if the disk does not take it: then the old one is still there."""
    with written_whole(run_dir / STATUS_FILE, durable=False) as partial:
        partial.write_bytes(msgspec.json.encode(status))


def read_status(run_dir: Path) -> Status | None:
    """What `write_status` wrote last; None if there is none yet, or another version of mineonline has written it."""
    try:
        return msgspec.json.decode((run_dir / STATUS_FILE).read_bytes(), type=Status)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
