"""From plain dicts and lists to a `Config`, with errors that name the key as it is typed. All checks are here."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from mineonline.config import (
    IDLE_S,
    Config,
    CrafterEnvConfig,
    GymEnvConfig,
    MineStudioEnvConfig,
    MlpPolicyConfig,
    TinyPolicyConfig,
    VptPolicyConfig,
)
from mineonline.envs.tasks import parse_task
from mineonline.errors import ConfigError

_PRECISIONS = ("32-true", "32", "bf16-mixed", "16-mixed")


def parse_config(data: Mapping[str, Any]) -> Config:
    """The typed settings of `data` (plain dicts and lists). ConfigError names the key that does not fit."""
    values = dict(data)
    if isinstance(values.get("logger"), str):
        values["logger"] = [values["logger"]]
    task = values.pop("task", None)
    env_kind = (values.get("env") or {}).get("kind")
    try:
        config = msgspec.convert({**values, "task": None}, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), values)) from None
    if env_kind in ("world", "minestudio"):
        config = msgspec.structs.replace(config, task=parse_task(task or {}))
    check_config(config)
    return config


def check_config(config: Config) -> None:
    """Raise ConfigError where a number cannot be meant, or settings that are each legal cannot work together."""
    _check_numbers(config)
    context = config.optimizer.context_length
    if context and config.fragment.length % context:
        raise ConfigError(
            f"optimizer.context_length={context} does not divide fragment.length={config.fragment.length}. "
            "Give a divisor, or 0 for the whole fragment."
        )
    _check_policy_fits(config)
    _check_minestudio(config)
    _check_lockstep(config)
    _check_trainer(config.trainer)


def _check_numbers(config: Config) -> None:
    positive = {
        **({"env.time_limit_steps": config.env.time_limit_steps} if isinstance(config.env, CrafterEnvConfig) else {}),
        "iterations": config.iterations,
        "collector.workers": config.collector.workers,
        "collector.envs_per_worker": config.collector.envs_per_worker,
        "collector.torch_threads": config.collector.torch_threads,
        "collector.max_failures": config.collector.max_failures,
        "fragment.length": config.fragment.length,
        "buffer.fragments_per_iteration": config.buffer.fragments_per_iteration,
        "buffer.max_reuse": config.buffer.max_reuse,
        "optimizer.epochs": config.optimizer.epochs,
        "optimizer.minibatches": config.optimizer.minibatches,
        "optimizer.accumulate": config.optimizer.accumulate,
        "offline.fragments": config.offline.fragments,
        "optimizer.max_bad_steps": config.optimizer.max_bad_steps,
        "checkpointing.every": config.checkpointing.every,
    }
    for key, value in positive.items():
        if value < 1:
            raise ConfigError(f"{key}={value}: must be at least 1.")
    for key, amount in {
        "collector.count": config.collector.count,
        "seed": config.seed,
        "objective.value_warmup": config.objective.value_warmup,
        "objective.value_clip": config.objective.value_clip,
        "objective.policy_coef": config.objective.policy_coef,
        "objective.value_coef": config.objective.value_coef,
        "optimizer.context_length": config.optimizer.context_length,
        "reference.kl_coef": config.reference.kl_coef,
        "reference.kl_decay": config.reference.kl_decay,
        "reference.refresh_every": config.reference.refresh_every,
        "offline.coef": config.offline.coef,
        "torch_threads": config.torch_threads,
        "buffer.capacity": config.buffer.capacity,
        "buffer.max_staleness": config.buffer.max_staleness,
        "objective.entropy_coef": config.objective.entropy_coef,
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "optimizer.eps": config.optimizer.eps,
        "optimizer.weight_decay": config.optimizer.weight_decay,
        "checkpointing.keep_every": config.checkpointing.keep_every,
        "video.every": config.video.every,
    }.items():
        if not amount >= 0:
            raise ConfigError(f"{key}={amount:g}: must be 0 or more.")
    for key, seconds in {
        "buffer.silence_s": config.buffer.silence_s,
        "collector.batch_timeout_s": config.collector.batch_timeout_s,
        "collector.start_timeout_s": config.collector.start_timeout_s,
    }.items():
        if seconds <= 0:
            raise ConfigError(f"{key}={seconds:g}: must be more than 0 seconds.")
    for key, share in {
        "objective.discount": config.objective.discount,
        "objective.trace": config.objective.trace,
    }.items():
        if not 0 <= share <= 1:
            raise ConfigError(f"{key}={share}: must lie between 0 and 1.")
    if not 0 <= config.objective.value_decay < 1:
        raise ConfigError(f"objective.value_decay={config.objective.value_decay}: must be 0 or more, and less than 1.")
    for key, limit in {
        "objective.clip": config.objective.clip,
        "objective.weight_max": config.objective.weight_max,
        "objective.log_ratio_max": config.objective.log_ratio_max,
        "optimizer.max_grad_norm": config.optimizer.max_grad_norm,
    }.items():
        if not limit > 0:
            raise ConfigError(f"{key}={limit:g}: must be more than 0.")


def check_shares(config: Config, ranks: int) -> None:
    """Raise ConfigError if an iteration cannot be shared out evenly among `ranks` trainer processes."""
    if config.collector.mode == "lockstep" and ranks > 1:
        raise ConfigError(
            f"collector.mode=lockstep with {ranks} ranks: fragments go to whichever rank has room, so that one rank "
            "would wait for ever. Set trainer.devices=1, or collector.mode=async."
        )
    total = config.buffer.fragments_per_iteration
    if total % ranks:
        raise ConfigError(
            f"buffer.fragments_per_iteration={total} cannot be shared by {ranks} ranks. "
            f"Give a multiple of {ranks}, for example {(total // ranks + 1) * ranks}."
        )
    share = total // ranks
    sequences = share * config.fragment.length // (config.optimizer.context_length or config.fragment.length)
    parts = config.optimizer.minibatches * config.optimizer.accumulate
    if sequences % parts:
        raise ConfigError(
            f"optimizer.minibatches={config.optimizer.minibatches} in "
            f"optimizer.accumulate={config.optimizer.accumulate} parts do not divide a rank's {sequences} sequences "
            f"(buffer.fragments_per_iteration={total} over {ranks} ranks). Give numbers whose product divides "
            f"{sequences}."
        )
    if 0 < config.buffer.capacity < share:
        raise ConfigError(
            f"buffer.capacity={config.buffer.capacity} cannot hold a rank's share of an iteration: the learner would "
            f"wait for ever. Give at least {share}, or 0."
        )


def _check_policy_fits(config: Config) -> None:
    if isinstance(config.policy, VptPolicyConfig):
        _check_vpt(config.policy, config.init_from)
        return
    sizes = config.policy.hidden_sizes if isinstance(config.policy, MlpPolicyConfig) else [config.policy.hidden_size]
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"policy: hidden sizes are {sizes}; each must be at least 1.")
    if not isinstance(config.env, GymEnvConfig) and not isinstance(config.policy, TinyPolicyConfig):
        env = msgspec.to_builtins(config.env)["kind"]
        raise ConfigError(f"policy=mlp reads vectors, but env={env} shows pictures. Use policy=tiny.")
    if isinstance(config.policy, TinyPolicyConfig):
        channels = config.policy.channels
        if len(channels) != 3 or min(channels) < 1:
            raise ConfigError(f"policy.channels={channels}: must be three numbers of at least 1.")


def _check_minestudio(config: Config) -> None:
    env = config.env
    if not isinstance(env, MineStudioEnvConfig):
        return
    for key in ("host_starts", "max_failures"):
        if getattr(env, key) < 1:
            raise ConfigError(f"env.{key}={getattr(env, key)}: must be at least 1.")
    for key in ("restart_interval_s", "max_fast_resets"):
        if not getattr(env, key) >= 0:
            raise ConfigError(f"env.{key}={getattr(env, key):g}: must be 0 or more.")
    for key in ("start_timeout_s", "step_timeout_s"):
        if not getattr(env, key) > 0:
            raise ConfigError(f"env.{key}={getattr(env, key):g}: must be more than 0 seconds.")
    # a batch in which everybody waits, and one in which simulators hang one after the other
    longest_s = config.fragment.length * IDLE_S + 3 * env.step_timeout_s
    if longest_s >= config.collector.batch_timeout_s:
        raise ConfigError(
            f"collector.batch_timeout_s={config.collector.batch_timeout_s:g}: a collector would be taken for hung that "
            f"waits for its simulators (fragment.length x {IDLE_S} s + 3 x env.step_timeout_s = {longest_s:g} s). "
            "Give more."
        )
    if env.start_timeout_s >= config.buffer.silence_s:
        raise ConfigError(
            f"buffer.silence_s={config.buffer.silence_s:g}: the run would end while engines may still start "
            f"(env.start_timeout_s={env.start_timeout_s:g}). Give more."
        )


def _check_vpt(policy: VptPolicyConfig, init_from: str | None) -> None:
    if policy.size is None and policy.model is None and not policy.kwargs:
        raise ConfigError("policy.size=null: give policy.size=1x, or policy.model=<file>.")
    if policy.temperature is not None and not policy.temperature > 0:
        raise ConfigError(f"policy.temperature={policy.temperature:g}: must be more than 0.")
    if policy.weights is not None and init_from is not None:
        raise ConfigError(
            "policy.weights and init_from both say what the policy begins with. Give policy.weights=null, or "
            "init_from=null."
        )


def _check_trainer(settings: Mapping[str, Any]) -> None:
    precision = str(settings.get("precision", "32-true"))
    if precision not in _PRECISIONS:
        raise ConfigError(
            f"trainer.precision={precision}: the weights must stay in full precision, as the collectors have them. "
            f"There are: {', '.join(_PRECISIONS)}."
        )
    if settings.get("gradient_clip_val") is not None:
        raise ConfigError("trainer.gradient_clip_val: gradients are clipped by optimizer.max_grad_norm. Set that.")


def _check_lockstep(config: Config) -> None:
    if config.collector.mode != "lockstep":
        return
    environments = config.collector.count * config.collector.workers * config.collector.envs_per_worker
    if not environments or config.buffer.fragments_per_iteration % environments:
        raise ConfigError(
            f"collector.mode=lockstep: an iteration must learn from equally many fragments of each environment, but "
            f"buffer.fragments_per_iteration={config.buffer.fragments_per_iteration} and there are {environments} "
            "environments (collector.count x workers x envs_per_worker). Give a multiple of these."
        )
    if config.objective.value_warmup or config.buffer.max_reuse > 1:
        raise ConfigError(
            "collector.mode=lockstep waits for new weights after each iteration's share, which objective.value_warmup "
            "does not publish and buffer.max_reuse does not need. Set them to 0 and 1, or collector.mode=async."
        )


def _explain(message: str, values: Mapping[str, Any]) -> str:
    """Rewrite msgspec's message so that it names the key as typed on the command line."""
    text, _, path = message.partition(" - at ")
    key = path.strip("`").removeprefix("$").removeprefix(".") or ""
    unknown = re.search(r"unknown field `(.+?)`", text)
    if unknown:
        name = unknown.group(1)
        full = f"{key}.{name}" if key else name
        return f"{full}: there is no such key.{_suggest(name, _field_names(key))}"
    missing = re.search(r"missing required field `(.+?)`", text)
    if missing:
        return f"{key + '.' if key else ''}{missing.group(1)}: a value is missing."
    kind = re.search(r"Invalid value '(.+?)'", text)
    if kind and key.endswith("kind"):
        return f"{key}={kind.group(1)}: there is no such {key.split('.')[0]}."
    word = re.search(r"Invalid enum value '(.+?)'", text)
    if word:
        plain_key = key.partition("[")[0]
        return f"{plain_key}={word.group(1)}: there is no such choice.{_suggest(word.group(1), _choices(key))}"
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else found
    return f"{key}={found!r}: {text[0].lower()}{text[1:]}." if key else f"{text}."


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{hint} There are: {', '.join(known)}."


def _field_names(section: str) -> list[str]:
    """Names of the settings directly under `section` ("" is the top), over all variants of that section."""
    return [field.name for field in _fields(section)]


def _fields(section: str) -> list[msgspec.structs.FieldInfo]:
    if not section:
        return list(msgspec.structs.fields(Config))
    hint = next((field.type for field in _fields("") if field.name == section.split(".")[0]), None)
    variants = [hint, *typing.get_args(hint)]
    return [
        field
        for variant in variants
        if isinstance(variant, type) and issubclass(variant, msgspec.Struct)
        for field in msgspec.structs.fields(variant)
    ]


def _choices(key: str) -> list[str]:
    """What a key whose values are words may be."""
    section, _, name = re.sub(r"\[.*", "", key).rpartition(".")
    hints = [field.type for field in _fields(section) if field.name == name]
    return [str(choice) for hint in hints for each in [hint, *typing.get_args(hint)] for choice in _words(each)]


def _words(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
