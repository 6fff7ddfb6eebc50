"""Is `plan` right? Predictions against what can be measured on one machine; target: within 20 %.

    python -m tests.benchmarks.check_plan [seconds for each measurement] [rounds] [environments] [learner] [receiver]

The limit is the environments (a step of 40 ms), the learner (eight epochs, steps without a wait), or the receiver
(small fragments, two senders flat out). Each round measures the costs that it predicts from first: a shared machine
computes up to twice as fast in one minute as in another. `measured` is the wall clock's. `with a core` leaves out the
time in which the limiting thread was ready but had to wait for a core that others used (/proc/<pid>/schedstat): on an
idle machine they are the same.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.benchmarks import bench_policy
from tests.benchmarks.bench_scale import core_wait_s, take_in
from tests.benchmarks.measure_costs import other_cores_busy, transport
from tests.benchmarks.plan import Settings, plan, read_costs
from tests.helpers.programs import Run, collector_of, rows, workers_of

WARM_UP = 3
ENVS = 16


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    limits = sys.argv[3:] or ["environments", "learner", "receiver"]
    bench_policy.quiet()
    for workers in (1, 2):
        for jitter in (0.0, 0.5) if "environments" in limits else ():
            found = [trained(workers, seconds, step_ms=40.0, jitter=jitter) for _ in range(rounds)]
            report(f"environments, {workers} workers, env.jitter={jitter}: rows/s", found)
        if "learner" in limits:
            report(f"learner, {workers} workers: rows/s", [trained(workers, seconds, epochs=8) for _ in range(rounds)])
    for scheme, row_bytes in (("ipc", 16), ("ipc", 100), ("tcp", 16)) if "receiver" in limits else ():
        found, sizes = zip(*(received(scheme, row_bytes, seconds / 4) for _ in range(rounds)), strict=True)
        report(f"receiver, {scheme}, {sizes[0] / 1e3:.0f} kB: fragments/s", found)


class Round(NamedTuple):
    """Rates, per second."""

    predicted: float
    measured: float
    with_core: float


def report(title: str, found: Sequence[Round]) -> None:
    predicted, measured, with_core = zip(*found, strict=True)
    ratios = [each.predicted / each.with_core for each in found]
    print(
        f"{title:48} predicted {spread(predicted)}, measured {spread(measured)}, with a core {spread(with_core)}: "
        f"predicted / that {spread(ratios, digits=2)}",
        flush=True,
    )


def received(scheme: str, row_bytes: int, seconds: float) -> tuple[Round, int]:
    """Fragments that a receiver takes in, and the bytes of one."""
    wire, _ = transport(scheme, seconds / 2)
    taken = take_in(scheme, row_bytes, seconds, senders=2)
    size = taken.fragment_bytes
    predicted = 1 / max(wire.receiver.at(size), wire.io.at(size))
    return Round(predicted, taken.per_s, 1 / (1 / taken.per_s - taken.waited_s)), size


def spread(values: Sequence[float], digits: int = 0) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def trained(workers: int, seconds: float, *, step_ms: float = 0.0, jitter: float = 0.0, epochs: int = 1) -> Round:
    """Rows per second of a run with one collector."""
    settings = Settings(
        collectors=1, workers=workers, envs_per_worker=ENVS, step_ms=step_ms, jitter=jitter, gpus=0, policy="tiny",
        network="ipc", epochs=epochs,
    )  # fmt: skip
    with other_cores_busy():
        policy = bench_policy.measured("tiny")
    assert policy is not None
    costs = msgspec.structs.replace(read_costs(), policies={"tiny": policy})
    given = [
        "env=synthetic", f"env.step_ms={step_ms}", f"env.jitter={jitter}", f"collector.workers={workers}",
        f"collector.envs_per_worker={ENVS}", "collector.spare=false", f"fragment.length={settings.length}",
        f"buffer.fragments_per_iteration={workers * ENVS}", f"optimizer.epochs={epochs}", "torch_threads=1",
        "iterations=100000",
    ]  # fmt: skip
    return Round(
        plan(costs, settings, workers * ENVS).rate,
        *_measured(given, workers * ENVS * settings.length, seconds, learner=not step_ms),
    )


def _measured(given: list[str], rows_of_iteration: int, seconds: float, *, learner: bool) -> tuple[float, float]:
    """By the wall clock, and with a core."""
    with tempfile.TemporaryDirectory() as name:
        run_dir = Path(name) / "run"
        run = Run(Path(name), *given, f"run_dir={run_dir}")
        try:
            run.wait_for(lambda: rows(run_dir) >= WARM_UP)
            collector = collector_of(run_dir)
            # where a collector hands over a rollout, its workers wait for it
            waiting = [[run.process.pid]] if learner else [[w.pid, collector.pid] for w in workers_of(collector)]

            def now() -> tuple[int, float, list[float]]:
                done = rows(run_dir)
                run.wait_for(lambda: rows(run_dir) > done)
                return rows(run_dir), time.monotonic(), [sum(map(core_wait_s, pids)) for pids in waiting]

            first, began, before = now()
            while time.monotonic() < began + seconds:
                time.sleep(0.05)
            last, ended, after = now()
            run.send(signal.SIGTERM)  # a killed trainer would leave its collector behind
            run.wait()
        finally:
            run.kill()
    learnt, wall_s = (last - first) * rows_of_iteration, ended - began
    waited_s = max(then - earlier for then, earlier in zip(after, before, strict=True))
    return learnt / wall_s, learnt / (wall_s - waited_s)


if __name__ == "__main__":
    main()
