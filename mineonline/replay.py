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
    arguments = parse_words(sys.argv[1:], ReplayArguments, REPLAY_USAGE)
    from mineonline.run.replay import replay

    replay(Path(arguments.file))


if __name__ == "__main__":
    report_errors(main)
