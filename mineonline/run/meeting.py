"""The ranks of a run meet: rank 0 says where the run is, and the others follow, whoever started them.

They meet in Lightning's `setup`, once the process group exists. Until then, `Rendezvous` bounds their wait.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import lightning
import msgspec
import torch

from mineonline.errors import ConfigError
from mineonline.learning.ranks import from_rank_zero, sum_over_ranks
from mineonline.processes.sockets import Keys
from mineonline.settings.config import Config

_SEEN_WITHIN_S = 30.0
"""A shared file system may show a new file seconds late."""
_GRACE_S = 2.0
_LATER_S = 10.0


class Place(msgspec.Struct, frozen=True):
    """Where a run is. Rank 0 decides it."""

    run_dir: str
    run_id: str
    """Every message carries it, so that those of other runs are refused."""
    sockets: str | None
    """Folder of the unix sockets; None with tcp."""
    keys: Keys | None
    """Of the tcp sockets; sent, since a shared folder may show the file seconds late."""
    config: dict[str, Any]


def meet(trainer: lightning.Trainer, place: Place | None, config: Config) -> Place:
    """Rank 0's `place`, in every rank; all ranks call it together.

    ConfigError in the ranks that have other settings than rank 0, and in rank 0 if other nodes do not see its folder.
    """
    sign = None
    if place is not None and trainer.num_nodes > 1:
        sign = _sign(place)
        sign.touch()  # before others look: a shared file system remembers for a while that a file was not there
    try:
        message = b"" if place is None else msgspec.json.encode(place)
        met = msgspec.json.decode(from_rank_zero(message, trainer.strategy.root_device), type=Place)
        _check_settings(trainer, met, config)
        if trainer.num_nodes > 1:
            _check_shared(trainer, met)
    finally:
        if sign is not None:
            sign.unlink(missing_ok=True)
    return met


def _sign(place: Place) -> Path:
    return Path(place.run_dir, f".{place.run_id}")


def _check_settings(trainer: lightning.Trainer, met: Place, config: Config) -> None:
    ours = msgspec.json.decode(msgspec.json.encode(config))
    differ = [key for key in ours if key != "run_dir" and ours[key] != met.config.get(key)]
    if differ:
        raise ConfigError(
            f"rank {trainer.global_rank} was started with other settings than rank 0: {', '.join(differ)} differ. "
            "Start all with the same command, and with the same files."
        )


def _check_shared(trainer: lightning.Trainer, met: Place) -> None:
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not _sign(met).exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    blind = torch.zeros(trainer.world_size, device=trainer.strategy.root_device)
    blind[trainer.global_rank] = not _sign(met).exists()
    ranks = torch.nonzero(sum_over_ranks(blind)).flatten().tolist()
    if ranks:
        if not trainer.is_global_zero:
            raise SystemExit(1)  # rank 0 says it
        raise ConfigError(
            f"run_dir={met.run_dir}: rank {', '.join(map(str, ranks))} on another node does not see this folder, in "
            "which rank 0 writes. All nodes must share it: give run_dir=<folder of a file system that they share>."
        )


class Rendezvous:
    """While the context is open, this process does not wait for the other ranks longer than `timeout_s`.

    torch waits in C code, where Python's signal handlers do not run, and Lightning gives it 30 minutes. A thread ends
    the process: with an error after `timeout_s`, and after SIGINT or SIGTERM, if that has not ended it within 2 s.
    """

    def __init__(self, trainer: lightning.Trainer, timeout_s: float) -> None:
        self._rank = trainer.global_rank
        self._ranks = trainer.world_size
        self._timeout_s = timeout_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rendezvous", daemon=True)

    def __enter__(self) -> Rendezvous:
        if self._ranks > 1:
            self._signals, write = os.pipe()
            os.set_blocking(write, False)
            self._before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
            self._write = write
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """The ranks have met, or this one leaves. More calls do nothing."""
        if self._thread.is_alive() and not self._over.is_set():
            self._over.set()
            signal.set_wakeup_fd(self._before)
            os.write(self._write, b"\0")  # wakes the thread
            self._thread.join(_GRACE_S)
            os.close(self._write)
            os.close(self._signals)

    def _watch(self) -> None:
        # rank 0 speaks first; when it has ended, the launcher ends the others
        patience_s = self._timeout_s + (_LATER_S if self._rank else 0.0)
        if select.select([self._signals], [], [], patience_s)[0]:
            number = os.read(self._signals, 1)[0]
            if not self._over.wait(_GRACE_S):
                os._exit(128 + number)
            return
        if self._over.is_set():
            return
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        print(
            f"error: rank {self._rank} has waited {self._timeout_s:.0f} s for the other ranks ({self._ranks} in all) "
            f"to meet at {where}. Start all of them (trainer.devices on each of trainer.num_nodes), let "
            "every node reach it, or give network.ranks_timeout_s=<more>.",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        os._exit(1)
