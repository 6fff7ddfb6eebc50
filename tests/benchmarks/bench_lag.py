"""How well does each objective cope with stale fragments? Return after a fixed number of decisions at forced lag.

    python -m tests.benchmarks.bench_lag [seeds] [lags=0,2,8,32] [kinds=recomputed,ppo,...] [key=value ...]

One process plays CartPole with weights that are 0, 2, 8 or 32 versions old, and learns from the fragments
(`tests/helpers/synchronous.py`), with 512 decisions per version. The figure is the mean return of all episodes that
ended in the last fifth of 100,000 decisions (at most 500). `recomputed` is MineStudio's method
(`tests/helpers/recomputed_ppo.py`).
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

from mineonline.learning.module import PPO
from tests.helpers.recomputed_ppo import RecomputedPPO
from tests.helpers.settings import CARTPOLE, config_of
from tests.helpers.synchronous import Synchronous

TASK = [
    *CARTPOLE, "collector.workers=1", "collector.envs_per_worker=16", "fragment.length=32",
    "buffer.fragments_per_iteration=16", "iterations=195", "objective.trace=0.8", "objective.entropy_coef=0",
    "optimizer.learning_rate=1e-3", "optimizer.anneal=true", "optimizer.epochs=8", "optimizer.minibatches=2",
    "torch_threads=1",
]  # fmt: skip


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 3
    given = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
    lags = [int(lag) for lag in given.pop("lags", "0,2,8,32").split(",")]
    kinds = given.pop("kinds", "recomputed,ppo,decoupled,vtrace").split(",")
    overrides = [f"{key}={value}" for key, value in given.items()]
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for lag in lags:
        for kind in kinds if lag else ("ppo",):  # without lag all are the same, bit for bit
            began = time.monotonic()
            returns = [final_return(kind, lag, seed, overrides) for seed in range(seeds)]
            print(
                f"lag {lag:2d} {kind:11s} mean {statistics.mean(returns):6.1f}  seeds "
                f"{' '.join(f'{value:6.1f}' for value in returns)}   {time.monotonic() - began:.0f} s",
                flush=True,
            )


def final_return(kind: str, lag: int, seed: int, overrides: list[str]) -> float:
    """Mean return of the episodes that ended in the last fifth of training."""
    objective = "ppo" if kind == "recomputed" else kind
    config = config_of(*TASK, f"objective.kind={objective}", f"seed={seed}", *overrides)
    with tempfile.TemporaryDirectory() as folder:
        learner = RecomputedPPO if kind == "recomputed" else PPO
        run = Synchronous(config, lag=lag, learner_class=learner, folder=Path(folder))
        run.run()
    return statistics.mean(value for returns in run.returns[config.iterations * 4 // 5 :] for value in returns)


if __name__ == "__main__":
    main()
