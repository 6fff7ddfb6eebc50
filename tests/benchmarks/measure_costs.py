"""Measures what `plan` computes with, on this machine: a few minutes when it is idle.

    python -m tests.benchmarks.measure_costs [seconds for each measurement]

Writes tests/benchmarks/costs.json. Policies are measured while the other cores work too, as they do in a run: cores
share caches, memory and often their arithmetic units.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import torch

from mineonline.atomic import written_whole
from tests.benchmarks import bench_policy
from tests.benchmarks.bench_scale import HOSTS, ROW_BYTES, WEIGHTS_BYTES, Fed, feed, joins, take_in
from tests.benchmarks.plan import COSTS_FILE, Costs, Line, PolicyCost, Transport

SUBSCRIBERS = 8
PARTS = ("receiver", "io", "take", "send")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    bench_policy.quiet()
    transports, fed = {}, []
    for scheme in HOSTS:
        print(f"{scheme}: fragments, weights, joins", flush=True)
        transports[scheme], last = transport(scheme, seconds)
        fed.append(last)
    policies: dict[str, PolicyCost] = {}
    with other_cores_busy():
        for size in bench_policy.SIZES:
            print(f"policy {size}", flush=True)
            policies[size] = bench_policy.measured(size) or scaled(size, policies)
    costs = Costs(
        machine=f"{cpu_model()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}",
        date=datetime.date.today().isoformat(),
        copy_byte_s=statistics.mean(each.copy_s for each in fed) / WEIGHTS_BYTES,
        transports=transports, policies=policies,
    )  # fmt: skip
    with written_whole(COSTS_FILE) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(costs), indent=1) + b"\n")
    print(f"{COSTS_FILE} is written")


@contextmanager
def other_cores_busy() -> Iterator[None]:
    children = [
        subprocess.Popen([sys.executable, "-m", "tests.benchmarks.measure_costs", "busy"])
        for _ in range((os.cpu_count() or 1) - 1)
    ]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def busy() -> None:
    """Learn for ever."""
    bench_policy.quiet()
    while True:
        bench_policy.learn_s("tiny", bench_policy.CPU_ROWS["tiny"][1], 1)


def transport(scheme: str, seconds: float) -> tuple[Transport, Fed]:
    taken = [take_in(scheme, row_bytes, seconds) for row_bytes in ROW_BYTES]
    sizes = [each.fragment_bytes for each in taken]
    fed = [feed(scheme, SUBSCRIBERS, size, seconds) for size in (WEIGHTS_BYTES // 100, WEIGHTS_BYTES)]
    return Transport(
        **{name: line(sizes, [getattr(each, f"{name}_s") for each in taken]) for name in PARTS},
        publish=line([WEIGHTS_BYTES // 100, WEIGHTS_BYTES], [each.io_s / SUBSCRIBERS for each in fed]),
        join_s=joins(scheme, seconds)[1],
    ), fed[-1]  # fmt: skip


def line(sizes: list[int], seconds: list[float]) -> Line:
    """The line with the smallest relative errors."""
    y = np.array(seconds)
    (fixed_s, byte_s), *_ = np.linalg.lstsq(np.column_stack([1 / y, np.array(sizes) / y]), np.ones_like(y))
    return Line(max(0.0, float(fixed_s)), max(0.0, float(byte_s)))


def scaled(size: str, known: dict[str, PolicyCost]) -> PolicyCost:
    """Costs of a policy that is too large to be measured here, from those of the largest that was."""
    name, largest = next((name, cost) for name, cost in reversed(known.items()) if not cost.scaled_from)
    cost = bench_policy.sizes_of(size)
    for field in ("decide_call_s", "decide_row_s", "step_s", "first_pass_s", "epoch_s"):
        setattr(cost, field, getattr(largest, field) * cost.flop / largest.flop)
    cost.scaled_from = name
    return cost


def cpu_model() -> str:
    names = [
        row.partition(":")[2].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row
    ]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    busy() if sys.argv[1:] == ["busy"] else main()
