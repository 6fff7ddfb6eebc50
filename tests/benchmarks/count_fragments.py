"""Does every fragment arrive once, and in order? Collectors are killed meanwhile.

    python -m tests.benchmarks.count_fragments [fragments] [seconds between kills]

Two ranks, four collectors, an environment that costs nothing. Each rank notes the fragments that it learnt from. None
may come twice. On each rank, those of an environment must come in the order in which they were played. A number that is
missing between two of an environment's must have been dropped and counted. Its last `TAIL` numbers are not judged: they
may have been in flight when its collector was killed, or in a rank's buffer when the run ended.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil

from mineonline.run.metrics import read_metrics
from tests.helpers.programs import Run, leaves_nothing, processes_of, rows, workers_of
from tests.helpers.settings import RANKS

PER_ITERATION = 1024
TAIL = 16


def main() -> None:
    fragments, every_s = (int(word) for word in (*sys.argv[1:], *("1000000", "20")[len(sys.argv) - 1 :]))
    folder = Path(tempfile.mkdtemp(prefix="count-"))
    run_dir = folder / "run"
    note = f"{{_target_: tests.helpers.note_fragments.NoteFragments, folder: {folder}}}"
    run = Run(
        folder, *RANKS, "env=own", "env._target_=tests.helpers.idle_env.Idle", "policy=mlp", "policy.hidden_sizes=[4]",
        "collector.count=4", "collector.workers=1", "collector.envs_per_worker=64", "fragment.length=2",
        f"buffer.fragments_per_iteration={PER_ITERATION}", "optimizer.epochs=1", "optimizer.minibatches=1",
        f"iterations={-(-fragments // PER_ITERATION)}", "checkpointing.every=100000", "video.every=0",
        "collector.max_failures=100", f"callbacks=[{note}]", f"run_dir={run_dir}",
    )  # fmt: skip
    dice, kills, began = random.Random(0), 0, time.monotonic()
    run.wait_for(lambda: rows(run_dir) > 0)
    next_kill = time.monotonic() + every_s
    while run.process.poll() is None:
        time.sleep(0.5)
        if time.monotonic() > next_kill:
            next_kill = time.monotonic() + every_s
            playing = [p for p in processes_of(run_dir) if _plays(p)]
            if playing:
                dice.choice(playing).kill()
                kills += 1
    assert run.wait() == 0, run.output
    assert leaves_nothing(run_dir)
    seconds = time.monotonic() - began
    print(f"{fragments} fragments in {seconds:.0f} s ({fragments / seconds:.0f} per second), {kills} collectors killed")
    _report(folder, read_metrics(run_dir / "metrics.csv"))


def _plays(process: psutil.Process) -> bool:
    try:
        return "mineonline.collect" in process.cmdline() and bool(workers_of(process))
    except psutil.NoSuchProcess:
        return False


def _report(folder: Path, metrics: list[dict[str, str]]) -> None:
    taken: dict[int, list[int]] = defaultdict(list)
    disordered = 0
    for file in sorted(folder.glob("rank-*.bin")):
        noted = np.fromfile(file, np.int64).reshape(-1, 2)
        last: dict[int, int] = {}
        for env, sequence in noted.tolist():
            disordered += sequence <= last.get(env, -1)
            last[env] = sequence
            taken[env].append(sequence)
    doubled = sum(len(numbers) - len(set(numbers)) for numbers in taken.values())
    missing = sum(
        max(0, max(numbers) + 1 - TAIL) - sum(number < max(numbers) + 1 - TAIL for number in set(numbers))
        for numbers in taken.values()
    )
    dropped = {name: sum(float(row[f"dropped/{name}"]) for row in metrics) for name in ("stale", "refused", "lost")}
    total = sum(map(len, taken.values()))
    print(
        f"noted {total} of {len(taken)} environments: {doubled} doubled, {disordered} out of order, {missing} missing"
    )
    print(f"counted as dropped: {dropped}")
    # what was dropped behind the last one of an environment is counted, but not missing
    raise SystemExit(doubled > 0 or disordered > 0 or missing > sum(dropped.values()))


if __name__ == "__main__":
    main()
