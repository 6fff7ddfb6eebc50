"""`python -m mineonline.relay run=<run folder>` stands between the collectors of one node and the trainer."""

from __future__ import annotations

import sys
from pathlib import Path

from mineonline.processes.stopping import exit_on_signals, last_block

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.errors import MineonlineError
from mineonline.processes.lifetimes import show_run_dir
from mineonline.processes.logs import log_to_stderr
from mineonline.processes.supervisor import CONFIG_EXIT_CODE
from mineonline.settings.arguments import RELAY_USAGE, RelayArguments
from mineonline.settings.command_line import fail, parse_words


def main() -> None:
    """Relay for a run until the run is complete."""
    log_to_stderr()
    arguments = parse_arguments(sys.argv[1:])
    show_run_dir(Path(arguments.run).absolute(), "mineonline.relay", sys.argv[1:])
    from mineonline.run.relay import relay_for_run  # takes seconds: a misspelt key is reported before

    relay_for_run(arguments)


def parse_arguments(words: list[str]) -> RelayArguments:
    """The arguments in `words`. ConfigError says which word is wrong, and what it may be."""
    return parse_words(words, RelayArguments, RELAY_USAGE)


if __name__ == "__main__":
    with last_block():
        try:
            main()
        except MineonlineError as error:
            fail(error, CONFIG_EXIT_CODE)
