"""What can one rank take in, one publisher feed, one join server answer? In CPU time, on real sockets.

    python -m tests.benchmarks.bench_scale [seconds]

Rates are those of an idle machine: the inverse of the CPU time of the busiest thread. What another program's load adds
is seen in `measured`, which is the wall clock's. All tcp is encrypted (CURVE), as in a run with `network.host`.

Fragments: processes send fragments, encoded once, as fast as a rank's receiver takes them in; the main thread takes
them from the buffer, which copies them into a batch. Weights: each version is published once all subscribers have the
one before. Joins: threads of another process join again and again, each time on a new connection.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import psutil
import torch
import zmq

from mineonline.envs.actions import NUM_CLASSES
from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.experience.buffer import FragmentBuffer
from mineonline.experience.wire import Header, RankLinks, Receiver, encode
from mineonline.fragment import Report, TensorField, Timing, fragment_schema
from mineonline.processes.join import Admissions, JoinServer, Request, Welcome, join, request_of
from mineonline.processes.sockets import KEYS_FILE, Keys, Network, connect
from mineonline.weights.publisher import WeightsPublisher, weights_schema
from mineonline.weights.subscriber import Model, WeightsSubscriber
from tests.helpers.settings import config_of

HOSTS = {"ipc": None, "tcp": "127.0.0.1"}
ROW_BYTES = (16, 1_000, 9_216, 49_152)
"""Of the picture in fragments of `LENGTH` rows; the last two are 64x48 and 128x128 pixels."""
LENGTH = 64
SUBSCRIBERS = (1, 4, 16, 64)
WEIGHTS_BYTES = 4_000_000
COLLECTORS = 8
"""That one process plays the part of."""
LIMIT_S = 120.0


class Taken(msgspec.Struct):
    """What a rank took in. Seconds are CPU seconds per fragment."""

    fragment_bytes: int
    per_s: float
    """Fragments per second by the wall clock."""
    receiver_s: float
    """The receiver thread: checks, puts into the buffer."""
    io_s: float
    """ZeroMQ's thread: reads, decrypts."""
    take_s: float
    """The training loop: copies into a batch."""
    send_s: float
    """The collector that sends it."""
    waited_s: float
    """How long, by the wall clock, the thread that waited longest was ready but had no core."""


class Fed(msgspec.Struct):
    """What a publisher fed. Seconds are CPU seconds per version."""

    subscribers: int
    per_s: float
    """Versions per second by the wall clock, until all subscribers have each."""
    copy_s: float
    """The training loop and the publisher thread copy the weights."""
    io_s: float
    """ZeroMQ's thread encrypts and writes them for each subscriber."""


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    torch.set_num_threads(1)
    for scheme in HOSTS:
        for row_bytes in ROW_BYTES:
            found = take_in(scheme, row_bytes, seconds)
            busiest = max(found.receiver_s, found.io_s)
            print(
                f"{scheme}, fragments of {found.fragment_bytes / 1e6:.3f} MB: a rank takes in {1 / busiest:.0f} per s "
                f"({found.fragment_bytes / busiest / 1e6:.0f} MB/s), measured {found.per_s:.0f}; CPU us per fragment: "
                f"receiver {found.receiver_s * 1e6:.0f}, io {found.io_s * 1e6:.0f}, batch {found.take_s * 1e6:.0f}, "
                f"sender {found.send_s * 1e6:.0f}", flush=True,
            )  # fmt: skip
    for name, route in {"direct": direct, "through a relay": through_relay}.items():
        for count in SUBSCRIBERS:
            fed = feed("tcp", count, WEIGHTS_BYTES, seconds, route)
            busiest = max(fed.copy_s, fed.io_s)
            print(
                f"tcp, {name}, {WEIGHTS_BYTES / 1e6:.0f} MB of weights to {count} subscribers: {1 / busiest:.1f} "
                f"versions/s ({count * WEIGHTS_BYTES / busiest / 1e6:.0f} MB/s), measured {fed.per_s:.1f}; CPU ms per "
                f"version: copies {fed.copy_s * 1e3:.1f}, io {fed.io_s * 1e3:.1f}", flush=True,
            )  # fmt: skip
    for scheme in HOSTS:
        per_s, cpu_s = joins(scheme, seconds)
        print(f"{scheme}: {1 / cpu_s:.0f} joins/s, measured {per_s:.0f}", flush=True)


