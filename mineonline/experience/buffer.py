"""PATH 1, in every trainer rank: the fragments that have arrived and wait for the learner.

The receiver thread puts fragments in, and waits while the buffer is full. The training loop takes batches out, and
waits while there are too few fragments. Stale fragments are dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from mineonline.errors import CollectorError, LearningError
from mineonline.experience.batch_memory import BatchMemory
from mineonline.fragment import EnvFailure, Episode, Fragments, Report, Timing, concatenate


@dataclass
class Arrivals:
    """What a rank received and lost since the last iteration."""

    fragments: int = 0
    env_steps: int = 0
    """Decisions in them."""
    episodes: list[Episode] = field(default_factory=list)
    env_failures: int = 0
    """Times that an environment failed and was replaced."""
    reasons: list[EnvFailure] = field(default_factory=list)
    """Why."""
    timings: list[Timing] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason (`stale`, `refused`, `surplus` or `lost`) -> number of fragments or messages that were not used."""
    full_s: float = 0.0
    """Time that the receiver waited for room."""
    collectors: set[int] = field(default_factory=set)
    """Ids of the collectors that sent something."""


class Heard(NamedTuple):
    """What a rank has had from one collector."""

    last_at: float
    """When its newest fragment came: seconds since the epoch."""
    fragments: int
    rollout_s: float
    """How long its last rollout took, with the wait for room."""


@dataclass
class Batch:
    """What a rank learns from in one iteration: Lightning's `batch`."""

    fragments: Fragments
    lag_B: list[int]
    """Versions between each fragment's weights and the learner's."""
    reuse_B: list[int]
    """How often each fragment was used before."""
    wait_s: float
    """Time that the learner waited for the batch."""
    arrivals: Arrivals


class Storage(Protocol):
    """Slots for fragments. Only one thread at a time keeps or releases; `gather` may run meanwhile, on slots in use."""

    def __len__(self) -> int:
        """Number of fragments kept."""

    def keep(self, fragment: Fragments) -> int:
        """Store one fragment (B = 1); returns its slot."""

    def gather(self, slots: Sequence[int]) -> Fragments:
        """A copy of the fragments in `slots`, in that order."""

    def release(self, slot: int) -> None:
        """Free a slot."""


class MemoryStorage:
    """Keeps fragments as they arrived: nothing is copied until `gather`."""

    def __init__(self) -> None:
        self._kept: dict[int, Fragments] = {}
        self._memory = BatchMemory()
        self._next = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, fragment: Fragments) -> int:
        self._next += 1
        self._kept[self._next] = fragment
        return self._next

    def gather(self, slots: Sequence[int]) -> Fragments:
        return concatenate([self._kept[slot] for slot in slots], self._memory.empty)

    def release(self, slot: int) -> None:
        del self._kept[slot]


@dataclass
class _Entry:
    slot: int
    version: int
    origin: tuple[int, int]
    """Environment and sequence number, which do not depend on when the fragment arrives."""
    uses: int = 0


