"""A trainer process, one per rank: checks everything, builds the learner, connects it to both paths, and learns."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning
import msgspec
import torch
from lightning.pytorch.loggers import Logger

from mineonline.callbacks.loggers import TolerateLoggers
from mineonline.callbacks.stopping import limit_reached
from mineonline.envs.build import check_ready, env_spec
from mineonline.envs.minestudio import requirements
from mineonline.learning.module import PPO
from mineonline.policies.build import read_policy_files
from mineonline.processes.join import DONE_FILE
from mineonline.processes.lifetimes import die_with_parent
from mineonline.processes.stopping import StopRequest
from mineonline.run.checkpoint import check_resumes, read_iteration, read_policy_state
from mineonline.run.connections import connect
from mineonline.run.export import check_exported
from mineonline.run.folder import choose_run_dir, create_run_dir, enter_run_dir, explained, lock_run_dir
from mineonline.run.learner import build_learner
from mineonline.run.lightning_trainer import build_trainer
from mineonline.run.loggers import build_loggers, check_loggers, close_loggers
from mineonline.run.resume import check_same_play
from mineonline.run.summary import print_summary
from mineonline.settings.checks import check_ranks
from mineonline.settings.config import Config, trainer_threads
from mineonline.settings.devices import check_device
from mineonline.settings.parsing import parse_config

_LAUNCHER_VARIABLE = "MINEONLINE_LAUNCHER"
"""In the environment of the ranks that rank 0 of a node starts: its process id."""


def train(
    settings: dict[str, Any],
    stop: StopRequest,
    *,
    overrides: Sequence[str] = (),
    learner_class: Callable[..., PPO] = PPO,
    callbacks: Sequence[lightning.Callback] = (),
) -> Path | None:
    """Train as `settings` (see `conf/config.yaml`) say, to the end or until asked to stop. Returns rank 0's run folder.

    `overrides`: the command line that `settings` come from, kept for a resume. MineonlineError for what the user can
    fix. SystemExit when `stop` was requested.
    """
    # MineStudio's default is in the temporary folder, and each collector has its own
    os.environ.setdefault(requirements.FOLDER_VARIABLE, str(requirements.home()))
    run_dir = choose_run_dir(settings)
    config = parse_config({**settings, "run_dir": None if run_dir is None else str(run_dir)})
    check_exported(config.policy)
    check_loggers(config)
    config = read_policy_files(config)
    trainer = build_trainer(config)
    # as Lightning has resolved it: on a CPU, 16-mixed becomes bf16-mixed, and collectors must act in the same
    resolved = {**config.trainer, "precision": trainer.precision}
    config = msgspec.structs.replace(config, trainer=resolved)
    rank = trainer.global_rank
    check_ranks(config, trainer.world_size)
    if rank == 0 and config.collector.count > 0:
        check_device("collector.device", config.collector.device)
        check_ready(config.env)
    if config.checkpoint is not None:
        check_same_play(Path(config.checkpoint), config)
    spec = env_spec(config.env, config.played)
    learner = build_learner(config, spec, bad_batch_file=Path("bad_batch.pt"), learner_class=learner_class)
    resume_at = _check_resume(config, learner)
    if resume_at >= config.iterations:
        if rank == 0:
            print(f"{run_dir}: the run is complete ({resume_at} iterations). Give iterations=<more> to continue it.")
        return run_dir
    _settle_in(config, rank)
    tolerance = TolerateLoggers()
    with ExitStack() as stack:
        if rank == 0:
            assert run_dir is not None
            with explained(run_dir):
                lock_run_dir(stack, run_dir)
                create_run_dir(run_dir, msgspec.to_builtins(config), list(overrides), config.checkpoint)
            enter_run_dir(stack, run_dir, rank)
            loggers: list[Logger] = []
            stack.push(lambda *failure: close_loggers(loggers, *failure))
            loggers.extend(build_loggers(config, run_dir, resume_at, tolerance))
            trainer.loggers = loggers
        started = time.monotonic()
        datamodule = connect(stack, config, run_dir, trainer, learner, spec, stop, [tolerance, *callbacks])
        trainer.fit(learner, datamodule=datamodule, ckpt_path=config.checkpoint, weights_only=True)
    if run_dir is not None and rank == 0:
        with explained(run_dir):
            # when another rank was asked to stop, which ends all of them, this one does not know with which signal
            asked = stop.received or (signal.SIGTERM if datamodule.stopped else None)
            _conclude(run_dir, trainer, learner, asked, wall_s=time.monotonic() - started)
    return run_dir


def _check_resume(config: Config, learner: PPO) -> int:
    """The iteration that the run continues from. CheckpointError if `learner` does not fit its checkpoint."""
    if config.checkpoint is None:
        return 0
    checkpoint = Path(config.checkpoint)
    read_policy_state(checkpoint, learner.policy)
    check_resumes(checkpoint, learner)
    return read_iteration(checkpoint)


def _settle_in(config: Config, rank: int) -> None:
    """Set up this process: the parent it ends with, its threads and random numbers."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started it
        die_with_parent(os.getppid())
    elif "LOCAL_RANK" in os.environ:  # rank 0 of its node has, and may have ended since
        die_with_parent(int(os.environ.get(_LAUNCHER_VARIABLE, os.getppid())))
    else:
        os.environ[_LAUNCHER_VARIABLE] = str(os.getpid())
    torch.set_num_threads(trainer_threads(config))
    lightning.seed_everything(config.seed + rank, verbose=False)


def _conclude(
    run_dir: Path, trainer: lightning.Trainer, learner: PPO, asked: signal.Signals | None, *, wall_s: float
) -> None:
    """For rank 0 only: SystemExit in another rank would look like a failure to Lightning.

    `asked`: the signal that asked the run to stop.
    """
    # a signal that comes while the last video is being recorded stops only that: the run is complete
    stopped = asked if learner.iteration < learner.iterations else None
    limit = limit_reached(trainer, learner) if stopped is None else None
    if stopped is None and limit is None:
        (run_dir / DONE_FILE).touch()
    print_summary(run_dir, learner.iteration, wall_s, stopped=stopped is not None, limit=limit)
    if stopped is not None:
        raise SystemExit(128 + stopped)
