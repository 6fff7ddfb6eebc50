"""Stops all ranks after the same iteration."""

from __future__ import annotations

import lightning
from lightning.pytorch.callbacks import Timer

from mineonline.callbacks.iteration import IterationCallback
from mineonline.learning.module import PPO
from mineonline.processes.stopping import StopRequest


class StopOnSignal(IterationCallback):
    """While the training loop runs, a signal ends it after the current iteration."""

    def __init__(self, request: StopRequest) -> None:
        self._request = request

    def started(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._request.install()  # with the handlers that Lightning has set, ranks can wait for each other forever
        self._request.training = True

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._request.training = False

    def failed(self) -> None:
        self._request.training = False


def limit_reached(trainer: lightning.Trainer, learner: PPO) -> str | None:
    """The argument of Lightning's Trainer that has ended a run before its last iteration; None if none has."""
    if learner.iteration >= learner.iterations:
        return None
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return "trainer.max_steps"
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    left = [remaining for timer in timers if (remaining := timer.time_remaining()) is not None]
    return "trainer.max_time" if left and min(left) <= 0 else None
