"""The trainer process: builds every part of a run, connects them, and runs Lightning's fit.

One of these a rank. Rank 0 also has the join desk, the publisher and the collectors that this machine starts.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import msgspec
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from mineonline.callbacks.checkpoints import AtomicCheckpointIO, SaveCheckpoints
from mineonline.callbacks.connections import AnnounceRun, PublishWeights
from mineonline.callbacks.progress import Progress
from mineonline.callbacks.statistics import Statistics
from mineonline.callbacks.stopping import StopOnSignal
from mineonline.callbacks.videos import RecordVideos
from mineonline.checkpoint_file import check_resumes, read_iteration, read_policy_state
from mineonline.config import Config, trainer_threads
from mineonline.config_parsing import check_shares, parse_config
from mineonline.devices import check_device
from mineonline.envs.build import check_ready, env_spec
from mineonline.envs.contract import EnvSpec
from mineonline.envs.minestudio import requirements
from mineonline.errors import ConfigError
from mineonline.experience.buffer import FragmentBuffer, check_silence
from mineonline.experience.datamodule import OnlineDataModule
from mineonline.experience.receiver import Receiver
from mineonline.experience.storage import DiskStorage, MemoryStorage
from mineonline.fragment import LeafSpec
from mineonline.join import DONE_FILE, JoinDesk, Welcome
from mineonline.learning.build import build_learner
from mineonline.learning.module import PPO
from mineonline.metrics import MetricsFile
from mineonline.network import Network
from mineonline.policies.actor import Actor
from mineonline.policies.build import read_policy_files
from mineonline.processes import RUN_DIR_VARIABLE, die_with_parent
from mineonline.run_folder import choose_run_dir, create_run_dir, wandb_id
from mineonline.stopping import StopRequest
from mineonline.summary import print_summary
from mineonline.supervisor import LocalCollectors
from mineonline.weights.publisher import WeightsPublisher

log = logging.getLogger(__name__)

_RUN_ID_VARIABLE = "MINEONLINE_RUN_ID"
_SOCKETS_VARIABLE = "MINEONLINE_SOCKETS"


def train(
    settings: dict[str, Any],
    stop: StopRequest,
    *,
    overrides: Sequence[str] = (),
    kind: Callable[..., PPO] = PPO,
    callbacks: Sequence[lightning.Callback] = (),
) -> None:
    """Train as `settings` (see `conf/config.yaml`) say, to the end or until asked to stop. `kind` makes the learner.

    MineonlineError: what the user can mend. SystemExit when `stop` was requested.
    """
    # MineStudio's default lies in the temporary folder, and collectors have one of their own
    os.environ.setdefault(requirements.FOLDER_VARIABLE, str(requirements.home()))
    run_dir = choose_run_dir(settings)
    config = read_policy_files(parse_config({**settings, "run_dir": str(run_dir)}))
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    trainer = _build_trainer(config)
    check_shares(config, trainer.world_size)
    if rank == 0 and config.collector.count > 0:
        check_device("collector.device", config.collector.device)
        check_ready(config)
    spec = env_spec(config)
    learner = build_learner(config, spec, bad_batch_file=run_dir / f"bad_batch-{rank}.pt", kind=kind)
    resume_at = 0
    if config.checkpoint:
        read_policy_state(Path(config.checkpoint), learner.policy)
        check_resumes(Path(config.checkpoint), learner)
        resume_at = read_iteration(Path(config.checkpoint))
    if rank == 0:
        create_run_dir(run_dir, msgspec.to_builtins(config), list(overrides), config.checkpoint)
    elif "LOCAL_RANK" in os.environ:
        die_with_parent(os.getppid())
    os.environ[RUN_DIR_VARIABLE] = str(run_dir)
    _log_to_file(run_dir / "logs" / f"trainer-{rank}.log")
    trainer.loggers = _build_loggers(config, run_dir, resume_at) if rank == 0 else []
    torch.set_num_threads(trainer_threads(config))
    lightning.seed_everything(config.seed + rank, verbose=False)
    began = time.monotonic()
    with ExitStack() as stack:
        datamodule = _connect(stack, config, run_dir, trainer, learner, spec, stop)
        trainer.callbacks += callbacks  # type: ignore[attr-defined]
        trainer.fit(learner, datamodule=datamodule, ckpt_path=config.checkpoint, weights_only=True)
    # a signal that comes while the last video is recorded stops nothing else
    stopped = stop.received is not None and learner.iteration < config.iterations
    if rank == 0:
        if not stopped:
            (run_dir / DONE_FILE).touch()
        print_summary(run_dir, learner.iteration, time.monotonic() - began, stopped=stopped)
    if stopped and rank == 0:  # of another rank Lightning would take it for a failure
        assert stop.received is not None
        raise SystemExit(128 + stop.received)


def _connect(
    stack: ExitStack,
    config: Config,
    run_dir: Path,
    trainer: lightning.Trainer,
    learner: PPO,
    spec: EnvSpec,
    stop: StopRequest,
) -> OnlineDataModule:
    """Open this rank's end of both paths; `stack` closes what was opened, last first."""
    rank = trainer.global_rank
    network = _open_network(stack, config, run_dir, rank)
    run_id = os.environ[_RUN_ID_VARIABLE]
    share = config.buffer.fragments_per_iteration // trainer.world_size
    schema = Actor(learner.policy, learner.reference).schema(spec, config.fragment.length)
    buffer = _build_buffer(config, run_dir, schema, share, rank)
    receiver = Receiver(
        network, buffer, rank=rank, run_id=run_id, schema=schema, actions=dict(spec.action), statistics=spec.statistics
    )
    stack.callback(receiver.close)
    centre = _open_centre(stack, config, run_dir, network, run_id, buffer, learner) if rank == 0 else None
    statistics = Statistics(spec.statistics, restarts=lambda: centre.collectors.restarts if centre else 0)
    checkpoints = SaveCheckpoints(
        run_dir / "checkpoints", every=config.checkpointing.every, keep_every=config.checkpointing.keep_every
    )
    trainer.callbacks += [  # type: ignore[attr-defined]
        statistics,
        AnnounceRun(receiver.address, centre.announce if centre else lambda addresses: None),
        *([PublishWeights(centre.publisher, stop)] if centre else []),
        checkpoints,
        Progress(statistics, run_dir / "logs", joined=lambda: centre.desk.joined if centre else 0),
        RecordVideos(run_dir, config.video.every, stop),
        StopOnSignal(stop),  # last: it lets the others end in peace
    ]
    # first of all on the way out: when another rank was killed, Lightning kills this one within seconds
    stack.callback(network.remove_folder)
    began = buffer.last_arrival

    def give_up() -> bool:
        receiver.check()
        buffer.check_finite(config.optimizer.max_bad_steps)
        if centre is not None:
            centre.collectors.check()
            centre.desk.check()
        if config.collector.count > 0 or buffer.last_arrival > began:
            check_silence(buffer.silent_s, config.buffer.silence_s, f"The collectors' logs are in {run_dir}/logs.")
        if stop.received is not None and rank == 0:
            stop.pass_on(trainer)
        return stop.received is not None

    return OnlineDataModule(
        buffer, iterations=config.iterations, share=share, version=lambda: learner.version, give_up=give_up,
        before_stop=lambda: checkpoints.save(trainer),
    )  # fmt: skip


