"""A stand-in for Minecraft: serves the embedded world over the engine's own protocol, MalmoEnv 0.37.0.

    python -m mineonline.envs.engine --envPort=9000

MineStudio's client cannot tell it from the Java process: it is started instead (see `envs/minestudio/java.py`),
reports on stdout when it is ready, and answers the same messages on 127.0.0.1. A message is a length (4 bytes, big
endian) and a payload. Each connection has its own thread; they take turns with the one session.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import sys
import threading
from typing import Any
from xml.etree import ElementTree

import numpy as np

from mineonline.envs.actions import GROUPS
from mineonline.envs.world.command_words import CommandError
from mineonline.envs.world.session import Session

VERSION = "0.37.0"
_MOST_BYTES = 1 << 20
_MALMO = "{http://ProjectMalmo.microsoft.com}"
_EVENTS = (
    "use_item", "pickup", "break_item", "craft_item", "mine_block", "damage_dealt", "custom", "kill_entity",
)  # fmt: skip
_KEYS = {name: (group, choice) for group, names in enumerate(GROUPS.values()) for choice, name in enumerate(names)}
_OK = struct.pack("!I", 1)


class ProtocolError(ValueError):
    """The client sent something that MalmoEnv 0.37.0 does not know; its connection is closed."""


class Mission:
    """What a `<MissionInit>` asks for. ProtocolError if it cannot be read."""

    def __init__(self, xml: bytes) -> None:
        try:
            root = ElementTree.fromstring(xml)
            self.width = int(_text(root, "Width"))
            self.height = int(_text(root, "Height"))
            self.inventory = [
                (int(stack.attrib["slot"]), stack.attrib["type"], int(stack.attrib.get("quantity", "1")))
                for stack in root.iter(f"{_MALMO}InventoryObject")
            ]
        except (ElementTree.ParseError, ValueError, KeyError) as error:
            raise ProtocolError(f"the mission cannot be read: {error}") from None
        biome = root.find(f".//{_MALMO}PreferredSpawnBiome")
        self.biome = None if biome is None else (biome.text or "").strip() or None


class Engine:
    """One world and the client that plays in it."""

    def __init__(self) -> None:
        self._session = Session()
        self._lock = threading.Lock()
        self._mission: Mission | None = None
        self._seed = 0
        self._resets = 0

    def begin(self, mission: Mission, token: str) -> None:
        """A hard reset. The token is `uuid:role:0:agents:true`, followed by `:seed` when a new seed is set.

        ProtocolError if the embedded world lacks the biome or an item.
        """
        fields = token.split(":")
        with self._lock:
            if len(fields) > 5:
                self._seed, self._resets = int(fields[5]), 0
            seed = self._seed + self._resets
            try:
                self._session.begin(mission_seed=seed, biome=mission.biome, inventory=mission.inventory)
            except ValueError as error:
                raise ProtocolError(f"the mission cannot be played in the embedded world: {error}") from None
            self._mission = mission
            self._resets += 1

    def step(self, lines: list[str]) -> tuple[bytes, bytes]:
        """Play one tick: the picture and the JSON after it."""
        choice_G = np.zeros(len(GROUPS), np.int64)
        pitch = yaw = 0.0
        chat = voxels = mobs = None
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "camera":
                pitch, yaw = (float(number) for number in rest.split())
            elif word == "chat":
                chat = rest
            elif word == "voxels":
                voxels = tuple(int(number) for number in rest.split(","))
            elif word == "mobs":
                mobs = tuple(int(number) for number in rest.split(","))
            elif word in _KEYS and int(float(rest)):
                group, choice = _KEYS[word]
                choice_G[group] = choice
        with self._lock:
            try:
                self._session.tick(choice_G, pitch, yaw, chat)
            except CommandError as error:
                # Minecraft reports a wrong command in the chat and plays on
                print(f"[CHAT] {error}", flush=True)
                self._session.tick(choice_G, pitch, yaw, None)
            return self.look(), self.describe(voxels, mobs)

    def look(self) -> bytes:
        """The picture, RGB, bottom row first."""
        assert self._mission is not None
        picture = self._session.render(self._mission.width, self._mission.height)
        return picture[::-1].tobytes()

    def describe(self, voxels: Any = None, mobs: Any = None) -> bytes:
        """The session's state as the engine's JSON."""
        info = self._session.info(voxels, mobs)
        position, stats = info["player_pos"], info["location_stats"]
        return json.dumps({
            "inventory": [{"slot_id": slot, **stack} for slot, stack in info["inventory"].items()],
            "isGuiOpen": info["isGuiOpen"],
            "xpos": position["x"], "ypos": position["y"], "zpos": position["z"],
            "pitch": position["pitch"], "yaw": position["yaw"],
            # each is a JSON string within the JSON, as in the real engine
            "equipped_items": {name: json.dumps(stack) for name, stack in info["equipped_items"].items()},
            "health": info["health"], "food_level": info["food_level"],
            **{event: info[event] for event in _EVENTS},
            **{name: stats[name] for name in ("can_see_sky", "sea_level")},
            **{name: info[name] for name in ("voxels", "mobs") if name in info},
        }).encode()  # fmt: skip


def serve(connection: socket.socket, engine: Engine) -> None:
    """Answer one client until it leaves."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        try:
            hello = receive(connection)
            if hello is not None and hello != f"<MalmoEnv{VERSION}/>".encode():
                raise ProtocolError(f"a client greets with {hello[:60]!r}, but this is MalmoEnv {VERSION}")
            while (message := receive(connection)) is not None and message != b"<Disconnect/>":
                for reply in answer(message, connection, engine):
                    connection.sendall(struct.pack("!I", len(reply)) + reply)
        except ValueError as error:
            print(f"ERROR: {error}; the connection is closed", flush=True)
        except (ConnectionError, BrokenPipeError):
            pass  # the client is gone; the next one opens a new connection


