"""Sockets: addresses, keys and the settings that all of them share.

On one machine, every socket is a unix socket in a folder that only the user may enter. If collectors may join from
other machines, every socket is a tcp socket with CURVE: collectors recognise the trainer by its public key, and only
holders of the run's client key get in. The trainer writes the keys to the run folder (mode 0600).
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec
import zmq
from zmq.auth.thread import ThreadAuthenticator

from mineonline.errors import DECODE_ERRORS, ConfigError
from mineonline.processes.lifetimes import TemporaryFolder
from mineonline.processes.logs import Repeats

log = logging.getLogger(__name__)

KEYS_FILE = "keys.json"
KEYS_VARIABLE = "MINEONLINE_KEYS"
"""Environment variable: the file of the keys, if it is not the one in the run folder."""
AUTO = "auto"
"""As `network.host`: the address that `own_address` finds."""
_ELSEWHERE = "192.0.2.1"
"""Belongs to nobody (RFC 5737)."""


class Keys(msgspec.Struct, frozen=True):
    """CURVE keys of a run, Z85 text. All collectors use the same client pair."""

    server_public: str
    server_secret: str
    client_public: str
    client_secret: str

    @staticmethod
    def load(file: Path) -> Keys | None:
        """The keys of a run, or None if `file` does not exist: the run listens only on its own machine.

        ConfigError if it cannot be read; OSError if its file server fails, which may pass.
        """
        if not file.exists():
            return None
        try:
            return msgspec.json.decode(file.read_bytes(), type=Keys)
        except (*DECODE_ERRORS, PermissionError, IsADirectoryError) as error:
            raise ConfigError(f"{file} is not the {KEYS_FILE} of a run ({error}).") from None

    @staticmethod
    def load_or_make(file: Path) -> Keys:
        """The keys in a file; the first call writes it, readable by the user alone."""
        known = Keys.load(file)
        if known:
            return known
        keys = Keys(*(part.decode() for _ in range(2) for part in zmq.curve_keypair()))
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise ConfigError(f"the keys cannot be written to {file} ({error}).") from None
        with open(descriptor, "wb") as opened:
            opened.write(msgspec.json.encode(keys))
        return keys


def keys_file(run_dir: Path) -> Path:
    """Where the keys of a run are: MINEONLINE_KEYS, or a file in the run folder."""
    return Path(os.environ.get(KEYS_VARIABLE) or run_dir / KEYS_FILE)


def own_address() -> str:
    """The IPv4 address by which other machines reach this one.

    That of its route to rank 0, or to the world, or of its own name. ConfigError if there is none.
    """
    for target in (os.environ.get("MASTER_ADDR"), _ELSEWHERE):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
            if target is not None:
                probe.connect((target, 9))  # chooses a route, and sends nothing
                address = str(probe.getsockname()[0])
                if not address.startswith("127."):
                    return address
    with suppress(OSError):
        address = socket.gethostbyname(socket.gethostname())
        if not address.startswith("127."):
            return address
    raise ConfigError(
        f"network.host=auto: {socket.gethostname()} has no route to another machine. Give network.host=<its address>."
    )


class Network:
    """The trainer's side: binds unix sockets (`host` None) or authenticated tcp sockets (keys from `run_dir`).

    Unix sockets are in `folder`, which the rank that made it removes.
    """

    def __init__(
        self, host: str | None, run_dir: Path, *, folder: Path | None = None, keys: Keys | None = None
    ) -> None:
        """`folder`, `keys`: those of rank 0; None makes what is needed."""
        if host is not None and keys is None:
            keys = Keys.load_or_make(keys_file(run_dir))
        self.context = zmq.Context()
        self._host = own_address() if host == AUTO else host
        self.keys = keys
        self._own_folder = TemporaryFolder("mineonline-") if host is None and folder is None else None
        self.folder = self._own_folder.path if self._own_folder is not None else folder
        self._authenticator: ThreadAuthenticator | None = None
        if keys is not None:
            self._authenticator = ThreadAuthenticator(self.context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback(credentials_provider=_OneClient(keys.client_public))

    def bind(self, kind: int, name: str, *, port: int = 0, options: dict[int, int] | None = None) -> zmq.Socket[bytes]:
        """A bound socket; its address is `address_of(socket)`. ConfigError if it cannot be bound."""
        bound: zmq.Socket[bytes] = self.context.socket(kind)
        bound.linger = 0
        for option, value in (options or {}).items():
            bound.setsockopt(option, value)
        if self.keys is not None:
            bound.curve_server = True
            bound.curve_publickey = self.keys.server_public.encode()
            bound.curve_secretkey = self.keys.server_secret.encode()
        host = self._host
        if host is not None and ":" in host:
            bound.ipv6 = True
            host = f"[{host.strip('[]')}]"
        target = f"ipc://{self.folder}/{name}" if host is None else f"tcp://{host}:{port or '*'}"
        try:
            bound.bind(target)
        except zmq.ZMQError as error:
            bound.close()
            if error.errno == zmq.EADDRINUSE:
                raise ConfigError(
                    f"network.port={port} is taken on {self._host}. Set another port, or network.port=0 for a free one."
                ) from None
            raise ConfigError(
                f"network.host={self._host}: cannot listen there ({error}). Give an address of this machine, the name "
                "of one of its network interfaces, or auto."
            ) from None
        return bound

    def address_of(self, bound: zmq.Socket[bytes]) -> str:
        """What a collector connects to."""
        endpoint = bound.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        if self._host in ("0.0.0.0", "*", "::", "[::]"):
            return f"tcp://{socket.gethostname()}:{endpoint.rpartition(':')[2]}"
        return endpoint

    def remove_folder(self) -> None:
        """Stop new connections to unix sockets; existing ones stay."""
        if self._own_folder is not None:
            self._own_folder.remove()
            self._own_folder = None

    def close(self) -> None:
        """Close the sockets that are still open, free the context and remove the socket folder.

        Threads must have stopped using their sockets. Waits 0.5 s at most, for what a publisher sent last: a
        socket left open would block the context forever.
        """
        if self._authenticator is not None:
            self._authenticator.stop()
        self.context.destroy(linger=0)
        self.remove_folder()

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    context: zmq.Context[zmq.Socket[bytes]],
    kind: int,
    addresses: list[str],
    keys: Keys | None,
    options: dict[int, int] | None = None,
) -> zmq.Socket[bytes]:
    """The collector's side: a socket connected to all `addresses`."""
    connected: zmq.Socket[bytes] = context.socket(kind)
    connected.linger = 0
    for option, value in (options or {}).items():
        connected.setsockopt(option, value)
    if keys is not None:
        connected.curve_serverkey = keys.server_public.encode()
        connected.curve_publickey = keys.client_public.encode()
        connected.curve_secretkey = keys.client_secret.encode()
    connected.ipv6 = any("[" in address for address in addresses)
    for address in addresses:
        connected.connect(address)
    return connected


def listens(address: str) -> bool:
    """Whether a process listens on this unix socket of this machine."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address.removeprefix("ipc://"))
        except OSError:
            return False
        return True


class _OneClient:
    """Lets in whoever holds the run's client key."""

    def __init__(self, public: str) -> None:
        self._public = public.encode()
        self._repeats = Repeats(log)

    def callback(self, domain: str, key: bytes) -> bool:
        allowed = key == self._public
        if not allowed:
            self._repeats.warning("refused a connection", f"its keys are not those in this run's {KEYS_FILE}")
        return allowed
