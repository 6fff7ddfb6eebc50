"""Loggers that fail cost no run, and what TensorBoard shows across failures and resumes."""

import resource
import signal
import threading
import time

import numpy as np
import pytest
from lightning.pytorch.loggers import Logger
from PIL import Image

from mineonline.callbacks.loggers import TolerateLoggers
from mineonline.errors import ConfigError
from mineonline.run.loggers import build_loggers, check_loggers, hyperparameters
from mineonline.run.metrics import MetricsFile, read_metrics
from mineonline.run.seeds import flat
from mineonline.run.tensorboard import RunTensorBoard
from mineonline.video.file import VideoFile
from tests.helpers.learning_set import learn
from tests.helpers.programs import wait_until
from tests.helpers.run_files import events
from tests.helpers.settings import QUICK, config_of


@pytest.fixture
def limit():
    """Sets the size that files of this process can have: the next byte fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or before[0], before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


class Fails(Logger):
    """Raises in some iterations."""

    name = version = "fails"

    def __init__(self, first, last):
        self.first, self.last, self.taken = first, last, []

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        if self.first <= step <= self.last:
            raise RuntimeError("no\nnetwork")
        self.taken.append(step)


def steps(found, name):
    return [(event.step, event.value) for event in found.Scalars(name)]


def log(logger, first, last):
    for iteration in range(first, last + 1):
        logger.log_metrics({"episode/return": iteration / 2, "env_steps": 100.0 * iteration}, iteration)
        logger.save()


def test_a_logger_that_fails_is_reported_once_and_counted_and_the_run_goes_on(tmp_path, caplog):
    tolerance, logger, file = (
        TolerateLoggers(rest_s=0, rest_factor=0),
        Fails(2, 3),
        MetricsFile(tmp_path / "metrics.csv", resume_at=0),
    )
    tolerance.tolerate(logger)
    assert isinstance(logger, Fails)
    assert learn(tmp_path, 5, callbacks=[tolerance], logger=[file, logger], log_every_n_steps=1).iteration == 5
    assert logger.taken == [1, 4, 5]
    assert [row["logger_failures"] for row in read_metrics(tmp_path / "metrics.csv")] == ["0", "0", "1", "2", "2"]
    said = [record.message for record in caplog.records if "Fails" in record.message]
    assert said[0].startswith("Fails failed in log_metrics (RuntimeError: no network). Training goes on")
    assert said[1:] == ["Fails did not take 2 calls; metrics.csv holds all rows."]


def test_a_logger_that_failed_is_left_alone_for_a_while(caplog):
    tolerance, logger = TolerateLoggers(rest_s=600), Fails(2, 2)
    tolerance.tolerate(logger)
    for step in range(1, 6):
        logger.log_metrics({}, step)
    assert (logger.taken, tolerance.failures) == ([1], 4)
    assert len(caplog.records) == 1


def test_a_full_disk_costs_tensorboard_the_rows_of_that_time_and_nothing_else(tmp_path, limit, capfd, caplog):
    tolerance, logger = TolerateLoggers(rest_s=0, rest_factor=0), RunTensorBoard(tmp_path, resume_at=0, env_steps=0)
    tolerance.tolerate(logger)
    log(logger, 1, 3)
    limit(1)
    log(logger, 4, 6)
    limit(None)
    log(logger, 7, 9)
    logger.finalize("success")
    # each file alone: TensorBoard orders them by the second in which they began
    files = [events(file) for file in (tmp_path / "tensorboard").glob("events.*")]
    found = [
        step
        for file in files
        if "episode/return" in file.Tags()["scalars"]
        for step, _ in steps(file, "episode/return")
    ]
    assert sorted(found) == [1, 2, 3, 7, 8, 9]
    assert tolerance.failures
    assert len([record for record in caplog.records if "failed" in record.message]) == 1
    assert "File too large" in caplog.text
    for thread in threading.enumerate():
        assert "AsyncWriter" not in type(thread).__name__
    assert "Traceback" not in capfd.readouterr().err


def test_tensorboard_shows_each_iteration_of_a_resumed_run_once_by_iterations_and_by_env_steps(tmp_path):
    before = RunTensorBoard(tmp_path, resume_at=0, env_steps=0)
    log(before, 1, 5)
    before.finalize("failed")
    began = int(time.time())
    wait_until(lambda: int(time.time()) > began)  # TensorBoard orders files by the second in which they began
    after = RunTensorBoard(tmp_path, resume_at=3, env_steps=300)
    log(after, 4, 6)
    after.finalize("success")
    found = steps(events(tmp_path / "tensorboard"), "episode/return")
    assert found == [(n, n / 2) for n in range(1, 7)]
    curve = steps(events(tmp_path / "tensorboard" / "by_env_steps"), "by_env_steps/episode/return")
    assert curve == [(100 * n, n / 2) for n in range(1, 7)]


def test_tensorboard_shows_a_video_as_a_small_moving_picture(tmp_path):
    with VideoFile(tmp_path / "film.mp4", 20) as film:
        for number in range(240):
            film.write(np.full((180, 320, 3), number, np.uint8))
    logger = RunTensorBoard(tmp_path, resume_at=0, env_steps=0)
    logger.log_video("video/episode", [str(tmp_path / "film.mp4")], step=4)
    logger.finalize("success")
    (image,) = events(tmp_path / "tensorboard").Images("video/episode")
    assert (image.step, image.width, image.height) == (4, 160, 90)
    (tmp_path / "film.gif").write_bytes(image.encoded_image_string)
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 80
        assert gif.info["duration"] == pytest.approx(150)


def test_hyperparameters_are_the_settings_as_they_are_typed_and_the_version_of_the_code(tmp_path):
    found = dict(flat(hyperparameters(config_of(*QUICK, "optimizer.learning_rate=0.0123", "logger=[csv,tensorboard]"))))
    assert found["optimizer.learning_rate"] == 0.0123
    assert found["env.id"] == "CartPole-v1"
    assert found["code.packages.torch"]
    assert not [name for name in found if name.startswith("logger")]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("{_target_: nope.Logger}", r"logger._target_=nope.Logger: cannot be imported .No module named 'nope'"),
        ("{_target_: pathlib.Path}", "must be a subclass of lightning"),
        ("[csv,{_target_: lightning.pytorch.loggers.CSVLogger, folder: x}]", "logger.folder: .* no such argument"),
        ("{name: x}", "names no class"),
        ("[csv,wandbb]", "logger=wandbb: there is no such choice. Did you mean wandb?"),
    ],
)
def test_a_logger_that_cannot_be_made_is_one_sentence(setting, expected):
    with pytest.raises(ConfigError, match=expected):
        check_loggers(config_of(*QUICK, f"logger={setting}"))


def test_a_logger_that_cannot_start_is_one_sentence(tmp_path):
    target = "{_target_: lightning.pytorch.loggers.CSVLogger, save_dir: /proc/none}"
    config = config_of(*QUICK, f"logger={target}")
    with pytest.raises(ConfigError, match=r"logger=.*CSVLogger.*: it cannot start"):
        list(build_loggers(config, tmp_path, 0, TolerateLoggers()))
