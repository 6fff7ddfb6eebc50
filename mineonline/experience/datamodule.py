"""PATH 1, last station: an iteration's share of fragments for Lightning's training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import lightning

from mineonline.experience.buffer import FragmentBuffer, Share


class Iterations:
    """Sized, so that Lightning does not fetch an iteration ahead (which would add a version of staleness).

    `take` gives a share, or None to stop. `agree` says whether any rank wants to stop, and
    `before_stop` is called when one does; all ranks call them together.
    """

    def __init__(
        self,
        take: Callable[[], Share | None],
        agree: Callable[[bool], bool],
        before_stop: Callable[[], None],
        count: int,
    ) -> None:
        self._take = take
        self._agree = agree
        self._before_stop = before_stop
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Share]:
        while True:
            share = self._take()
            if self._agree(share is None) or share is None:
                self._before_stop()
                return
            yield share


class OnlineDataModule(lightning.LightningDataModule):
    """Feeds `Share`s from the buffer that the receiver fills.

    `share`: fragments of this rank an iteration. `version`: gives the learner's version. `give_up`: asked while
    waiting; True ends training on all ranks before the next iteration, and it may raise what the user should read.
    `before_stop`: called on all ranks when training ends so.
    """

    def __init__(
        self,
        buffer: FragmentBuffer,
        *,
        iterations: int,
        share: int,
        version: Callable[[], int],
        give_up: Callable[[], bool],
        before_stop: Callable[[], None],
    ) -> None:
        super().__init__()
        self._buffer = buffer
        self._iterations = iterations
        self._share = share
        self._version = version
        self._give_up = give_up
        self._before_stop = before_stop

    def train_dataloader(self) -> Iterations:
        """One item an iteration."""
        return Iterations(self._take, self._agree, self._before_stop, self._iterations)

    def transfer_batch_to_device(self, batch: Share, device: object, dataloader_idx: int) -> Share:
        """Nothing: the learner moves minibatches when it uses them."""
        return batch

    def _take(self) -> Share | None:
        return None if self._give_up() else self._buffer.take(self._share, self._version(), self._give_up)

    def _agree(self, stop: bool) -> bool:
        assert self.trainer is not None
        return bool(self.trainer.strategy.reduce_boolean_decision(stop, all=False))
