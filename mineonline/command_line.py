"""From the command line to a `Config`, with errors that say what to type. Used by the entry points alone."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mineonline.envs.tasks import Task
from mineonline.errors import ConfigError, MineonlineError

CONF_DIR = Path(__file__).resolve().parent / "conf"
"""A link to the `conf/` beside the package, so that it is part of a wheel too."""


def settings_of(composed: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain dicts and lists. ConfigError names a value that is missing."""
    try:
        settings = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key)
        raise ConfigError(f"{key}: a value is missing. Give {key}=<value>.") from None
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def open_trainer(overrides: list[str]) -> list[str]:
    """`trainer.*` may be any argument of lightning.Trainer, whether `conf/` lists it or not."""
    return [f"++{override}" if override.startswith("trainer.") else override for override in overrides]


def compose_settings(overrides: list[str]) -> dict[str, Any]:
    """Compose `conf/` with overrides, as Hydra does. ConfigError says what to type instead."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            return settings_of(compose("config", open_trainer(overrides)))
        except HydraException as error:
            raise ConfigError(_explain(error)) from None


def merge_overrides(earlier: list[str], later: list[str]) -> list[str]:
    """Both, the later one winning where they name the same key."""
    keys = {_key(override) for override in later}
    return [override for override in earlier if _key(override) not in keys] + later


def report_errors(main: Callable[[], None]) -> None:
    """Run `main`; an error that is meant for the user ends the process with its text alone, exit code 1."""
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
        if ".kwargs." in path:
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
