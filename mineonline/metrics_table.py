"""Every number that a run logs: its name, unit, meaning, and when it is there. `docs/metrics.md` is written from it.

What logs a new number adds it here. A name of your own, logged by a callback of yours, needs no place here.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Metric(NamedTuple):
    """One number per iteration, or with `<...>` in its name one for each of them."""

    name: str
    unit: str
    """Empty for plain numbers."""
    meaning: str
    when: str = "always"


class Section(NamedTuple):
    """Metrics that belong together."""

    title: str
    metrics: tuple[Metric, ...]


_SHARE = "0 to 1"

SECTIONS = (
    Section("Progress", (
        Metric("iteration", "iterations", "Iterations that were done, this one included. It numbers the rows of "
               "metrics.csv, the steps of all loggers (`trainer/global_step` in W&B), checkpoints and videos."),
        Metric("env_steps", "decisions", "Decisions that arrived since the run began, over all ranks."),
        Metric("episodes", "episodes", "Episodes that ended since the run began."),
        Metric("env_steps_per_s", "decisions/s", "Decisions that arrived during the iteration, by its time."),
    )),
    Section("Episodes", (
        Metric("episode/return", "reward", "Mean sum of an episode's rewards, over at least the last 100 "
               "episodes (fewer at the start; NaN before the first)."),
        Metric("episode/length", "decisions", "Mean length of these episodes."),
        Metric("episode/success", _SHARE, "Share of these episodes that succeeded.", "task.success is set"),
        Metric("episode/<event>", "per episode", "Mean count of an event, such as `episode/kill_entity/cow`, or mean "
               "of another statistic of the environment.", "the environment has it"),
    )),
    Section("Tasks, each over its last 100 episodes (NaN before its first)", (
        Metric("task/<name>/return", "reward", "Mean return of a task's episodes.", "tasks"),
        Metric("task/<name>/discounted_return", "reward", "Mean return as seen at the start, discounted.", "tasks"),
        Metric("task/<name>/length", "decisions", "Mean length of its episodes.", "tasks"),
        Metric("task/<name>/success", _SHARE, "Share of its episodes that succeeded.", "tasks, and it has `success`"),
        Metric("task/<name>/episodes", "episodes", "Its episodes that ended since the run began.", "tasks"),
        Metric("task/<name>/share", _SHARE, "Its share of the iteration's decisions.", "tasks"),
        Metric("task/<name>/<event>", "per episode", "Mean count of an event. Of events and of the return also "
               "`..._std`, the standard deviation, and the quantiles `..._p10`, `..._p50` and `..._p90`.", "tasks"),
        Metric("tasks/<mean>", "", "`return`, `discounted_return`, `length` or `success`: mean over the tasks, each of "
               "which counts the same, once all have ended an episode.", "tasks"),
    )),
    Section("Losses (means over the optimiser steps of the iteration; NaN if none was taken)", (
        Metric("loss/total", "", "What was minimised: all losses with their weights."),
        Metric("loss/policy", "", "The clipped surrogate, without its weight."),
        Metric("loss/value", "", "Value loss, without its weight; in squared standard deviations of the returns with "
               "`objective.normalize_value`."),
        Metric("loss/entropy", "nats", "Entropy of the policy, mean over decisions."),
        Metric("loss/reference_kl", "nats", "KL divergence between policy and reference; 0 without a reference."),
        Metric("loss/cloning", "", "`offline.coef` times the mean -log π of recorded actions; 0 without `offline`."),
        Metric("loss/approximate_kl", "nats", "Estimated KL divergence from the policy that acted: grows with lag."),
        Metric("loss/update_kl", "nats", "Estimated KL divergence from the policy at the start of the iteration: what "
               "`optimizer.target_kl` limits."),
        Metric("loss/clip_fraction", _SHARE, "Share of decisions whose ratio lies outside 1 ± `objective.clip`."),
        Metric("loss/first_clip_fraction", _SHARE, "The same at the first optimiser step. Without lag, more than 0 "
               "shows that the collectors' policy is not the learner's."),
        Metric("loss/first_approximate_kl", "nats", "`loss/approximate_kl` at the first optimiser step."),
        Metric("loss/gradient_norm", "", "L2 norm of the gradients before they are clipped to "
               "`optimizer.max_grad_norm`."),
        Metric("loss/optimizer_steps", "steps", "Optimiser steps that were taken; fewer than epochs x minibatches if "
               "`optimizer.target_kl` ended the iteration."),
        Metric("loss/skipped_steps", "steps", "Optimiser steps that were skipped: their gradient was not finite."),
        Metric("loss/explained_variance", "at most 1", "1 - variance of (return - value) / variance of returns, before "
               "the iteration; below 0 the value predicts worse than a constant."),
        Metric("loss/reference_coef", "", "Weight of `loss/reference_kl` in this iteration.", "reference.kl_coef > 0"),
    )),
    Section("Fragments", (
        Metric("lag_versions", "versions", "Mean lag of the iteration's fragments: the learner's version minus that of "
               "the weights that played."),
        Metric("lag_versions_max", "versions", "The largest lag, over all ranks."),
        Metric("reuse", "times", "How often each fragment was learnt from before, mean."),
        Metric("idle_rows", _SHARE, "Share of rows without a decision: last observations of truncated episodes, and "
               "environments that wait for their next episode."),
        Metric("dropped/stale", "fragments", "Dropped in this iteration: more lag than `buffer.max_staleness`."),
        Metric("dropped/refused", "messages", "Refused in this iteration: damaged, not finite, or of another run."),
        Metric("dropped/surplus", "fragments", "Not sent in this iteration: played while other environments of a "
               "lockstep run still owed theirs, or with weights of later iterations than a trainer resumed at."),
        Metric("dropped/lost", "fragments", "On their way when a connection broke, and never answered for."),
    )),
    Section("Time", (
        Metric("time/iteration_s", "s", "Duration of the iteration, waiting included."),
        Metric("time/learner_waits", _SHARE, "Share of the iteration that the learner waited for fragments."),
        Metric("time/learner", _SHARE, "Share of the iteration that it learnt."),
        Metric("time/environments", _SHARE, "Share of the collectors' time in environments."),
        Metric("time/inference", _SHARE, "Share of the collectors' time in the policy."),
        Metric("time/sending", _SHARE, "Share of the collectors' time spent sending, or waiting for room in the "
               "buffer."),
        Metric("time/buffer_full", _SHARE, "Share of the iteration in which the buffer was full, mean over ranks."),
    )),
    Section("Health", (
        Metric("collectors", "collectors", "Collectors from which rank 0 received fragments during the iteration."),
        Metric("collector_restarts", "restarts", "Collectors of this machine that were replaced, and collectors whose "
               "workers were, in this session."),
        Metric("env_failures", "failures", "Environments that failed and were replaced since the run began."),
        Metric("checkpoint_failures", "failures", "Checkpoints that could not be saved in this session."),
        Metric("logger_failures", "failures", "Calls that loggers did not take in this session: they raised an error, "
               "or were left alone after one."),
    )),
)  # fmt: skip
"""In the order in which they are shown."""

METRICS = tuple(metric for section in SECTIONS for metric in section.metrics)


def find(name: str) -> Metric | None:
    """The metric that has this name, or whose pattern it fits."""
    for metric in METRICS:
        pattern = "".join(".+" if part[:1] == "<" else re.escape(part) for part in re.split("(<[^>]*>)", metric.name))
        if re.fullmatch(pattern, name):
            return metric
    return None
