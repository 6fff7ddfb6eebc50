"""Which runs are seeds of one another: their settings differ only in the seed, and in what changes no result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mineonline.run.folder import label_of

_NO_RESULT = (
    "seed", "run_dir", "checkpoint", "logger", "wandb", "video", "checkpointing", "network", "torch_threads",
    "env.video_size", "env.host_starts", "collector.spare",
)  # fmt: skip
"""Settings that may differ between the seeds of a group; a section stands for all that is in it."""
_MOST_SHOWN = 3
_CHOICES = ("task.name", "env.kind", "policy.kind")
"""Where one of these differs, the rest of its section follows from it."""


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of everything below `value` that is not a mapping."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, below in value.items():
        yield from flat(below, f"{key}.{name}".removeprefix("."))


def groups_of_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Name -> positions of the runs whose settings, as in `config.yaml`, differ only in the seed.

    A name says what is played, and in what a group differs from the others.
    """
    compared = [_compared(settings) for settings in runs]
    groups: list[list[int]] = []
    for index, settings in enumerate(compared):
        mine = next((group for group in groups if compared[group[0]] == settings), None)
        if mine is None:
            groups.append([index])
        else:
            mine.append(index)
    firsts = [compared[group[0]] for group in groups]
    differing = _differing(firsts)
    played = [label_of(runs[group[0]]) for group in groups]
    names: dict[str, list[int]] = {}
    for group, first, label in zip(groups, firsts, played, strict=True):
        shown = [key for key in differing if key in first and key not in ("task.name", "env.id")]
        changes = [f"{key}={_short(first[key])}" for key in shown]
        more = f" and {len(changes) - _MOST_SHOWN} more" if len(changes) > _MOST_SHOWN else ""
        name = ", ".join([label, *changes[:_MOST_SHOWN]]) + more
        names[name if name not in names else f"{name} ({len(names) + 1})"] = group
    return names


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in flat(dict(settings))
        if not any(key == left_out or key.startswith(f"{left_out}.") for left_out in _NO_RESULT)
    }  # fmt: skip


def _differing(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = list(dict.fromkeys(key for settings in groups for key in settings))
    differing = [key for key in keys if any(settings.get(key) != groups[0].get(key) for settings in groups)]
    chosen = [choice for choice in _CHOICES if choice in differing]
    sections = tuple(f"{choice.partition('.')[0]}." for choice in chosen)
    return [key for key in differing if key in chosen or not key.startswith(sections)]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
