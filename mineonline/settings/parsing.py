"""Turns plain dicts and lists into a `Config`, with errors that name the key as it is typed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from mineonline.envs.task_mix import WeightedTask
from mineonline.envs.tasks import TICK_S, Task, parse_task
from mineonline.errors import ConfigError
from mineonline.settings.checks import check_config
from mineonline.settings.config import Config
from mineonline.settings.meanings import as_typed, first_key, section_meanings, value_at, values_of, with_article
from mineonline.settings.suggestions import suggest_key

NO_FIRST_LINE = (
    "experiment: there is no such key. A file experiment/<name>.yaml must begin with the line  # @package _global_"
)
_ANY_LOGGER = (
    " Any of Lightning's loggers works by its class: "
    "'logger=[csv,{_target_: lightning.pytorch.loggers.MLFlowLogger, <argument>: <value>}]', in quotes."
)


def parse_config(data: Mapping[str, Any]) -> Config:
    """The typed settings in `data` (plain dicts and lists). ConfigError names the key that is wrong."""
    values = dict(data)
    if isinstance(values.get("logger"), str | Mapping):
        values["logger"] = [values["logger"]]
    task, tasks = values.pop("task", None), values.pop("tasks", None)
    env_kind = (values.get("env") or {}).get("kind")
    has_tasks = env_kind in ("world", "minestudio")
    if tasks and not has_tasks:
        raise ConfigError(f"tasks: env={env_kind} has a task of its own. Leave tasks out, or give env=world.")
    parsed_tasks = _parse_tasks(tasks or {})
    parsed_task = parse_task(task or {}) if has_tasks and not tasks else None
    first = next((each.task for each in parsed_tasks.values()), parsed_task)
    values["objective"] = _with_discount(values.get("objective"), first)
    try:
        config = msgspec.convert({**values, "task": None}, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), values)) from None
    config = msgspec.structs.replace(config, task=parsed_task, tasks=parsed_tasks)
    check_config(config)
    return config


def _parse_tasks(data: Any) -> dict[str, WeightedTask]:
    """`tasks` in full: name -> `{weight: ..., task: {...}}`. By name, so that an index always means the same task."""
    parsed = {}
    for name, entry in sorted(data.items()):
        weight = entry.get("weight")
        if not isinstance(weight, int) or weight < 1:
            raise ConfigError(
                f"tasks.{name}={weight}: a weight is a whole number of at least 1, as in "
                "'tasks={hunt_cow: 2, chop_tree: 1}'."
            )
        try:
            parsed[name] = WeightedTask(weight, parse_task(entry.get("task")))
        except ConfigError as error:
            raise ConfigError(f"tasks.{name}: {error}") from None
    return parsed


def _with_discount(objective: Any, task: Task | None) -> Any:
    """The section `objective` with a discount in place of null."""
    if not isinstance(objective, Mapping) or objective.get("discount", 0) is not None:
        return objective
    horizon_s = objective.get("horizon_s")
    if not isinstance(horizon_s, int | float):
        return objective
    if task is None:
        raise ConfigError("objective.discount=null: this environment has no clock. Give a number, for example 0.99.")
    step_s = task.action_repeat * TICK_S
    if not horizon_s >= step_s:
        raise ConfigError(
            f"objective.horizon_s={horizon_s:g}: must be at least the {step_s:g} s between two decisions."
        )
    return {**objective, "discount": 1 - step_s / horizon_s}


def why_unreadable(error: OSError | UnicodeDecodeError | yaml.YAMLError) -> str:
    """What is wrong with a YAML file, in one line."""
    if isinstance(error, OSError):
        return str(error.strerror)
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]


def _explain(message: str, values: Mapping[str, Any]) -> str:
    """Rewrite msgspec's message so that it names the key as typed on the command line, and what may stand there."""
    text, _, path = message.partition(" - at ")
    key = path.strip("`").removeprefix("$").removeprefix(".") or ""
    unknown = re.search(r"unknown field `(.+?)`", text)
    if unknown:
        full = f"{key}.{unknown.group(1)}".removeprefix(".")
        if full == "experiment":  # where Hydra puts the settings of a file that does not say where they belong
            return NO_FIRST_LINE
        return f"{full}: there is no such key. {suggest_key(full)}"
    missing = re.search(r"missing required field `(.+?)`", text)
    if missing:
        return f"{key}.{missing.group(1)}".removeprefix(".") + ": a value is missing."
    kind = re.search(r"Invalid value '(.+?)'", text)
    if kind and key.endswith("kind"):
        return f"{key}={kind.group(1)}: there is no such {key.split('.')[0]}."
    # msgspec does not say which entry of a mapping or of a list it is
    key, _, within = re.sub(r"\[\d*\]", "[...]", key).partition("[...]")
    found, allowed = as_typed(value_at(values, key)), values_of(key)
    where = f"{within.removeprefix('.')}: " if within else ""
    word = re.search(r"Invalid enum value '(.+?)'", text)
    if word and not within:
        choices = (
            allowed.removeprefix("list of ").removesuffix(" or {key: value, ...}").replace(" or ", ", ").split(", ")
        )
        more = _ANY_LOGGER if key == "logger" else ""
        return f"{key}={word.group(1)}: there is no such choice.{_suggest(word.group(1), choices)}{more}"
    if key == "callbacks":
        return (
            f"callbacks={found}: each is a class with its arguments. "
            "Give 'callbacks=[{_target_: my_package.MyCallback}]', in quotes."
        )
    if key == "learner":
        return f"learner={found}: must name a class. Give learner._target_=my_package.MyPPO."
    if key in section_meanings() or key in ("env", "policy"):
        return f"{key}={found}: {key} is a section. Give one of its keys, such as {first_key(key)}=..."
    if within or not allowed:
        return f"{key}={found}: {where}{text[0].lower()}{text[1:]}." if key else f"{text}."
    brackets = ", in brackets" if allowed.startswith("[") else ""
    return f"{key}={found}: must be {with_article(allowed)}{brackets}."


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{hint} There are: {', '.join(known)}."
