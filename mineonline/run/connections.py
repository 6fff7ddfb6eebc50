"""A rank's ends of both paths, and what only rank 0 has: opened, connected, and closed in order.

receiver ──▶ buffer ──▶ datamodule ──▶ learner ──▶ publisher (rank 0)
Rank 0 also lets collectors join, and starts and restarts those of this machine.
"""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import lightning
import msgspec
import torch

from mineonline.callbacks.checkpoints import SaveCheckpoints
from mineonline.callbacks.connections import AnnounceRun, PublishWeights
from mineonline.callbacks.curve import DrawCurve
from mineonline.callbacks.env_failures import EnvFailures
from mineonline.callbacks.live_view import BeginView, LiveView, Watched
from mineonline.callbacks.statistics import Statistics
from mineonline.callbacks.stopping import StopOnSignal
from mineonline.callbacks.task_statistics import TaskStatistics
from mineonline.callbacks.videos import RecordVideos
from mineonline.envs.contract import EnvSpec
from mineonline.experience.buffer import Batch, FragmentBuffer, MemoryStorage, check_silence
from mineonline.experience.datamodule import OnlineDataModule
from mineonline.experience.disk_storage import DiskStorage
from mineonline.experience.wire import Receiver
from mineonline.fragment import TensorField
from mineonline.learning.module import PPO
from mineonline.policies.actor import Actor
from mineonline.processes.join import JOIN_FILE, Admissions, JoinServer, Refusal, Request, Welcome
from mineonline.processes.sockets import Network
from mineonline.processes.stopping import StopRequest
from mineonline.processes.supervisor import LocalCollectors
from mineonline.run.attendance import Attendance, Roster, command_to_add, how_to_add_one
from mineonline.run.folder import CONFIG_FILE, CURVE_FILE, enter_run_dir
from mineonline.run.meeting import Place, Rendezvous, meet
from mineonline.settings.config import Config
from mineonline.weights.publisher import WeightsPublisher


def connect(
    stack: ExitStack, config: Config, run_dir: Path | None, trainer: lightning.Trainer, learner: PPO, spec: EnvSpec,
    stop: StopRequest, callbacks: Sequence[lightning.Callback] = (),
) -> OnlineDataModule:  # fmt: skip
    """What gives the trainer its batches. `callbacks`: the user's. `stack` closes everything, newest first.

    Rank 0 opens its ends of both paths now: its errors come before any rank waits, and its collectors start while the
    other ranks do. The others open theirs in `fit`, when they have met rank 0. `run_dir` is for rank 0.
    """
    host = config.network.host
    place = take = None
    if trainer.is_global_zero:
        assert run_dir is not None
        network = stack.enter_context(Network(host, run_dir))
        sockets = None if network.folder is None else str(network.folder)
        settings = msgspec.json.decode(msgspec.json.encode(config))
        place = Place(str(run_dir), secrets.token_hex(16), sockets, network.keys, settings)
        take = _open_ends(stack, config, place, network, trainer, learner, spec, stop, callbacks)
    # the first thing to close: the ranks no longer wait for each other
    rendezvous = stack.enter_context(Rendezvous(trainer, config.network.ranks_timeout_s))

    def connect_rank() -> Callable[[], Batch | None]:
        met = meet(trainer, place, config)
        rendezvous.end()
        if take is not None:
            return take
        folder = None if met.sockets is None else Path(met.sockets)
        enter_run_dir(stack, Path(met.run_dir), trainer.global_rank)
        network = stack.enter_context(Network(host, Path(met.run_dir), folder=folder, keys=met.keys))
        return _open_ends(stack, config, met, network, trainer, learner, spec, stop, callbacks)

    return OnlineDataModule(connect_rank, config.iterations)


def _open_ends(
    stack: ExitStack, config: Config, place: Place, network: Network, trainer: lightning.Trainer, learner: PPO,
    spec: EnvSpec, stop: StopRequest, users: Sequence[lightning.Callback],
) -> Callable[[], Batch | None]:  # fmt: skip
    """Open this rank's ends, and give the trainer its callbacks. Returns what takes the next batch."""
    rank, run_dir, run_id = trainer.global_rank, Path(place.run_dir), place.run_id
    learner.bad_batch_file = run_dir / f"bad_batch-{rank}.pt"
    fragments = config.buffer.fragments_per_iteration // trainer.world_size
    schema = Actor(learner.policy, learner.reference).schema(spec, config.fragment.length)
    buffer = _build_buffer(config, run_dir, schema, fragments, rank)
    receiver = Receiver(
        network, buffer, rank=rank, run_id=run_id, schema=schema, actions=dict(spec.action),
        statistics=spec.statistics, tasks=spec.tasks,
    )  # fmt: skip
    stack.callback(receiver.close)
    rank_zero = RankZero(stack, config, run_dir, network, run_id, buffer, fragments, stop) if rank == 0 else None
    saving = config.checkpointing
    checkpoints = SaveCheckpoints(
        run_dir / "checkpoints", every=saving.every, keep_every=saving.keep_every, on_error=saving.on_error
    )
    trainer.callbacks += _callbacks(  # type: ignore[attr-defined]
        stack, config, run_dir, learner, spec, stop, receiver, rank_zero, checkpoints, users
    )
    # the first thing to close: when another rank was killed, Lightning kills this one within seconds
    stack.callback(network.remove_folder)
    at_start = buffer.last_arrival

    def give_up() -> bool:
        """True if this rank was asked to stop. Raises what failed in the background."""
        receiver.check()
        buffer.check_finite(config.optimizer.max_bad_steps)
        if rank_zero is not None:
            rank_zero.check()
        if config.collector.count > 0 or buffer.last_arrival > at_start:
            check_silence(buffer.silent_s, config.buffer.silence_s, f"The collectors' logs are in {run_dir}/logs.")
        if stop.received is not None and rank == 0:
            stop.pass_on(trainer)
        return stop.received is not None

    def take() -> Batch | None:
        checkpoints.save_due(trainer)  # now that Lightning has logged the previous iteration
        return None if give_up() else buffer.take(fragments, learner.version, give_up)

    return take


