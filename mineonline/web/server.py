"""The server: one asyncio loop, in which nothing takes long. The world runs in its own process (`world.py`).

Every path starts with a secret token, so that the page's own relative links carry it. A request is refused unless the
token is right, its `Host` is an address or a name of this machine (a page elsewhere could otherwise point its own name
at this machine, and read the answers), and its `Origin`, if the browser sends one, is this very server.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from mineonline.errors import ConfigError, EnvError
from mineonline.web.messages import Failed, WorldSetup
from mineonline.web.player import Player, Stage
from mineonline.web.run_view import RunView
from mineonline.web.world_link import WorldLink

PAGE = Path(__file__).parent / "page"
LOOPBACK = "127.0.0.1"
_SHUTDOWN_LIMIT_S = 0.2
"""How long a browser has to answer when the server ends."""
_HEARTBEAT_S = 5.0
"""A browser that does not answer a ping for half of this is gone."""
_LONGEST_ORDER = 1024
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serve(
    setup: WorldSetup | None, run: Path | None, *, host: str | None, port: int, announce: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C or SIGTERM. `announce` is given the page's address.

    `setup`: what is played; None if the run cannot be. `run`: a run to show. `host`: None listens on loopback.
    ConfigError if the address cannot be used; EnvError if the world cannot go on.
    """
    asyncio.run(_Server(setup, run, host=host, port=port).run(announce))


class _Server:
    def __init__(self, setup: WorldSetup | None, run: Path | None, *, host: str | None, port: int) -> None:
        self._world = WorldLink(setup) if setup is not None else None
        self._eager = run is None
        self._view = RunView(run) if run is not None else None
        self._looking = asyncio.Lock()
        self._host, self._port = host, port
        self._names = {"localhost"}
        if host is not None:  # asking for the full name may take seconds: once
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._token = secrets.token_urlsafe(18)
        self._stage = Stage()
        self._wanted = asyncio.Event()
        """Set when the world is needed."""
        self._stop = asyncio.Event()

    async def run(self, announce: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_SHUTDOWN_LIMIT_S)
        await runner.setup()
        playing = None
        try:
            port = await self._listen(runner)
            announce(f"http://{_shown(self._host)}:{port}/{self._token}/")
            if self._eager:
                self._wanted.set()
            playing = asyncio.create_task(self._play())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if playing.done():
                playing.result()
        finally:
            if self._world is not None:
                await self._world.close()
            if playing is not None:
                playing.cancel()
                with suppress(asyncio.CancelledError, EnvError, ConfigError):
                    await playing
            await self._stage.close()
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/{token}/", self._index)
        app.router.add_get("/{token}/about.json", self._about)
        app.router.add_get("/{token}/run.json", self._run)
        app.router.add_get("/{token}/videos/{name}", self._video)
        app.router.add_get("/{token}/socket", self._socket)
        app.router.add_get("/{token}/{name}", self._page)
        return app

    async def _listen(self, runner: web.AppRunner) -> int:
        """The port that it listens on. ConfigError if it cannot."""
        site = web.TCPSite(runner, self._host or LOOPBACK, self._port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(
                f"host={self._host or LOOPBACK} port={self._port}: cannot listen there ({error.strerror or error}). "
                "Give another port=<number>, or port=0 for any that is free."
            ) from None
        return int(runner.addresses[0][1])

    async def _play(self) -> None:
        """Start the world when it is wanted, and pass its news on, until it ends."""
        if self._world is None:
            await self._stop.wait()
            return
        await self._wanted.wait()
        async for news in self._world.news():
            if isinstance(news, Failed):
                await self._failed(news)
            else:
                self._stage.show(news)
        if not self._stop.is_set():
            await self._failed(Failed("the world has ended; its last words are in the terminal."))

    async def _failed(self, news: Failed) -> None:
        """EnvError, unless a run can still be looked at: then until Ctrl-C."""
        self._stage.show(news)
        if self._view is None:
            await asyncio.sleep(_SHUTDOWN_LIMIT_S)  # for the browser to hear it, too
            raise EnvError(news.reason)
        await self._stop.wait()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not _is_here(host, self._names, beyond_loopback=self._host is not None):
            return web.Response(status=403, text=f"{host!r} is not a name of this machine.\n")
        token = request.match_info.get("token", "")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return web.Response(status=403, text="Open the address that mineonline.play has printed: it has a token.\n")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return web.Response(status=403, text=f"A page of {origin!r} may not use this server.\n")
        return await handler(request)

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in {file.name for file in PAGE.iterdir()}:
            raise web.HTTPNotFound
        return web.FileResponse(PAGE / name)

    async def _about(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"play": self._world is not None, "run": self._view is not None})

    async def _run(self, request: web.Request) -> web.StreamResponse:
        if self._view is None:
            raise web.HTTPNotFound
        async with self._looking:
            # a long metrics.csv takes a tenth of a second
            return web.json_response(await asyncio.to_thread(self._view.now))

    async def _video(self, request: web.Request) -> web.StreamResponse:
        file = self._view.video(request.match_info["name"]) if self._view is not None else None
        if file is None:
            raise web.HTTPNotFound
        return web.FileResponse(file)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self._world is None:
            raise web.HTTPNotFound
        socket = web.WebSocketResponse(
            timeout=_SHUTDOWN_LIMIT_S, heartbeat=_HEARTBEAT_S, max_msg_size=_LONGEST_ORDER, compress=False
        )
        await socket.prepare(request)
        self._wanted.set()
        await Player(socket, self._stage, self._world.send).play()
        return socket


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _is_here(host: str, names: set[str], *, beyond_loopback: bool) -> bool:
    """Whether a `Host` header means this machine, which has these names. Its port may be that of a tunnel."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name in names
    # nobody can point a numeric address elsewhere
    return beyond_loopback or address.is_loopback


def _shown(host: str | None) -> str:
    if host in (None, "0.0.0.0", "::"):
        return LOOPBACK if host is None else socket.gethostname()
    return f"[{host}]" if ":" in host else host
