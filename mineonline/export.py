"""`python -m mineonline.export checkpoint=<file> model=<file> weights=<file>` writes a policy for MineStudio.

Writes a policy trained with policy=vpt as a `.model` and a `.weights` file, which MineStudio's
`load_vpt_policy(model, weights)` reads: the same logits, and the same values in units of reward.
"""

from __future__ import annotations

import sys

from mineonline.processes.stopping import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.settings.arguments import EXPORT_USAGE, ExportArguments
from mineonline.settings.command_line import parse_words, report_errors


def main() -> None:
    """Export the checkpoint that the command line names."""
    arguments = parse_arguments(sys.argv[1:])
    from mineonline.run.export import export

    export(arguments)


def parse_arguments(words: list[str]) -> ExportArguments:
    """The arguments in `words`. ConfigError says which word is wrong, and what it may be."""
    return parse_words(words, ExportArguments, EXPORT_USAGE)


if __name__ == "__main__":
    report_errors(main)
