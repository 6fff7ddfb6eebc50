"""Finds settings that cannot work: numbers out of range, and settings that are legal alone but not together."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from mineonline import metrics_table
from mineonline.envs.settings import (
    DTYPES,
    IDLE_S,
    GymEnvConfig,
    MineStudioEnvConfig,
    OwnEnvConfig,
)
from mineonline.envs.task_mix import TASK, TASK_VECTOR, TaskMix
from mineonline.envs.tasks import Task
from mineonline.errors import ConfigError
from mineonline.settings.config import (
    Config,
    MlpPolicyConfig,
    OwnPolicyConfig,
    ReferenceConfig,
    TinyPolicyConfig,
    VptPolicyConfig,
)

_PRECISIONS = ("32-true", "32", "bf16-mixed", "16-mixed")
_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
"""The same losses, bit for bit. The last is for policies some of whose parameters get no gradient."""

_NOT_OF_LIGHTNING = {
    "max_epochs": "an online run has no epochs over a data set. Give iterations=<number>; optimizer.epochs are the "
    "passes over the experience of each iteration.",
    "min_epochs": "an online run has no epochs over a data set. Give iterations=<number>.",
    "accumulate_grad_batches": "minibatches are split by optimizer.accumulate. Set that.",
    "gradient_clip_val": "gradients are clipped by optimizer.max_grad_norm. Set that.",
    "gradient_clip_algorithm": "gradients are clipped by their norm, optimizer.max_grad_norm.",
    "limit_train_batches": "a run is as long as iterations=<number> says.",
    "overfit_batches": "an online run has no data set. Give iterations=<number>.",
    "fast_dev_run": "for a short run give iterations=1.",
    "enable_checkpointing": "checkpointing.every says how often the run is saved.",
    "callbacks": "give them as 'callbacks=[{_target_: my_package.MyCallback}]', without trainer.",
    "logger": "give logger=[csv,tensorboard] or the like, without trainer.",
}
"""Arguments of Lightning's Trainer that would not do what they say -> what to do instead."""


def check_config(config: Config) -> None:
    """ConfigError if a number is out of range, or if settings that are legal alone cannot work together."""
    if config.run_dir == "":
        raise ConfigError("run_dir=: give a folder, or null for a new one under runs/.")
    _check_numbers(config)
    context = config.optimizer.context_length
    if context and config.fragment.length % context:
        raise ConfigError(
            f"optimizer.context_length={context} does not divide fragment.length={config.fragment.length}. "
            "Give a divisor, or 0 for the whole fragment."
        )
    _check_tasks(config)
    _check_policy_fits(config)
    _check_gym(config)
    _check_minestudio(config)
    _check_reference(config.reference)
    _check_lockstep(config)
    _check_trainer(config.trainer)
    _check_nodes(config)
    _check_sweep(config)


_LARGEST_WEIGHTS = 10_000
_RANGES: tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...] = (
    ("at least 1", lambda number: number >= 1, (
        "iterations", "collector.workers", "collector.envs_per_worker", "collector.torch_threads",
        "collector.max_failures", "fragment.length", "buffer.fragments_per_iteration", "buffer.max_reuse",
        "optimizer.epochs", "optimizer.minibatches", "optimizer.accumulate", "offline.fragments",
        "optimizer.max_bad_steps", "checkpointing.every", "auxiliary.epochs", "env.time_limit_steps",
        "env.episode_decisions", "env.host_starts", "env.max_failures", "sweep.last",
    )),
    ("0 or more", lambda number: number >= 0, (
        "collector.count", "collector.batch_min", "seed", "objective.value_warmup", "objective.value_clip",
        "objective.policy_coef", "objective.value_coef", "optimizer.context_length", "reference.kl_coef",
        "reference.kl_decay", "reference.refresh_every", "offline.coef", "torch_threads", "buffer.capacity",
        "buffer.max_staleness", "objective.entropy_coef", "optimizer.learning_rate", "optimizer.eps",
        "optimizer.weight_decay", "checkpointing.keep_every", "video.every", "auxiliary.every", "auxiliary.kl_coef",
        "reference.kl_target", "optimizer.warmup", "optimizer.target_kl", "objective.reward_clip", "env.step_ms",
        "env.jitter", "env.restart_interval_s", "env.max_fast_resets", "policy.checkpointing",
    )),
    ("more than 0 seconds", lambda number: number > 0, (
        "objective.horizon_s", "buffer.silence_s", "collector.batch_timeout_s", "collector.start_timeout_s",
        "network.ranks_timeout_s", "env.start_timeout_s", "env.step_timeout_s",
    )),
    ("between 0 and 1", lambda number: 0 <= number <= 1, ("objective.discount", "objective.trace")),
    ("more than 0", lambda number: number > 0, (
        "objective.clip", "objective.weight_max", "objective.log_ratio_max", "objective.reward_scale",
        "optimizer.max_grad_norm", "policy.temperature",
    )),
    ("0 or more, and less than 1", lambda number: 0 <= number < 1, ("objective.value_decay",)),
    ("0 to 65535", lambda number: 0 <= number <= 65535, ("network.port",)),
)  # fmt: skip
"""(in words, as a function, the keys). Of `env` and `policy`, where the one that is chosen has the key."""


