"""A job of a sweep that hydra-submitit-launcher has sent to Slurm: the trainer, as a process of its own.

Its folder is runs/slurm/<job id>, as with `slurm/train.sh`. Warned before its time limit, or preempted, it saves, the
job is requeued and it goes on.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mineonline.errors import JobError
from mineonline.processes.join import DONE_FILE
from mineonline.processes.stopping import WARNINGS
from mineonline.run.folder import METRICS_FILE

_RUNNER = "submitit.core._submit"


def is_sweep_job() -> bool:
    """Whether this process is submitit's, in a job of Slurm's."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == _RUNNER and "SLURM_JOB_ID" in os.environ


def train_in_job(overrides: Sequence[str]) -> Path:
    """Train as `overrides` say, to the end, and return the run folder.

    SystemExit if the job is requeued; JobError if training failed.
    """
    parts = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}" if "SLURM_ARRAY_JOB_ID" in os.environ else "{SLURM_JOB_ID}"
    job = parts.format_map(os.environ)
    run_dir = Path("runs", "slurm", job).absolute()
    resume = ["checkpoint=latest"] if (run_dir / "checkpoints" / "last.ckpt").exists() else []
    if not resume:
        (run_dir / METRICS_FILE).unlink(missing_ok=True)
    warned = False

    def note(*_: object) -> None:
        nonlocal warned
        warned = True

    for number in WARNINGS:  # submitit would requeue at once; Slurm sends it to the trainer, too
        signal.signal(number, note)
    code = subprocess.run(
        [sys.executable, "-m", "mineonline.train", *overrides, f"run_dir={run_dir}", *resume], check=False
    ).returncode
    if (run_dir / DONE_FILE).exists() or code == 0:  # complete, or ended by a limit of its own
        return run_dir
    shown = _scontrol("--oneliner", "show", "job", job)
    preempted = re.search(r"PreemptTime=\d", shown) is not None
    # one that was cancelled is no longer running, and Slurm itself requeues one that is preempted without a grace time
    stopped = " JobState=RUNNING " in shown and (warned or preempted)
    requeues = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    if stopped and requeues < int(os.environ.get("MINEONLINE_MAX_REQUEUES", 20)):
        _scontrol("requeue", job)
        raise SystemExit(code)
    output = os.environ["SUBMITIT_FOLDER"].replace("%j", job)
    raise JobError(f"{run_dir}: training ended with exit code {code}. Its output is in {output}.")


def _scontrol(*words: str) -> str:
    try:
        done = subprocess.run(["scontrol", *words], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise JobError(f"scontrol {' '.join(words)} failed: {error}") from None
    return done.stdout
