"""Turns a command line into settings, with errors that say what to type. Used by the commands and for resuming."""

from __future__ import annotations

import difflib
import logging
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
import msgspec
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mineonline.envs.tasks import Task
from mineonline.errors import ConfigError, MineonlineError
from mineonline.settings.parsing import why_unreadable

CONF_DIR = Path(__file__).resolve().parent.parent / "conf"
"""A link to the `conf/` next to the package, so that a wheel contains it too."""

_OPEN = ("trainer.", "optimizer.learning_rates=")
"""Any argument of lightning.Trainer, and any pattern of parameters' names."""

_LAUNCHES_HERE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

Words = TypeVar("Words", bound=msgspec.Struct)


def parse_words(words: Sequence[str], kind: type[Words], usage: str, *, plain: str | None = None) -> Words:
    """A command line of key=value words as a struct. `usage` is what `--help` prints.

    A tuple takes `key=value`, `key=[value,value]`, or the key several times. `plain`: the tuple that words without `=`,
    and existing files, belong to. A field whose name ends with a dot, as in `env.`, takes all words that begin with it,
    whole. ConfigError says which word cannot be used, and what to type instead.
    """
    if "--help" in words or "-h" in words:
        print(usage)
        raise SystemExit(0)
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    lists = [field.encode_name for field in msgspec.structs.fields(kind) if typing.get_origin(field.type) is tuple]
    values: dict[str, str | list[str]] = {name: [] for name in lists}
    for word in words:
        key, equals, value = word.partition("=")
        section = key[: key.find(".") + 1]
        if plain is not None and (not equals or (key not in known and Path(word).exists())):
            key, value = plain, word
        elif not equals:
            raise ConfigError(f"{word}: arguments are key=value.\n{usage}")
        elif section and section in known:
            key, value = section, word
        elif key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else f"\n{usage}"
            raise ConfigError(f"{key}: there is no such key.{hint}")
        earlier = values.get(key)
        values[key] = [*earlier, *_listed(value)] if isinstance(earlier, list) else value
    for field in msgspec.structs.fields(kind):
        if field.required and not values.get(field.encode_name):
            raise ConfigError(f"{field.encode_name}: a value is missing.\n{usage}")
    try:
        return msgspec.convert({name: value for name, value in values.items() if value != []}, kind, strict=False)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        key = path.strip("`$.")
        raise ConfigError(f"{key}={values[key]}: {text[0].lower()}{text[1:]}.") from None


def _listed(value: str) -> list[str]:
    """What `[a,b]` lists; any other text is one value."""
    values = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]
    return [each.strip() for each in values if each.strip()]


def with_config_dirs(words: Sequence[str]) -> list[str]:
    """`words`, with `--config-dir <folder>` turned into the override `hydra.searchpath`, which a resume keeps.

    ConfigError if there is no such folder.
    """
    rest, folders = [], []
    remaining = iter(words)
    for word in remaining:
        flag, equals, value = word.partition("=")
        if flag not in ("--config-dir", "-cd"):
            rest.append(word)
            continue
        given = value if equals else next(remaining, "")
        if not Path(given or "-").is_dir():
            raise ConfigError(f"{flag} {given}: there is no such folder.")
        folders.append(_quoted(f"file://{Path(given).absolute()}"))
    return with_overrides(rest, [f"hydra.searchpath=[{','.join(folders)}]", *overrides_in(rest)]) if folders else rest


def overrides_in(words: Sequence[str]) -> list[str]:
    """The key=value words of a command line that may hold Hydra's flags too."""
    return [word for word in words if "=" in word and not word.startswith("-")]