def answer(message: bytes, connection: socket.socket, engine: Engine) -> list[bytes]:
    """The replies to a message: none, one or several."""
    if message.startswith(b"<StepClient"):
        found = re.fullmatch(rb"<StepClient\d>(.*)</StepClient\d ?>", message, re.DOTALL)
        if found is None:
            raise ProtocolError(f"a step without an end tag: {message[:60]!r}")
        picture, text = engine.step(found[1].decode().split("\n"))
        return [picture, struct.pack("!dbb", 0.0, 0, 1), text]
    if message.startswith(b"<StepServer"):
        return []
    if message.startswith(b"<MissionInit"):
        token = receive(connection)
        if token is None:
            return []
        engine.begin(Mission(message), token.decode())
        return [_OK]
    if message == b"<Peek/>":
        return [engine.look(), engine.describe(), struct.pack("!b", 0)]
    if message == b"<Quit/>":
        return [_OK]
    if message.startswith(b"<Exit>"):
        connection.sendall(struct.pack("!I", 4) + _OK)
        os._exit(0)
    raise ProtocolError(f"unknown message: {message[:60]!r}")


def receive(connection: socket.socket) -> bytes | None:
    """The next message; None when the client has left. ProtocolError if it is longer than 1 MiB."""
    length = _exactly(connection, 4)
    if length is None:
        return None
    (size,) = struct.unpack("!I", length)
    if size > _MOST_BYTES:
        raise ProtocolError(f"a message of {size} bytes is too long")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _text(root: ElementTree.Element, name: str) -> str:
    found = root.find(f".//{_MALMO}{name}")
    if found is None or not found.text:
        raise ValueError(f"it has no {name}")
    return found.text.strip()


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1 at `port`, or at the next free one, as in the real engine."""
    for candidate in range(port, 65536):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
        except OSError:
            listener.close()
            continue
        listener.listen()
        return listener
    raise SystemExit(f"no port from {port} upwards is free")


def port_of(arguments: list[str]) -> int:
    """The number after `--envPort=`; Java's other arguments are ignored."""
    for word in arguments:
        if word.startswith("--envPort="):
            return int(word.partition("=")[2])
    raise SystemExit("usage: python -m mineonline.envs.engine --envPort=<port>")


def main() -> None:
    """Serve until killed."""
    engine = Engine()
    listener = listen(port_of(sys.argv[1:]))
    print(f"***** Start MalmoEnvServer on port {listener.getsockname()[1]}", flush=True)
    print("CLIENT enter state: DORMANT", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, engine), daemon=True).start()


if __name__ == "__main__":
    main()
