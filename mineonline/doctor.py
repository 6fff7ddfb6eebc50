"""`python -m mineonline.doctor` checks what this machine can run, and says what to do about the rest.

    python -m mineonline.doctor             check
    python -m mineonline.doctor --install   install the Python packages of env=minestudio and policy=vpt, then check
    python -m mineonline.doctor --engine    download MineStudio's engine (Minecraft) from its hub, then check

Exits with 0 if the embedded world can run, and everything that was asked for.
"""

from __future__ import annotations

import sys

from mineonline.processes.stopping import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

from mineonline.errors import ConfigError, EnvError
from mineonline.run.readiness import download_engine, install, report
from mineonline.settings.command_line import report_errors


def main() -> None:
    """Install what the arguments name, then check."""
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return
    unknown = [word for word in arguments if word not in ("--install", "--engine")]
    if unknown:
        raise ConfigError(f"{unknown[0]}: there is no such argument.\n\n{__doc__}")
    if "--install" in arguments:
        install()
    if "--engine" in arguments:
        download_engine()
    wanted = {"--install": "MineStudio", "--engine": "engine"}
    missing = report()
    failed = [name for word, name in wanted.items() if word in arguments and name in missing]
    if failed:
        raise EnvError(f"still missing: {', '.join(failed)}")


if __name__ == "__main__":
    report_errors(main)