def with_overrides(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """`words` with `overrides` in place of its own: side by side, since Hydra does not take flags between them."""
    old = overrides_in(words)
    before = words.index(old[0]) if old else 0
    return [*words[:before], *overrides, *(word for word in words[before:] if word not in old)]


def _quoted(text: str) -> str:
    """As a string in Hydra's grammar, whatever characters it has."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def run_hydra(words: Sequence[str], run: Callable[[dict[str, Any], list[str]], None]) -> None:
    """Compose `conf/` with `words`, which may hold Hydra's flags, and call `run` for each job that they ask for.

    `run` is given the job's settings, and the overrides that lead to them, without flags.
    """

    def start(composed: DictConfig) -> None:
        used = HydraConfig.get().overrides
        folders = [override for override in used.hydra if override.startswith("hydra.searchpath=")]
        if HydraConfig.get().launcher["_target_"] == _LAUNCHES_HERE:
            report_errors(lambda: run(settings_of(composed), [*folders, *used.task]))
        else:  # the launcher brings an error to the process that has submitted the job
            run(settings_of(composed), [*folders, *used.task])

    sys.argv[1:] = open_settings(words)
    if {"-m", "--multirun"} & {*words}:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # or it would print a traceback of a job's error
    try:
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(start)()
    except HydraException as error:
        raise ConfigError(_explain(error)) from None


def settings_of(composed: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain dicts and lists. ConfigError names a missing value."""
    try:
        settings = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key)
        raise ConfigError(f"{key}: a value is missing. Give {key}=<value>.") from None
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def open_settings(overrides: Sequence[str]) -> list[str]:
    """Hydra's form of overrides that may name keys which `conf/` does not list."""
    return [f"++{override}" if override.startswith(_OPEN) else override for override in overrides]


def compose_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose `conf/` with overrides, as Hydra does. ConfigError says what to type instead."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            return settings_of(compose("config", open_settings(overrides)))
        except HydraException as error:
            raise ConfigError(_explain(error)) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            file = mark.name if mark else getattr(error, "filename", None) or "a file of settings"
            raise ConfigError(f"{file}: cannot be read ({why_unreadable(error)}).") from None


def merge_overrides(earlier: Sequence[str], later: Sequence[str]) -> list[str]:
    """Both lists; where they name the same key, `later` wins."""
    keys = {_key(override) for override in later}
    return [override for override in earlier if _key(override) not in keys] + [*later]


def report_errors(main: Callable[[], None]) -> None:
    """Run `main`. A MineonlineError ends the process with exit code 1, and only its text is printed."""
    try:
        main()
    except MineonlineError as error:
        fail(error)


def fail(error: MineonlineError, code: int = 1) -> NoReturn:
    """Print the error and leave."""
    print(f"error: {error}", file=sys.stderr)
    logging.shutdown()
    sys.exit(code)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _explain(error: HydraException) -> str:
    text = str(error)
    path = getattr(error.__cause__, "full_key", None)
    if text.startswith("Could not override") and path:
        if path in [f"task.{field}" for field in Task.__struct_fields__]:
            return f"{path} is not set by this task. Write +{path}=... to add it."
        if ".kwargs." in path or ".observations." in path:
            return f"{path} is not set yet. Write +{path}=... to add it."
        known = _all_keys(OmegaConf.to_container(OmegaConf.load(CONF_DIR / "config.yaml"), resolve=False))
        known += [group.name for group in CONF_DIR.iterdir() if group.is_dir()]
        close = difflib.get_close_matches(str(path), known, n=1)
        hint = f"Did you mean {close[0]}?" if close else "`python -m mineonline.train --help` shows all keys."
        return f"{path}: there is no such key. {hint}"
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        close = difflib.get_close_matches(choice, list(error.options), n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        return f"{group}={choice}: there is no such {group}.{hint} There are: {', '.join(error.options)}."
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {text.splitlines()[0]}. Write key=value, and quote what the shell would change."
    return text.splitlines()[0]


def _all_keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return [prefix]
    below = [key for name, value in node.items() for key in _all_keys(value, f"{prefix}.{name}".strip("."))]
    return [*below, prefix] if prefix else below
