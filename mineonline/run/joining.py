"""How a collector or a relay finds its run and joins it.

`run` is a run folder or an address. In a run folder, rank 0 writes its address to `join`, and a relay writes its own to
`relays/<host>`: collectors on that host join there, as long as it listens.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path

import zmq

from mineonline.errors import CollectorError, ConfigError
from mineonline.processes.join import DONE_FILE, JOIN_FILE, RunComplete, Welcome, join, request_of
from mineonline.processes.sockets import KEYS_FILE, KEYS_VARIABLE, Keys, keys_file, listens

log = logging.getLogger(__name__)

PATIENCE_S = 600.0
"""How long to keep trying to join when nobody answers."""
REJOIN_AFTER_S = 0.2
_ANSWER_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.2
_AVOID_S = 60.0
_ADDRESS = re.compile(r"tcp://\S+:\d+|ipc://.+")


def relay_file(run_dir: Path) -> Path:
    """Where the relay of this host writes its address."""
    return run_dir / "relays" / socket.gethostname().replace("/", "_")


class Joiner:
    """Finds a run and joins it. A relay (`relay`) joins rank 0 itself, never another relay."""

    def __init__(self, run: str, keys: str | None, *, relay: bool = False) -> None:
        self._run, self._keys = run, keys
        self._relay = relay
        self._mute: str | None = None
        """Address of a relay that has listened without an answer, avoided until `_mute_until`."""
        self._mute_until = 0.0
        self.address = ""
        """Where it joined last."""

    def join(self, context: zmq.Context[zmq.Socket[bytes]], lost: str = "") -> tuple[Welcome, Keys | None]:
        """Join, and the keys for the addresses in the welcome. Waits PATIENCE_S at most, first for an address.

        `lost`: why the workers ended, if that is why this collector joins again. RunComplete if the run is complete;
        ConfigError if there is no such run, or no trainer; CollectorError if the trainer refuses.
        """
        deadline = time.monotonic() + PATIENCE_S
        request = request_of(asked_at=time.time_ns(), lost=lost, relay=self._relay)
        while True:
            self.address, keys = self._find()
            answer = join(
                context, self.address, keys, request, timeout_s=_ANSWER_WITHIN_S, moved=lambda: self.has_moved
            )
            if isinstance(answer, Welcome):
                return answer, keys
            if answer is not None:
                raise CollectorError(f"{self.address} refused this {self._name}: {answer.reason}")
            log.info("no answer from %s yet", self.address)
            with suppress(OSError):
                if self.address == self._relay_address():
                    self._mute, self._mute_until = self.address, time.monotonic() + _AVOID_S
            if time.monotonic() > deadline:
                raise ConfigError(f"run={self._run}: nobody has answered at {self.address} for {PATIENCE_S:.0f} s.")

    @property
    def has_moved(self) -> bool:
        """Whether this process would join elsewhere by now. Not while the run folder's file server fails."""
        try:
            return "://" not in self._run and self.address != self._current_address()
        except OSError:
            return False

    @property
    def _name(self) -> str:
        return "relay" if self._relay else "collector"

    def _find(self) -> tuple[str, Keys | None]:
        run = self._run
        if "://" in run:
            if not _ADDRESS.fullmatch(run):
                raise ConfigError(f"run={run}: must be a run folder, tcp://<host>:<port> or ipc://<path>.")
            file = self._keys or os.environ.get(KEYS_VARIABLE)
            keys = Keys.load(Path(file)) if file else None
            if file and keys is None:
                raise ConfigError(f"keys={file}: there is no such file.")
            if run.startswith("tcp://") and keys is None:
                raise ConfigError(
                    f"run={run}: add keys=<{KEYS_FILE} of the run folder>, or set {KEYS_VARIABLE} to that file; "
                    "without them the trainer does not answer."
                )
            return run, keys
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                found = self._find_in(Path(run))
            except PermissionError as error:
                raise ConfigError(f"run={run}: cannot be read ({error.strerror}).") from None
            except OSError:  # the file server fails for a while
                found = None
            if found is not None:
                return found
            if time.monotonic() > deadline:
                both = f"{JOIN_FILE} (and {KEYS_FILE}, if it has a network.host)"
                raise ConfigError(f"run={run}: no trainer has written {both} there in {PATIENCE_S:.0f} s.")
            time.sleep(_LOOK_EVERY_S)

    def _find_in(self, folder: Path) -> tuple[str, Keys | None] | None:
        if not folder.is_dir():
            raise ConfigError(f"run={folder}: there is no such run folder.")
        if (folder / DONE_FILE).exists():
            raise RunComplete
        address = self._current_address()
        if address is None:
            return None
        # unix sockets have no keys: a relay's, and those of a trainer that listens on its own machine only
        if not address.startswith("tcp://"):
            return address, None
        file = keys_file(folder)
        keys = Keys.load(file)
        if keys is None and os.environ.get(KEYS_VARIABLE):
            raise ConfigError(f"{KEYS_VARIABLE}={file}: there is no such file. Copy the trainer's there.")
        return None if keys is None else (address, keys)

    def _current_address(self) -> str | None:
        relay = self._relay_address()
        if relay is not None and (relay != self._mute or time.monotonic() > self._mute_until):
            return relay
        with suppress(FileNotFoundError):
            return (Path(self._run) / JOIN_FILE).read_text()
        return None

    def _relay_address(self) -> str | None:
        """The address of this host's relay, if one listens."""
        if self._relay or "://" in self._run:
            return None
        with suppress(FileNotFoundError):
            address = relay_file(Path(self._run)).read_text()
            return address if listens(address) else None
        return None
