"""PATH 1: batches for Lightning's training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import lightning

from mineonline.experience.buffer import Batch


class Iterations:
    """One batch per iteration. Without a length, Lightning would fetch one batch ahead: one version more of lag.

    `take` returns a batch, or None to stop. `agree` says whether any rank wants to stop; all ranks call it together.
    """

    def __init__(self, take: Callable[[], Batch | None], agree: Callable[[bool], bool], count: int) -> None:
        self._take = take
        self._agree = agree
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self._take()
            if self._agree(batch is None) or batch is None:
                return
            yield batch
            del batch  # so that its memory can hold the next one


class OnlineDataModule(lightning.LightningDataModule):
    """`iterations` batches. `connect`, called once the ranks can talk to each other, returns what takes the next one.

    That waits until there is a batch, returns None to end training on all ranks before the next iteration, and may
    raise an error for the user.
    """

    def __init__(self, connect: Callable[[], Callable[[], Batch | None]], iterations: int) -> None:
        super().__init__()
        self._connect = connect
        self._iterations = iterations
        self.stopped = False
        """Whether training has ended because a rank was asked to stop."""

    def setup(self, stage: str) -> None:
        self._take = self._connect()

    def train_dataloader(self) -> Iterations:
        return Iterations(self._take, self._agree, self._iterations)

    def transfer_batch_to_device(self, batch: Batch, device: object, dataloader_idx: int) -> Batch:
        """The batch unchanged: the learner moves each minibatch when it uses it."""
        return batch

    def _agree(self, stop: bool) -> bool:
        assert self.trainer is not None
        self.stopped = bool(self.trainer.strategy.reduce_boolean_decision(stop, all=False))
        return self.stopped