def range_of(key: str) -> str:
    """The numbers that a key takes, in words; empty if there is no limit."""
    return next((words for words, _, keys in _RANGES if key in keys), "")


def _check_numbers(config: Config) -> None:
    for words, holds, keys in _RANGES:
        for key in keys:
            number = _number(config, key)
            if number is not None:
                _require(key, holds(number), number, f"must be {words}")
    for pattern, rate in config.optimizer.learning_rates.items():
        _require(f"optimizer.learning_rates.{pattern}", rate >= 0, rate, "must be 0 or more")


def _number(config: Config, key: str) -> float | None:
    """The value of `key`; None if this environment or policy has no such key, or it is not set."""
    section, _, name = key.rpartition(".")
    return getattr(getattr(config, section) if section else config, name, None)


def _require(key: str, holds: bool, number: float, what: str) -> None:
    if not holds:  # nan included
        raise ConfigError(f"{key}={number:g}: {what}.")


def check_ranks(config: Config, ranks: int) -> None:
    """ConfigError if the fragments of an iteration cannot be divided evenly among `ranks` trainer processes."""
    if config.collector.mode == "lockstep" and ranks > 1:
        raise ConfigError(
            f"collector.mode=lockstep with {ranks} ranks: fragments go to whichever rank has room, so one rank would "
            "wait forever. Set trainer.devices=1, or collector.mode=async."
        )
    total = config.buffer.fragments_per_iteration
    if total % ranks:
        raise ConfigError(
            f"buffer.fragments_per_iteration={total} cannot be divided among {ranks} ranks. "
            f"Give a multiple of {ranks}, for example {(total // ranks + 1) * ranks}."
        )
    fragments = total // ranks
    sequences = fragments * config.fragment.length // (config.optimizer.context_length or config.fragment.length)
    parts = config.optimizer.minibatches * config.optimizer.accumulate
    if sequences % parts:
        raise ConfigError(
            f"optimizer.minibatches={config.optimizer.minibatches} times "
            f"optimizer.accumulate={config.optimizer.accumulate} does not divide the {sequences} sequences of a rank's "
            f"batch (buffer.fragments_per_iteration={total} over {ranks} ranks). Give numbers whose product divides "
            f"{sequences}."
        )
    if 0 < config.buffer.capacity < fragments:
        raise ConfigError(
            f"buffer.capacity={config.buffer.capacity} cannot hold a rank's batch of {fragments} fragments: the "
            f"learner would wait forever. Give at least {fragments}, or 0."
        )


def _check_tasks(config: Config) -> None:
    mix = config.played
    if not isinstance(mix, TaskMix):
        return
    tasks = mix.tasks
    if len(tasks) == 1:
        raise ConfigError(f"tasks: there is only {tasks[0].name}. Give task={tasks[0].name}, or more tasks.")
    for task in tasks:
        if not re.fullmatch(r"[\w.-]+", task.name):
            raise ConfigError(
                f"tasks: the name {task.name!r} would be part of metrics and of file names. Give it letters, digits, "
                "and none but these: _ . -"
            )
        for key, first, other in (
            ("action_repeat", tasks[0].action_repeat, task.action_repeat),
            ("numbers in vector", len(tasks[0].vector), len(task.vector)),
        ):
            if first != other:
                raise ConfigError(
                    f"tasks: {tasks[0].name} and {task.name} cannot be mixed, as their {key} are {first} and {other}: "
                    "one policy plays both, at one pace. Make them equal, in their files or for all tasks on the "
                    "command line (++task.action_repeat=...)."
                )
    if sum(mix.weights) > _LARGEST_WEIGHTS:
        raise ConfigError(f"tasks: the weights add up to {sum(mix.weights)}; at most {_LARGEST_WEIGHTS} work.")
    if mix.lasts == "episode":
        if isinstance(config.env, MineStudioEnvConfig):
            raise ConfigError(
                "task_lasts=episode: a simulator of MineStudio is made for one task, and takes a minute to make. Give "
                "task_lasts=run."
            )
        return
    environments = config.collector.count * config.collector.workers * config.collector.envs_per_worker
    if environments and (needed := max(_longest_gap(mix.turns, index) for index in range(len(tasks)))) > environments:
        raise ConfigError(
            f"tasks: with these weights it takes {needed} environments until each task has one, but there are "
            f"{environments} (collector.count x workers x envs_per_worker). Give more, or task_lasts=episode."
        )


