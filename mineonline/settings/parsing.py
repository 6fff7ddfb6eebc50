"""Turns plain dicts and lists into a `Config`, with errors that name the key as it is typed."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import yaml

from mineonline.envs.task_mix import WeightedTask
from mineonline.envs.tasks import TICK_S, Task, parse_task
from mineonline.errors import ConfigError
from mineonline.settings.checks import check_config
from mineonline.settings.config import Config


def parse_config(data: Mapping[str, Any]) -> Config:
    """The typed settings in `data` (plain dicts and lists). ConfigError names the key that is wrong."""
    values = dict(data)
    if isinstance(values.get("logger"), str):
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
    """Rewrite msgspec's message so that it names the key as typed on the command line."""
    text, _, path = message.partition(" - at ")
    key = path.strip("`").removeprefix("$").removeprefix(".") or ""
    section, unnamed, within = key.partition("[...]")
    if unnamed:  # msgspec does not say which entry of a mapping it is
        where = f"{within.removeprefix('.')}: " if within else ""
        return f"{section}={_value_at(values, section)!r}: {where}{text[0].lower()}{text[1:]}."
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
    return f"{key}={_value_at(values, key)!r}: {text[0].lower()}{text[1:]}." if key else f"{text}."


def _value_at(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else found
    return found


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{hint} There are: {', '.join(known)}."


def _field_names(section: str) -> list[str]:
    """Names of the settings directly under `section` ("" is the top), over all variants of that section."""
    return list(dict.fromkeys(field.encode_name for field in _fields(section)))


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
    """The words that `key` accepts, if its values are words."""
    section, _, name = re.sub(r"\[.*", "", key).rpartition(".")
    hints = [field.type for field in _fields(section) if field.name == name]
    return [str(choice) for hint in hints for each in [hint, *typing.get_args(hint)] for choice in _words(each)]


def _words(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
