"""`python -m mineonline.play [task=<task>]` lets a person play in the browser; `run=<run folder>` also shows a run.

python -m mineonline.play task=chop_tree
python -m mineonline.play checkpoint=latest
"""

from __future__ import annotations

import secrets
import socket
import sys
import time
from pathlib import Path

from mineonline.processes.stopping import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports that take seconds

import msgspec

from mineonline.envs.settings import WorldEnvConfig
from mineonline.errors import ConfigError
from mineonline.run.folder import CONFIG_FILE, read_config
from mineonline.settings.arguments import PLAY_USAGE, PlayArguments
from mineonline.settings.command_line import compose_settings, parse_words, report_errors, with_config_dirs
from mineonline.settings.config import Config
from mineonline.settings.parsing import parse_config

_OWN = set(PlayArguments.__struct_fields__)
_MOST_SEEDS = 2**31


def main() -> None:
    """Serve until Ctrl-C."""
    arguments, config = parse_arguments(sys.argv[1:])
    record = record_folder(arguments.record)
    run = Path(arguments.run).absolute() if arguments.run is not None else None
    # these imports take half a second: a misspelt key is reported before
    from mineonline.web.messages import WorldSetup
    from mineonline.web.server import serve

    setup = WorldSetup(
        config=msgspec.json.encode(config) if config is not None else None,
        checkpoint=arguments.checkpoint,
        run=str(run) if run is not None else None,
        record=str(record) if record is not None else None,
        seed=secrets.randbelow(_MOST_SEEDS) if arguments.seed is None else arguments.seed,
        device=arguments.device,
    )
    playable = run is None or isinstance(read_config(run, run / CONFIG_FILE).env, WorldEnvConfig)
    serve(
        setup if playable else None, run, host=arguments.host, port=arguments.port,
        announce=lambda address: _announce(address, arguments.host),
    )  # fmt: skip
    if record is not None and record.is_dir():
        print(f"your play: {record}. Learn from it with  offline.folder={record}")


def parse_arguments(words: list[str]) -> tuple[PlayArguments, Config | None]:
    """The arguments in `words`, and the settings of what is played, unless a checkpoint or a run says that.

    ConfigError says which word is wrong, and what it may be.
    """
    own = [word for word in words if word.partition("=")[0] in _OWN or word in ("-h", "--help")]
    arguments = parse_words(own, PlayArguments, PLAY_USAGE)
    others = [word for word in words if word not in own]
    if arguments.checkpoint is None and arguments.run is None:
        config = parse_config(compose_settings(with_config_dirs(others)))
        if not isinstance(config.env, WorldEnvConfig):
            kind = msgspec.to_builtins(config.env)["kind"]
            raise ConfigError(f"env={kind}: only the embedded world can be played. Leave env=... out.")
        return arguments, config
    if arguments.checkpoint is not None and arguments.run is not None:
        raise ConfigError("checkpoint=... and run=...: give one of them. A run's newest checkpoint plays by itself.")
    if others:
        given = "checkpoint" if arguments.checkpoint is not None else "run"
        raise ConfigError(f"{others[0]}: {given}=... says already what is played. Leave one of them out.")
    if arguments.run is not None and not (Path(arguments.run) / CONFIG_FILE).is_file():
        raise ConfigError(f"run={arguments.run}: is not a run folder: it has no {CONFIG_FILE}.")
    return arguments, None


def record_folder(given: str | None) -> Path | None:
    """Where fragments go; None if nowhere. ConfigError if a set cannot be written there."""
    if given == "none":
        return None
    folder = Path(given) if given is not None else Path("played", time.strftime("%Y-%m-%d_%H-%M-%S"))
    if given is not None:
        # torch takes a second, and is needed only for the folder that a person names
        from mineonline.experience.fragment_files import check_unused

        check_unused(folder)
    return folder


def _announce(address: str, host: str | None) -> None:
    print(f"open {address}  (Ctrl-C ends it)", flush=True)
    if host is None:
        port = address.rsplit(":", 1)[1].partition("/")[0]
        print(f"from another machine, first:  ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}", flush=True)


if __name__ == "__main__":
    report_errors(main)
