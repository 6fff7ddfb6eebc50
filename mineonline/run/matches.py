"""What `evaluate` plays: each checkpoint in each environment on each task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mineonline.errors import ConfigError
from mineonline.run.checkpoint import find_checkpoint, read_iteration
from mineonline.run.folder import label_of, read_config, run_dir_of, saved_overrides
from mineonline.run.tasks import on_each_task
from mineonline.settings.arguments import EvaluateArguments
from mineonline.settings.command_line import compose_settings
from mineonline.settings.config import Config
from mineonline.settings.parsing import parse_config, why_unreadable

UNTRAINED = "untrained"
"""In place of a checkpoint: the policy of the others as it is before any training."""

_TIMEOUTS = (("collector", "batch_timeout_s"), ("collector", "start_timeout_s"), ("buffer", "silence_s"))


class Match(msgspec.Struct, frozen=True):
    """A checkpoint's policy on one task in one environment."""

    checkpoint: Path | None
    """None: an untrained policy."""
    name: str
    """Tells the checkpoint from the others."""
    iteration: int
    trained_seed: int
    """Of the checkpoint's run; `config` has that of the evaluation."""
    task: str
    """The name of the task, or of the environment if it has a task of its own."""
    config: Config

    @property
    def env(self) -> str:
        """The kind of environment that it is played in."""
        return str(msgspec.to_builtins(self.config.env)["kind"])


def find_matches(arguments: EvaluateArguments) -> list[Match]:
    """What `arguments` ask for: tasks within environments within checkpoints. MineonlineError if that cannot be."""
    files = [
        None if given == UNTRAINED else find_checkpoint(given, arguments.run_dir) for given in arguments.checkpoint
    ]
    iterations = [0 if file is None else read_iteration(file) for file in files]
    settings_file = Path(arguments.config) if arguments.config else None
    configs = [None if file is None else read_config(file, settings_file) for file in files]
    usual = next((config for config in configs if config is not None), None)
    if usual is None:
        raise ConfigError(f"{UNTRAINED}: plays with the settings of another checkpoint. Name one beside it, or `demo`.")
    names = _names(files, iterations)
    seed = usual.seed if arguments.seed is None else arguments.seed
    matches = []
    for file, name, iteration, config in zip(files, names, iterations, configs, strict=True):
        # where the run's own tasks are
        saved = saved_overrides(file) if file is not None and settings_file is None else []
        folders = arguments.hydra_settings or [word for word in saved if word.startswith("hydra.")]
        for env in arguments.env or (None,):
            there = _in_env(config or usual, env, arguments)
            for task, played in on_each_task(there, arguments.tasks, folders).items():
                shown = task or label_of(msgspec.to_builtins(played))
                played = msgspec.structs.replace(played, seed=seed)
                matches.append(Match(file, name, iteration, (config or usual).seed, shown, played))
    return matches


def _in_env(config: Config, env: str | None, arguments: EvaluateArguments) -> Config:
    """The settings of a run with another environment, or other settings of its own."""
    if env is None and not arguments.env_settings:
        return config
    settings = msgspec.to_builtins(config)
    if env is not None:
        composed = compose_settings([*arguments.hydra_settings, f"env={env}"])
        # the policy was trained for pictures of this size
        size = {"image_size": settings["env"].get("image_size")} if "image_size" in composed["env"] else {}
        settings["env"] = {**composed["env"], **{key: value for key, value in size.items() if value is not None}}
        settings["task"] = settings["task"] or composed["task"]
        for section, key in _TIMEOUTS:  # which the environment's preset sets, and which must fit it
            settings[section][key] = composed[section][key]
    for word in arguments.env_settings:
        _set(settings["env"], word, skip=len(arguments.env) > 1)
    return parse_config(settings)


def _set(section: dict[str, Any], word: str, *, skip: bool) -> None:
    """Do what `env.<key>=<value>` says. `skip`: unless the section lacks the key."""
    path, _, text = word.partition("=")
    *above, last = path.split(".")[1:]
    for key in above:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{word}: `{key}` has no parts with names. Give all of it: env.{key}=<value>.")
    if skip and last not in section:
        return
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{word}: cannot be read ({why_unreadable(error)}).") from None


def _names(files: Sequence[Path | None], iterations: Sequence[int]) -> list[str]:
    """As short as tells them apart: the folder's name, with the iteration, or with the folder above it."""
    folders = [None if file is None else run_dir_of(file) for file in files]
    short = [
        UNTRAINED if folder is None else folder.name or str(file) for file, folder in zip(files, folders, strict=True)
    ]
    long = [UNTRAINED if folder is None else f"{folder.parent.name}/{folder.name}" for folder in folders]
    for names in (short, [f"{name} @ {iteration}" for name, iteration in zip(short, iterations, strict=True)], long):
        if len(set(names)) == len(names):
            return names
    return [str(file or UNTRAINED) for file in files]
