"""What the user sees during a run: a panel in a terminal, short lines elsewhere; and the same in `<run>/status.json`.

    learner: its numbers, after each iteration ──▶ ┐
    receiver, supervisor, join server, publisher ─▶ │ thread of rank 0, once a second ──▶ terminal, status.json
    what others write to the terminal ────────────▶ ┘

The learner never waits for the thread, which only reads what they leave.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import lightning
from lightning.pytorch.callbacks import RichProgressBar

from mineonline.callbacks.env_failures import EnvFailures
from mineonline.callbacks.headline import bottleneck, in_words, why_it_waits
from mineonline.callbacks.iteration import IterationCallback
from mineonline.callbacks.screen import LinesScreen, PanelScreen, is_terminal
from mineonline.callbacks.statistics import Statistics
from mineonline.experience.buffer import Batch, FragmentBuffer
from mineonline.learning.module import PPO
from mineonline.processes.stopping import StopRequest
from mineonline.processes.terminal import Terminal
from mineonline.processes.threads import ServiceThread
from mineonline.settings.config import Config
from mineonline.status import Collector, Link, Phase, Score, Status, write_status

_DRAW_EVERY_S = 1.0
_LOOK_EVERY_S = 0.2
"""For what others write to the terminal, and whether its size has changed."""
_BLOCKED_S = 2.0
"""How long a thread waits for another one's drawing."""
_RECENT_S = 10.0
_REMEMBERED = 256
"""Iterations, for the pace."""
_LINKS = ("environments", "inference", "sending", "learner")
_MOST_POINTS = 120


class Watched(NamedTuple):
    """What the view reads, besides the learner's numbers."""

    run_dir: Path
    config: Config
    buffer: FragmentBuffer
    wanted: int
    """Fragments that an iteration of rank 0 takes."""
    collectors: Callable[[], tuple[Collector, ...]]
    add_collector: str
    """The command that adds one."""


class _Ended(NamedTuple):
    """An iteration that has ended."""

    number: int
    at: float
    """Monotonic."""
    metrics: Mapping[str, float]


