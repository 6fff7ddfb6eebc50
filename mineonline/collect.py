"""`python -m mineonline.collect run=<run folder or address>` adds a collector to a run.

With `checkpoint=<file> record=<folder> fragments=<number>` it plays without a trainer, and writes fragments to disk.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mineonline.processes.stopping import exit_on_signals, last_block

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.envs.minestudio.requirements import FOLDER_VARIABLE, home
from mineonline.errors import CollectorError, ConfigError, MineonlineError
from mineonline.processes import fork_server
from mineonline.processes.lifetimes import die_with_parent, own_temporary_folder, parent_trainer, show_run_dir
from mineonline.processes.logs import log_to_stderr
from mineonline.processes.supervisor import CONFIG_EXIT_CODE, wait_for_turn
from mineonline.settings.arguments import COLLECT_USAGE, CollectArguments, RecordArguments
from mineonline.settings.command_line import fail, parse_words, show_help_if_asked


def main() -> None:
    """Collect for a run until the run is complete, or record."""
    log_to_stderr()
    arguments = parse_arguments(sys.argv[1:])
    if isinstance(arguments, CollectArguments) and "://" not in arguments.run:
        show_run_dir(Path(arguments.run).absolute(), "mineonline.collect", sys.argv[1:])
    settle_in()
    # these imports take seconds: a misspelt key is reported before, and the fork server does its own meanwhile
    from mineonline.run.collector import collect_for_run
    from mineonline.run.record_play import record

    if isinstance(arguments, RecordArguments):
        record(arguments)
    else:
        if parent_trainer() is not None:
            wait_for_turn()
        collect_for_run(arguments)


def settle_in() -> None:
    """Make this process a collector: the parent that it ends with, its temporary folder, its fork server."""
    # MineStudio's default is in the temporary folder, which is about to become private to this process
    os.environ.setdefault(FOLDER_VARIABLE, str(home()))
    parent = parent_trainer()
    if parent is not None:
        die_with_parent(parent)
    own_temporary_folder()
    fork_server.start(["mineonline.run.collector"])


def parse_arguments(words: list[str]) -> CollectArguments | RecordArguments:
    """The arguments in `words`. ConfigError says how to call the command."""
    show_help_if_asked(words, COLLECT_USAGE, CollectArguments, RecordArguments)
    if not words:
        raise ConfigError(COLLECT_USAGE)
    keys = {word.partition("=")[0] for word in words}
    if "run" in keys or not keys & {"checkpoint", "record", "fragments"}:
        return parse_words(words, CollectArguments, COLLECT_USAGE)
    arguments = parse_words(words, RecordArguments, COLLECT_USAGE)
    if arguments.fragments < 1:
        raise ConfigError(f"fragments={arguments.fragments}: must be at least 1.")
    return arguments


if __name__ == "__main__":
    with last_block():
        try:
            main()
        except MineonlineError as error:
            # a worker that died may survive the next time; any other error would only repeat itself
            fail(error, 1 if isinstance(error, CollectorError) else CONFIG_EXIT_CODE)
