"""What to know first about a run, in words: why nothing happens, or which link holds the others up."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from mineonline.settings.config import Config
from mineonline.status import Collector, Link

_HARDLY_WAITS = 0.1
"""Fraction of its time that the learner may wait and still be the bottleneck."""


def why_it_waits(collectors: Sequence[Collector], add_collector: str, *, learning: bool, silent_s: float) -> str | None:
    """Why the learner, which waits, gets nothing, if that can be seen; None if it only waits for enough fragments.

    `add_collector`: the command. `learning`: whether there was a batch in this session. `silent_s`: how long no
    fragment has come.
    """
    here = [collector for collector in collectors if collector.state != "left"]
    if not here:
        return f"No collector is connected: start one with  {add_collector}"
    if learning and any(collector.state in ("playing", "waiting") for collector in here):
        return None
    first = next((collector for collector in here if collector.detail), here[0])
    return f"Waiting for fragments, {silent_s:.0f} s ({first.name}: {first.detail or first.state})"


def bottleneck(links: Sequence[Link], learner_waits: float) -> str:
    """Name of the link that holds the others up: the learner, if it hardly waits; else the collectors' busiest."""
    if learner_waits < _HARDLY_WAITS:
        return "learner"
    return max((link for link in links if link.name != "learner"), key=lambda link: link.share).name


def in_words(name: str, learner_waits: float, config: Config) -> str:
    """A sentence about the bottleneck `name`, and what can be set against it on this machine."""
    gpus = torch.cuda.device_count()
    collector = config.collector
    waits = f"the learner waits {100 * learner_waits:.0f} % of the time"
    if name == "learner":
        on_cpu = config.trainer.get("accelerator") == "cpu"
        more = "a GPU (trainer.accelerator=auto)" if on_cpu else "more GPUs (trainer.devices)"
        return (
            f"The learner is the bottleneck: it waits only {100 * learner_waits:.0f} % of the time; "
            f"give it {more if gpus else 'a GPU'}, or fewer optimizer.epochs"
        )
    if name == "inference":
        or_gpu = ", or set collector.device=cuda" if gpus and collector.device == "cpu" else ""
        return f"The policy in the collectors is the bottleneck: {waits}; raise collector.envs_per_worker{or_gpu}"
    if name == "sending":
        helps = "smaller observations help" if config.network.host is None else "a faster network helps"
        return f"Sending fragments is the bottleneck: {waits}; {helps}"
    cores = len(os.sched_getaffinity(0))
    taken = collector.count * collector.workers
    if taken < cores:
        return f"Environments are the bottleneck: {waits}; add collector.workers"
    elsewhere = "" if config.network.host else ", which needs network.host=auto"
    return (
        f"Environments are the bottleneck: {waits}; all {cores} cores play here, so add collectors on other machines"
        f"{elsewhere}"
    )
