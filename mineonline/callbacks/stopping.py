"""Stops all ranks after the same iteration."""

from __future__ import annotations

import lightning

from mineonline.stopping import StopRequest


class StopOnSignal(lightning.Callback):
    """Makes signals graceful while the training loop runs."""

    def __init__(self, request: StopRequest) -> None:
        self._request = request

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._request.install()  # Lightning has set its own, in which ranks can wait for each other for ever
        self._request.training = True

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._request.training = False

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._request.training = False
