"""Builds a run's loggers from the settings, and gives them what they show of it: settings, code, videos, axes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import yaml
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from mineonline.atomic import written_whole
from mineonline.callbacks.loggers import TolerateLoggers
from mineonline.errors import ConfigError, MineonlineError
from mineonline.imports import import_target, make
from mineonline.run.code_version import code_version
from mineonline.run.folder import LOGGERS_FILE, METRICS_FILE, wandb_id
from mineonline.run.metrics import MetricsFile
from mineonline.run.seeds import flat
from mineonline.run.tensorboard import RunTensorBoard, curves
from mineonline.settings.config import Config, LoggerName
from mineonline.settings.targets import user_class

_CONTINUES = ("run_id", "experiment_key", "id")
"""How Lightning's loggers call the argument that names an earlier run."""


def check_loggers(config: Config) -> None:
    """ConfigError if a logger that the settings name by `_target_` cannot be imported, or is none."""
    for setting in config.logger:
        if isinstance(setting, Mapping):
            user_class("logger", setting, Logger)  # type: ignore[type-abstract]


def build_loggers(config: Config, run_dir: Path, resume_at: int, tolerance: TolerateLoggers) -> Iterator[Logger]:
    """`metrics.csv`, and the loggers in `config.logger`, each as soon as it is started: from then on it must be closed.

    `tolerance` bears with them from now on. `resume_at`: the iteration that the run continues from. ConfigError for a
    logger that cannot start.
    """
    file = MetricsFile(run_dir / METRICS_FILE, resume_at=resume_at)
    yield file
    earlier = _earlier(run_dir)
    versions = dict(earlier)
    for number, setting in enumerate(config.logger):
        if setting == "csv":
            continue
        kind = setting["_target_"] if isinstance(setting, Mapping) else setting
        name = f"{number} {kind}" if isinstance(setting, Mapping) else kind
        with _starting(kind):
            logger = _build(config, run_dir, setting, file, resume_at, earlier.get(name))
            if not isinstance(logger, RunTensorBoard) and name in earlier:
                _skip(logger, file.logged)
            _start(logger, config, continues=name in earlier)
        versions[name] = logger.version
        tolerance.tolerate(logger)
        yield logger
    _remember(run_dir, versions)


def close_loggers(
    loggers: list[Logger], kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    """As an exit of an ExitStack. W&B would otherwise give the next run of this process to the same run."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            vars(logger)["close_run"](exit_code=0 if kind is None else 1)


def hyperparameters(config: Config) -> dict[str, Any]:
    """All settings that say what is learnt, and how; and the code's version."""
    settings = msgspec.to_builtins(config)
    # what users give their loggers may be a key to a service
    return {**{name: value for name, value in settings.items() if name != "logger"}, "code": code_version()}


def _build(
    config: Config, run_dir: Path, setting: LoggerName | Mapping[str, Any], file: MetricsFile, resume_at: int,
    version: Any,
) -> Logger:  # fmt: skip
    if isinstance(setting, Mapping):
        return _users_own(setting, version)
    if setting == "tensorboard":
        return RunTensorBoard(run_dir, resume_at=resume_at, env_steps=file.env_steps)
    return _wandb(config, run_dir)


def _wandb(config: Config, run_dir: Path) -> WandbLogger:
    import wandb

    settings = config.wandb
    # without credentials, wandb would prompt at a terminal; Lightning's own `offline` does not prevent that
    online = "WANDB_MODE" in os.environ or wandb.login(prompt=False, verify=False)
    # begun here, because Lightning would pass arguments that wandb warns about
    run = wandb.init(
        name=settings.name or run_dir.name,
        dir=run_dir,
        id=wandb_id(run_dir),
        resume="allow",
        project=settings.project,
        entity=settings.entity,
        group=settings.group,
        tags=settings.tags,
        notes=settings.notes,
        mode=None if online else "offline",
    )
    return WandbLogger(experiment=run, save_dir=run_dir, project=settings.project)


def _users_own(setting: Mapping[str, Any], version: Any) -> Logger:
    """`version`: of the run at this logger's service that a resumed run goes on with, if there was one."""
    taken = inspect.signature(import_target("logger", setting["_target_"])).parameters
    continues = [name for name in _CONTINUES if name in taken and name not in setting]
    if version is not None and continues:
        setting = {**setting, continues[0]: version}
    logger = make("logger", setting)
    assert isinstance(logger, Logger)
    if isinstance(logger, MLFlowLogger):
        _complete_mlflow(logger)
    return logger


def _complete_mlflow(logger: MLFlowLogger) -> None:
    """Teach it videos, and learning curves by env steps."""
    log = logger.log_metrics

    def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
        log(dict(metrics), step)
        if found := curves(metrics):
            log(found, int(metrics["env_steps"]))

    def log_video(key: str, videos: list[str], step: int) -> None:
        for video in videos:
            logger.experiment.log_artifact(logger.run_id, video, key)

    vars(logger).update(log_metrics=log_metrics, log_video=log_video)


def _skip(logger: Logger, logged: int) -> None:
    """Do not give it again what it has, up to iteration `logged`, of a run that is resumed further back."""
    log = logger.log_metrics

    def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is None or step > logged:
            log(dict(metrics), step)

    vars(logger).update(log_metrics=log_metrics)


def _start(logger: Logger, config: Config, *, continues: bool) -> None:
    """Begin, or go on with, its run, so that what cannot work is said before training starts."""
    params = hyperparameters(config)
    if isinstance(logger, WandbLogger):
        run = logger.experiment
        vars(logger).update(close_run=run.finish)
        run.define_metric("trainer/global_step")
        run.define_metric("env_steps")
        run.define_metric("*", step_metric="env_steps", step_sync=True)
        logger.log_hyperparams(params)
    elif not continues:  # in MLflow, what was said once cannot change
        logger.log_hyperparams(dict(flat(params)))


@contextmanager
def _starting(name: str) -> Iterator[None]:
    try:
        yield
    except MineonlineError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"logger={name}: it cannot start ({type(error).__name__}: {text}).") from error


def _earlier(run_dir: Path) -> dict[str, Any]:
    """The loggers that an earlier session of the run had, and what they call it: position and `_target_`, or name."""
    file = run_dir / LOGGERS_FILE
    return dict(yaml.safe_load(file.read_text())) if file.exists() else {}


def _remember(run_dir: Path, versions: Mapping[str, Any]) -> None:
    with written_whole(run_dir / LOGGERS_FILE) as partial:
        partial.write_text(yaml.safe_dump(dict(versions)))
