"""`python -m mineonline.train [key=value ...]` trains an agent. `--help` shows what can be set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mineonline.processes.stopping import StopRequest

_stop = StopRequest()
if __name__ == "__main__":
    _stop.install()  # before the imports that take seconds

from mineonline.processes.launchers import is_rank_zero, rank_zero_speaks_first
from mineonline.processes.lifetimes import is_shown, show_run_dir
from mineonline.run.folder import METRICS_FILE, check_run_dir, choose_run_dir, explained
from mineonline.run.resume import blames_saved_words, check_same_kind, with_saved_settings
from mineonline.run.sweep_job import is_sweep_job, train_in_job
from mineonline.settings.command_line import (
    compose_jobs,
    compose_settings,
    overrides_in,
    report_errors,
    run_hydra,
    with_config_dirs,
)
from mineonline.settings.help import train_help
from mineonline.settings.parsing import parse_config
from mineonline.settings.sweeps import (
    Outcome,
    forget_empty,
    in_sweep,
    is_sweep,
    print_results,
    sweep_folder,
    with_sweep_folder,
)
from mineonline.settings.targets import check_targets
from mineonline.settings.words import asks_hydra, check_words, groups, help_topics


def main() -> None:
    """Check the command line, then hand over to Hydra."""
    typed = sys.argv[1:]
    made = None
    with rank_zero_speaks_first():
        if {"--help", "-h"} & {*typed}:
            asked = with_config_dirs(typed)
            shown = compose_settings(overrides_in(asked), complete=False)
            print(train_help(shown, groups(), help_topics(asked)))
            return
        words, settings = check(typed)
        if is_sweep(words):
            _sweep(words)
            return
        if settings is not None:
            run_dir = choose_run_dir(settings)
            if run_dir is not None:
                made = run_dir if settings["run_dir"] is settings["checkpoint"] is None else None
                if is_rank_zero() and not is_shown():
                    print(f"run folder: {run_dir}", file=sys.stderr, flush=True)
                show_run_dir(run_dir, "mineonline.train", words)
    try:
        run_hydra(words, _train)
    finally:
        if made is not None:
            forget_empty(made)
            if _stop.received is not None and not made.exists():
                print("stopped before training began: nothing is left.", file=sys.stderr)


def check(typed: Sequence[str]) -> tuple[list[str], dict[str, Any] | None]:
    """The words for Hydra that a command line stands for, and the settings of its run if it starts a single one.

    MineonlineError says what cannot work, as far as that can be told without the imports that take seconds.
    """
    check_words(typed)
    words = with_config_dirs(typed)
    if asks_hydra(words):
        return words, None
    words = with_saved_settings(words)
    with blames_saved_words(typed, words):
        for settings in compose_jobs(words):
            check_same_kind(settings)
            check_targets(settings)
            check_run_dir(parse_config(settings))
    one_run = not any(word.startswith("-") for word in words)  # other flags are Hydra's
    return words, settings if one_run else None


def _sweep(words: list[str]) -> None:
    with explained(Path("runs").absolute()):
        words = with_sweep_folder(words, overrides_in(words))
    folder = sweep_folder(words)
    try:
        run_hydra(words, _train)
    finally:
        print_results(folder)
        forget_empty(folder)


def _train(settings: dict[str, Any], overrides: list[str]) -> Outcome | None:
    with rank_zero_speaks_first():
        run_dir = train_in_job(overrides) if is_sweep_job() else _train_here(settings, overrides)
    if run_dir is None or not in_sweep():
        return None
    from mineonline.run.metrics import mean_of_last

    sweep = parse_config(settings).sweep
    return Outcome(run_dir, mean_of_last(run_dir / METRICS_FILE, sweep.metric, sweep.last))


def _train_here(settings: dict[str, Any], overrides: list[str]) -> Path | None:
    # these imports take seconds: report a misspelt key first
    import lightning

    from mineonline.learning.module import PPO
    from mineonline.run.trainer import train
    from mineonline.settings.targets import user_class, user_objects

    learner_class = user_class("learner", settings["learner"], PPO)
    callbacks = user_objects("callbacks", settings["callbacks"], lightning.Callback)
    return train(settings, _stop, overrides=overrides, learner_class=learner_class, callbacks=callbacks)


if __name__ == "__main__":
    report_errors(main)