class LiveView(IterationCallback):
    """Shows the run while the context is open, in rank 0, whatever the learner does.

    In a terminal, whatever else is written there meanwhile appears above the panel. If the thread fails, the next
    iteration ends with a RuntimeError.
    """

    def __init__(self, watched: Watched, statistics: Statistics, failures: EnvFailures, stop: StopRequest) -> None:
        self._watched = watched
        self._statistics = statistics
        self._failures = failures
        self._stop = stop
        self._started_at = time.time()
        self._phase: Phase = "waiting"
        self._first_iteration = 0
        self._recent: tuple[_Ended, ...] = ()
        """The last iterations, oldest first; replaced by the learner, and never changed."""
        self._histories: dict[str, _History] = {}
        self._screen = PanelScreen() if is_terminal() else LinesScreen()
        self._drawing = threading.Lock()
        self._thread = ServiceThread(self._serve, "live-view")
        self._stack = ExitStack()
        self._terminal: Terminal | None = None

    def __enter__(self) -> LiveView:
        if isinstance(self._screen, PanelScreen):
            file = self._watched.run_dir / "logs" / "terminal.log"
            self._terminal = self._stack.enter_context(Terminal(file))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended:
            self._phase = "stopped" if self._stop.received is not None else "failed"
        self._thread.end(5.0)
        self._draw(lambda: self._screen.end(None))
        self._stack.close()

    def started(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._first_iteration = learner.iteration

    def begin(self, trainer: lightning.Trainer) -> None:
        """Draw from now on."""
        bar = any(isinstance(callback, RichProgressBar) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        self._draw(lambda: self._screen.begin(beside_bar=bar))

    def batch_taken(self) -> None:
        self._phase = "learning"

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        self._thread.check()
        metrics = self._statistics.newest
        for name in _score_names(metrics):
            self._histories.setdefault(name, _History()).add(metrics[name])
        # last, since the thread looks up the histories of what it finds here
        self._recent = (*self._recent[1 - _REMEMBERED :], _Ended(learner.iteration, time.monotonic(), metrics))

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._end("finished" if learner.iteration >= learner.iterations else "stopped")

    def failed(self) -> None:
        self._end("failed" if self._stop.received is None else "stopped")

    @property
    def _ended(self) -> bool:
        return self._phase in ("finished", "stopped", "failed")

    def _end(self, phase: Phase) -> None:
        self._phase = phase
        status = self._status()
        self._draw(lambda: self._screen.end(status))

    def _draw(self, draw: Callable[[], None]) -> None:
        """For one thread at a time; not at all while a terminal that takes no output (Ctrl-S) holds up another."""
        if not self._drawing.acquire(timeout=_BLOCKED_S):
            return
        try:
            with suppress(OSError):  # the terminal is gone if its window was closed; the run goes on
                draw()
        finally:
            self._drawing.release()

    def _serve(self) -> None:
        draw_at = 0.0
        while not self._thread.stopping.wait(_LOOK_EVERY_S):
            if self._terminal is not None:
                self._draw(self._terminal.show)
            if time.monotonic() >= draw_at or self._screen.resized():
                draw_at = time.monotonic() + _DRAW_EVERY_S
                self._show(self._status())
        self._write(self._status())

    def _show(self, status: Status) -> None:
        self._write(status)
        self._draw(lambda: self._screen.show(status))

    def _write(self, status: Status) -> None:
        with suppress(OSError):  # a full disk, or a run folder that is gone: others say so
            write_status(status, self._watched.run_dir)

    def _status(self) -> Status:
        watched, recent = self._watched, self._recent
        config, collectors = watched.config, watched.collectors()
        newest = recent[-1].metrics if recent else {}
        success = newest.get("episode/success", newest.get("tasks/success", math.nan))
        mean = _means(recent)
        links = tuple(Link(name, min(1.0, mean[f"time/{name}"])) for name in _LINKS) if recent else ()
        waits = mean.get("time/learner_waits", 0.0)
        video, video_at = _newest_video(watched.run_dir)
        return Status(
            run_dir=str(watched.run_dir),
            started_at=self._started_at,
            written_at=time.time(),
            phase=self._phase,
            headline=self._headline(collectors, links, waits),
            silent_s=watched.buffer.silent_s,
            add_collector=watched.add_collector,
            iteration=recent[-1].number if recent else self._first_iteration,
            iterations=config.iterations,
            ends_at=None if self._ended else _ends_at(recent, config.iterations),
            episodes=int(newest.get("episodes", 0)),
            env_steps=int(newest.get("env_steps", 0)),
            scores=tuple(
                Score(name.removeprefix("episode/"), newest[name], tuple(self._histories[name].points))
                for name in _score_names(newest)
            ),
            success_rate=None if math.isnan(success) else success,
            env_steps_per_s=mean.get("env_steps_per_s", 0.0),
            lag_versions=mean.get("lag_versions", 0.0),
            lag_versions_max=max((metrics["lag_versions_max"] for metrics in _lately(recent)), default=0.0),
            buffer_fragments=watched.buffer.waiting,
            buffer_wanted=watched.wanted,
            buffer_capacity=watched.buffer.capacity,
            learner_waits=waits,
            links=links,
            collectors=collectors,
            env_failures=int(newest.get("env_failures", 0)),
            failures=tuple(sorted(self._failures.by_reason.values(), key=lambda failure: -failure.last_at)),
            newest_video=video,
            newest_video_at=video_at,
        )

    def _headline(self, collectors: tuple[Collector, ...], links: tuple[Link, ...], waits: float) -> str:
        if self._ended:
            return self._phase.capitalize()
        buffer = self._watched.buffer
        if buffer.learner_waits:
            why = why_it_waits(
                collectors, self._watched.add_collector, learning=self._phase == "learning", silent_s=buffer.silent_s
            )
            if why is not None:
                return why
        if not links:
            return "The first iteration is being learnt."
        return in_words(bottleneck(links, waits), waits, self._watched.config)


class BeginView(lightning.Callback):
    """The last of all callbacks: Lightning's progress bar must begin to draw before `view`, when training starts."""

    def __init__(self, view: LiveView) -> None:
        self._view = view

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._view.begin(trainer)


class _History:
    """At most 120 points of a curve, evenly spaced, however long it gets."""

    def __init__(self) -> None:
        self.points: list[float] = []
        """Replaced when there are too many; otherwise added to."""
        self._every = 1
        self._count = 0

    def add(self, value: float) -> None:
        if self._count % self._every == 0:
            if len(self.points) == _MOST_POINTS:
                self.points = self.points[::2]
                self._every *= 2
            self.points.append(value)
        self._count += 1


def _score_names(metrics: Mapping[str, float]) -> list[str]:
    """Of the scores that are known: the return of each task, or the return and the statistics; then the length."""
    names = [n for n in metrics if n.startswith("task/") and n.endswith("/return") and metrics[n] == metrics[n]]
    if names:
        return names
    others = ("episode/length", "episode/success")
    names = [n for n in metrics if n.startswith("episode/") and n not in others and metrics[n] == metrics[n]]
    return [*names, "episode/length"] if names else []


def _lately(recent: tuple[_Ended, ...]) -> list[Mapping[str, float]]:
    return [entry.metrics for entry in recent if entry.at > recent[-1].at - _RECENT_S]


def _means(recent: tuple[_Ended, ...]) -> dict[str, float]:
    """Metrics over the last 10 s, or the last iteration if that took longer."""
    last = _lately(recent)
    if not last:
        return {}
    total_s = sum(metrics["time/iteration_s"] for metrics in last)
    return {
        name: sum(metrics[name] * metrics["time/iteration_s"] for metrics in last) / total_s
        for name in ("env_steps_per_s", "lag_versions", "time/learner_waits", *(f"time/{name}" for name in _LINKS))
    }


def _ends_at(recent: tuple[_Ended, ...], iterations: int) -> float | None:
    """At the pace of the remembered iterations; None while there are too few."""
    if len(recent) < 2:
        return None
    first, last = recent[0], recent[-1]
    pace_s = (last.at - first.at) / (last.number - first.number)
    return time.time() - (time.monotonic() - last.at) + pace_s * (iterations - last.number)


def _newest_video(run_dir: Path) -> tuple[str | None, float | None]:
    with suppress(OSError):  # the run folder may be deleted, or out of reach, at any time
        videos = sorted((run_dir / "videos").glob("[0-9]*.mp4"))
        return (str(videos[-1]), videos[-1].stat().st_mtime) if videos else (None, None)
    return None, None
