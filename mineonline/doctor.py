"""`python -m mineonline.doctor` checks what this machine can run, and says what to do about the rest.

    python -m mineonline.doctor                 check
    python -m mineonline.doctor --install       install the Python packages of env=minestudio and policy=vpt, then check
    python -m mineonline.doctor --engine        download MineStudio's engine (Minecraft) from its hub, then check
    srun -N2 python -m mineonline.doctor        check each node of a job, and the ways between them (torchrun as well)

    --folder DIR        where runs are to be: the folder that the nodes share    (the current one)
    --engines N         Minecrafts that are to run on each node                  (0: they are not needed)
    --timeout SECONDS   how long nodes wait for one another                      (120)
    --json              one object for each node, a line each: see docs/cluster.md

Exits with 0 if the embedded world can run, and everything that was asked for; on several nodes rank 0 does, for all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from mineonline.processes.stopping import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.errors import ConfigError, EnvError
from mineonline.settings.command_line import report_errors


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. `python -m mineonline.doctor --help` shows what there is.")


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """The arguments in `words`. ConfigError says which word is wrong."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    for flag in ("--install", "--engine", "--json"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--engines", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=120.0)
    arguments = parser.parse_args(words)
    if arguments.engines < 0:
        raise ConfigError(f"--engines={arguments.engines}: must be 0 or more.")
    if not arguments.timeout > 0:
        raise ConfigError(f"--timeout={arguments.timeout:g}: must be more than 0 seconds.")
    return arguments


def main() -> None:
    """Install what the arguments name, then check."""
    if "--help" in sys.argv or "-h" in sys.argv:
        print(__doc__)
        return
    arguments = parse_arguments(sys.argv[1:])
    from mineonline.run import readiness

    if arguments.install:
        readiness.install()
    if arguments.engine:
        readiness.download_engine()
    needed = [name for name, asked in (("MineStudio", arguments.install), ("engine", arguments.engine)) if asked]
    folder = arguments.folder.absolute()
    reports = readiness.examine(folder, engines=arguments.engines, needed=needed, timeout_s=arguments.timeout)
    if arguments.json:
        for report in reports:
            print(readiness.as_json(report))
    elif reports:
        print(readiness.as_list(reports[0]) if len(reports) == 1 else readiness.as_table(reports))
    sys.stdout.flush()
    missing = [
        f"{check.name} on {report.node}" for report in reports for check in report.checks if check.needed and check.cure
    ]
    if missing:
        raise EnvError(f"not ready: {', '.join(dict.fromkeys(missing))}")


if __name__ == "__main__":
    report_errors(main)
