"""The messages between a worker and a simulator's process, over a pair of pipes."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

import msgspec

from mineonline.envs.contract import TensorSpec


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


class Setup(_Message, frozen=True):
    """To the simulator, once: its settings."""

    task: dict[str, Any]
    """As `tasks.parse_task` takes it."""
    image_size: tuple[int, int]
    """Width and height, pixels."""
    render_size: tuple[int, int]
    """The same for the engine's window."""
    host_starts: int
    """How many engines may start at the same time on this host."""
    observations: dict[str, TensorSpec]
    """What the user's callbacks write into `obs`, besides the picture."""


class Begin(_Message, frozen=True):
    """To the simulator: start an episode. Answered by `Ready`, after `Queued` and `Starting` if the engine is new."""

    mission_seed: int
    """Decides the land of a hard reset."""
    episode_seed: int
    """Decides every random draw of the callbacks."""
    hard: bool
    """Reset the engine, even if a fast reset would do."""
    time_limit: int
    """Ticks."""


class Decide(_Message, frozen=True):
    """To the simulator: play one decision. Answered by `Outcome`."""

    buttons: int
    camera: int
    film: bool
    """Return the picture of every tick."""


class Close(_Message, frozen=True):
    """To the simulator: end the engine and exit. There is no answer: the process ends."""


class Queued(_Message, frozen=True):
    """The simulator waits for others on this host before it starts its engine; sent once a second."""


class Starting(_Message, frozen=True):
    """The engine starts now."""


class Ready(_Message, frozen=True):
    """An episode has started."""

    observation: dict[str, bytes]
    """Each array of `contract.EnvSpec.observation`, row by row."""


class Outcome(_Message, frozen=True):
    """What a decision led to, as in `contract.Step`."""

    observation: dict[str, bytes]
    reward: float
    terminated: bool
    truncated: bool
    statistics: list[float]
    frames: list[bytes]
    """Of `render_size`, one per tick, if asked for."""


class Failed(_Message, frozen=True):
    """The simulator cannot continue; its process ends."""

    reason: str
    users: bool
    """Only the user can fix it, for example an error in a callback: another engine would not help."""


ToSimulator = Setup | Begin | Decide | Close
ToWorker = Queued | Starting | Ready | Outcome | Failed


class Link:
    """One end of the pipes."""

    def __init__(self, reader: int, writer: int, decode: Any) -> None:
        """Takes over and closes both descriptors. `decode`: the union of the messages that it receives."""
        self.reader = Connection(reader, writable=False)
        self._writer = Connection(writer, readable=False)
        self._decoder = msgspec.msgpack.Decoder(decode)

    def send(self, message: ToSimulator | ToWorker) -> None:
        """Waits while the pipe is full. BrokenPipeError if the other side is gone."""
        self._writer.send_bytes(msgspec.msgpack.encode(message))

    def receive(self) -> Any:
        """Waits for a message. EOFError if the other side is gone."""
        return self._decoder.decode(self.reader.recv_bytes())

    def close(self) -> None:
        """The other side reads an end of file."""
        self.reader.close()
        self._writer.close()