def _open_network(stack: ExitStack, config: Config, run_dir: Path, rank: int) -> Network:
    """Rank 0 decides the run's id and the folder of its unix sockets; ranks that Lightning starts inherit them."""
    if rank == 0:
        # also what makes a message one of this run
        os.environ[_RUN_ID_VARIABLE] = secrets.token_hex(16)
    elif _RUN_ID_VARIABLE not in os.environ:
        raise ConfigError(
            f"rank {rank} was not started by rank 0. Start one process a node and give trainer.devices=<ranks>."
        )
    local = config.network.host is None
    folder = Path(os.environ[_SOCKETS_VARIABLE]) if rank > 0 and local else None
    network = stack.enter_context(Network(config.network.host, run_dir, folder=folder))
    if rank == 0 and local:
        os.environ[_SOCKETS_VARIABLE] = str(network.folder)
    return network


def _build_buffer(config: Config, run_dir: Path, schema: tuple[LeafSpec, ...], share: int, rank: int) -> FragmentBuffer:
    capacity = config.buffer.capacity or share
    return FragmentBuffer(
        capacity=capacity,
        max_staleness=config.buffer.max_staleness,
        max_reuse=config.buffer.max_reuse,
        seed=config.seed + rank,
        storage=DiskStorage(run_dir, schema, capacity) if config.buffer.storage == "disk" else MemoryStorage(),
    )