def child(role: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.benchmarks.bench_scale", role, *map(str, arguments)])


@contextmanager
def ended(*processes: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def thread_s(name: str) -> float:
    """CPU seconds of this process's thread of that name."""
    (ident,) = (each.ident for each in threading.enumerate() if each.name == name)
    assert ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(ident))


def core_wait_s(pid: int, thread: int | None = None) -> float:
    """How long a process's main thread, or another one, has been ready but had no core."""
    return int(Path(f"/proc/{pid}/task/{thread or pid}/schedstat").read_text().split()[1]) / 1e9


def schema_of(row_bytes: int) -> tuple[TensorField, ...]:
    return fragment_schema(_spec(row_bytes), {}, {}, length=LENGTH)


def _spec(row_bytes: int) -> EnvSpec:
    return EnvSpec({"image": TensorSpec((row_bytes,), "uint8")}, dict(NUM_CLASSES))


def take_in(scheme: str, row_bytes: int, seconds: float, *, senders: int = 1) -> Taken:
    """What a rank takes in from `senders` processes in this many seconds."""
    schema = schema_of(row_bytes)
    with tempfile.TemporaryDirectory() as folder, Network(HOSTS[scheme], Path(folder)) as network:
        buffer = FragmentBuffer(capacity=16, max_staleness=10**6, max_reuse=1, seed=0)
        receiver = Receiver(
            network, buffer, rank=0, run_id="bench", schema=schema, actions=dict(NUM_CLASSES), statistics=()
        )
        processes = [child("send", receiver.address, folder, row_bytes) for _ in range(senders)]
        with ended(*processes):
            threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]

            def clocks() -> np.ndarray:
                """Wall clock; CPU of the receiver, this and all threads, senders; each thread's wait for a core."""
                return np.array([
                    time.monotonic(), thread_s("receiver"), time.thread_time(), time.process_time(),
                    sum(map(_cpu_s, processes)), *(core_wait_s(os.getpid(), thread) for thread in threads),
                ])  # fmt: skip

            take(buffer, 64)
            before, count = clocks(), 0
            while time.monotonic() < before[0] + seconds or count < 32:
                take(buffer, 8)
                count += 8
            wall_s, receiver_s, take_s, all_s, send_s, *waits = ((clocks() - before) / count).tolist()
        receiver.close()
    size = sum(field.nbytes for field in schema)
    return Taken(size, 1 / wall_s, receiver_s, all_s - receiver_s - take_s, take_s, send_s, max(waits))


