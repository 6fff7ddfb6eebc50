"""PATH 1: batches for Lightning's training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import lightning

from mineonline.experience.buffer import Batch, FragmentBuffer


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


class OnlineDataModule(lightning.LightningDataModule):
    """`iterations` batches of `fragments` fragments each, from this rank's buffer, which the receiver fills.

    `version`: returns the learner's version. `before_take`: called on all ranks before each batch is taken, after
    Lightning has logged the previous iteration. `give_up`: called before and during each wait; True ends training on
    all ranks before the next iteration; it may raise an error for the user.
    """

    def __init__(
        self,
        buffer: FragmentBuffer,
        *,
        iterations: int,
        fragments: int,
        version: Callable[[], int],
        before_take: Callable[[], None],
        give_up: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._buffer = buffer
        self._iterations = iterations
        self._fragments = fragments
        self._version = version
        self._before_take = before_take
        self._give_up = give_up

    def train_dataloader(self) -> Iterations:
        return Iterations(self._take, self._agree, self._iterations)

    def transfer_batch_to_device(self, batch: Batch, device: object, dataloader_idx: int) -> Batch:
        """The batch unchanged: the learner moves each minibatch when it uses it."""
        return batch

    def _take(self) -> Batch | None:
        self._before_take()
        return None if self._give_up() else self._buffer.take(self._fragments, self._version(), self._give_up)

    def _agree(self, stop: bool) -> bool:
        assert self.trainer is not None
        return bool(self.trainer.strategy.reduce_boolean_decision(stop, all=False))
