"""The server's end of the world process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec

from mineonline.web.messages import Loading, News, Opened, Order, WorldSetup, framed, length_of

_CLOSE_LIMIT_S = 0.8
_RECORD_LIMIT_S = 10.0
"""Where a person's play has to be written: the world may be reading a checkpoint, and the disk may be slow."""


class WorldLink:
    """The world process: started when it is first needed, so that looking at a run costs nothing."""

    def __init__(self, setup: WorldSetup) -> None:
        self._setup = setup
        self._process: asyncio.subprocess.Process | None = None
        self._records = False
        """Whether there may be something to write."""

    async def news(self) -> AsyncIterator[News]:
        """Start the world, and give what it says until it ends."""
        yield Loading("starting")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mineonline.web.world", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, limit=1 << 22, start_new_session=True,
        )  # fmt: skip
        reader = self._process.stdout
        assert reader is not None
        self.send(self._setup)
        with suppress(asyncio.IncompleteReadError):
            while True:
                length = length_of(await reader.readexactly(4))
                news: News = msgspec.msgpack.decode(await reader.readexactly(length), type=News)
                self._records |= self._setup.record is not None and isinstance(news, Opened)
                yield news

    def send(self, message: WorldSetup | Order) -> None:
        """Never waits: what the pipe cannot take yet is kept. Nothing happens if the world does not run."""
        pipe = self._process.stdin if self._process is not None else None
        if pipe is not None and not pipe.is_closing():
            pipe.write(framed(message))

    async def close(self) -> None:
        """Let the world write what was recorded, and end; kill it if that takes long, and say what was lost."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _RECORD_LIMIT_S if self._records else _CLOSE_LIMIT_S)
        except asyncio.TimeoutError:  # it is busy, for example with compiling
            if self._records:
                print("the world did not end in time: the last fragment of your play may be missing.", file=sys.stderr)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