def take(buffer: FragmentBuffer, count: int) -> None:
    """Take `count` fragments out, 8 at a time. TimeoutError after `LIMIT_S`."""
    deadline = time.monotonic() + LIMIT_S
    for _ in range(count // 8):
        if buffer.take(8, 0, lambda: time.monotonic() > deadline) is None:
            raise TimeoutError("no fragments arrive")


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    used = psutil.Process(process.pid).cpu_times()
    return used.user + used.system


def send(address: str, folder: str, row_bytes: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keys, schema = Keys.load(Path(folder) / KEYS_FILE), schema_of(int(row_bytes))
    # as many collectors send to a rank: with a single one, it would wait for the answers
    collectors = [RankLinks(context, [address], keys) for _ in range(COLLECTORS)]
    tensors = {field.name: torch.zeros(field.shape, dtype=getattr(torch, field.dtype)) for field in schema}
    tensors["observation.image"].random_(0, 256)
    frames = encode(Header("bench", schema, Report(0, (), 0, Timing(0, 0, 0, 0))), tensors)
    while True:
        for links in collectors:
            links.send(frames, lambda: None)


@contextmanager
def direct(address: str, folder: str) -> Iterator[str]:
    yield address


@contextmanager
def through_relay(address: str, folder: str) -> Iterator[str]:
    """A process that does with weights what a relay does."""
    words = [sys.executable, "-m", "tests.benchmarks.bench_scale", "relay", address, folder]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    with ended(process):
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def relay(address: str, folder: str) -> None:
    with Network(None, Path(folder)) as network:
        publisher = WeightsPublisher(network, "bench", refresh_s=3600)
        keys = Keys.load(Path(folder) / KEYS_FILE)
        subscriber = WeightsSubscriber(network.context, address, keys, run_id="bench", model=None)
        print(publisher.address, flush=True)
        while True:
            weights = subscriber.newest(timeout_s=1.0)
            if weights is not None:
                publisher.publish(weights.version, weights.moving)


def feed(
    scheme: str, subscribers: int, weights_bytes: int, seconds: float,
    route: Callable[[str, str], AbstractContextManager[str]] = direct,
) -> Fed:  # fmt: skip
    """What a publisher feeds to subscribers, all of them in one other process.

    `route`: given the publisher's address and the folder of the keys, the address that they connect to.
    """
    state = state_of(weights_bytes)
    with tempfile.TemporaryDirectory() as folder, Network(HOSTS[scheme], Path(folder)) as network:
        publisher = WeightsPublisher(network, "bench", refresh_s=3600)
        applied: zmq.Socket[bytes] = network.bind(zmq.PULL, "applied")
        # the first of all: subscribers that join later get it on their own topic
        publisher.publish(0, state)
        with (
            route(publisher.address, folder) as address,
            ended(child("subscribe", address, network.address_of(applied), folder, subscribers, weights_bytes)),
        ):
            _wait_for(applied, 0, subscribers)
            clocks, version = (_publishing_s(), time.process_time(), time.monotonic()), 0
            while time.monotonic() < clocks[2] + seconds or version < 3:
                version += 1
                publisher.publish(version, state)
                _wait_for(applied, version, subscribers)
            copy_s, all_s, wall_s = (
                (now - then) / version
                for now, then in zip((_publishing_s(), time.process_time(), time.monotonic()), clocks, strict=True)
            )
        applied.close(linger=0)
        publisher.close()
    return Fed(subscribers, 1 / wall_s, copy_s, all_s - copy_s)


def state_of(weights_bytes: int) -> dict[str, torch.Tensor]:
    return {f"layer{i}": torch.full((weights_bytes // 16,), float(i)) for i in range(4)}


def _publishing_s() -> float:
    return time.thread_time() + thread_s("weights-publisher")


def _wait_for(applied: zmq.Socket[bytes], version: int, subscribers: int) -> None:
    have = 0
    while have < subscribers:
        if not applied.poll(int(LIMIT_S * 1000)):
            raise TimeoutError(f"{subscribers - have} subscribers wait for version {version}")
        have += msgspec.json.decode(applied.recv(), type=int) == version


def subscribe(address: str, applied: str, folder: str, count: str, weights_bytes: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keys = Keys.load(Path(folder) / KEYS_FILE)
    model = Model(weights_schema(state_of(int(weights_bytes))))
    theirs = keys if address.startswith("tcp://") else None
    subscribers = [WeightsSubscriber(context, address, theirs, run_id="bench", model=model) for _ in range(int(count))]
    answer = connect(context, zmq.PUSH, [applied], keys)
    while True:
        for subscriber in subscribers:
            weights = subscriber.newest(timeout_s=0.001)
            if weights is not None:
                answer.send(msgspec.json.encode(weights.version))


def joins(scheme: str, seconds: float) -> tuple[float, float]:
    """Joins per second by the wall clock, and CPU seconds of the trainer per join."""
    config = msgspec.json.encode(config_of()).decode()
    with tempfile.TemporaryDirectory() as folder, Network(HOSTS[scheme], Path(folder)) as network:
        server, admissions = JoinServer(network), Admissions()

        def welcome(request: Request) -> Welcome:
            return Welcome("bench", admissions.number(request), config, ("tcp://127.0.0.1:1",) * 8, "", 2**20)

        server.open(welcome, Path(folder) / "join")
        with ended(child("ask", server.address, folder)):
            deadline = time.monotonic() + LIMIT_S
            while admissions.joined < 8:
                if time.monotonic() > deadline:
                    raise TimeoutError("nobody joins")
                time.sleep(0.05)
            cpu_s, began, before = time.process_time(), time.monotonic(), admissions.joined
            time.sleep(seconds)
            count = admissions.joined - before
            found = count / (time.monotonic() - began), (time.process_time() - cpu_s) / count
        server.close()
    return found


def ask(address: str, folder: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keys = Keys.load(Path(folder) / KEYS_FILE)

    def again() -> None:
        while True:
            join(context, address, keys, request_of(asked_at=time.time_ns()), timeout_s=LIMIT_S)

    for _ in range(4):
        threading.Thread(target=again).start()


if __name__ == "__main__":
    torch.set_num_threads(1)
    roles = {"send": send, "subscribe": subscribe, "ask": ask, "relay": relay}
    roles[sys.argv[1]](*sys.argv[2:]) if sys.argv[1:2] and sys.argv[1] in roles else main()
