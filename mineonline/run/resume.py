"""A resumed run uses the command line that started it, changed by what is typed now, and plays the same as before."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mineonline.errors import CheckpointError, ConfigError
from mineonline.run.checkpoint import find_checkpoint
from mineonline.run.folder import CONFIG_FILE, OVERRIDES_FILE, is_published, run_dir_of, saved_overrides, saved_settings
from mineonline.run.seeds import flat
from mineonline.settings.command_line import merge_overrides, overrides_in, with_overrides
from mineonline.settings.config import Config

log = logging.getLogger(__name__)


def with_saved_settings(words: Sequence[str]) -> list[str]:
    """The words that started the run of `checkpoint=...`, then `words`; `words` alone without a `checkpoint=...`.

    The result names the checkpoint by its file: the newest one changes over time, and other ranks are started with
    these words too. MineonlineError if there is no such checkpoint.
    """
    overrides = overrides_in(words)
    typed = dict(word.partition("=")[::2] for word in overrides)
    if "checkpoint" not in typed:
        return list(words)
    if not typed["checkpoint"]:
        raise ConfigError("checkpoint=: give a checkpoint file, a run folder, or latest.")
    checkpoint = find_checkpoint(typed["checkpoint"], typed.get("run_dir"))
    if is_published(checkpoint):
        given = typed["checkpoint"]
        raise CheckpointError(
            f"checkpoint={given}: a published policy lacks what a run goes on from. Start a new run from it with "
            f"init_from={given}."
        )
    merged = merge_overrides(overrides, [f"checkpoint={checkpoint}"])
    saved = saved_overrides(checkpoint)
    before = dict(word.lstrip("+~").partition("=")[::2] for word in saved)
    # the keys of a task or an environment belong to it: another choice does not take them over
    others = tuple(f"{key}." for key in typed if "." not in key and typed[key] != before.get(key))
    kept = [word for word in saved if not word.lstrip("+~").startswith(others)]
    return with_overrides(words, merge_overrides(kept, merged))


@contextmanager
def blames_saved_words(typed: Sequence[str], words: Sequence[str]) -> Iterator[None]:
    """A ConfigError about one of `words` that was not typed, but saved with the checkpoint, names its file."""
    try:
        yield
    except ConfigError as error:
        key = re.split("[:=]", str(error), maxsplit=1)[0]
        given, used = ({word.partition("=")[0].lstrip("+~") for word in those} for those in (typed, words))
        if key in given or key not in used:
            raise
        checkpoint = next(word for word in words if word.startswith("checkpoint=")).partition("=")[2]
        raise ConfigError(
            f"{run_dir_of(Path(checkpoint)) / OVERRIDES_FILE}: {error} It was saved with the run, perhaps by another "
            "version of mineonline. Change the file."
        ) from None


_MAY_CHANGE = (
    "env.video_size", "env.host_starts", "env.start_timeout_s", "env.step_timeout_s", "env.restart_interval_s",
    "env.max_fast_resets", "env.max_failures",
)  # fmt: skip
"""Settings of `env` that change neither what the policy sees nor what it plays."""
_SHOWN = 3
_LONGEST = 120
"""Characters of a value in a message."""


_POLICY_FITS = ("env.kind", "env.id", "env._target_")
"""Where these differ, the old policy can hardly be used."""


def check_same_kind(settings: Mapping[str, Any]) -> None:
    """CheckpointError if the run of `checkpoint` in composed settings played another kind of environment.

    `check_same_play` says so too, but only where the settings fit each other.
    """
    checkpoint = settings["checkpoint"]
    saved = None if checkpoint is None else saved_settings(Path(checkpoint))
    if saved is not None:
        old, new = ({"env.kind": (data.get("env") or {}).get("kind")} for data in (saved, settings))
        if old != new:
            raise _other_play(Path(checkpoint), ["env.kind"], old, new)


def check_same_play(checkpoint: Path, config: Config) -> None:
    """CheckpointError, naming the settings, if the checkpoint's run played or saw something else than `config` does.

    Memories, value statistics and the window of episodes would silently mix two environments.
    """
    saved = saved_settings(checkpoint)
    if saved is None:
        log.warning("%s: no %s says what this run has played; it is not compared.", checkpoint, CONFIG_FILE)
        return
    # through YAML, as the saved ones: tuples become lists
    now = yaml.safe_load(yaml.safe_dump(msgspec.to_builtins(config)))
    before, after = (_play_of(data) for data in (saved, now))
    old, new = dict(flat(before)), dict(flat(after))
    # an earlier version of mineonline did not know every setting
    compared = {f"{section}.{name}" for section, data in before.items() for name in data or {}} - {*_MAY_CHANGE}
    compared |= {section for section in after if section.startswith("tasks.") and section not in before}
    differ = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    keys = [key for key in differ if any(f"{key}.".startswith(f"{each}.") for each in compared)]
    keys.sort(key=lambda key: not (key.startswith("task") and key.endswith(".name")))  # which says most
    if "env.kind" in keys:
        keys = ["env.kind"]  # each kind has other keys
    if keys:
        raise _other_play(checkpoint, keys, old, new)


def _play_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a run plays, in sections; each of several tasks is one."""
    found = {key: settings.get(key) for key in ("env", "task")}
    for name, entry in (settings.get("tasks") or {}).items():
        found[f"tasks.{name}"] = {"weight": entry["weight"], "lasts": settings["task_lasts"], **entry["task"]}
    return found


def _other_play(checkpoint: Path, keys: Sequence[str], old: dict[str, Any], new: dict[str, Any]) -> CheckpointError:
    changes = [f"{key} was {_short(old, key)}, and is now {_short(new, key)}" for key in keys[:_SHOWN]]
    more = f"; {len(keys) - _SHOWN} more differ" if len(keys) > _SHOWN else ""
    anew = f" from its policy: init_from={checkpoint} instead of checkpoint"
    if any(key in _POLICY_FITS for key in keys):
        anew = ", without checkpoint"
    return CheckpointError(
        f"checkpoint={checkpoint} continues a run, which must play the same as before: {'; '.join(changes)}{more}. "
        f"Leave these as they were, or start a new run{anew}."
    )


def _short(values: dict[str, Any], key: str) -> str:
    text = str(values[key]) if key in values else "not set"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
