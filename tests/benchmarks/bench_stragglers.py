"""What do 14 environments lose when one more takes 20 s to reset, and another hangs and is replaced?

    python -m tests.benchmarks.bench_stragglers [rounds]

16 gymnasium games in processes of their own, whose steps sleep 25 ms, while a run learns. In each round the games play
undisturbed for 30 s. In the next 30 s one ends its episode, and its reset takes 20 s; another hangs, and is replaced
after `env.step_timeout_s` (25 s). Prints the steps per second of the other 14 in the second half, as a share of those
in the first.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bench_pace import SHAPE
from tests.helpers.counted_game import FOLDER, HANGS, RESETS, steps_of
from tests.helpers.programs import Run

N, HALF_S = 16, 30.0


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as name:
        counts = Path(name) / "counts"
        counts.mkdir()
        os.environ[FOLDER] = str(counts)
        run = Run(
            Path(name), *SHAPE, "env=gym", "env.id=tests.helpers.counted_game:Counted-v0", "env.processes=true",
            "env.step_timeout_s=25", "policy=mlp", "iterations=1000000", f"run_dir={name}/run",
        )  # fmt: skip
        try:
            run.wait_for(lambda: len(steps_of(counts)) == N)
            shares = [share_of(run, counts) for _ in range(rounds)]
        finally:
            run.kill()
    print(f"the others take {statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f}) of the steps")


def share_of(run: Run, counts: Path) -> float:
    """In one round. Waits first until all play."""
    before = steps_of(counts)
    run.wait_for(lambda: sum(steps > before.get(name, 0) for name, steps in steps_of(counts).items()) == N)
    time.sleep(10.0)
    undisturbed = progress(counts)
    for fault in (RESETS, HANGS):
        (counts / fault).touch()
        time.sleep(0.2)
    disturbed = progress(counts)
    playing = [name for name, steps_per_s in undisturbed.items() if steps_per_s > 0]
    assert len(playing) == N, undisturbed
    others = sorted(playing, key=lambda name: disturbed[name])[2:]
    return sum(disturbed[name] for name in others) / sum(undisturbed[name] for name in others)


def progress(counts: Path) -> dict[str, float]:
    """Name of each game that has played -> its steps per second in the next `HALF_S`."""
    before, began = steps_of(counts), time.monotonic()
    time.sleep(HALF_S)
    after, took_s = steps_of(counts), time.monotonic() - began
    return {name: (after[name] - steps) / took_s for name, steps in before.items()}


if __name__ == "__main__":
    main()
