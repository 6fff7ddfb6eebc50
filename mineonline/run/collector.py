"""A collector process: joins a run, plays with the newest weights and sends fragments, until the run is complete.

When the trainer is gone, or a worker was lost, it joins again. Ctrl-C or SIGTERM ends it within seconds.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import torch
import zmq
from torch import Tensor

from mineonline.envs.build import build_env, can_stagger, env_spec, prepare
from mineonline.envs.contract import EnvSpec
from mineonline.errors import CollectorError
from mineonline.experience.collector import FragmentSender, Workers, collect
from mineonline.experience.episodes import EpisodeScores
from mineonline.experience.rollout import RolloutSettings
from mineonline.experience.wire import RankLinks
from mineonline.policies.actor import Actor
from mineonline.policies.build import build_actor
from mineonline.processes.join import RunComplete, TrainerGone, Welcome
from mineonline.processes.pauses import pause_after
from mineonline.processes.sockets import Keys
from mineonline.processes.supervisor import LOG_VARIABLE
from mineonline.run.joining import REJOIN_AFTER_S, Joiner
from mineonline.settings.arguments import CollectArguments
from mineonline.settings.config import Config
from mineonline.settings.devices import check_device
from mineonline.weights.publisher import presence, weights_schema
from mineonline.weights.subscriber import Model, Presence, WeightsInbox, WeightsSubscriber

log = logging.getLogger("mineonline.collect")

_SHORT_LIFE_S = 60.0
"""Workers that end sooner than this after they were started make the pause before the next start longer."""
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True)
class _Crew:
    """The workers and what belongs to them. They survive their trainer if the next one asks for the same."""

    config: Config
    spec: EnvSpec
    actor: Actor
    settings: RolloutSettings
    workers: Workers
    episodes: EpisodeScores

    def suits(self, config: Config) -> bool:
        """Whether these workers can play for a trainer with this configuration."""
        alike = msgspec.structs.replace(config, checkpoint=self.config.checkpoint, iterations=self.config.iterations)
        # in lockstep the seed determines everything, and so nothing may be left from before
        return alike == self.config and config.collector.mode != "lockstep"


def collect_for_run(arguments: CollectArguments) -> None:
    """Join the run and collect for it, until the run is complete.

    Joins again whenever the trainer is gone, and when workers were lost that had played: a new collector id gives their
    successors new episodes. CollectorError if workers end before their first fragments are sent.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    present, stack = Presence(context), ExitStack()
    me = frozenset({presence(socket.gethostname(), os.getpid())})
    joiner = Joiner(arguments.run, arguments.keys)
    crew: _Crew | None = None
    lost, short_lives, pause_s = "", 0, 0.0
    try:
        while True:
            started = time.monotonic()
            try:
                time.sleep(pause_s)  # here, since a worker may end meanwhile
                pause_s, started = REJOIN_AFTER_S, time.monotonic()
                welcome, keys = joiner.join(context, lost)
                log.info("joined run %s as collector %d", welcome.run_id[:8], welcome.collector_id)
                present.show(welcome.weights, keys, me)
                lost = ""
                config = msgspec.json.decode(welcome.config, type=Config)
                if crew is None or not crew.suits(config):
                    crew = None
                    stack.close()
                    crew = _start_crew(stack, config, welcome.collector_id)
                play_for(context, welcome, keys, crew, moved=lambda: joiner.has_moved)
            except RunComplete:
                log.info("the run is complete")
                return
            except TrainerGone as reason:
                log.warning("%s; joining again", reason)
            except CollectorError as error:
                if crew is None or not crew.workers.played:
                    raise
                crew = None
                stack.close()  # first: the workers' error is raised again and again until it is
                log.error("%s", error)
                lost = str(error).partition("\n")[0]
                short_lives = short_lives + 1 if time.monotonic() - started < _SHORT_LIFE_S else 0
                pause_s = pause_after(short_lives, longest_s=_LONGEST_PAUSE_S)
    finally:
        stack.close()
        context.destroy(linger=0)


