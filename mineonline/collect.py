"""Entry point: `python -m mineonline.collect run=<run folder or address>` adds a collector to a run.

It joins, plays with the newest weights and sends what it sees, until the run is complete. When the trainer falls
silent, it tries to join again. Ctrl-C and SIGTERM end it in seconds.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType

from mineonline.processes import die_with_parent
from mineonline.supervisor import CONFIG_EXIT_CODE, LOG_VARIABLE, PARENT_VARIABLE

# torchrl's workers and this process wait for each other; how long is the watchdog's business
os.environ.setdefault("TORCHRL_WEIGHT_SYNC_TIMEOUT", "30")

import msgspec
import zmq
from torch import Tensor

from mineonline.config import Config
from mineonline.envs.build import build_env, env_spec, prepare
from mineonline.errors import CollectorError, ConfigError, MineonlineError
from mineonline.experience.collector import FragmentSender, Watchdog, Workers
from mineonline.experience.rollout import RolloutSettings
from mineonline.join import DONE_FILE, JOIN_FILE, Welcome, join
from mineonline.network import Keys, connect
from mineonline.policies.build import build_policy
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


class _RunComplete(Exception):
    """The trainer said that the run is complete."""


class _TrainerSilent(Exception):
    """Nothing was heard from the trainer for SILENCE_S."""


def main() -> None:
    """Join and collect until the run is complete."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    run = _parse(sys.argv[1:])
    for number in _LEAVING:
        signal.signal(number, _leave)
    parent = int(os.environ.get(PARENT_VARIABLE, "0"))
    if parent:
        die_with_parent(parent, _ORPHANED)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        while True:
            address, keys = _find(run)
            welcome = _join(context, run, address, keys)
            try:
                collect(context, welcome, keys)
            except _RunComplete:
                log.info("the run is complete")
                return
            except _TrainerSilent:
                log.warning("the trainer has been silent for %.0f s; joining again", SILENCE_S)
    except SystemExit as leaving:
        if parent and leaving.code == 128 + _ORPHANED and run.startswith("ipc://"):
            # the trainer was killed and cannot remove its socket folder
            shutil.rmtree(Path(run.removeprefix("ipc://")).parent, ignore_errors=True)
        raise
    finally:
        context.destroy(linger=0)


def collect(context: zmq.Context[zmq.Socket[bytes]], welcome: Welcome, keys: Keys | None) -> None:
    """Collect for the run that welcomed us. Raises when the run is complete or the trainer is silent."""
    config = msgspec.json.decode(welcome.config, type=Config)
    prepare(config)
    spec = env_spec(config)
    policy = build_policy(config, spec)
    collector = config.collector
    own_log = os.environ.get(LOG_VARIABLE)
    environments = collector.workers * collector.envs_per_worker
    settings = RolloutSettings(
        env_spec=spec,
        length=config.fragment.length,
        envs_per_worker=collector.envs_per_worker,
        first_env=welcome.collector_id * environments,
        seed=config.seed,
        device=collector.device,
        torch_threads=collector.torch_threads,
        worker_log=Path(own_log) if own_log else None,
    )
    log.info("joined run %s as collector %d", welcome.run_id[:8], welcome.collector_id)
    with ExitStack() as stack:
        subscriber = WeightsSubscriber(
            context, welcome.weights, keys, run_id=welcome.run_id, schema=weights_schema(policy.state_dict())
        )
        stack.callback(subscriber.close)
        push = connect(context, zmq.PUSH, list(welcome.experience), keys, {zmq.SNDHWM: 1, zmq.IMMEDIATE: 1})
        stack.callback(push.close, 0)
        watchdog = Watchdog()
        stack.callback(watchdog.close)
        watchdog.feed(collector.start_timeout_s)
        workers = stack.enter_context(Workers(partial(build_env, config), policy, settings, workers=collector.workers))
        sender = FragmentSender(
            push, run_id=welcome.run_id, collector_id=welcome.collector_id, schema=settings.schema(policy),
            statistics=spec.statistics, task=config.task.name if config.task else "", environments=environments,
        )  # fmt: skip
        limit_s = collector.start_timeout_s + config.fragment.length * collector.step_timeout_s

        def alive() -> None:
            watchdog.feed(limit_s)
            weights = subscriber.newest()
            if weights is not None and weights.done:
                raise _RunComplete
            if weights is not None:
                pending.append(weights.tensors)
            if time.monotonic() - subscriber.last_heard > SILENCE_S:
                raise _TrainerSilent

        pending: list[dict[str, Tensor]] = []
        while not pending:  # the first weights
            alive()
            time.sleep(0.05)
        workers.update_weights(pending.pop())
        for batch in workers:
            sender.send(batch, alive)
            alive()
            if pending:
                workers.update_weights(pending[-1])
                pending.clear()


def _parse(arguments: list[str]) -> str:
    key, _, value = arguments[0].partition("=") if len(arguments) == 1 else ("", "", "")
    if key != "run" or not value:
        raise ConfigError(
            "usage: python -m mineonline.collect run=<run folder>, or run=tcp://<host>:<port>, or run=ipc://<path>"
        )
    return value


def _find(run: str) -> tuple[str, Keys | None]:
    """Where to join, and with which keys. Waits for the run folder's address file."""
    if "://" in run:
        run_dir = os.environ.get("MINEONLINE_RUN_DIR")
        return run, Keys.load(Path(run_dir)) if run_dir else None
    folder = Path(run)
    if not folder.is_dir():
        raise ConfigError(f"run={run}: there is no such run folder.")
    if (folder / DONE_FILE).exists():
        raise ConfigError(f"run={run} is complete: there is nothing left to collect for.")
    os.environ["MINEONLINE_RUN_DIR"] = str(folder.absolute())
    deadline = time.monotonic() + JOIN_PATIENCE_S
    while not (folder / JOIN_FILE).exists():
        if time.monotonic() > deadline:
            raise ConfigError(f"run={run}: no trainer has written {JOIN_FILE} there in {JOIN_PATIENCE_S:.0f} s.")
        time.sleep(0.5)
    return (folder / JOIN_FILE).read_text(), Keys.load(folder)


def _join(context: zmq.Context[zmq.Socket[bytes]], run: str, address: str, keys: Keys | None) -> Welcome:
    deadline = time.monotonic() + JOIN_PATIENCE_S
    while time.monotonic() < deadline:
        welcome = join(context, address, keys, timeout_s=5.0)
        if welcome is not None:
            return welcome
        log.info("no answer from %s yet", address)
        address, keys = _find(run)
    raise ConfigError(f"run={run}: nobody has answered at {address} for {JOIN_PATIENCE_S:.0f} s.")


def _leave(number: int, frame: FrameType | None) -> None:
    # once: a dying parent sends its signal once a thread, and the next ones would break the way out
    for each in _LEAVING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    try:
        main()
    except MineonlineError as error:
        print(f"error: {error}", file=sys.stderr)
        # a worker that died may live next time; anything else would only repeat itself
        sys.exit(1 if isinstance(error, CollectorError) else CONFIG_EXIT_CODE)
