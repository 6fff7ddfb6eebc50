"""What a process does when it is asked to stop, by Ctrl-C or SIGTERM, or a trainer by a signal with which Slurm warns.

During training, a trainer only remembers the first signal. The ranks agree before each iteration, so that all stop
after the same one and a checkpoint is saved. At any other time, and on a second signal, the trainer ends at once,
through its `finally` blocks. All other processes always end this way.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from mineonline.processes.lifetimes import HANDLED_SIGNALS, parent_trainer

if TYPE_CHECKING:  # takes seconds to import, and the handlers must be set before
    import lightning


_ASK_AGAIN_S = 0.1
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
"""With which Slurm warns of a time limit, as its `--signal` says. SIGTERM may follow."""


class StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._passed_on = False
        self.training = False
        """True while the training loop checks `received`."""

    def install(self) -> None:
        """Handle SIGINT, SIGTERM and warnings. Call it again after Lightning has set its own handlers."""
        for number in HANDLED_SIGNALS:
            signal.signal(number, self._on_signal)
        sys.unraisablehook = _ask_again
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)

    def pass_on(self, trainer: lightning.Trainer) -> None:
        """Ask the ranks that this one started to stop too, once: they may be waiting for fragments."""
        if not self._passed_on:
            self._passed_on = True
            for process in getattr(trainer.strategy.launcher, "procs", []):
                # not a second one for those that a terminal's Ctrl-C has reached already
                process.send_signal(signal.SIGUSR1)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        before = self.received
        if before is not None and number in WARNINGS:
            return
        self.received = signal.Signals(number)
        if before not in (None, *WARNINGS) or not self.training:
            raise _Stop(number, partial(setattr, self, "received", before))


class _Stop(SystemExit):
    """A signal asked this process to stop; `forget` undoes what its handler did besides raising this."""

    def __init__(self, number: int, forget: Callable[[], None]) -> None:
        super().__init__(128 + number)
        self.number, self.forget = number, forget
        _again.cancel()


_again = threading.Timer(0.0, os.kill)
"""Sends a signal once more; the newest such timer, which may not be started."""


def _ask_again(ignored: sys.UnraisableHookArgs) -> None:
    """Python's hook for exceptions that it ignores: those of finalisers, and of callbacks that imports leave behind."""
    global _again
    stop = ignored.exc_value
    if not isinstance(stop, _Stop):
        sys.__unraisablehook__(ignored)
        return
    stop.forget()
    _again = threading.Timer(_ASK_AGAIN_S, os.kill, (os.getpid(), stop.number))
    _again.daemon = True
    with suppress(RuntimeError):  # the interpreter ends anyway, and starts no threads any more
        _again.start()


ORPHANED = signal.SIGHUP
"""The signal that the kernel sends to recorders and whatever draws a curve, when the trainer that started them dies."""


@contextmanager
def last_block() -> Iterator[None]:
    """The process ends with this block. What was registered with `atexit` runs, but objects are not finalised.

    In its finalisers torchrl starts threads, and then waits for them to run, which they cannot so late.
    """
    code: object = 0
    try:
        yield
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # noqa: BLE001 shown as Python shows it
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def exit_on_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP end this process through its `finally` blocks; a later SIGINT or SIGTERM, at once.

    A SIGHUP that is ignored, as under nohup, stays ignored, unless a trainer started this process: it inherits that
    and must still end when the trainer dies. Call it before the imports that take seconds.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    for number in WARNINGS:  # Slurm sends a trainer's to all that it has started, too
        signal.signal(number, signal.SIG_IGN)
    if parent_trainer() is not None or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _leave)
    sys.unraisablehook = _ask_again
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)


def _leave(number: int, frame: FrameType | None) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    # a dying parent sends SIGHUP once per thread, and later ones would interrupt the clean-up
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _leave_at_once)

    def forget() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    raise _Stop(number, forget)


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
