"""Who started the ranks: the first trainer process (Lightning's launcher), torchrun or srun. From the environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mineonline.errors import MineonlineError

_RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID")
"""Each is 0, or not set, in rank 0."""
_RANK_ZERO_SAYS_IT_S = 10.0


class Launch(NamedTuple):
    """What a launcher started."""

    launcher: str
    ranks: int
    nodes: int


def external_launch() -> Launch | None:
    """What torchrun or srun started; None if the trainer starts the other ranks of its node itself."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        ranks = int(os.environ["WORLD_SIZE"])
        return Launch("torchrun", ranks, ranks // int(os.environ["LOCAL_WORLD_SIZE"]))
    # of the step: a job's own variables are also in a shell or script that starts one trainer without srun
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    return Launch("srun", tasks, int(os.environ["SLURM_STEP_NUM_NODES"])) if tasks > 1 else None


def own_rank() -> int:
    """The rank of this process among those of `external_launch`."""
    return int(os.environ["RANK" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_PROCID"])


def meeting_point() -> tuple[str, int]:
    """Host and port where rank 0 listens for the other ranks of `external_launch`; under srun, as Lightning chooses."""
    host = os.environ.get("MASTER_ADDR") or first_slurm_node()
    return host, int(os.environ.get("MASTER_PORT") or 15000 + int(os.environ["SLURM_JOB_ID"][-4:]))


def first_slurm_node() -> str:
    """Host name of the step's first node, where its rank 0 is. Lightning misreads some lists of nodes.

    Containers have no `scontrol` to ask: `r[1-2]n[03,7],s1` begins with r1n03.
    """
    return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", os.environ["SLURM_STEP_NODELIST"]).split(",")[0]


def slurm_nodes() -> list[str]:
    """Host names of the step's nodes, in order; none where Slurm's commands cannot be used, as in a container."""
    if "SLURM_STEP_NODELIST" not in os.environ or shutil.which("scontrol") is None:
        return []
    listed = ["scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"]]
    return subprocess.run(listed, capture_output=True, text=True, check=False, timeout=60).stdout.split()


def is_rank_zero() -> bool:
    """Whether this trainer process is rank 0, before Lightning knows."""
    return not any(int(os.environ.get(name) or 0) for name in _RANKS)


@contextmanager
def rank_zero_speaks_first() -> Iterator[None]:
    """Holds back an error of another rank than 0 for 10 s.

    Rank 0 finds the same error, unless it is of this machine alone, and once it has ended, the launcher ends this rank.
    """
    try:
        yield
    except MineonlineError:
        if not is_rank_zero():
            time.sleep(_RANK_ZERO_SAYS_IT_S)
        raise
