"""Loggers that fail cost no run."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger

from mineonline.callbacks.iteration import IterationCallback
from mineonline.experience.buffer import Batch
from mineonline.learning.module import PPO

log = logging.getLogger(__name__)

_ROWS = ("log_metrics", "log_video")
_LAST = ("finalize", "close_run")
_CALLS = (*_ROWS, "log_hyperparams", "log_graph", "after_save_checkpoint", "save", *_LAST)


@dataclass
class _Tolerated:
    name: str
    failures: int = 0
    rests_until: float = 0.0


class TolerateLoggers(IterationCallback):
    """What a logger raises (a full disk, no network) is reported once, and counted in the metric `logger_failures`.

    A logger that has failed is then left alone for `rest_s`, or `rest_factor` times as long as the call that failed
    took: one that waits for a dead server costs a tenth of a run's time at most. What it is not
    given meanwhile is counted too.
    """

    def __init__(self, *, rest_s: float = 30.0, rest_factor: float = 10.0) -> None:
        self._rest_s = rest_s
        self._rest_factor = rest_factor
        self._tolerated: list[_Tolerated] = []

    @property
    def failures(self) -> int:
        """Calls that loggers have not taken so far."""
        return sum(each.failures for each in self._tolerated)

    def tolerate(self, logger: Logger) -> None:
        """From now on `logger` never raises. It stays what it is, for callbacks that look for its class."""
        state = _Tolerated(type(logger).__name__)
        self._tolerated.append(state)
        for name in _CALLS:
            if hasattr(logger, name):
                setattr(logger, name, self._tolerant(name, getattr(logger, name), state))

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        learner.log("logger_failures", float(self.failures), batch_size=1)

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self.failed()

    def failed(self) -> None:
        for state in self._tolerated:
            if state.failures:
                log.warning("%s did not take %d calls; metrics.csv holds all rows.", state.name, state.failures)

    def _tolerant(self, name: str, call: Callable[..., Any], state: _Tolerated) -> Callable[..., Any]:
        @functools.wraps(call)
        def tolerant(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            if began < state.rests_until and name not in _LAST:
                state.failures += name in _ROWS
                return None
            try:
                return call(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 whatever a logger raises
                now = time.monotonic()
                state.rests_until = now + max(self._rest_s, self._rest_factor * (now - began))
                state.failures += 1
                if state.failures == 1:
                    log.warning(
                        "%s failed in %s (%s: %s). Training goes on, and tries it again later. More failures are only "
                        "counted: logger_failures in metrics.csv.",
                        state.name, name, type(error).__name__, " ".join(str(error).split()),
                    )  # fmt: skip
                return None

        return tolerant
