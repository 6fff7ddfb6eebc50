"""A run's settings on one task after the other, to score and to film its policy."""

from __future__ import annotations

from collections.abc import Sequence

from mineonline.envs.tasks import parse_task
from mineonline.errors import ConfigError
from mineonline.settings.command_line import compose_settings
from mineonline.settings.config import Config, on_task


def on_each_task(config: Config, names: Sequence[str], overrides: Sequence[str] = ()) -> dict[str, Config]:
    """Name of a task -> the run's settings with only that one to play. `names`: which tasks; none: all of the run.

    A name that the run does not know is a file of the group `task`, found with `overrides` (`hydra.searchpath=...`).
    ConfigError if there is none, or the policy cannot play it. An environment with a task of its own has the name "".
    """
    known = {task.name: task for task in config.all_tasks}
    if not known:
        if names:
            raise ConfigError(f"tasks=[{','.join(names)}]: this environment has a task of its own. Leave tasks out.")
        return {"": config}
    tasks = [
        known[name] if name in known else parse_task(compose_settings([*overrides, f"task={name}"])["task"])
        for name in names or known
    ]
    return {task.name: on_task(config, task) for task in tasks}
