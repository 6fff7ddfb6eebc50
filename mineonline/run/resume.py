"""A resumed run uses the command line that started it, changed by what is typed now."""

from __future__ import annotations

from collections.abc import Sequence

from mineonline.errors import ConfigError
from mineonline.run.checkpoint import find_checkpoint
from mineonline.run.folder import saved_overrides
from mineonline.settings.command_line import merge_overrides, overrides_in, with_overrides


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
    merged = merge_overrides(overrides, [f"checkpoint={checkpoint}"])
    return with_overrides(words, merge_overrides(saved_overrides(checkpoint), merged))
