"""What to know first about a run, in words: why nothing happens, or which link holds the others up."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mineonline.settings.config import CollectorConfig
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


def in_words(name: str, learner_waits: float, collector: CollectorConfig) -> str:
    """A sentence about the bottleneck `name`, and what to set against it."""
    waits = f"the learner waits {100 * learner_waits:.0f} % of the time"
    if name == "learner":
        return (
            f"The learner is the bottleneck: it waits only {100 * learner_waits:.0f} % of the time; "
            "give it a faster device, more trainer.devices, or fewer optimizer.epochs"
        )
    if name == "inference":
        return (
            f"The policy in the collectors is the bottleneck: {waits}; "
            "raise collector.envs_per_worker, or set collector.device=cuda"
        )
    if name == "sending":
        return f"Sending fragments is the bottleneck: {waits}; a faster network or smaller observations help"
    cores = len(os.sched_getaffinity(0))
    taken = collector.count * collector.workers
    more = "collector.workers" if taken < cores else f"collectors on other machines (all {cores} cores play here)"
    return f"Environments are the bottleneck: {waits}; add {more}"
