"""Entry point: `python -m mineonline.collect run=<run folder or address>` adds a collector to a run.

It joins, plays with the newest weights and sends what it sees, until the run is complete. When the trainer falls
silent, it tries to join again. Ctrl-C and SIGTERM end it in seconds.

With `checkpoint=<file> record=<folder> fragments=<number>` it plays by itself and writes to disk: record.py.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from mineonline.processes import begin_logging, die_with_parent, own_temporary_folder, show_run_dir
from mineonline.supervisor import CONFIG_EXIT_CODE, LOG_VARIABLE, PARENT_VARIABLE

# torchrl's workers and this process wait for each other; how long is the watchdog's business
os.environ.setdefault("TORCHRL_WEIGHT_SYNC_TIMEOUT", "30")

import msgspec
import zmq
from torch import Tensor

from mineonline.config import Config
from mineonline.devices import check_device
from mineonline.envs.build import build_env, env_spec, is_staggered, prepare
from mineonline.envs.contract import EnvSpec
from mineonline.envs.minestudio.requirements import FOLDER_VARIABLE, home
from mineonline.errors import CollectorError, ConfigError, MineonlineError, WireError
from mineonline.experience.collector import FragmentSender, Watchdog, Workers
from mineonline.experience.links import RankLinks
from mineonline.experience.rollout import RolloutSettings
from mineonline.join import DONE_FILE, JOIN_FILE, Welcome, join
from mineonline.network import KEYS_FILE, Keys
from mineonline.policies.build import build_actor
from mineonline.record import RecordArguments, record
from mineonline.weights.message import weights_schema
from mineonline.weights.subscriber import WeightsSubscriber

log = logging.getLogger("mineonline.collect")

SILENCE_S = 60.0
"""A trainer that has not been heard for so long is gone; the publisher speaks every 5 s."""
JOIN_PATIENCE_S = 600.0
"""How long to ask for a trainer that does not answer."""


_ORPHANED = signal.SIGHUP
"""What the kernel sends when the trainer that started this collector dies."""
_LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


USAGE = """usage: python -m mineonline.collect run=<run folder>
       python -m mineonline.collect run=tcp://<host>:<port> keys=<keys.json of the run folder>
           adds a collector to a run
       python -m mineonline.collect checkpoint=<file> record=<new folder> fragments=<number> [seed=...] [device=...]
           lets a checkpoint's policy play, and writes what it does to disk"""


class _RunComplete(Exception):
    """The trainer said that the run is complete."""


class _TrainerGone(Exception):
    """The trainer is silent, or another one has taken its place."""


class Arguments(msgspec.Struct, frozen=True):
    """The command line."""

    run: str
    """Run folder, or the address that a trainer's join desk has (`tcp://<host>:<port>`, `ipc://<path>`)."""
    keys: str | None = None
    """`keys.json` of the run folder, where `run` is a tcp address."""


def main() -> None:
    """Collect for a run until it is complete, or record."""
    begin_logging()
    arguments = parse_arguments(sys.argv[1:])
    if isinstance(arguments, Arguments) and "://" not in arguments.run:
        show_run_dir(Path(arguments.run).absolute(), "mineonline.collect")
    for number in _LEAVING:
        signal.signal(number, _leave)
    # MineStudio's default lies in the temporary folder, which becomes this process's own
    os.environ.setdefault(FOLDER_VARIABLE, str(home()))
    if isinstance(arguments, RecordArguments):
        own_temporary_folder()
        record(arguments)
    else:
        collect_for_run(arguments)


def collect_for_run(arguments: Arguments) -> None:
    """Join and collect, again and again, until the run is complete."""
    parent = int(os.environ.get(PARENT_VARIABLE, "0"))
    if parent:
        die_with_parent(parent, _ORPHANED)
    own_temporary_folder(given=bool(parent))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        while True:
            try:
                address, keys = find_desk(arguments)
                welcome = _join(context, arguments, address, keys)
                collect(context, welcome, keys, moved=partial(_has_moved, arguments, address))
            except _RunComplete:
                log.info("the run is complete")
                return
            except _TrainerGone as reason:
                log.warning("%s; joining again", reason)
                time.sleep(1.0)
    except SystemExit as leaving:
        if parent and leaving.code == 128 + _ORPHANED and arguments.run.startswith("ipc://"):
            # the trainer was killed and cannot remove its socket folder
            shutil.rmtree(Path(arguments.run.removeprefix("ipc://")).parent, ignore_errors=True)
        raise
    finally:
        context.destroy(linger=0)


