"""Connects the learner with the two paths: lets collectors join once all ranks listen, and publishes weights."""

from __future__ import annotations

from collections.abc import Callable

import lightning
import torch

from mineonline.callbacks.iteration import IterationCallback
from mineonline.callbacks.stopping import limit_reached
from mineonline.experience.buffer import Batch
from mineonline.learning.module import PPO
from mineonline.processes.stopping import StopRequest
from mineonline.weights.publisher import WeightsPublisher

_ADDRESS_BYTES = 256


class AnnounceRun(lightning.Callback):
    """Once every rank listens, gives rank 0 all addresses, in the order of the ranks."""

    def __init__(self, address: str, announce: Callable[[tuple[str, ...]], None]) -> None:
        self._address = address
        self._announce = announce

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        addresses = gather_addresses(trainer, self._address)
        if trainer.is_global_zero:
            self._announce(addresses)


class PublishWeights(IterationCallback):
    """PATH 2, in rank 0: publishes the weights before the first iteration and after each one that changed the policy.

    At the end it tells the collectors that the run is complete, unless the trainer was asked to stop or has reached a
    limit: then they wait for it to come back.
    """

    def __init__(self, publisher: WeightsPublisher, stop: StopRequest, dtype: torch.dtype) -> None:
        """`dtype`: of the policy's parameters in messages."""
        self._publisher = publisher
        self._stop = stop
        self._dtype = dtype
        self._version = -1

    def started(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._publish(learner)

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        if learner.version != self._version:
            self._publish(learner)

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._publish(learner, done=self._stop.received is None and limit_reached(trainer, learner) is None)

    def _publish(self, learner: PPO, *, done: bool = False) -> None:
        self._version = learner.version
        state = learner.published(self._dtype)
        self._publisher.publish(
            self._version, state.policy, constant=state.reference, constant_version=learner.reference_version, done=done
        )


def gather_addresses(trainer: lightning.Trainer, address: str) -> tuple[str, ...]:
    """Every rank's address, gathered as bytes in a tensor: torch's gathering of objects would unpickle."""
    if trainer.world_size == 1:
        return (address,)
    mine = torch.zeros(_ADDRESS_BYTES, dtype=torch.uint8, device=trainer.strategy.root_device)
    encoded = address.encode()
    mine[: len(encoded)] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    gathered = [torch.zeros_like(mine) for _ in range(trainer.world_size)]
    torch.distributed.all_gather(gathered, mine)
    return tuple(bytes(row.cpu().numpy()).rstrip(b"\0").decode() for row in gathered)
