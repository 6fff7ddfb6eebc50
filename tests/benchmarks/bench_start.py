"""How long a command takes to answer, and what its imports cost.

    python -m tests.benchmarks.bench_start [repetitions]

Median wall time of each command until it has answered a mistake or `--help`, next to `python -c pass` in the same run;
then the time to import each program, and its slowest packages.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time

ANSWERS = {
    "python -c pass": ["-c", "pass"],
    "import mineonline": ["-c", "import mineonline"],
    "train --help": ["-m", "mineonline.train", "--help"],
    "train, a misspelt key": ["-m", "mineonline.train", "iteration=5"],
    "collect --help": ["-m", "mineonline.collect", "--help"],
    "evaluate --help": ["-m", "mineonline.evaluate", "--help"],
    "doctor": ["-m", "mineonline.doctor"],
}
PROGRAMS = ("mineonline.run.trainer", "mineonline.run.collector", "mineonline.run.evaluation")


def seconds(arguments: list[str], repetitions: int) -> list[float]:
    """Wall times of Python with these arguments."""
    found = []
    for _ in range(repetitions):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        found.append(time.perf_counter() - started)
    return found


def imports(module: str, most: int = 8) -> list[tuple[str, float]]:
    """The packages that take longest to import, in seconds, including all that they import."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = re.findall(r"import time: +\d+ \| +(\d+) \| +(\w+)$", done.stderr, re.MULTILINE)
    whole = sorted(((name, int(micros) / 1e6) for micros, name in lines), key=lambda each: -each[1])
    return whole[:most]


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for what, arguments in ANSWERS.items():
        found = seconds(arguments, repetitions)
        print(f"{what:24} {statistics.median(found):5.2f} s ({min(found):.2f} to {max(found):.2f})")
    for module in PROGRAMS:
        found = seconds(["-c", f"import {module}"], repetitions)
        slowest = ", ".join(f"{name} {spent:.2f}" for name, spent in imports(module))
        print(f"import {module}: {statistics.median(found):.2f} s; of these {slowest}")


if __name__ == "__main__":
    main()
