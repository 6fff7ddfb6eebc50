"""How smooth `python -m mineonline.play` is: pictures per second, and the time from a key to the picture that shows it.

    python -m tests.benchmarks.bench_play [seconds] [key=value ...]

Starts the real server, plays through a real websocket on loopback, with a key every 0.1 to 0.4 s and a mouse that
moves, and draws nothing. Then encodes the same pictures as JPEG and as H.264, and prints what a picture costs.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil

from mineonline.envs.world import WorldEnv, warm_up
from mineonline.web.world import jpeg_of
from tests.helpers.player import Client, address_of, played
from tests.helpers.programs import Run
from tests.helpers.settings import config_of

SIZE = (640, 360)
PICTURES = 100


def play(address: str, seconds: float) -> tuple[Client, dict[int, float]]:
    """What a client saw, and when it sent each input (perf_counter)."""
    sent: dict[int, float] = {}
    dice = random.Random(0)

    async def script(client: Client) -> None:
        await client.start()
        await client.wait(2.0)
        client.pictures.clear()
        end = time.perf_counter() + seconds
        buttons = ["forward", "left", "jump", "attack", "right"]
        while time.perf_counter() < end:
            button = dice.choice(buttons)
            for down in (True, False):
                number = await client.press(button, down)
                sent[number] = time.perf_counter()
                await client.wait(dice.uniform(0.1, 0.4))
                await client.turn(right=dice.uniform(-5, 5))
            if client.news["situation"]["over"]:
                await client.send("restart")

    return played(address, script), sent


def delays_ms(client: Client, sent: dict[int, float]) -> list[float]:
    """From each input to the first picture that shows it."""
    found = []
    for number, at in sent.items():
        shown = [came for came, newest, _ in client.pictures if newest >= number and came > at]
        if shown:
            found.append(1e3 * (shown[0] - at))
    return found


def frames() -> list[np.ndarray]:
    """A walk through a world."""
    config = config_of("task=hunt_cow")
    env = WorldEnv(config.task, num_envs=1, image_size=(64, 48), seed=0)
    env.reset(np.ones(1, np.bool_))
    dice = np.random.default_rng(0)
    found = []
    for _ in range(PICTURES):
        action = {"buttons": np.array([1 + 3 * 2]), "camera": dice.integers(55, 66, 1)}
        env.step(action, np.ones(1, np.bool_))
        found.append(env.render(0, *SIZE))
    return found


def jpeg(pictures: list[np.ndarray]) -> int:
    """Bytes of all pictures."""
    return sum(len(jpeg_of(picture)) for picture in pictures)


def h264(pictures: list[np.ndarray]) -> int:
    """The same as a stream that waits for no later picture."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = *SIZE, "yuv420p", Fraction(1, 20)
    codec.thread_count = 1
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
    encoded = [codec.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")) for picture in pictures]
    return sum(packet.size for packets in [*encoded, codec.encode(None)] for packet in packets)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), "port=0", "record=none", "seed=0", *sys.argv[2:], module="mineonline.play")
        try:
            address = address_of(run)
            before = time.perf_counter()
            client, sent = play(address, seconds)
            lived_s = time.perf_counter() - before
            used = {
                process.cmdline()[2]: sum(process.cpu_times()[:2])
                for process in [psutil.Process(run.process.pid), *psutil.Process(run.process.pid).children()]
            }
        finally:
            run.kill()
    came = [at for at, _, _ in client.pictures]
    gaps = [1e3 * (b - a) for a, b in itertools.pairwise(came)]
    lasted_s = came[-1] - came[0]
    delays = delays_ms(client, sent)
    print(f"{len(gaps) / lasted_s:.1f} pictures/s over {lasted_s:.0f} s at {SIZE[0]}x{SIZE[1]}")
    print(f"between pictures: median {statistics.median(gaps):.0f} ms, 95 % within {percentile(gaps, 0.95):.0f} ms")
    print(
        f"key to picture: median {statistics.median(delays):.0f} ms, 95 % within {percentile(delays, 0.95):.0f} ms, "
        f"longest {max(delays):.0f} ms ({len(delays)} keys)"
    )
    print(f"a picture: {statistics.mean(size for *_, size in client.pictures) / 1e3:.0f} kB")
    for program, cpu_s in used.items():
        print(f"CPU of {program}: {cpu_s:.1f} s in {lived_s:.0f} s, its start included")
    pictures = frames()
    for name, encode in (("JPEG", jpeg), ("H.264", h264)):
        started = time.process_time()
        size = encode(pictures)
        cost_ms = 1e3 * (time.process_time() - started) / PICTURES
        print(f"{name}: {cost_ms:.1f} ms CPU and {size / PICTURES / 1e3:.0f} kB a picture")


if __name__ == "__main__":
    main()
