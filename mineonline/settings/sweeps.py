"""A sweep (`-m`): its folder, what is said of each job, what a job returns to the sweeper, and the table at the end.

runs/sweeps/<time>/<number>/    the run folder of a job; jobs of Slurm's have theirs in runs/slurm/<job id>
                   <number>/job.yaml    its overrides, and what came of it
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode

from mineonline.atomic import new_folder, written_whole
from mineonline.errors import JobError

JOB_FILE = "job.yaml"
SEARCH = "hparams_search="
_FOLDER = "hydra.sweep.dir="
_FLAGS = ("-m", "--multirun")
_JOBS_VARIABLE = "MINEONLINE_SWEEP_JOBS"
_LISTS_JOBS = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_NOT_RESULTS = ("multirun.yaml",)


class Outcome(NamedTuple):
    """What came of a job."""

    run_dir: Path
    value: float
    """Of `sweep.metric`; NaN if it never was a number."""


def is_sweep(words: Sequence[str]) -> bool:
    """Whether a command line asks for a sweep: with `-m`, or with one of `conf/hparams_search/`."""
    return any(word in _FLAGS or (word.startswith(SEARCH) and word != f"{SEARCH}null") for word in words)


def with_sweep_folder(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """`words` of a sweep, with a new folder of its own unless they name one. `overrides`: those of `words`.

    OSError if it cannot be made.
    """
    flags = [] if {*_FLAGS} & {*words} else ["-m"]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra would print a traceback of a job's error
    count = _count(overrides)
    if count is not None:
        os.environ[_JOBS_VARIABLE] = str(count)
    if any(word.startswith(_FOLDER) for word in words):
        return [*flags, *words]
    folder = new_folder(Path("runs", "sweeps", time.strftime("%Y-%m-%d_%H-%M-%S")))
    before = words.index(overrides[0]) if overrides else len(words)
    return [*flags, *words[:before], f"{_FOLDER}{folder}", *words[before:]]


def sweep_folder(words: Sequence[str]) -> Path:
    """The folder in the words of a sweep."""
    return Path(next(word for word in words if word.startswith(_FOLDER)).removeprefix(_FOLDER))


def forget_empty(folder: Path) -> None:
    """Remove the folder of a run or a sweep that never got started, and those above it that are empty then."""
    with suppress(OSError):
        if {file.name for file in folder.iterdir()} <= {*_NOT_RESULTS}:
            for name in _NOT_RESULTS:
                (folder / name).unlink(missing_ok=True)
            for each in (folder, *folder.parents[:2]):
                each.rmdir()


def in_sweep() -> bool:
    """Whether Hydra runs this process's job as one of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def job_folder() -> Path:
    """The folder that Hydra has made for this job of a sweep."""
    return Path(HydraConfig.get().runtime.output_dir)


def run_job(run: Callable[[], Outcome | None]) -> float:
    """Run a job of a sweep. Returns what its sweeper is told.

    Raises what the job raises: Hydra's launchers go on with the other jobs, and its sweepers decide what that means.
    """
    hydra = HydraConfig.get()
    folder, words = job_folder(), " ".join(hydra.overrides.task)
    total = hydra.sweeper.get("n_trials") or os.environ.get(_JOBS_VARIABLE)
    number = f"{hydra.job.num + 1} of {total}" if total else f"{hydra.job.num + 1}"
    print(f"job {number}: {words or 'no overrides'}, in {folder}", file=sys.stderr, flush=True)
    said = {"number": int(hydra.job.num), "overrides": list(hydra.overrides.task)}
    try:
        outcome = run()
    except Exception as error:
        _note(folder, {**said, "error": f"{type(error).__name__}: {error}"})
        print(f"job {number} failed: {error}", file=sys.stderr, flush=True)
        raise
    if outcome is None:
        return math.nan
    _note(folder, {**said, "run_dir": str(outcome.run_dir), "value": outcome.value})
    if math.isnan(outcome.value) and hydra.sweeper["_target_"] != _LISTS_JOBS:
        raise JobError(f"{outcome.run_dir}: sweep.metric never was a number.")  # which a search takes for a crash
    return outcome.value


def print_results(folder: Path) -> None:
    """Print what came of each job of a sweep, as far as it is known."""
    jobs = [yaml.safe_load(file.read_text()) for file in folder.glob(f"*/{JOB_FILE}")]
    if not jobs:
        return
    print(f"\n{len(jobs)} jobs in {folder.absolute()}")
    for job in sorted(jobs, key=lambda job: int(job["number"])):
        result = f"{job['value']:12.6g}" if "value" in job else f"{'failed':>12}"
        print(f"{job['number'] + 1:4} {result}  {' '.join(job['overrides'])}")
        if "error" in job:
            print(f"{'':19}{job['error'].splitlines()[0]}")
    best = folder / "optimization_results.yaml"  # Optuna's
    if best.exists():
        print(f"\n{best}:\n{best.read_text()}", end="")


def _count(overrides: Sequence[str]) -> int | None:
    """Jobs that Hydra's own sweeper makes of `overrides`; None if that depends on files."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        return math.prod(len(list(each.sweep_string_iterator())) for each in parsed if each.is_discrete_sweep())
    except HydraException:
        return None


def _note(folder: Path, said: dict[str, Any]) -> None:
    with written_whole(folder / JOB_FILE) as partial:
        partial.write_text(yaml.safe_dump(said, sort_keys=False))
