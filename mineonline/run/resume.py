"""A resumed run uses the command line that started it, changed by what is typed now."""

from __future__ import annotations

from collections.abc import Sequence

from mineonline.run.checkpoint import find_checkpoint
from mineonline.run.folder import saved_overrides
from mineonline.settings.command_line import merge_overrides


def with_saved_settings(words: Sequence[str]) -> list[str]:
    """The words that started the run of `checkpoint=...`, then `words`; `words` alone without a `checkpoint=...`.

    The result names the checkpoint by its file: the newest one changes over time, and other ranks are started with
    these words too. MineonlineError if there is no such checkpoint.
    """
    typed = dict(word.partition("=")[::2] for word in words)
    if "checkpoint" not in typed:
        return list(words)
    checkpoint = find_checkpoint(typed["checkpoint"], typed.get("run_dir"))
    return merge_overrides(saved_overrides(checkpoint), merge_overrides(words, [f"checkpoint={checkpoint}"]))
