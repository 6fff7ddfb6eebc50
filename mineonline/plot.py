"""`python -m mineonline.plot <run> ...` draws the curves of runs, as a picture and as a page with their videos.

python -m mineonline.plot runs/hunt_cow/* x=hours out=hunt_cow
"""

from __future__ import annotations

import sys

from mineonline.processes.stopping import ORPHANED, exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.processes.lifetimes import die_with_parent, parent_trainer
from mineonline.settings.arguments import PLOT_USAGE, PlotArguments
from mineonline.settings.command_line import parse_words, report_errors


def main() -> None:
    """Draw. If a trainer started this process, it ends with that trainer."""
    parent = parent_trainer()
    if parent is not None:
        die_with_parent(parent, ORPHANED)
    arguments = parse_arguments(sys.argv[1:])
    # this import takes a second: report a misspelt key first
    from mineonline.run.page import plot

    plot(arguments)


def parse_arguments(words: list[str]) -> PlotArguments:
    """The arguments in `words`. ConfigError says which word is wrong, and what it may be."""
    return parse_words(words, PlotArguments, PLOT_USAGE, plain="run")


if __name__ == "__main__":
    report_errors(main)
