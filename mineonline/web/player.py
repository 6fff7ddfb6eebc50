"""The one browser that plays, and what the world has said so far."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from mineonline.web.messages import Failed, Loading, News, Opened, Order, Pause, Picture, Seen, Situation

TAKEN = 4001
"""Code with which a websocket is closed while another browser plays."""
_MOST_UNSEEN = 2
"""Pictures on their way to the browser: a slow connection skips pictures, and never falls behind."""


class Stage:
    """The newest news of each kind: what a browser that comes now must know."""

    def __init__(self) -> None:
        self.player: Player | None = None
        self.loading = Loading("starting")
        self.opened: Opened | None = None
        self.situation: Situation | None = None
        self.failed: Failed | None = None
        self.picture: Picture | None = None

    def show(self, news: News) -> None:
        """Keep the news, and tell the player."""
        match news:
            case Loading():
                self.loading = news
            case Opened():
                self.opened = news
            case Situation():
                self.situation = news
            case Failed():
                self.failed = news
            case Picture():
                self.picture = news
        if self.player is not None:
            self.player.changed.set()

    def texts(self) -> list[Loading | Opened | Situation | Failed]:
        """All but the picture, in the order in which a browser needs them."""
        if self.failed is not None:
            return [self.failed]
        if self.opened is None:
            return [self.loading]
        return [self.opened, *([self.situation] if self.situation else [])]

    async def close(self) -> None:
        """Tell the browser that the server ends."""
        if self.player is not None:
            await self.player.close()


class Player:
    """A browser that wants to play, until it is gone."""

    def __init__(self, socket: web.WebSocketResponse, stage: Stage, send: Callable[[Order], None]) -> None:
        """`send` gives an order to the world."""
        self._socket = socket
        self._stage = stage
        self._send = send
        self.changed = asyncio.Event()
        """There is news."""
        self._unseen: deque[int] = deque()
        """Numbers of the pictures that the browser has not drawn yet."""
        self._shown: list[object] = []
        """The texts that the browser has."""
        self._picture = 0

    async def play(self) -> None:
        """Until the browser is gone; the world pauses then. Refused while another browser plays."""
        if self._stage.player is not None:
            await self._socket.close(code=TAKEN, message=b"someone plays")
            return
        self._stage.player = self
        telling = asyncio.create_task(self._tell())
        self.changed.set()
        try:
            await self._listen()
        finally:
            self._stage.player = None
            if self._stage.opened is not None:  # before that, the world takes no orders
                self._send(Pause(True))
            telling.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await telling

    async def close(self) -> None:
        """End the connection."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server has ended")

    async def _listen(self) -> None:
        decode = msgspec.json.Decoder(Order).decode
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                break
            try:
                order = decode(message.data)
            except (msgspec.MsgspecError, RecursionError):
                await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"not an order")
                return
            if isinstance(order, Seen):
                while self._unseen and self._unseen[0] <= order.picture:
                    self._unseen.popleft()
                self.changed.set()
            elif self._stage.opened is not None:
                self._send(order)

    async def _tell(self) -> None:
        """Send what is new, whenever there is news."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            for text in self._stage.texts():
                if not any(text is each for each in self._shown):
                    await self._socket.send_str(msgspec.json.encode(text).decode())
            self._shown = [*self._stage.texts()]
            picture = self._stage.picture
            if picture is not None and picture.number != self._picture and len(self._unseen) < _MOST_UNSEEN:
                self._unseen.append(picture.number)
                self._picture = picture.number
                await self._socket.send_bytes(picture.to_browser())
