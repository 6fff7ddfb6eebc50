"""Builds Lightning's Trainer from the settings."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import warnings
from collections.abc import Mapping
from typing import Any

import lightning
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator

from mineonline.callbacks.checkpoints import AtomicCheckpointIO
from mineonline.errors import ConfigError
from mineonline.processes.launchers import external_launch, meeting_point
from mineonline.settings.config import Config
from mineonline.settings.suggestions import suggest_key


def build_trainer(config: Config) -> lightning.Trainer:
    """ConfigError for arguments that Lightning's Trainer does not take, and for devices that do not exist."""
    settings: dict[str, Any] = {
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "logger": False,
        **config.trainer,
        "plugins": [*(config.trainer.get("plugins") or []), AtomicCheckpointIO(), *_cluster_environment()],
    }
    _check_arguments(config.trainer)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # what `trainer.profiler` has measured
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)
    # it advises srun wherever that is installed
    warnings.filterwarnings("ignore", "The `srun` command is available")
    try:
        trainer = lightning.Trainer(**settings)
    except (MisconfigurationException, TypeError, ValueError) as error:
        given = ", ".join(f"trainer.{name}={value}" for name, value in config.trainer.items())
        raise ConfigError(f"{given}: {' '.join(str(error).split())}") from None
    if (
        settings["accelerator"] == "auto"
        and isinstance(trainer.accelerator, CPUAccelerator)
        and trainer.num_devices > 1
    ):
        raise ConfigError(
            f"trainer.devices={settings['devices']}: this machine has no GPU. "
            "For that many trainer processes on its CPU, add trainer.accelerator=cpu."
        )
    _check_launch(settings, trainer)
    return trainer


def _check_arguments(given: Mapping[str, Any]) -> None:
    known = inspect.signature(lightning.Trainer).parameters
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            hint = f"Did you mean trainer.{close[0]}?" if close else suggest_key(f"trainer.{name}")
            raise ConfigError(f"trainer.{name}: lightning.Trainer has no such argument. {hint}")


def _cluster_environment() -> list[ClusterEnvironment]:
    """Inside a Slurm job: srun's tasks are the ranks, or without srun the trainer starts them itself."""
    if "SLURM_JOB_ID" not in os.environ or TorchElasticEnvironment.detect():
        return []  # Lightning chooses right
    if external_launch() is None:
        return [LightningEnvironment()]
    os.environ["MASTER_ADDR"], _ = meeting_point()
    try:
        # Lightning's own requeueing saves nothing when a job is preempted
        return [SLURMEnvironment(auto_requeue=False)]
    except RuntimeError as error:
        raise ConfigError(f"srun: {error}") from None


def _check_launch(settings: dict[str, Any], trainer: lightning.Trainer) -> None:
    launch = external_launch()
    if launch is None or (launch.ranks == trainer.world_size and launch.nodes == trainer.num_nodes):
        return
    per_node = launch.ranks // launch.nodes
    raise ConfigError(
        f"trainer.devices={settings['devices']} on trainer.num_nodes={settings['num_nodes']} makes "
        f"{trainer.world_size} trainer processes, but {launch.launcher} started {launch.ranks} on {launch.nodes} "
        f"nodes. Give trainer.devices={per_node} trainer.num_nodes={launch.nodes}, or start others."
    )
