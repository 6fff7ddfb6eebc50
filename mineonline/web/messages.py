"""What browser, server and world say to each other.

The browser sends `Order`s as JSON text; the server checks them and passes them on to the world, as msgpack. The world
sends `News`: pictures go to the browser as binary messages (`Picture.to_browser`), the rest as JSON text.
"""

from __future__ import annotations

import os
import select
import struct
import time
from typing import Annotated, Any, Literal

import msgspec

_DEGREES = Annotated[float, msgspec.Meta(ge=-3600, le=3600)]
_NUMBER = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
_LENGTH = struct.Struct("!I")
_PICTURE = struct.Struct("!II")


class _Message(msgspec.Struct, frozen=True, tag=str.lower, tag_field="kind"):
    pass


class Press(_Message, frozen=True):
    """A key or a mouse button goes down or up."""

    number: _NUMBER
    """Of this input: the first picture that it can have changed names it, or a later one, in `Picture.newest`."""
    button: Annotated[str, msgspec.Meta(max_length=20)]
    """A button of `controls.KEYS`; others are ignored."""
    down: bool


class Turn(_Message, frozen=True):
    """The mouse moved."""

    number: _NUMBER
    down: _DEGREES
    right: _DEGREES


class Hand(_Message, frozen=True):
    """Give the controls to the person or to the agent, from the next decision on."""

    to: Literal["person", "agent"]


class Pause(_Message, frozen=True):
    """Stop the world, or let it go on. When it stops, all keys are released."""

    paused: bool


class Restart(_Message, frozen=True):
    """Begin a new episode; one that has not ended is cut."""


class Seen(_Message, frozen=True):
    """The browser has drawn a picture. For the server alone."""

    picture: _NUMBER


Order = Press | Turn | Hand | Pause | Restart | Seen


class WorldSetup(_Message, frozen=True):
    """The first message to a world: what to play."""

    config: bytes | None
    """A `Config` as JSON; None: that of `checkpoint` or `run`."""
    checkpoint: str | None
    """The agent, as `run.checkpoint.find_checkpoint` takes it."""
    run: str | None
    """A run folder, whose newest checkpoint is the agent."""
    record: str | None
    """Folder for fragments; None records nothing."""
    seed: int
    device: str


class Loading(_Message, frozen=True):
    """What the world is busy with before it can be played."""

    text: str


class Key(msgspec.Struct, frozen=True):
    """A key of the keyboard or a button of the mouse."""

    code: str
    """As browsers name it: `KeyboardEvent.code`, or `Mouse0` and `Mouse2`."""
    label: str
    button: str
    state: Literal["works", "forbidden", "held"]
    """`forbidden`: the task does not allow it. `held`: the task presses it all the time."""


class Score(msgspec.Struct, frozen=True):
    """A line of the table: what one statistic of an episode is for person and agent."""

    name: str
    """In words, for example `cows killed`."""
    now: float
    best: float | None
    """Of the whole episodes that the person has played; None before the first."""
    mean: float | None
    agent: float | None
    """Mean of the agent's run when its checkpoint was saved; None if that is not known."""


class Opened(_Message, frozen=True):
    """What is played. Sent once, when the world can be played."""

    task: str
    text: str
    keys: list[Key]
    turns: bool
    """Whether the task lets the view turn."""
    decision_ticks: int


class Situation(_Message, frozen=True):
    """How the game stands; sent whenever it changes, and with each decision."""

    who: Literal["person", "agent"]
    agent: str
    """Which agent; empty if there is none."""
    paused: bool
    over: str
    """Why the episode ended; empty while it lasts."""
    episode: int
    shared: bool
    """The agent has played a part of this episode, which therefore counts for nobody."""
    left_s: float
    episodes: int
    """Whole episodes that the person has played."""
    scores: list[Score]
    recorded: int
    """Decisions of the person that were recorded."""
    note: str
    """What the person should know, for example that there is no agent; may be empty."""


class Failed(_Message, frozen=True):
    """The world cannot go on, and ends: the text is for the user."""

    reason: str


class Picture(_Message, frozen=True):
    """What the player sees."""

    number: int
    """Counted from 1."""
    newest: int
    """Number of the newest input that the world had when it was drawn."""
    jpeg: bytes

    def to_browser(self) -> bytes:
        """`number` and `newest` as big-endian uint32, then the JPEG."""
        return _PICTURE.pack(self.number, self.newest) + self.jpeg


News = Loading | Opened | Situation | Failed | Picture


def framed(message: msgspec.Struct) -> bytes:
    """A message as it goes through a pipe: its length as big-endian uint32, then msgpack."""
    content = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(content)) + content


def length_of(header: bytes) -> int:
    """The length that the first four bytes of a framed message give."""
    return int(_LENGTH.unpack(header)[0])


class Pipes:
    """The world's end of its two pipes."""

    def __init__(self, reader: int, writer: int) -> None:
        """Descriptors, which stay open."""
        self._reader = reader
        self._writer = writer
        self._received = b""

    def send(self, message: msgspec.Struct) -> None:
        """Waits while the pipe is full. BrokenPipeError if the server is gone."""
        content = framed(message)
        while content:
            content = content[os.write(self._writer, content) :]

    def receive(self, kind: Any, deadline: float | None) -> list[Any]:
        """The messages of type `kind` that have come; waits for the first until `deadline` (monotonic; None: for ever).

        EOFError if the server is gone.
        """
        while True:
            found = []
            while len(self._received) >= 4 and len(self._received) >= 4 + (size := length_of(self._received[:4])):
                found.append(msgspec.msgpack.decode(self._received[4 : 4 + size], type=kind))
                self._received = self._received[4 + size :]
            if found:
                return found
            # a world that is late looks too, or it would never hear anything
            wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._reader], [], [], wait_s)[0]:
                return []
            more = os.read(self._reader, 1 << 16)
            if not more:
                raise EOFError
            self._received += more
