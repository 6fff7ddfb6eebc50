"""Entry point: `python -m mineonline.train [key=value ...]` trains an agent. `--help` shows what can be set."""

from __future__ import annotations

import sys

from mineonline.stopping import StopRequest

_stop = StopRequest()
if __name__ == "__main__":
    _stop.install()  # before the imports that take seconds

import hydra
from omegaconf import DictConfig

from mineonline import command_line
from mineonline.checkpoint_file import find_checkpoint
from mineonline.config_parsing import parse_config
from mineonline.processes import show_run_dir
from mineonline.run_folder import choose_run_dir, saved_overrides


def main() -> None:
    """Check the command line, then hand over to Hydra."""
    if not any(argument.startswith("-") for argument in sys.argv[1:]):
        typed = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
        if "checkpoint" in typed:
            checkpoint = find_checkpoint(typed["checkpoint"], typed.get("run_dir"))
            # by its name from here on: what is the latest changes, and ranks are started with this command line
            words = command_line.merge_overrides(sys.argv[1:], [f"checkpoint={checkpoint}"])
            sys.argv[1:] = command_line.merge_overrides(saved_overrides(checkpoint), words)
        settings = command_line.compose_settings(sys.argv[1:])
        parse_config(settings)
        show_run_dir(choose_run_dir(settings), "mineonline.train")
    sys.argv[1:] = command_line.open_trainer(sys.argv[1:])
    hydra.main(version_base="1.3", config_path=str(command_line.CONF_DIR), config_name="config")(_run)()


def _run(composed: DictConfig) -> None:
    # caught here: Hydra would print a traceback
    command_line.report_errors(lambda: _train(composed))


def _train(composed: DictConfig) -> None:
    # seconds of imports, which a misspelt key should not wait for
    from mineonline.extensions import learner_kind, own_callbacks
    from mineonline.training import train

    settings = command_line.settings_of(composed)
    kind = learner_kind(settings["learner"])
    train(settings, _stop, overrides=sys.argv[1:], kind=kind, callbacks=own_callbacks(settings["callbacks"]))


if __name__ == "__main__":
    command_line.report_errors(main)