class RankZero:
    """What only rank 0 has: the join server, the publisher and this machine's collectors."""

    def __init__(
        self, stack: ExitStack, config: Config, run_dir: Path, network: Network, run_id: str, buffer: FragmentBuffer,
        fragments: int, stop: StopRequest,
    ) -> None:  # fmt: skip
        """`fragments`: of an iteration of this rank."""
        self._config = config
        self._run_dir = run_dir
        self._run_id = run_id
        add_collector = command_to_add(run_dir)
        self._join_server = JoinServer(network, config.network.port)
        self._admissions = Admissions()
        stack.callback(self._join_server.close)
        self._attendance = Attendance(add_collector, stop)
        self._collectors = LocalCollectors(
            config.collector.count, self._join_server.address, run_dir,
            spare=config.collector.spare, start_timeout_s=config.collector.start_timeout_s,
            max_failures=config.collector.max_failures, is_present=lambda pid: self._roster.is_present(pid),
            last_arrival=lambda: buffer.last_arrival,
        )  # fmt: skip
        self._roster = Roster(self._collectors, self._admissions, buffer, run_dir / "logs")
        self.watched = Watched(run_dir, config, buffer, fragments, self._roster.collectors, add_collector)
        self.publisher = WeightsPublisher(network, run_id, attendance=self._present)
        stack.callback(self.publisher.close)
        stack.callback(self._attendance.close)
        stack.push(self._collectors)  # first: a signal may come as soon as their thread has started
        self._collectors.__enter__()

    @property
    def restarts(self) -> int:
        """How often a collector of this machine was replaced, or the workers of any collector were, so far."""
        return self._collectors.restarts + self._admissions.restarts

    def check(self) -> None:
        """Raises what failed in the background."""
        self._collectors.check()
        self._join_server.check()

    def announce(self, experience: tuple[str, ...], largest_frame: int, *, iteration: int) -> None:
        """Let collectors join. All ranks must listen, at the addresses `experience`; the run starts at `iteration`."""
        config = msgspec.json.encode(self._config).decode()
        # ids decide seeds: a resumed run must not play its first episodes again
        self._admissions.first_id = 1000 * iteration

        def answer(request: Request) -> Welcome | Refusal:
            reason = self._refuses(request)
            if reason is not None:
                return Refusal(reason)
            collector_id = self._admissions.number(request)
            return Welcome(self._run_id, collector_id, config, experience, self.publisher.address, largest_frame)

        self._join_server.open(answer, self._run_dir / JOIN_FILE)
        self._collectors.may_join()
        if self._config.collector.count == 0:
            print(
                f"collector.count=0: waiting for collectors. {how_to_add_one(self.watched.add_collector)}",
                file=sys.stderr, flush=True,
            )  # fmt: skip

    def _present(self, topics: frozenset[bytes]) -> None:
        self._roster.present = topics
        if self._config.collector.count == 0:  # those of its own are replaced, and the supervisor says so
            self._attendance.changed(len(topics))

    def _refuses(self, request: Request) -> str | None:
        ours = request.host == socket.gethostname() and request.pid in self._collectors.pids
        if self._config.collector.mode == "lockstep" and not ours:
            return "in lockstep (collector.mode) a run has the collectors that its trainer starts, and no others."
        return None


def _callbacks(
    stack: ExitStack, config: Config, run_dir: Path, learner: PPO, spec: EnvSpec, stop: StopRequest, receiver: Receiver,
    rank_zero: RankZero | None, checkpoints: SaveCheckpoints, users: Sequence[lightning.Callback],
) -> list[lightning.Callback]:  # fmt: skip
    def announce(addresses: tuple[str, ...]) -> None:
        if rank_zero is not None:
            rank_zero.announce(addresses, receiver.largest_frame, iteration=learner.iteration)

    tasks = TaskStatistics(spec.tasks, config.all_tasks) if spec.tasks else None
    statistics = Statistics(
        spec.statistics, lambda: rank_zero.restarts if rank_zero else 0, task=config.task, tasks=tasks
    )
    failures = EnvFailures(run_dir / "logs")
    view = [stack.enter_context(LiveView(rank_zero.watched, statistics, failures, stop))] if rank_zero else []
    return [
        statistics,
        failures,
        AnnounceRun(receiver.address, announce),
        checkpoints,  # before collectors are told that the run is complete
        *([PublishWeights(rank_zero.publisher, stop, getattr(torch, config.weights.dtype))] if rank_zero else []),
        *view,
        DrawCurve(run_dir, run_dir / CURVE_FILE),
        RecordVideos(run_dir, run_dir / CONFIG_FILE, config.video.every, stop, tuple(config.tasks)),
        StopOnSignal(stop),  # last: at the end of training, a signal must not cut the others short
        *users,
        *map(BeginView, view),
    ]


def _build_buffer(
    config: Config, run_dir: Path, schema: tuple[TensorField, ...], fragments: int, rank: int
) -> FragmentBuffer:
    capacity = config.buffer.capacity or fragments
    return FragmentBuffer(
        capacity=capacity,
        # in lockstep, what is left of a collector that was replaced must not be learnt from later
        max_staleness=0 if config.collector.mode == "lockstep" else config.buffer.max_staleness,
        max_reuse=config.buffer.max_reuse,
        seed=config.seed + rank,
        storage=DiskStorage(run_dir, schema, capacity) if config.buffer.storage == "disk" else MemoryStorage(),
    )
