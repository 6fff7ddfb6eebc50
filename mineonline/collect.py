"""`python -m mineonline.collect run=<run folder or address>` adds a collector to a run.

With `checkpoint=<file> record=<folder> fragments=<number>` it plays without a trainer, and writes fragments to disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mineonline.processes.stopping import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.errors import CollectorError, ConfigError, MineonlineError
from mineonline.processes.lifetimes import show_run_dir
from mineonline.processes.logs import log_to_stderr
from mineonline.processes.supervisor import CONFIG_EXIT_CODE
from mineonline.settings.arguments import COLLECT_USAGE, CollectArguments, RecordArguments
from mineonline.settings.command_line import fail, parse_words


def main() -> None:
    """Collect for a run until the run is complete, or record."""
    log_to_stderr()
    arguments = parse_arguments(sys.argv[1:])
    if isinstance(arguments, CollectArguments) and "://" not in arguments.run:
        show_run_dir(Path(arguments.run).absolute(), "mineonline.collect", sys.argv[1:])
    # these imports take seconds: report a misspelt key first
    from mineonline.run.collector import collect_for_run, settle_in
    from mineonline.run.record_play import record

    settle_in()
    if isinstance(arguments, RecordArguments):
        record(arguments)
    else:
        collect_for_run(arguments)


def parse_arguments(words: list[str]) -> CollectArguments | RecordArguments:
    """The arguments in `words`. ConfigError says how to call the command."""
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
    try:
        main()
    except MineonlineError as error:
        # a worker that died may survive the next time; any other error would only repeat itself
        fail(error, 1 if isinstance(error, CollectorError) else CONFIG_EXIT_CODE)
