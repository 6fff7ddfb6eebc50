"""How fast do fragments and weights travel, as a fraction (or multiple) of one memcpy?

    python -m tests.benchmarks.bench_transport [rounds]

Fragments: one process sends fragments of 64 pictures of 128x128 through `RankLinks` to another's receiver thread
(encode, ipc or tcp with CURVE, decode, checks), which takes batches of 16 out of its buffer all the time.
Target: 0.25 of memcpy on ipc. (Plain tcp reaches 0.16; ours is always encrypted.)
Weights: 20 MB from the publisher until four subscriber processes have applied them. Target: the time of 20 memcpys.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import torch
import zmq

from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.experience.buffer import FragmentBuffer
from mineonline.experience.wire import Header, RankLinks, Receiver, encode
from mineonline.fragment import Report, Timing, fragment_schema
from mineonline.processes.sockets import KEYS_FILE, Keys, Network, connect
from mineonline.weights.publisher import WeightsPublisher, weights_schema
from mineonline.weights.subscriber import Model, WeightsSubscriber

SPEC = EnvSpec(observation={"image": TensorSpec((128, 128, 3), "uint8")}, action={"buttons": 8641, "camera": 121})
SCHEMA = fragment_schema(SPEC, {}, {}, length=64)
BATCH, BATCHES, FIRST_BATCHES = 16, 8, 4
STATE = {f"layer{i}": torch.full((1024, 1024), float(i)) for i in range(5)}
SUBSCRIBERS, VERSIONS = 4, 20


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    results: dict[str, list[float]] = {"ipc": [], "tcp + CURVE": [], "weights, ipc": []}
    for _ in range(rounds):
        speed = memcpy_bytes_per_s()
        results["ipc"].append(fragments_bytes_per_s(None) / speed)
        results["tcp + CURVE"].append(fragments_bytes_per_s("127.0.0.1") / speed)
        size = sum(tensor.numel() * tensor.element_size() for tensor in STATE.values())
        results["weights, ipc"].append(weights_s() / (size / speed))
        newest = {name: round(values[-1], 3) for name, values in results.items()}
        print(f"memcpy {speed / 1e6:.0f} MB/s", newest, flush=True)
    for name, values in results.items():
        print(f"{name:14} median {statistics.median(values):.3f} of memcpy ({min(values):.3f} to {max(values):.3f})")


def memcpy_bytes_per_s() -> float:
    """One core copying 200 MB, source and target larger than any cache."""
    source, target = torch.ones(200_000_000, dtype=torch.uint8), torch.empty(200_000_000, dtype=torch.uint8)
    target.copy_(source)
    began = time.perf_counter()
    for _ in range(3):
        target.copy_(source)
    return 3 * 200e6 / (time.perf_counter() - began)


def child(role: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.benchmarks.bench_transport", role, *arguments])


def fragments_bytes_per_s(host: str | None) -> float:
    with tempfile.TemporaryDirectory() as folder, Network(host, Path(folder)) as network:
        buffer = FragmentBuffer(capacity=2 * BATCH, max_staleness=10**6, max_reuse=1, seed=0)
        actions = dict(SPEC.action)
        receiver = Receiver(network, buffer, rank=0, run_id="bench", schema=SCHEMA, actions=actions, statistics=())
        sender = child("send", receiver.address, folder)
        for number in range(FIRST_BATCHES + BATCHES):
            if number == FIRST_BATCHES:
                began = time.perf_counter()
            assert buffer.take(BATCH, 0, lambda: sender.poll() is not None) is not None
        elapsed = time.perf_counter() - began
        sender.kill()
        sender.wait()
        receiver.close()
    return BATCHES * BATCH * 64 * 128 * 128 * 3 / elapsed


def send(address: str, folder: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    links = RankLinks(context, [address], Keys.load(Path(folder) / KEYS_FILE))
    tensors = {field.name: torch.zeros(field.shape, dtype=getattr(torch, field.dtype)) for field in SCHEMA}
    tensors["observation.image"].random_(0, 256)
    header = Header("bench", SCHEMA, Report(0, (), 0, Timing(0, 0, 0, 0)))
    while True:
        links.send(encode(header, tensors), lambda: None)


def weights_s() -> float:
    """Seconds from `publish` until all subscribers have copied the weights; median over versions."""
    with tempfile.TemporaryDirectory() as folder, Network(None, Path(folder)) as network:
        publisher = WeightsPublisher(network, "bench", refresh_s=60)
        applied: zmq.Socket[bytes] = network.bind(zmq.PULL, "applied")
        children = [child("subscribe", publisher.address, network.address_of(applied)) for _ in range(SUBSCRIBERS)]
        times = []
        for version in range(VERSIONS):
            began = time.perf_counter()
            publisher.publish(version, STATE)
            have = 0
            while have < SUBSCRIBERS:
                have += msgspec.json.decode(applied.recv(), type=int) == version
            if version > 1:
                times.append(time.perf_counter() - began)
            time.sleep(0.05)
        for process in children:
            process.kill()
            process.wait()
        applied.close(linger=0)
        publisher.close()
    return statistics.median(times)


def subscribe(address: str, applied: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    subscriber = WeightsSubscriber(context, address, None, run_id="bench", model=Model(weights_schema(STATE)))
    answer = connect(context, zmq.PUSH, [applied], None)
    state = {name: torch.empty_like(tensor) for name, tensor in STATE.items()}
    while True:
        weights = subscriber.newest(timeout_s=10)
        if weights is not None:
            for name, tensor in weights.tensors.items():
                state[name].copy_(tensor)
            answer.send(msgspec.json.encode(weights.version))


if __name__ == "__main__":
    torch.set_num_threads(1)
    roles = {"send": send, "subscribe": subscribe}
    roles[sys.argv[1]](*sys.argv[2:]) if sys.argv[1:2] and sys.argv[1] in roles else main()
