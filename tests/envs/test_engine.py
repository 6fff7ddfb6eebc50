"""The engine's stand-in, driven by hand over the protocol of MalmoEnv 0.37.0."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest

from mineonline.envs.engine import VERSION
from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import ROOT

HELLO = f"<MalmoEnv{VERSION}/>"
MISSION = (
    '<MissionInit xmlns="http://ProjectMalmo.microsoft.com"><Mission>'
    "<PreferredSpawnBiome>{biome}</PreferredSpawnBiome>"
    "<VideoProducer><Width>32 </Width><Height>24</Height></VideoProducer></Mission>"
    '<Inventory><InventoryObject slot="0" type="dirt" quantity="3"/></Inventory></MissionInit>'
)


class Engine:
    """The program, once it has printed that it is ready."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mineonline.envs.engine", "-Xmx2G", "-jar", "x.jar", f"--envPort={port}"],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self.port = int(re.fullmatch(r"\*{5} Start MalmoEnvServer on port (\d+)\n", self.process.stdout.readline())[1])
        assert self.process.stdout.readline() == "CLIENT enter state: DORMANT\n"

    def client(self, hello: str = HELLO) -> Client:
        return Client(self.port, hello)


class Client:
    def __init__(self, port: int, hello: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        self.send(hello)

    def send(self, text: str) -> None:
        self.socket.sendall(struct.pack("!I", len(text)) + text.encode())

    def receive(self) -> bytes:
        (size,) = struct.unpack("!I", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self.socket.recv(count - len(found))
            if not part:
                raise ConnectionResetError
            found += part
        return found

    def mission(self, *, biome: str = "plains", seed: int | None = None) -> np.ndarray:
        self.send(MISSION.format(biome=biome))
        self.send("id:0:0:1:true" + ("" if seed is None else f":{seed}"))
        assert self.receive() == struct.pack("!I", 1)
        self.send("<Peek/>")
        picture, self.info, done = self.receive(), json.loads(self.receive()), self.receive()
        assert done == b"\0"
        return np.frombuffer(picture, np.uint8).reshape(24, 32, 3)

    def step(self, *lines: str) -> dict:
        self.send("<StepClient0>" + "\n".join(lines) + "</StepClient0 >")
        self.receive()
        assert struct.unpack("!dbb", self.receive()) == (0.0, 0, 1)
        info = json.loads(self.receive())
        self.send("<StepServer></StepServer>")
        return info


@pytest.fixture(scope="module")
def engine():
    started = Engine(9870)
    yield started
    started.process.kill()
    started.process.wait()


def test_a_seed_decides_the_land_and_counts_on_where_none_is_given(engine):
    client = engine.client()
    first = client.mission(seed=5)
    assert client.info["inventory"][0] == {"slot_id": 0, "type": "dirt", "quantity": 3}
    second = client.mission()
    assert not np.array_equal(first, second)
    assert np.array_equal(client.mission(seed=5), first)
    assert np.array_equal(client.mission(), second)


def test_keys_chat_and_voxels_act_in_the_tick_that_names_them(engine):
    client = engine.client()
    client.mission(seed=1)
    before = client.step()
    assert "voxels" not in before
    keys = ("forward 1", "back 0", "camera 10.0 -20.0")
    after = client.step(*keys, "chat /give @p minecraft:bow 1", "voxels -1,1,-1,0,-1,1")
    assert after["yaw"] == pytest.approx((before["yaw"] - 20 + 180) % 360 - 180)
    assert after["pitch"] == pytest.approx(before["pitch"] + 10)
    assert {"type": "bow", "quantity": 1, "slot_id": 1} in after["inventory"]
    assert after["voxels"]
    assert all(abs(voxel["x"]) <= 1 and -1 <= voxel["y"] <= 0 for voxel in after["voxels"])
    assert json.loads(after["equipped_items"]["mainhand"])["type"] == "dirt"
    assert client.step("chat /no such command")["health"] == 20


def test_what_is_no_malmoenv_is_shown_the_door_and_others_play_on(engine):
    honest = engine.client()
    honest.mission(seed=2)
    for rude in (
        engine.client("GET / HTTP/1.1"), engine.client("<MalmoEnv0.36.0/>"), engine.client("<Nonsense/>"),
        engine.client(),
    ):  # fmt: skip
        rude.socket.sendall(struct.pack("!I", 1 << 31))
        with pytest.raises(ConnectionResetError):
            rude.receive()
    for mission in ("<MissionInit", MISSION.format(biome="nowhere")):
        client = engine.client()
        client.send(mission)
        client.send("id:0:0:1:true:3")
        with pytest.raises(ConnectionResetError):
            client.receive()
    assert honest.step()["health"] == 20
    said = [engine.process.stdout.readline() for _ in range(7)]
    assert sum(line.startswith("[CHAT]") for line in said) <= 1
    assert any("a client greets with" in line and f"but this is MalmoEnv {VERSION}" in line for line in said)
    assert any("no biome is called 'nowhere'" in line for line in said)


def test_an_engine_takes_the_next_port_and_leaves_when_told(engine):
    other = Engine(engine.port)
    assert other.port > engine.port
    client = other.client()
    client.send("<Exit>NOW</Exit>")
    assert client.receive() == struct.pack("!I", 1)
    assert other.process.wait(LIMIT_S) == 0
