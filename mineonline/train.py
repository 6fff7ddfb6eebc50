"""`python -m mineonline.train [key=value ...]` trains an agent. `--help` shows what can be set."""

from __future__ import annotations

import sys
from typing import Any

from mineonline.processes.stopping import StopRequest

_stop = StopRequest()
if __name__ == "__main__":
    _stop.install()  # before the imports that take seconds

from mineonline.processes.launchers import is_rank_zero, rank_zero_speaks_first
from mineonline.processes.lifetimes import is_shown, show_run_dir
from mineonline.run.folder import choose_run_dir
from mineonline.run.resume import blames_saved_words, check_same_kind, with_saved_settings
from mineonline.run.sweep_job import is_sweep_job, train_in_job
from mineonline.settings.command_line import compose_settings, report_errors, run_hydra, with_config_dirs
from mineonline.settings.parsing import parse_config


def main() -> None:
    """Check the command line, then hand over to Hydra."""
    with rank_zero_speaks_first():
        words = with_saved_settings(with_config_dirs(sys.argv[1:]))
        if not any(word.startswith("-") for word in words):  # other flags are Hydra's
            with blames_saved_words(sys.argv[1:], words):
                settings = compose_settings(words)
                check_same_kind(settings)
                parse_config(settings)
            run_dir = choose_run_dir(settings)
            if run_dir is not None:
                if is_rank_zero() and not is_shown():
                    print(f"run folder: {run_dir}", file=sys.stderr, flush=True)
                show_run_dir(run_dir, "mineonline.train", words)
    run_hydra(words, _train)


def _train(settings: dict[str, Any], overrides: list[str]) -> None:
    if is_sweep_job():
        train_in_job(overrides)
        return
    with rank_zero_speaks_first():
        _train_here(settings, overrides)


def _train_here(settings: dict[str, Any], overrides: list[str]) -> None:
    # these imports take seconds: report a misspelt key first
    import lightning

    from mineonline.learning.module import PPO
    from mineonline.run.trainer import train
    from mineonline.settings.targets import user_class, user_objects

    learner_class = user_class("learner", settings["learner"], PPO)
    callbacks = user_objects("callbacks", settings["callbacks"], lightning.Callback)
    train(settings, _stop, overrides=overrides, learner_class=learner_class, callbacks=callbacks)


if __name__ == "__main__":
    report_errors(main)
