"""What `evaluate` plays: each checkpoint on each task in each environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mineonline.errors import ConfigError
from mineonline.run.checkpoint import find_checkpoint, read_iteration
from mineonline.run.folder import label_of, read_config, run_dir_of
from mineonline.settings.arguments import EvaluateArguments
from mineonline.settings.command_line import compose_settings
from mineonline.settings.config import Config
from mineonline.settings.parsing import parse_config, why_unreadable

UNTRAINED = "untrained"
"""In place of a checkpoint: the policy of the others as it is before any training."""


class Match(msgspec.Struct, frozen=True):
    """A checkpoint's policy on one task in one environment."""

    checkpoint: Path | None
    """None: an untrained policy."""
    name: str
    """Tells the checkpoint from the others."""
    iteration: int
    config: Config

    @property
    def task(self) -> str:
        """What is played."""
        return label_of(msgspec.to_builtins(self.config))

    @property
    def env(self) -> str:
        """The kind of environment that it is played in."""
        return str(msgspec.to_builtins(self.config.env)["kind"])


def find_matches(arguments: EvaluateArguments) -> list[Match]:
    """What `arguments` ask for: environments within tasks within checkpoints. MineonlineError if that cannot be."""
    files = [
        None if given == UNTRAINED else find_checkpoint(given, arguments.run_dir) for given in arguments.checkpoint
    ]
    settings_file = Path(arguments.config) if arguments.config else None
    configs = [None if file is None else read_config(file, settings_file) for file in files]
    usual = next((config for config in configs if config is not None), None)
    if usual is None:
        raise ConfigError(f"{UNTRAINED}: plays with the settings of another checkpoint. Name one beside it, or `demo`.")
    iterations = [0 if file is None else read_iteration(file) for file in files]
    names = _names(files, iterations)
    seed = usual.seed if arguments.seed is None else arguments.seed
    return [
        Match(file, name, iteration, msgspec.structs.replace(played, seed=seed))
        for file, name, iteration, config in zip(files, names, iterations, configs, strict=True)
        for task in arguments.tasks or [None]
        for env in arguments.env or [None]
        for played in [_play_elsewhere(config or usual, task, env, arguments)]
    ]


def _play_elsewhere(config: Config, task: str | None, env: str | None, arguments: EvaluateArguments) -> Config:
    """The settings of a run, with another task or environment, or other settings of its environment."""
    if task is None and env is None and not arguments.env_settings:
        return config
    settings = msgspec.to_builtins(config)
    if task is not None or env is not None:
        words = [f"{group}={choice}" for group, choice in (("task", task), ("env", env)) if choice is not None]
        composed = compose_settings([*arguments.hydra_settings, *words])
        if env is not None:
            # the policy was trained for pictures of this size
            same = {key: settings["env"][key] for key in ("image_size",) if key in settings["env"]}
            settings["env"] = {**composed["env"], **{key: same[key] for key in same if key in composed["env"]}}
        if task is not None or settings["task"] is None:
            settings["task"] = composed["task"]
    if task is not None and settings["env"]["kind"] not in ("world", "minestudio"):
        raise ConfigError(f"tasks={task}: env={settings['env']['kind']} has a task of its own. Leave tasks=... out.")
    for word in arguments.env_settings:
        _set(settings["env"], word, skip=len(arguments.env) > 1)
    return parse_config(settings)


def _set(section: dict[str, Any], word: str, *, skip: bool) -> None:
    """Do what `env.<key>=<value>` says. `skip`: unless the section lacks the key."""
    path, _, text = word.partition("=")
    *above, last = path.split(".")[1:]
    for key in above:
        section = section.setdefault(key, {})
    if skip and last not in section:
        return
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{word}: cannot be read ({why_unreadable(error)}).") from None


def _names(files: Sequence[Path | None], iterations: Sequence[int]) -> list[str]:
    """As short as tells them apart: the folder's name, with the folder above it, or with the iteration."""
    folders = [None if file is None else run_dir_of(file) for file in files]
    short = [UNTRAINED if folder is None else folder.name for folder in folders]
    long = [UNTRAINED if folder is None else f"{folder.parent.name}/{folder.name}" for folder in folders]
    for names in (short, [f"{name} @ {iteration}" for name, iteration in zip(short, iterations, strict=True)], long):
        if len(set(names)) == len(names):
            return names
    return [str(file or UNTRAINED) for file in files]
