"""The messages between a worker and the process of one environment, over a pair of pipes."""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.processes.lifetimes import die_with_parent


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


class SimulatorSetup(_Message, frozen=True):
    """To a simulator, once: its settings."""

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


class GameSetup(_Message, frozen=True):
    """To a gymnasium environment, once: what `gymnasium.make` gets."""

    id: str
    kwargs: dict[str, Any]
    spec: EnvSpec
    """What it must look like."""


class Begin(_Message, frozen=True):
    """To the process: start an episode. Answered by `Ready`; a simulator whose engine is new says more before that."""

    episode_seed: int
    """Decides every random draw of the environment, or of the callbacks of a simulator."""
    mission_seed: int = 0
    """Of a simulator: decides the land of a hard reset."""
    hard: bool = False
    """Reset the simulator's engine, even if a fast reset would do."""
    time_limit: int = 0
    """Of a simulator, in ticks."""


class Decide(_Message, frozen=True):
    """To the process: play one decision. Answered by `Outcome`."""

    action: dict[str, int | bytes]
    """Class indices, and the float32 numbers of continuous actions."""
    film: bool
    """Return the picture of every tick."""


class Close(_Message, frozen=True):
    """To the process: close the environment and exit. There is no answer: the process ends."""


class Queued(_Message, frozen=True):
    """A simulator waits for others on this host before it starts its engine; sent once a second."""


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
    """One per tick, if asked for."""


class Failed(_Message, frozen=True):
    """The environment cannot continue; its process ends."""

    reason: str
    users: bool
    """Only the user can fix it, for example an error in a callback: another process would not help."""


Setup = SimulatorSetup | GameSetup
ToProcess = SimulatorSetup | GameSetup | Begin | Decide | Close
ToWorker = Queued | Starting | Ready | Outcome | Failed


class Link:
    """One end of the pipes."""

    def __init__(self, reader: int, writer: int, decode: Any) -> None:
        """Takes over and closes both descriptors. `decode`: the union of the messages that it receives."""
        self.reader = Connection(reader, writable=False)
        self._writer = Connection(writer, readable=False)
        self._decoder = msgspec.msgpack.Decoder(decode)

    def send(self, message: ToProcess | ToWorker) -> None:
        """Waits while the pipe is full. BrokenPipeError if the other side is gone."""
        self._writer.send_bytes(msgspec.msgpack.encode(message))

    def receive(self) -> Any:
        """Waits for a message. EOFError if the other side is gone."""
        return self._decoder.decode(self.reader.recv_bytes())

    def close(self) -> None:
        """The other side reads an end of file."""
        self.reader.close()
        self._writer.close()


def link_to_worker() -> Link:
    """In the process of an environment, which ends when its worker does: its end of the pipes."""
    reader, writer, worker = map(int, sys.argv[1:])
    die_with_parent(worker)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker ends it
    return Link(reader, writer, ToProcess)
