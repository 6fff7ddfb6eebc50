"""Is `plan` right? Predictions against what can be measured on one machine; target: within 20 %.

    python -m tests.benchmarks.check_plan [seconds for each measurement] [rounds] [environments] [learner] [receiver]

Run `measure_costs` just before, on the same machine: `plan` predicts from its costs. The limit is the environments (a
step of 40 ms), the learner (eight epochs, steps without a wait), or the receiver (small fragments, two senders flat
out). `measured` is the wall clock's. `with a core` leaves out the time in which the limiting thread was ready but had
to wait for a core that others used (/proc/<pid>/schedstat): on an idle machine they are the same.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bench_scale import core_wait_s, take_in
from tests.benchmarks.plan import Costs, Settings, plan, read_costs
from tests.helpers.programs import Run, collector_of, rows, workers_of

WARM_UP = 3
ENVS = 16


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    limits = sys.argv[3:] or ["environments", "learner", "receiver"]
    costs = read_costs()
    print(f"costs: {costs.machine}, {costs.date}")
    for workers in (1, 2):
        for jitter in (0.0, 0.5) if "environments" in limits else ():
            found = trained(costs, workers, rounds, seconds, step_ms=40.0, jitter=jitter)
            report(f"environments, {workers} workers, env.jitter={jitter}: rows/s", *found)
        if "learner" in limits:
            report(f"learner, {workers} workers: rows/s", *trained(costs, workers, rounds, seconds, epochs=8))
    for scheme, row_bytes in (("ipc", 16), ("ipc", 100), ("tcp", 16)) if "receiver" in limits else ():
        taken = [take_in(scheme, row_bytes, seconds / 4, senders=2) for _ in range(rounds)]
        wire, size = costs.transports[scheme], taken[0].fragment_bytes
        predicted = 1 / max(wire.receiver.at(size), wire.io.at(size))
        title = f"receiver, {scheme}, {size / 1e3:.0f} kB: fragments/s"
        report(title, predicted, [(each.per_s, 1 / (1 / each.per_s - each.waited_s)) for each in taken])


def report(title: str, predicted: float, found: list[tuple[float, float]]) -> None:
    """`found`: by the wall clock, and with a core, in each round."""
    measured, with_core = ([pair[i] for pair in found] for i in (0, 1))
    print(
        f"{title:48} predicted {predicted:7.0f}, measured {spread(measured)}, with a core {spread(with_core)}: "
        f"predicted / that {predicted / statistics.median(with_core):.2f}",
        flush=True,
    )


def spread(values: list[float]) -> str:
    middle = f"{statistics.median(values):.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.0f} to {max(values):.0f})"


def trained(
    costs: Costs, workers: int, rounds: int, seconds: float, *, step_ms: float = 0.0, jitter: float = 0.0,
    epochs: int = 1,
) -> tuple[float, list[tuple[float, float]]]:  # fmt: skip
    """Rows per second of a run with one collector: predicted; and by the wall clock and with a core, in each round."""
    settings = Settings(
        collectors=1, workers=workers, envs_per_worker=ENVS, step_ms=step_ms, jitter=jitter, gpus=0, policy="tiny",
        network="ipc", epochs=epochs,
    )  # fmt: skip
    predicted = plan(costs, settings, workers * ENVS).rate
    given = [
        "env=synthetic", f"env.step_ms={step_ms}", f"env.jitter={jitter}", f"collector.workers={workers}",
        f"collector.envs_per_worker={ENVS}", "collector.spare=false", f"fragment.length={settings.length}",
        f"buffer.fragments_per_iteration={workers * ENVS}", f"optimizer.epochs={epochs}", "torch_threads=1",
        "iterations=100000",
    ]  # fmt: skip
    return predicted, [
        _measured(given, workers * ENVS * settings.length, seconds, learner=not step_ms) for _ in range(rounds)
    ]


def _measured(given: list[str], rows_of_iteration: int, seconds: float, *, learner: bool) -> tuple[float, float]:
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
