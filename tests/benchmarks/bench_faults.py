"""What a fault costs: seconds until training has caught up, and until the lost part plays again.

    python -m tests.benchmarks.bench_faults [repetitions] [collectors]

Real runs on CartPole. For each fault: seconds until `ITERATIONS` more are done, less the seconds that as many take
without a fault ("lost"); and seconds until what was lost sends fragments again ("whole again").
"""

from __future__ import annotations

import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests.helpers.programs import Run, leaves_nothing, processes_of, rows
from tests.helpers.settings import CARTPOLE, RANKS

ITERATIONS = 8
LIMIT_S = 300.0
HANG_S = 3
"""`collector.batch_timeout_s`, which is taken off the cost of a hang."""
PLAYING = "the first fragments are sent"
SETTINGS = [
    *CARTPOLE, "collector.workers=2", "collector.envs_per_worker=8", "fragment.length=32",
    "buffer.fragments_per_iteration=16", f"collector.batch_timeout_s={HANG_S}", "checkpointing.every=1",
    "iterations=1000000",
]  # fmt: skip


class Drill:
    """A run with all its collectors playing."""

    def __init__(self, folder: Path, collectors: int, *words: str, by_hand: bool = False) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        count = 0 if by_hand else collectors
        self.trainer = Run(folder, *SETTINGS, *words, f"collector.count={count}", f"run_dir={self.run_dir}")
        self.others: list[Run] = []
        if by_hand:
            wait(lambda: (self.run_dir / "join").exists(), self.said)
            self.others = [Run(folder, f"run={self.run_dir}", module="mineonline.collect") for _ in range(collectors)]
        wait(lambda: self.playing() >= collectors, self.said)
        before = rows(self.run_dir)
        wait(lambda: rows(self.run_dir) > before + 20, self.said)
        self.settle()

    def said(self) -> str:
        return self.trainer.output + "".join(other.output for other in self.others)

    def playing(self) -> int:
        """How often a collector began to play."""
        logs = [*(self.run_dir / "logs").glob("collector-?.log"), *(other.output_file for other in self.others)]
        return sum(log.read_text(errors="replace").count(PLAYING) for log in logs)

    def settle(self) -> None:
        """Until the supervisor has its spare collector ready again, if it has one."""
        if not self.others:
            spare = self.run_dir / "logs" / "spare.log"
            wait(lambda: self._spares_used() < self._count(spare, "; waiting for a place"), self.said)
        time.sleep(2.0)

    def _spares_used(self) -> int:
        """Collectors that were killed: a spare took the place of each."""
        return self.trainer.output.count("another is started")

    @staticmethod
    def _count(file: Path, text: str) -> int:
        return file.read_text(errors="replace").count(text) if file.exists() else 0

    def collector(self) -> psutil.Process:
        """One that plays: it has workers, which its fork server has started."""
        return next(worker.parent().parent() for worker in self.workers())

    def workers(self) -> list[psutil.Process]:
        """The processes with environments: those that write to a worker's log."""
        return [p for p in processes_of(self.run_dir) if any("-worker-" in f for f in _output_of(p))]

    def seconds_for_iterations(self) -> float:
        before = rows(self.run_dir)
        return seconds_until((lambda: rows(self.run_dir) >= before + ITERATIONS,), self.said)[0]

    def end(self) -> None:
        for run in (self.trainer, *self.others):
            if run.process.poll() is None:
                run.send(signal.SIGTERM)
        for run in (self.trainer, *self.others):
            run.wait()
        assert leaves_nothing(self.run_dir)


def _output_of(process: psutil.Process) -> list[str]:
    try:
        return [str(Path(f"/proc/{process.pid}/fd/2").readlink())]
    except OSError:
        return []


