"""A run's settings on one task after the other, to score and to film its policy."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mineonline.envs.tasks import parse_task
from mineonline.errors import ConfigError
from mineonline.settings.command_line import compose_settings
from mineonline.settings.config import Config


def on_each_task(config: Config, names: Sequence[str], overrides: Sequence[str] = ()) -> dict[str, Config]:
    """Name of a task -> the run's settings with that one to play. `names`: which tasks; none: the run's.

    A name that is not the run's is a file of the group `task`, found with `overrides` (`hydra.searchpath=...`).
    ConfigError if there is none. An environment with a task of its own has the name "".
    """
    if config.task is None:
        if names:
            raise ConfigError(f"tasks=[{','.join(names)}]: this environment has a task of its own. Leave tasks out.")
        return {"": config}
    known = {config.task.name: config.task}
    tasks = [
        known[name] if name in known else parse_task(compose_settings([*overrides, f"task={name}"])["task"])
        for name in names or known
    ]
    return {task.name: msgspec.structs.replace(config, task=task) for task in tasks}