def _start_crew(stack: ExitStack, config: Config, collector_id: int) -> _Crew:
    collector = config.collector
    check_device("collector.device", collector.device)
    prepare(config.env)
    spec = env_spec(config.env, config.played)
    actor = build_actor(config, spec)
    environments = collector.workers * collector.envs_per_worker
    own_log = os.environ.get(LOG_VARIABLE)
    settings = rollout_settings(
        config, spec, first_env=collector_id * environments, collector_log=Path(own_log) if own_log else None,
        asynchronous=collector.mode == "async",
    )  # fmt: skip
    log.info("starting %d environments", environments)
    build = partial(
        build_env, config.env, config.played, seed=config.seed, own_pace=collector.mode == "async",
    )  # fmt: skip
    workers = Workers(
        build, actor, settings, workers=collector.workers,
        start_timeout_s=collector.start_timeout_s, batch_timeout_s=collector.batch_timeout_s,
    )  # fmt: skip
    stack.enter_context(workers)
    return _Crew(config, spec, actor, settings, workers, episode_scores(config, spec))


def play_for(
    context: zmq.Context[zmq.Socket[bytes]], welcome: Welcome, keys: Keys | None, crew: _Crew, moved: Callable[[], bool]
) -> None:
    """Play for the run that sent `welcome`, until RunComplete, TrainerGone or an error of the workers is raised.

    `moved`: whether the run's trainer now listens at another address; asked once a second.
    """
    config = crew.config
    environments = config.collector.workers * config.collector.envs_per_worker
    with ExitStack() as stack:
        state = crew.actor.parts(getattr(torch, config.weights.dtype))
        subscriber = WeightsSubscriber(
            context, welcome.weights, keys, run_id=welcome.run_id,
            model=Model(weights_schema(state.policy), weights_schema(state.reference)),
        )  # fmt: skip
        stack.callback(subscriber.close)
        links = RankLinks(context, welcome.experience, keys)
        stack.callback(links.close)
        inbox = WeightsInbox(subscriber, moved)
        sender = FragmentSender(
            links, crew.episodes, run_id=welcome.run_id, collector_id=welcome.collector_id,
            schema=crew.settings.schema(crew.actor), first_env=welcome.collector_id * environments,
            numbered_from=crew.settings.first_env,
        )  # fmt: skip

        def newest_weights() -> dict[str, Tensor] | None:
            weights = inbox.take()
            return None if weights is None else weights.tensors

        lockstep = config.collector.mode == "lockstep"
        share = config.buffer.fragments_per_iteration // (config.collector.count * environments) if lockstep else None
        collect(crew.workers, sender, newest_weights, inbox.look, share=share)


def rollout_settings(
    config: Config, spec: EnvSpec, *, first_env: int, collector_log: Path | None, asynchronous: bool
) -> RolloutSettings:
    """The settings of a collector's workers. `asynchronous` False: their rollouts depend on seed and weights alone."""
    collector = config.collector
    return RolloutSettings(
        env_spec=spec,
        length=config.fragment.length,
        envs_per_worker=collector.envs_per_worker,
        first_env=first_env,
        seed=config.seed,
        device=collector.device,
        precision=str(config.trainer.get("precision", "32-true")),
        torch_threads=collector.torch_threads,
        collector_log=collector_log,
        asynchronous=asynchronous,
        batch_min=collector.batch_min,
    )


def episode_scores(config: Config, spec: EnvSpec) -> EpisodeScores:
    """Keeps the scores of all environments of a collector."""
    return EpisodeScores(
        config.collector.workers * config.collector.envs_per_worker,
        statistics=spec.statistics,
        task=config.task.name if config.task else "",
        staggered=can_stagger(config.env),
        tasks=spec.tasks,
        discount=config.objective.discount,
    )