def _longest_gap(turns: Sequence[int], index: int) -> int:
    """The fewest environments in a row, wherever they begin, that are sure to include task `index`."""
    places = [place for place, turn in enumerate(turns) if turn == index]
    return max(after - before for before, after in pairwise([*places, places[0] + len(turns)]))


def _check_policy_fits(config: Config) -> None:
    if isinstance(config.policy, OwnPolicyConfig):
        return  # the class itself knows what it can play
    if isinstance(config.policy, VptPolicyConfig):
        _check_vpt(config.policy, config.init_from)
        _check_pace(config.policy, config.all_tasks[0] if config.all_tasks else None)
        return
    sizes = config.policy.hidden_sizes if isinstance(config.policy, MlpPolicyConfig) else [config.policy.hidden_size]
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"policy: hidden sizes are {sizes}; each must be at least 1.")
    if not isinstance(config.env, GymEnvConfig | OwnEnvConfig) and not isinstance(config.policy, TinyPolicyConfig):
        env = msgspec.to_builtins(config.env)["kind"]
        raise ConfigError(f"policy=mlp reads vectors, but env={env} shows pictures. Use policy=tiny.")
    if isinstance(config.policy, TinyPolicyConfig):
        channels = config.policy.channels
        if len(channels) != 3 or min(channels) < 1:
            raise ConfigError(f"policy.channels={channels}: must be three numbers of at least 1.")
        _require("policy.task_embedding", (size := config.policy.task_embedding) >= 0, size, "must be 0 or more")


def _check_gym(config: Config) -> None:
    env = config.env
    if not isinstance(env, GymEnvConfig):
        return
    if 3 * env.step_timeout_s >= config.collector.batch_timeout_s:
        raise ConfigError(
            f"collector.batch_timeout_s={config.collector.batch_timeout_s:g}: a collector whose environments hang one "
            f"after the other (3 x env.step_timeout_s = {3 * env.step_timeout_s:g} s) would count as hung. Give more, "
            "or lower env.step_timeout_s."
        )


def _check_minestudio(config: Config) -> None:
    env = config.env
    if not isinstance(env, MineStudioEnvConfig):
        return
    for name, found in env.observations.items():
        key = f"env.observations.{name}"
        if name == "image":
            raise ConfigError(f"{key}: the picture is always there, of env.image_size. Give another name.")
        if config.tasks and name in (TASK, TASK_VECTOR):
            raise ConfigError(f"{key}: with several tasks, this says which one is played. Give another name.")
        if found.dtype not in DTYPES:
            raise ConfigError(f"{key}.dtype={found.dtype}: there is no such choice. There are: {', '.join(DTYPES)}.")
        if any(size < 1 for size in found.shape):
            raise ConfigError(f"{key}.shape={list(found.shape)}: every size must be at least 1.")
    # a rollout in which every environment waits, plus simulators that hang one after the other
    longest_s = config.fragment.length * IDLE_S + 3 * env.step_timeout_s
    if longest_s >= config.collector.batch_timeout_s:
        raise ConfigError(
            f"collector.batch_timeout_s={config.collector.batch_timeout_s:g}: a collector that waits for its "
            f"simulators (fragment.length x {IDLE_S} s + 3 x env.step_timeout_s = {longest_s:g} s) would count as "
            "hung. Give more."
        )
    if env.start_timeout_s >= config.buffer.silence_s:
        raise ConfigError(
            f"buffer.silence_s={config.buffer.silence_s:g}: the run would end while engines may still start "
            f"(env.start_timeout_s={env.start_timeout_s:g}). Give more."
        )


