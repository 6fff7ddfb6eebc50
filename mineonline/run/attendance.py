"""Which collectors a run has, in rank 0: what the terminal shows of them, and the warning when the last one leaves."""

from __future__ import annotations

import logging
import socket
import threading
import time
from pathlib import Path

from mineonline.envs.failures import one_line
from mineonline.experience.buffer import FragmentBuffer
from mineonline.processes.join import Admissions, Member
from mineonline.processes.logs import NewMessages
from mineonline.processes.stopping import StopRequest
from mineonline.processes.supervisor import PLAYING, Child, LocalCollectors
from mineonline.status import Collector, CollectorState
from mineonline.weights.publisher import presence

log = logging.getLogger(__name__)

_GONE_AFTER_S = 1.0
_SILENT_AFTER_S = 10.0
"""Without a fragment; later for a collector whose rollouts take long."""
_NEWS_S = 60.0
"""How long the failure of a collector that was replaced, or a new message in its log, is worth a look."""
_REMEMBERED_S = 3600.0
"""How long one that has left is known when it comes back without joining again, as one that was only stopped may."""
_LONGEST_HOST = 16
_APPEARS_WITHIN_S = 3.0
"""From the answer to its request until a collector shows that it is there."""


class Roster:
    """The collectors of a run: those that the trainer has started, in their order, and those that have joined."""

    def __init__(self, local: LocalCollectors, admissions: Admissions, buffer: FragmentBuffer, logs: Path) -> None:
        """`logs`: folder of the local collectors' logs."""
        self._local = local
        self._admissions = admissions
        self._buffer = buffer
        self._logs = NewMessages(logs)
        self._host = socket.gethostname()
        self.present: frozenset[bytes] = frozenset()
        """The topics (`presence`) of the collectors that are there; set in the publisher's thread."""
        self._gone_at: dict[tuple[str, int], float] = {}

    def is_present(self, pid: int) -> bool:
        """Whether a collector of this machine with this process id is there."""
        members = self._admissions.members
        if (self._host, pid) in members:
            return presence(self._host, pid) in self.present
        # the name of a machine may change
        return any(presence(*member) in self.present for member in members if member[1] == pid)

    def collectors(self) -> tuple[Collector, ...]:
        """The collectors as they are now. Those that left long ago are forgotten."""
        members, ours = self._admissions.members, self._local.ever
        others = [
            self._other(host, pid, member)
            for (host, pid), member in members.items()
            if host != self._host or pid not in ours
        ]
        long_ago, replaced = time.time() - _REMEMBERED_S, ours - self._local.pids
        self._forget(
            {
                (host, pid): member
                for (host, pid), member in members.items()
                if (host == self._host and pid in replaced) or self._gone_at.get((host, pid), float("inf")) < long_ago
            }
        )
        return (
            *(self._child(child, members) for child in self._local.children),
            *(collector for collector in others if collector is not None),
        )

    def _forget(self, gone: dict[tuple[str, int], Member]) -> None:
        if gone:
            self._admissions.forget(gone)
            for key, member in gone.items():
                self._buffer.heard.pop(member.collector_id, None)
                self._gone_at.pop(key, None)

    def _child(self, child: Child, members: dict[tuple[str, int], Member]) -> Collector:
        if child.pid is None:
            soon = f"; another starts in {child.starts_in_s:.0f} s" if child.starts_in_s >= 1 else ""
            return Collector(child.name, "restarting" if child.why else "starting", f"{one_line(child.why)}{soon}")
        why = child.why if time.time() < child.failed_at + _NEWS_S else ""
        member = members.get((self._host, child.pid))
        plays = member is not None and member.collector_id in self._buffer.heard
        news = self._logs.newest(child.name, within_s=_NEWS_S if plays else float("inf"))
        return self._seen(child.name, member, why, "" if news == PLAYING else news)

    def _other(self, host: str, pid: int, member: Member) -> Collector | None:
        # a host name and a reason are another machine's words
        name, key, now = one_line(f"{host.partition('.')[0][:_LONGEST_HOST]}:{pid}"), (host, pid), time.time()
        if presence(host, pid) in self.present or now < member.joined_at + _APPEARS_WITHIN_S:
            self._gone_at.pop(key, None)
            return self._seen(name, member, "", "")
        gone_at = self._gone_at.setdefault(key, now)
        return Collector(name, "left", f"{now - gone_at:.0f} s ago") if now < gone_at + _NEWS_S else None

    def _seen(self, name: str, member: Member | None, why: str, news: str) -> Collector:
        """A collector whose process lives. `why` the one before it ended and the `news` in its log may be empty."""
        why, news = one_line((member.lost if member is not None else "") or why), one_line(news)
        heard = self._buffer.heard.get(member.collector_id) if member is not None else None
        if member is None or heard is None:
            does = news or ("its process starts" if member is None else "")
            return Collector(name, "restarting" if why else "starting", "; ".join(filter(None, (why, does))))
        state: CollectorState = "playing"
        if time.time() - heard.last_at > max(_SILENT_AFTER_S, 3 * heard.rollout_s):
            state = "silent" if self._buffer.learner_waits else "waiting"
        if why and time.time() < member.joined_at + _NEWS_S:
            news = f"replaced: {why}"
        return Collector(name, state, news, heard.last_at, heard.fragments)


class Attendance:
    """Says when the last collector has left, and when one is there again. Silent once the trainer was asked to stop."""

    def __init__(self, add_collector: str, stop: StopRequest) -> None:
        """`add_collector`: the command."""
        self._add_collector = add_collector
        self._stop = stop
        self._closed = False
        self._present = 0
        self._said = False

    def changed(self, present: int) -> None:
        """So many collectors are there now."""
        before, self._present = self._present, present
        if before and not present:
            # one that is there again at once has only lost its connection
            later = threading.Timer(_GONE_AFTER_S, self._say_if_gone)
            later.daemon = True
            later.start()
        elif present and self._said:
            self._said = False
            log.warning("a collector is there again")

    def close(self) -> None:
        """Say nothing from now on."""
        self._closed = True

    def _say_if_gone(self) -> None:
        if not (self._present or self._said or self._closed or self._stop.received is not None):
            self._said = True
            log.warning("the last collector has left, and training waits. %s", how_to_add_one(self._add_collector))


def command_to_add(run_dir: Path) -> str:
    """What adds a collector to a run, here or on another machine."""
    return f"python -m mineonline.collect run={run_dir}"


def how_to_add_one(command: str) -> str:
    """A sentence that says so."""
    return f"Start one, here or on another machine, with\n  {command}"
