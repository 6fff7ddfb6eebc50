"""`python -m mineonline.publish checkpoint=<run folder> folder=<folder>` writes a policy for others to use.

python -m mineonline.publish checkpoint=latest folder=cow_hunter repo=<user>/cow_hunter
"""

from __future__ import annotations

import sys

from mineonline.processes.stopping import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.errors import ConfigError
from mineonline.settings.arguments import PUBLISH_USAGE, PublishArguments
from mineonline.settings.command_line import parse_words, report_errors


def main() -> None:
    """Publish what the command line names."""
    arguments = parse_arguments(sys.argv[1:])
    # this import takes seconds: report a misspelt key first
    from mineonline.run.publication import publish

    publish(arguments)


def parse_arguments(words: list[str]) -> PublishArguments:
    """The arguments in `words`. ConfigError says which word is wrong, and what it may be."""
    arguments = parse_words(words, PublishArguments, PUBLISH_USAGE)
    if arguments.episodes < 1:
        raise ConfigError(f"episodes={arguments.episodes}: must be at least 1.")
    if arguments.repo is not None and arguments.repo.count("/") != 1:
        raise ConfigError(f"repo={arguments.repo}: must be <user>/<name>.")
    return arguments


if __name__ == "__main__":
    report_errors(main)
