"""How a run goes on: with the command line that started it, and what was typed now."""

from __future__ import annotations

from collections.abc import Sequence

from mineonline.run.checkpoint import find_checkpoint
from mineonline.run.folder import saved_overrides
from mineonline.settings.command_line import merge_overrides


def with_saved_settings(words: Sequence[str]) -> list[str]:
    """`words`, after those that started the run of `checkpoint=...`, if one is named. MineonlineError if it is absent.

    The result names the checkpoint by its file: what is the newest changes, and ranks are started with these words.
    """
    typed = dict(word.partition("=")[::2] for word in words)
    if "checkpoint" not in typed:
        return list(words)
    checkpoint = find_checkpoint(typed["checkpoint"], typed.get("run_dir"))
    return merge_overrides(saved_overrides(checkpoint), merge_overrides(words, [f"checkpoint={checkpoint}"]))