class _Centre(NamedTuple):
    """What only rank 0 has."""

    desk: JoinDesk
    publisher: WeightsPublisher
    collectors: LocalCollectors
    announce: Callable[[tuple[str, ...]], None]
    """Called with the addresses of all ranks' receivers when they listen: collectors may join from now on."""


def _open_centre(
    stack: ExitStack,
    config: Config,
    run_dir: Path,
    network: Network,
    run_id: str,
    buffer: FragmentBuffer,
    learner: PPO,
) -> _Centre:
    desk = JoinDesk(network, config.network.port)
    stack.callback(desk.close)
    publisher = WeightsPublisher(network, run_id)
    stack.callback(publisher.close)
    collectors = LocalCollectors(
        config.collector.count, desk.address, run_dir,
        max_failures=config.collector.max_failures, last_arrival=lambda: buffer.last_arrival,
    )  # fmt: skip
    stack.enter_context(collectors)
    encoded = msgspec.json.encode(config).decode()

    def announce(addresses: tuple[str, ...]) -> None:
        # a resumed run must not play the episodes of its beginning again: ids decide seeds
        first_id = 1000 * learner.iteration
        desk.open(lambda i: Welcome(run_id, first_id + i, encoded, addresses, publisher.address), run_dir)
        if config.collector.count == 0:
            print(
                "collector.count=0: waiting for collectors. Start them, here or on other machines, with\n"
                f"  python -m mineonline.collect run={run_dir}",
                file=sys.stderr, flush=True,
            )  # fmt: skip

    return _Centre(desk, publisher, collectors, announce)


def _build_trainer(config: Config) -> lightning.Trainer:
    """Lightning's Trainer. ConfigError for arguments that it does not take, and devices that are not there."""
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
        "plugins": [*(config.trainer.get("plugins") or []), AtomicCheckpointIO()],
    }
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    try:
        trainer = lightning.Trainer(**settings)
    except TypeError as error:
        raise ConfigError(f"trainer: {error}. Its keys are the arguments of lightning.Trainer.") from None
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(
            f"trainer.devices={settings['devices']}, trainer.accelerator={settings['accelerator']}: {error}"
        ) from None
    if (
        settings["accelerator"] == "auto"
        and isinstance(trainer.accelerator, CPUAccelerator)
        and trainer.num_devices > 1
    ):
        raise ConfigError(
            f"trainer.devices={settings['devices']}: this machine has no GPU. "
            "If you want that many trainer processes on its CPU, add trainer.accelerator=cpu."
        )
    return trainer


def _build_loggers(config: Config, run_dir: Path, resume_at: int) -> list[Logger]:
    loggers: list[Logger] = [MetricsFile(run_dir / "metrics.csv", resume_at=resume_at)]
    if "tensorboard" in config.logger:
        loggers.append(TensorBoardLogger(run_dir, name="", version="tensorboard"))
    if "wandb" in config.logger:
        import wandb

        # without credentials wandb would ask at a terminal; Lightning's own `offline` does not keep it from asking
        known = wandb.login(prompt=False, verify=False)
        loggers.append(
            WandbLogger(
                name=config.wandb.name or run_dir.name,
                save_dir=run_dir,
                id=wandb_id(run_dir),
                resume="allow",
                project=config.wandb.project,
                entity=config.wandb.entity,
                mode=None if known else "offline",
            )
        )
    return loggers


def _log_to_file(file: Path) -> None:
    """Logs and warnings of this process go to its file; our own warnings to the terminal too."""
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("mineonline").addHandler(terminal)