def wait(condition: Callable[[], bool], said: Callable[[], str]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing for {LIMIT_S:.0f} s:\n{said()}")
        time.sleep(0.02)


def seconds_until(conditions: Sequence[Callable[[], bool]], said: Callable[[], str]) -> list[float]:
    """When each of the conditions was met first, in seconds from now."""
    started = time.monotonic()
    met: dict[int, float] = {}

    def all_met() -> bool:
        for number, condition in enumerate(conditions):
            if number not in met and condition():
                met[number] = time.monotonic() - started
        return len(met) == len(conditions)

    wait(all_met, said)
    return [met[number] for number in range(len(conditions))]


def fault(drill: Drill, strike: Callable[[Drill], None], *, allowed_s: float = 0.0) -> tuple[float, float]:
    """Seconds lost, and until all play again, both after the deadline that a hang is allowed."""
    usual = drill.seconds_for_iterations()
    playing, before = drill.playing(), rows(drill.run_dir)
    strike(drill)
    more, whole = seconds_until(
        (lambda: rows(drill.run_dir) >= before + ITERATIONS, lambda: drill.playing() > playing), drill.said
    )
    drill.settle()
    return max(0.0, more - usual), whole - allowed_s


def kill_worker(drill: Drill) -> None:
    drill.workers()[0].kill()


def hang_worker(drill: Drill) -> None:
    drill.workers()[0].suspend()


def kill_collector(drill: Drill) -> None:
    drill.collector().kill()


def trainer_comes_back(folder: Path, collectors: int) -> tuple[float, float]:
    """kill -9 and resume: the same, but from when the new trainer listens, and until all old collectors have joined."""
    drill = Drill(folder, collectors, by_hand=True)
    usual = drill.seconds_for_iterations()
    address = (drill.run_dir / "join").read_text()
    drill.trainer.kill()
    reached = rows(drill.run_dir)
    drill.trainer = Run(folder, f"checkpoint={drill.run_dir}", "iterations=1000000")
    wait(lambda: (drill.run_dir / "join").read_text() != address, drill.said)
    more, whole = seconds_until(
        (
            lambda: rows(drill.run_dir) >= reached + ITERATIONS,
            lambda: all(other.output.count("joined run") > 1 for other in drill.others),
        ),
        drill.said,
    )
    drill.end()
    return max(0.0, more - usual), whole


def a_rank_is_killed(folder: Path, collectors: int) -> float:
    """Seconds until nothing of the run is left."""
    drill = Drill(folder, collectors, *RANKS)
    trainer = psutil.Process(drill.trainer.process.pid)
    (rank,) = [child for child in trainer.children() if "mineonline.train" in child.cmdline()]
    rank.kill()
    started = time.monotonic()
    drill.trainer.wait()
    wait(lambda: not processes_of(drill.run_dir), drill.said)
    return time.monotonic() - started


def main() -> None:
    repetitions, collectors = (int(word) for word in (*sys.argv[1:], *("3", "2")[len(sys.argv) - 1 :]))
    found: dict[str, list[tuple[float, float]]] = {}
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    drill = Drill(folder, collectors)
    for _ in range(repetitions):
        for name, strike, allowed_s in [
            ("a worker is killed", kill_worker, 0.0),
            ("a worker hangs (after its deadline)", hang_worker, HANG_S),
            ("a collector is killed", kill_collector, 0.0),
        ]:
            found.setdefault(name, []).append(fault(drill, strike, allowed_s=allowed_s))
            print(name, found[name][-1], file=sys.stderr, flush=True)
    drill.end()
    for number in range(repetitions):
        (folder / str(number)).mkdir()
        name = "the trainer is killed and resumed (since it listens)"
        found.setdefault(name, []).append(trainer_comes_back(folder / str(number), collectors))
        print(name, found[name][-1], file=sys.stderr, flush=True)
    (folder / "ranks").mkdir()
    ended_s = a_rank_is_killed(folder / "ranks", collectors)
    shutil.rmtree(folder)
    print(f"{collectors} collectors, {ITERATIONS} iterations, {repetitions} times; median (least to most)\n")
    print("| fault | seconds lost | whole again after |\n|---|---|---|")
    for name, pairs in found.items():
        columns = [
            f"{statistics.median(each):.1f} ({min(each):.1f} to {max(each):.1f})" for each in zip(*pairs, strict=True)
        ]
        print(f"| {name} | {' | '.join(columns)} |")
    print(f"\nAfter the kill of one of two ranks, nothing of the run was left after {ended_s:.1f} s.")


if __name__ == "__main__":
    main()
