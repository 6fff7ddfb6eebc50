"""A person's browser, without the browser: a websocket to `python -m mineonline.play`."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.helpers.programs import LIMIT_S, Run

ADDRESS = re.compile(r"open (http://\S+/)")


def address_of(run: Run) -> str:
    """The page's address, once the program has printed it."""
    run.wait_for(lambda: ADDRESS.search(run.output))
    found = ADDRESS.search(run.output)
    assert found is not None
    return found.group(1)


class Client:
    """Plays through a websocket; draws every picture at once."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.news: dict[str, dict[str, Any]] = {}
        """The newest of each kind."""
        self.pictures: list[tuple[float, int, int]] = []
        """When each picture came (perf_counter), the newest input that it shows, and its size in bytes."""
        self.jpeg = b""
        self._number = 0

    async def send(self, kind: str, **fields: Any) -> None:
        await self._socket.send_str(json.dumps({"kind": kind, **fields}))

    async def press(self, button: str, down: bool = True) -> int:
        """The input's number."""
        self._number += 1
        await self.send("press", number=self._number, button=button, down=down)
        return self._number

    async def turn(self, *, down: float = 0.0, right: float = 0.0) -> int:
        """In degrees; gives the input's number."""
        self._number += 1
        await self.send("turn", number=self._number, down=down, right=right)
        return self._number

    async def receive(self) -> None:
        """Take in the next message. AssertionError if there is none within LIMIT_S, or the connection has ended."""
        message = await self._socket.receive(timeout=LIMIT_S)
        if message.type is aiohttp.WSMsgType.BINARY:
            picture, newest = struct.unpack("!II", message.data[:8])
            self.jpeg = message.data[8:]
            self.pictures.append((time.perf_counter(), newest, len(self.jpeg)))
            await self.send("seen", picture=picture)
        else:
            assert message.type is aiohttp.WSMsgType.TEXT, (message.type, message.data, message.extra)
            said = json.loads(message.data)
            self.news[said["kind"]] = said

    async def until(self, condition: Callable[[], Any]) -> None:
        """Take in messages until the condition holds."""
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, self.news
            await self.receive()

    async def wait(self, seconds: float) -> None:
        """Take in messages for so long."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            try:
                await asyncio.wait_for(self.receive(), left)
            except asyncio.TimeoutError:
                return

    async def start(self) -> None:
        """Wait for the world, and let it go on."""
        await self.until(lambda: "situation" in self.news and self.pictures)
        await self.send("pause", paused=False)
        await self.until(lambda: not self.news["situation"]["paused"])


def played(address: str, script: Callable[[Client], Any]) -> Client:
    """What a client has seen that played by `script`."""

    async def play() -> Client:
        async with aiohttp.ClientSession() as session, session.ws_connect(address + "socket") as socket:
            client = Client(socket)
            await script(client)
            return client

    return asyncio.run(play())
