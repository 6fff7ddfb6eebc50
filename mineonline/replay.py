"""`python -m mineonline.replay file=<run folder>/bad_batch-<rank>.pt` looks at fragments that broke learning."""

from __future__ import annotations

import sys
from pathlib import Path

from mineonline.processes.stopping import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.settings.arguments import REPLAY_USAGE, ReplayArguments
from mineonline.settings.command_line import parse_words, report_errors


def main() -> None:
    """Replay the file that the command line names."""
    arguments = parse_arguments(sys.argv[1:])
    from mineonline.run.replay import replay

    replay(Path(arguments.file))


def parse_arguments(words: list[str]) -> ReplayArguments:
    """The arguments in `words`. ConfigError says which word is wrong, and what it may be."""
    return parse_words(words, ReplayArguments, REPLAY_USAGE)


if __name__ == "__main__":
    report_errors(main)
