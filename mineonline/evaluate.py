"""`python -m mineonline.evaluate <checkpoint> ...` plays complete episodes and prints their scores.

python -m mineonline.evaluate demo video=hunt.mp4
python -m mineonline.evaluate runs/<...> runs/<...> tasks=[hunt_cow,chop_tree] episodes=20 json=scores.json
"""

from __future__ import annotations

import sys

from mineonline.processes.stopping import ORPHANED, exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.errors import ConfigError
from mineonline.processes.lifetimes import die_with_parent, parent_trainer
from mineonline.settings.arguments import EVALUATE_USAGE, EvaluateArguments
from mineonline.settings.command_line import parse_words, report_errors, with_config_dirs


def main() -> None:
    """Play, print the scores, write the files. If a trainer started this process, it ends with that trainer."""
    parent = parent_trainer()
    if parent is not None:
        die_with_parent(parent, ORPHANED)
    arguments = parse_arguments(sys.argv[1:])
    # this import takes seconds: report a misspelt key first
    from mineonline.run.evaluation import evaluate

    evaluate(arguments)
    if arguments.video is not None:
        print(f"video: {arguments.video}")


def parse_arguments(words: list[str]) -> EvaluateArguments:
    """The arguments in `words`. ConfigError says which word is wrong, and what it may be."""
    arguments = parse_words(with_config_dirs(words), EvaluateArguments, EVALUATE_USAGE, plain="checkpoint")
    if arguments.episodes < 1:
        raise ConfigError(f"episodes={arguments.episodes}: must be at least 1.")
    if arguments.filmed != "all" and arguments.filmed < 1:
        raise ConfigError(f"filmed={arguments.filmed}: must be at least 1, or all.")
    if arguments.processes is not None and arguments.processes < 1:
        raise ConfigError(f"processes={arguments.processes}: must be at least 1.")
    if arguments.video is not None and not arguments.video.endswith(".mp4"):
        raise ConfigError(f"video={arguments.video}: must end in .mp4.")
    return arguments


if __name__ == "__main__":
    report_errors(main)