def collect(
    context: zmq.Context[zmq.Socket[bytes]], welcome: Welcome, keys: Keys | None, moved: Callable[[], bool]
) -> None:
    """Collect for the run that welcomed us, until the run is complete or the trainer is gone, which are raised.

    `moved`: whether the run's trainer listens elsewhere now; asked once a second.
    """
    config = msgspec.json.decode(welcome.config, type=Config)
    check_device("collector.device", config.collector.device)
    log.info("joined run %s as collector %d", welcome.run_id[:8], welcome.collector_id)
    prepare(config)
    spec = env_spec(config)
    actor = build_actor(config, spec)
    collector = config.collector
    environments = collector.workers * collector.envs_per_worker
    settings = _rollout_settings(config, spec, first_env=welcome.collector_id * environments)
    log.info("starting %d environments", environments)
    with ExitStack() as stack:
        state = actor.parts()
        subscriber = WeightsSubscriber(
            context, welcome.weights, keys, run_id=welcome.run_id,
            schema=weights_schema(state.policy), constant=weights_schema(state.reference),
        )  # fmt: skip
        stack.callback(subscriber.close)
        links = RankLinks(context, welcome.experience, keys)
        stack.callback(links.close)
        watchdog = Watchdog()
        stack.callback(watchdog.close)
        watchdog.feed(collector.start_timeout_s)
        workers = stack.enter_context(Workers(partial(build_env, config), actor, settings, workers=collector.workers))
        sender = FragmentSender(
            links, run_id=welcome.run_id, collector_id=welcome.collector_id, schema=settings.schema(actor),
            staggered=is_staggered(config),
            statistics=spec.statistics, task=config.task.name if config.task else "", environments=environments,
        )  # fmt: skip
        newest = _Newest(subscriber, moved)

        def alive() -> None:
            watchdog.feed(collector.batch_timeout_s)
            newest.look()

        while newest.tensors is None:
            newest.look()
            time.sleep(0.05)
        lockstep = None
        if collector.mode == "lockstep":
            share = config.buffer.fragments_per_iteration // (collector.count * environments)
            lockstep = _Lockstep(share, alive)
        for batch in _with_newest_weights(workers, newest, lockstep):
            sender.send(batch, alive)
            alive()


def _rollout_settings(config: Config, spec: EnvSpec, *, first_env: int) -> RolloutSettings:
    collector = config.collector
    own_log = os.environ.get(LOG_VARIABLE)
    return RolloutSettings(
        env_spec=spec,
        length=config.fragment.length,
        envs_per_worker=collector.envs_per_worker,
        first_env=first_env,
        seed=config.seed,
        device=collector.device,
        torch_threads=collector.torch_threads,
        worker_log=Path(own_log) if own_log else None,
    )


class _Lockstep(NamedTuple):
    """Play as many batches with one version of the weights as an iteration learns from, then wait for the next."""

    batches: int
    wait: Callable[[], None]
    """Called while the next weights are not there; may raise to give up."""


def _with_newest_weights(workers: Workers, newest: _Newest, lockstep: _Lockstep | None) -> Iterator[dict[str, Tensor]]:
    """Batches of fragments; new weights are applied between them."""
    batches = iter(workers)
    for number in itertools.count():
        while lockstep is not None and number % lockstep.batches == 0 and newest.tensors is None:
            lockstep.wait()
            time.sleep(0.002)
        if newest.tensors is not None:
            workers.update_weights(newest.tensors)
            newest.tensors = None
        yield next(batches)


