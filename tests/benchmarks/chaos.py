"""Does anything stay behind? Runs are started, hit at random moments with random signals, and ended.

    unshare -m sh -c 'mount -t tmpfs none /dev/shm; exec python -m tests.benchmarks.chaos [rounds] [seconds] [seed]'

`unshare` and `mount` need root; without them, what other programs put into /dev/shm meanwhile counts too. Each round
starts a run on CartPole in a temporary folder of its own (one or two collectors, some started by hand, on unix or tcp
sockets, some with two ranks), waits for a random time, sends up to four random signals to random processes of the run,
and ends the trainer, and the collectors started by hand, with SIGTERM, SIGINT or SIGKILL. Then no process of the run
may be left, nothing in /dev/shm, and nothing in the temporary folder; if the process that removes a temporary folder
was hit itself, nothing after the next start. Ends after `rounds`, or when `seconds` are over,
with what was counted; exit code 1 if anything was left.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.benchmarks.bench_memory import role_of
from tests.helpers.programs import Run, processes_of
from tests.helpers.settings import CARTPOLE, RANKS, ROOT

SETTINGS = [
    *CARTPOLE, "collector.workers=2", "collector.envs_per_worker=4", "fragment.length=16",
    "buffer.fragments_per_iteration=8", "env.step_timeout_s=1", "collector.batch_timeout_s=5",
    "collector.max_failures=20",
    "iterations=1000000",
]  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGHUP)
END_S = 60.0


def round_of(dice: random.Random, folder: Path, done: Counter[str]) -> list[str]:
    """One run and its end. What it left."""
    shared_before = set(os.listdir("/dev/shm"))
    temporary = folder / "t"
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    run_dir = folder / "run"
    by_hand, tcp, ranks = dice.random() < 0.3, dice.random() < 0.3, dice.random() < 0.2
    words = [f"collector.count={0 if by_hand else dice.choice((1, 2))}", f"run_dir={run_dir}"]
    words += ["network.host=127.0.0.1"] if tcp else []
    words += [*RANKS, "buffer.fragments_per_iteration=16"] if ranks else []
    programs = [Run(folder, *SETTINGS, *words)]
    started = time.monotonic()
    until = started + dice.uniform(1.0, 30.0)
    while time.monotonic() < until:
        if by_hand and len(programs) == 1 and (run_dir / "join").exists():
            programs += [Run(folder, f"run={run_dir}", module="mineonline.collect") for _ in range(2)]
        time.sleep(0.2)
    check_living(programs)
    janitor_was_hit = hit(dice, run_dir, ranks, done)
    end = dice.choice((signal.SIGTERM, signal.SIGINT, signal.SIGKILL))
    for program in programs:
        if program.process.poll() is None:
            done[f"ended by {end.name}"] += 1
            # one that was stopped cannot hear anything else
            program.send(signal.SIGCONT)
            program.send(end)
            if end == signal.SIGKILL:
                continue
    deadline = time.monotonic() + END_S
    while (processes_of(run_dir) or any(p.process.poll() is None for p in programs)) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    if janitor_was_hit:
        start_again(temporary, done)
    left = [f"process {p.pid} {' '.join(p.cmdline())[:150]} ({p.status()})" for p in processes_of(run_dir)]
    left += [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - shared_before]
    # torch keeps a cache for the next program
    left += [str(file) for file in temporary.rglob("*") if "torchinductor_" not in str(file)]
    return left


def hit(dice: random.Random, run_dir: Path, ranks: bool, done: Counter[str]) -> bool:
    """Up to four random signals to random processes. Whether one removes a temporary folder."""
    janitor_was_hit = False
    for _ in range(dice.randint(0, 4)):
        living = processes_of(run_dir)
        if not living:
            break
        victim, number = dice.choice(living), dice.choice(SIGNALS)
        try:
            if number == signal.SIGSTOP and is_janitor(victim):
                continue  # it stays stopped if its owner ends in a way that leaves it no time
            if number in (signal.SIGSTOP, signal.SIGKILL) and "resource_tracker" in " ".join(victim.cmdline()):
                continue  # Python's own, which alone knows the names of a killed collector's semaphores
            if ranks and role_of(victim) == "trainer" and number == signal.SIGSTOP:
                continue  # the other rank would wait for it until torch gives up, after 30 minutes
            janitor_was_hit |= is_janitor(victim)
            done[f"{number.name} to a {role_of(victim)}"] += 1
            victim.send_signal(number)
        except psutil.NoSuchProcess:
            continue
        time.sleep(dice.uniform(0.0, 6.0))
    return janitor_was_hit


def is_janitor(process: psutil.Process) -> bool:
    """Whether it removes the temporary folder of another."""
    return process.name() == "sh"


def start_again(temporary: Path, done: Counter[str]) -> None:
    """What the start of a run does, a minute later, to folders that nobody removed."""
    abandoned = list(temporary.glob("mineonline-*/.owner-*"))
    for owner in abandoned:
        os.utime(owner, (0, 0))
    done["temporary folders removed by the next start"] += len(abandoned)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "from mineonline.processes.lifetimes import TemporaryFolder; TemporaryFolder('mineonline-').remove()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=END_S)


def check_living(programs: list[Run]) -> None:
    """SystemExit if one of them ended before anything happened to it: then a round shows nothing."""
    for program in programs:
        if program.process.poll() not in (None, 0):
            raise SystemExit(f"it ended by itself:\n{program.output}")


def main() -> None:
    rounds, seconds, seed = (int(word) for word in (*sys.argv[1:], *("100", "600", "0")[len(sys.argv) - 1 :]))
    dice, done, left, number = random.Random(seed), Counter[str](), 0, 0
    began = time.monotonic()
    while number < rounds and time.monotonic() - began < seconds:
        number += 1
        folder = Path(tempfile.mkdtemp(prefix="c-", dir="/tmp"))
        found = round_of(dice, folder, done)
        if found:
            left += 1
            print(f"round {number} left, see {folder}:", *found, sep="\n  ", flush=True)
            for process in processes_of(folder / "run"):
                process.kill()
        else:
            shutil.rmtree(folder)
    print(f"{number} rounds in {time.monotonic() - began:.0f} s, {left} of them left something")
    for what, count in sorted(done.items()):
        print(f"  {count:4} {what}")
    raise SystemExit(left > 0)


if __name__ == "__main__":
    main()
