"""Stops all ranks after the same iteration."""

from __future__ import annotations

import lightning

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