class FragmentBuffer:
    """Between the receiver thread (`put`) and the training loop (`take`).

    `capacity`: fragments. `max_staleness`: versions. `max_reuse`: uses of a fragment; at 1 the oldest come first, above
    1 a batch is drawn at random from all that wait, as a function of `seed` and version alone. `storage`: where
    fragments wait, with room for `capacity`; by default this process's memory.
    """

    def __init__(
        self, *, capacity: int, max_staleness: int, max_reuse: int, seed: int, storage: Storage | None = None
    ) -> None:
        self.capacity = capacity
        self._max_staleness = max_staleness
        self._max_reuse = max_reuse
        self._seed = seed
        self._storage = storage if storage is not None else MemoryStorage()
        self._entries: list[_Entry] = []
        self._arrivals = Arrivals()
        self._version = 0
        self._condition = threading.Condition()
        self.last_arrival = time.monotonic()
        self.heard: dict[int, Heard] = {}
        """Id of every collector that has sent a fragment, and is not forgotten -> what it has sent."""
        self._waits_since = float("inf")
        self._not_finite_in_a_row = 0
        self._not_finite = ""

    def put(self, fragment: Fragments, report: Report, stop: threading.Event) -> None:
        """Add one fragment (B = 1). Waits while the buffer is full, until `take` makes room.

        If `stop` is set meanwhile, the fragment is not added: nobody would take it.
        """
        started = time.monotonic()
        with self._condition:
            self.last_arrival = started
            before = self.heard.get(report.collector_id)
            count = before.fragments + 1 if before is not None else 1
            self.heard[report.collector_id] = Heard(time.time(), count, report.timing.total_s)
            while len(self._storage) >= self.capacity:
                self._drop_stale()
                if len(self._storage) >= self.capacity:
                    if stop.is_set():
                        return
                    self._condition.wait(0.1)
            arrivals = self._arrivals
            arrivals.full_s += time.monotonic() - started
            arrivals.fragments += 1
            arrivals.env_steps += int((~fragment.idle_BT).sum())
            arrivals.episodes.extend(report.episodes)
            arrivals.env_failures += report.env_failures
            arrivals.dropped["surplus"] += report.surplus
            arrivals.dropped["lost"] += report.lost
            arrivals.reasons.extend(report.reasons)
            arrivals.timings.append(report.timing)
            arrivals.collectors.add(report.collector_id)
            origin = int(fragment.env_B), int(fragment.sequence_B)
            self._not_finite_in_a_row = 0
            self._entries.append(_Entry(self._storage.keep(fragment), int(fragment.version_B), origin))
            self._condition.notify_all()

    @property
    def silent_s(self) -> float:
        """Seconds since the learner started to wait or, if later, a fragment arrived; 0 while it does not wait."""
        return max(0.0, time.monotonic() - max(self.last_arrival, self._waits_since))

    @property
    def learner_waits(self) -> bool:
        """Whether the learner waits for fragments at this moment."""
        return self._waits_since < float("inf")

    @property
    def waiting(self) -> int:
        """Number of fragments that can be taken now."""
        with self._condition:
            return len(self._entries)

    def refuse(self, not_finite: str | None) -> None:
        """Count a refused message. `not_finite`: what is not finite, if that is the reason."""
        with self._condition:
            self._arrivals.dropped["refused"] += 1
            if not_finite is not None:
                self._not_finite_in_a_row += 1
                self._not_finite = not_finite

    def check_finite(self, most: int) -> None:
        """LearningError if more than `most` fragments in a row were refused for numbers that are not finite."""
        with self._condition:
            count, what = self._not_finite_in_a_row, self._not_finite
        if count > most:
            raise LearningError(
                f"the last {count} fragments were all refused: {what}. The behaviour policy has diverged, or the "
                "environments are broken. Lower optimizer.learning_rate and continue from an earlier checkpoint, or "
                "check the rewards."
            )

    def take(self, count: int, version: int, give_up: Callable[[], bool]) -> Batch | None:
        """`count` fragments, at most `max_staleness` versions behind `version`, sorted by environment and sequence.

        Waits until there are enough. Calls `give_up` at least every 0.2 s: True ends the wait with None; it may raise.
        """
        if count > self.capacity:
            raise ValueError(f"{count} fragments do not fit into a buffer of {self.capacity}")
        started = self._waits_since = time.monotonic()
        with self._condition:
            self._version = version
            self._drop_stale()
            while len(self._entries) < count:
                if give_up():
                    return None
                self._condition.wait(0.2)
                self._drop_stale()
            chosen = self._choose(count, version)
            taken = {entry.slot for entry in chosen}
            self._entries = [entry for entry in self._entries if entry.slot not in taken]
            arrivals, self._arrivals = self._arrivals, Arrivals()
        wait_s = time.monotonic() - started
        self._waits_since = float("inf")
        # outside the lock: the receiver may fill free slots meanwhile, and the chosen fragments keep theirs
        fragments = self._storage.gather([entry.slot for entry in chosen])
        batch = Batch(fragments, [version - e.version for e in chosen], [e.uses for e in chosen], wait_s, arrivals)
        with self._condition:
            for entry in chosen:
                entry.uses += 1
                if entry.uses < self._max_reuse:
                    self._entries.append(entry)
                else:
                    self._storage.release(entry.slot)
            self._condition.notify_all()
        return batch

    def _choose(self, count: int, version: int) -> list[_Entry]:
        """Independent of earlier choices, so that a resumed run makes the same ones."""
        if self._max_reuse == 1:
            return sorted(self._entries[:count], key=_origin)
        known = sorted(self._entries, key=_origin)
        drawn = np.random.default_rng((self._seed, version)).permutation(len(known))[:count]
        return [known[i] for i in sorted(drawn)]

    def _drop_stale(self) -> None:
        stale = [entry for entry in self._entries if self._version - entry.version > self._max_staleness]
        if stale:
            self._entries = [entry for entry in self._entries if self._version - entry.version <= self._max_staleness]
            for entry in stale:
                self._storage.release(entry.slot)
            self._arrivals.dropped["stale"] += len(stale)


def _origin(entry: _Entry) -> tuple[int, int]:
    return entry.origin


def check_silence(silent_s: float, limit_s: float, hint: str) -> None:
    """CollectorError if nothing has arrived for more than `limit_s` seconds."""
    if silent_s > limit_s:
        raise CollectorError(f"no fragment has arrived for {silent_s:.0f} s (buffer.silence_s={limit_s:g}). {hint}")