class _Newest:
    """The newest weights that were not applied yet, and whether the trainer still is there."""

    def __init__(self, subscriber: WeightsSubscriber, moved: Callable[[], bool]) -> None:
        self._subscriber = subscriber
        self._moved = moved
        self._asked = time.monotonic()
        self.tensors: dict[str, Tensor] | None = None

    def look(self) -> None:
        """Fetch what has come; never waits. _RunComplete or _TrainerGone says that it is over."""
        try:
            weights = self._subscriber.newest()
        except WireError as error:  # another trainer listens at the same address
            raise _TrainerGone(str(error)) from None
        if weights is not None and weights.done:
            raise _RunComplete
        if weights is not None:
            # what did not change is left out
            self.tensors = {**(self.tensors or {}), **weights.tensors}
        now = time.monotonic()
        if now - self._subscriber.last_heard > SILENCE_S:
            raise _TrainerGone(f"the trainer has been silent for {SILENCE_S:.0f} s")
        if now - self._asked > 1.0:
            self._asked = now
            if self._moved():
                raise _TrainerGone("the trainer has left, or another one has taken its place")


def parse_arguments(words: list[str]) -> Arguments | RecordArguments:
    """ConfigError says how the program wants to be called."""
    values = dict(word.partition("=")[::2] for word in words)
    way: type[Arguments | RecordArguments] = Arguments if "run" in values else RecordArguments
    required = [field.name for field in msgspec.structs.fields(way) if field.required]
    unknown = set(values) - set(way.__struct_fields__)
    if unknown or not all(values.get(name) for name in required):
        wrong = f"{min(unknown)}: there is no such key.\n" if unknown and "" not in values else ""
        raise ConfigError(f"{wrong}{USAGE}")
    try:
        arguments: Arguments | RecordArguments = msgspec.convert(values, way, strict=False)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        key = path.strip("`$.")
        raise ConfigError(f"{key}={values[key]}: {text[0].lower()}{text[1:]}.") from None
    if isinstance(arguments, RecordArguments) and arguments.fragments < 1:
        raise ConfigError(f"fragments={arguments.fragments}: must be at least 1.")
    return arguments


def find_desk(arguments: Arguments) -> tuple[str, Keys | None]:
    """Where to join, and with which keys. Waits for the run folder's address file, at most JOIN_PATIENCE_S."""
    run = arguments.run
    if "://" in run:
        keys = Keys.load(Path(arguments.keys)) if arguments.keys else None
        if run.startswith("tcp://") and keys is None:
            raise ConfigError(
                f"run={run}: add keys=<{KEYS_FILE} of the run folder>; without it the trainer stays silent."
            )
        return run, keys
    folder = Path(run)
    if not folder.is_dir():
        raise ConfigError(f"run={run}: there is no such run folder.")
    deadline = time.monotonic() + JOIN_PATIENCE_S
    while True:
        if (folder / DONE_FILE).exists():
            raise _RunComplete
        with suppress(FileNotFoundError):
            return (folder / JOIN_FILE).read_text(), Keys.load(folder / KEYS_FILE)
        if time.monotonic() > deadline:
            raise ConfigError(f"run={run}: no trainer has written {JOIN_FILE} there in {JOIN_PATIENCE_S:.0f} s.")
        time.sleep(0.5)


def _has_moved(arguments: Arguments, address: str) -> bool:
    if "://" in arguments.run:
        return False
    try:
        return (Path(arguments.run) / JOIN_FILE).read_text() != address
    except FileNotFoundError:
        return True


def _join(context: zmq.Context[zmq.Socket[bytes]], arguments: Arguments, address: str, keys: Keys | None) -> Welcome:
    deadline = time.monotonic() + JOIN_PATIENCE_S
    while time.monotonic() < deadline:
        welcome = join(context, address, keys, timeout_s=5.0)
        if welcome is not None:
            return welcome
        log.info("no answer from %s yet", address)
        address, keys = find_desk(arguments)
    raise ConfigError(f"run={arguments.run}: nobody has answered at {address} for {JOIN_PATIENCE_S:.0f} s.")


def _leave(number: int, frame: FrameType | None) -> None:
    # a dying parent sends its signal once a thread, and the next ones would break the way out; a user who asks again
    # wants to leave at once
    signal.signal(_ORPHANED, signal.SIG_IGN)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _leave_at_once)
    raise SystemExit(128 + number)


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    try:
        main()
    except MineonlineError as error:
        print(f"error: {error}", file=sys.stderr)
        # a worker that died may live next time; anything else would only repeat itself
        sys.exit(1 if isinstance(error, CollectorError) else CONFIG_EXIT_CODE)
