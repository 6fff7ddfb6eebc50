"""A relay: stands between the collectors of one node and the trainer, so that weights come to a node once.

    rank 0  XPUB  ──weights──▶ relay ──weights──▶ collectors of this node, over unix sockets
    ranks ROUTER ◀─fragments── relay ◀─fragments─

It passes everything on as it is: versions, answers, and which collectors are there. Collectors that find its address
in the run folder join through it by themselves (`joining.py`), also in the middle of a run. When it is gone, they join
the trainer directly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from mineonline.errors import ConfigError
from mineonline.experience.relay import ExperienceRelay
from mineonline.processes.join import JoinServer, Refusal, Request, RunComplete, TrainerGone, Welcome, join
from mineonline.processes.sockets import Keys, Network, listens
from mineonline.run.joining import REJOIN_AFTER_S, Joiner, relay_file
from mineonline.settings.arguments import RelayArguments
from mineonline.weights.publisher import WeightsPublisher
from mineonline.weights.subscriber import Presence, Weights, WeightsInbox, WeightsSubscriber

log = logging.getLogger("mineonline.relay")

_LOOK_EVERY_S = 0.2
_ANSWER_WITHIN_S = 2.0
"""For rank 0 to answer a collector: less than the collector waits."""


def relay_for_run(arguments: RelayArguments) -> None:
    """Relay for the collectors of this node until the run is complete. Joins again whenever the trainer is gone.

    ConfigError if there is no such run folder, or this node has another relay for it.
    """
    if "://" in arguments.run:
        raise ConfigError(f"run={arguments.run}: a relay needs the run folder, where collectors find it. Give that.")
    file = relay_file(Path(arguments.run))
    _check_alone(file)
    joiner = Joiner(arguments.run, None, relay=True)
    while True:
        try:
            with ExitStack() as stack:
                network = stack.enter_context(Network(None, Path(arguments.run)))
                welcome, keys = joiner.join(network.context)
                _check_alone(file)
                _relay(stack, network, joiner, welcome, keys, file)
        except RunComplete:
            log.info("the run is complete")
            return
        except TrainerGone as reason:
            log.warning("%s; joining again", reason)
            time.sleep(REJOIN_AFTER_S)


def _relay(stack: ExitStack, network: Network, joiner: Joiner, welcome: Welcome, keys: Keys | None, file: Path) -> None:
    """Relay for this trainer until RunComplete or TrainerGone is raised."""
    presence = Presence(network.context)
    stack.callback(presence.close)
    present: list[frozenset[bytes]] = [frozenset()]

    def attendance(collectors: frozenset[bytes]) -> None:
        present[0] = collectors

    publisher = WeightsPublisher(network, welcome.run_id, attendance=attendance)
    stack.callback(publisher.close)
    experience = ExperienceRelay(network, welcome.experience, keys, largest_frame=welcome.largest_frame)
    stack.callback(experience.close)
    subscriber = WeightsSubscriber(network.context, welcome.weights, keys, run_id=welcome.run_id, model=None)
    stack.callback(subscriber.close)
    inbox = WeightsInbox(subscriber, lambda: joiner.has_moved)
    here = msgspec.structs.replace(welcome, experience=experience.addresses, weights=publisher.address)
    join_server = JoinServer(network)
    stack.callback(join_server.close)
    file.parent.mkdir(exist_ok=True)
    join_server.open(_passing_on(network, joiner.address, keys, here), file)
    log.info("relays run %s for the collectors of this node", welcome.run_id[:8])
    newest: Weights | None = None
    while True:
        experience.check()
        join_server.check()
        if not join_server.is_current:
            raise ConfigError(f"{file}: another relay has taken the place of this one.")
        presence.show(welcome.weights, keys, present[0])
        try:
            weights = inbox.take(_LOOK_EVERY_S)
        except RunComplete:
            if newest is not None:
                _publish(publisher, newest, done=True)
            raise
        if weights is not None:
            newest = weights.over(newest)
            _publish(publisher, newest)


def _check_alone(file: Path) -> None:
    with suppress(FileNotFoundError):
        if listens(file.read_text()):
            raise ConfigError(f"{file}: this node has a relay for this run already, and needs no other.")


def _publish(publisher: WeightsPublisher, weights: Weights, *, done: bool = False) -> None:
    publisher.publish(
        weights.version, weights.moving, constant=weights.constant, constant_version=weights.constant_version, done=done
    )


def _passing_on(
    network: Network, address: str, keys: Keys | None, here: Welcome
) -> Callable[[Request], Welcome | Refusal | None]:
    """Passes a collector's request on to rank 0, and its answer back with the relay's own addresses."""

    def answer(request: Request) -> Welcome | Refusal | None:
        reply = join(network.context, address, keys, request, timeout_s=_ANSWER_WITHIN_S)
        if isinstance(reply, Welcome):
            return msgspec.structs.replace(reply, experience=here.experience, weights=here.weights)
        return reply

    return answer