def _check_vpt(policy: VptPolicyConfig, init_from: str | None) -> None:
    if policy.size is None and policy.model is None and not policy.kwargs:
        raise ConfigError("policy.size=null: give policy.size=1x, or policy.model=<file>.")
    if policy.weights is not None and init_from is not None:
        raise ConfigError(
            "policy.weights and init_from both say which weights the policy starts with. Give policy.weights=null, or "
            "init_from=null."
        )


def _check_pace(policy: VptPolicyConfig, task: Task | None) -> None:
    repeat = task.action_repeat if task is not None else 1
    if policy.weights is not None and repeat > 1 and not policy.any_pace:
        raise ConfigError(
            f"policy.weights={policy.weights}: published VPTs decide once a tick, but task.action_repeat={repeat} "
            f"makes each action last {repeat} ticks. Set task.action_repeat=1 (experiment=minestudio_hunt_cow does), "
            "or policy.any_pace=true for weights that were trained so."
        )


def _check_reference(reference: ReferenceConfig) -> None:
    if reference.kl_target and reference.kl_decay != 1:
        raise ConfigError(
            f"reference.kl_target={reference.kl_target:g} adapts the reference's weight, and reference.kl_decay="
            f"{reference.kl_decay:g} lowers it. Set reference.kl_decay=1, or reference.kl_target=0."
        )
    if reference.kl_target and not reference.kl_coef:
        raise ConfigError("reference.kl_target needs a weight to start with. Give reference.kl_coef, for example 0.2.")


def _check_trainer(settings: Mapping[str, Any]) -> None:
    precision = str(settings.get("precision", "32-true"))
    if precision not in _PRECISIONS:
        raise ConfigError(
            f"trainer.precision={precision}: the weights must stay in full precision, as the collectors use them. "
            f"There are: {', '.join(_PRECISIONS)}."
        )
    strategy = settings.get("strategy", "auto")
    if strategy not in _STRATEGIES:
        raise ConfigError(
            f"trainer.strategy={'null' if strategy is None else strategy}: every rank is a program of its own that "
            f"holds the whole policy, so it can be neither sharded nor forked. There are: {', '.join(_STRATEGIES)}. "
            "If a GPU's memory is short, give optimizer.accumulate=<more>: the same gradient in smaller parts."
        )
    for name, instead in _NOT_OF_LIGHTNING.items():
        if settings.get(name) is not None:
            raise ConfigError(f"trainer.{name}={settings[name]}: {instead}")
    limit = settings.get("max_time")
    if isinstance(limit, int | float) or (isinstance(limit, str) and not re.fullmatch(r"\d+(:\d\d){3}", limit)):
        raise ConfigError(
            f"trainer.max_time={limit}: must be days:hours:minutes:seconds, for example 00:01:30:00 for 90 minutes."
        )


def _check_nodes(config: Config) -> None:
    nodes = config.trainer.get("num_nodes", 1)
    if nodes > 1 and config.network.host is None:
        raise ConfigError(
            f"trainer.num_nodes={nodes}: unix sockets do not reach other nodes. Give network.host=auto, and "
            "as run_dir a folder that all nodes share."
        )


def _check_sweep(config: Config) -> None:
    name = config.sweep.metric
    own = config.callbacks or config.learner.get("_target_") != "mineonline.PPO"  # they may log what they want
    if metrics_table.find(name) is None and not own:
        close = difflib.get_close_matches(name, [metric.name for metric in metrics_table.METRICS], n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"sweep.metric={name}: there is no such metric.{hint} `python -m mineonline.metrics` shows all."
        )


def _check_lockstep(config: Config) -> None:
    if config.collector.mode != "lockstep":
        return
    environments = config.collector.count * config.collector.workers * config.collector.envs_per_worker
    if not environments or config.buffer.fragments_per_iteration % environments:
        raise ConfigError(
            f"collector.mode=lockstep: an iteration must learn from equally many fragments of each environment, but "
            f"buffer.fragments_per_iteration={config.buffer.fragments_per_iteration} and there are {environments} "
            "environments (collector.count x workers x envs_per_worker). Give a multiple of that number."
        )
    if config.objective.value_warmup or config.buffer.max_reuse > 1:
        raise ConfigError(
            "collector.mode=lockstep waits for new weights after each iteration, but objective.value_warmup publishes "
            "none, and with buffer.max_reuse > 1 the learner does not wait for new fragments. Set them to 0 and 1, or "
            "collector.mode=async."
        )
