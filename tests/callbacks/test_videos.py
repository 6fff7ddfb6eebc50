"""Videos of a training run: they are made, never disturb it, and leave nothing behind."""

import logging
import os
import signal
import time

import av
import msgspec
import psutil
import pytest
import yaml

from mineonline.callbacks.videos import LAST_VIDEO_LIMIT_S
from mineonline.processes.stopping import StopRequest
from tests.helpers.programs import processes_of, wait_until
from tests.helpers.settings import ROOT, config_of
from tests.helpers.video_trainer import train

pytestmark = pytest.mark.program

ENDLESS = 10_000_000


@pytest.fixture(autouse=True)
def _tests_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


@pytest.fixture
def run_dir(tmp_path):
    """A run folder for episodes of 30 steps."""
    return make_run_dir(tmp_path / "run", 30)


def make_run_dir(folder, episode_length):
    config = config_of(
        "env=gym", "env.id=tests.helpers.drawn_env:Drawn-v0", f"+env.kwargs.length={episode_length}", "policy=mlp"
    )
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(config)))
    return folder


def in_videos(run_dir):
    return sorted(file.name for file in (run_dir / "videos").iterdir())


def films(run_dir):
    """Whether a recorder is part-way through its video."""
    return any(name.startswith(".") and ".mp4." in name for name in in_videos(run_dir))


def test_a_recording_never_makes_training_wait_and_the_last_iteration_always_gets_one(run_dir):
    videos = train(run_dir, iterations=6, every=1, on_iteration=lambda version: None)
    assert in_videos(run_dir) == ["000001.mp4", "000006.mp4"]
    # iterations 2 to 5 came while the first was being recorded
    assert (videos.skipped, videos.failures) == (4, 0)
    for name in in_videos(run_dir):
        with av.open(str(run_dir / "videos" / name)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 30
    assert processes_of(run_dir) == []
    assert "iteration 6, 1 episodes" in (run_dir / "logs" / "videos.log").read_text()


def test_a_recorder_gives_way_to_training(tmp_path):
    run_dir = make_run_dir(tmp_path / "run", ENDLESS)
    seen = []

    def on_iteration(version):
        if version == 2:
            wait_until(lambda: films(run_dir))
            (process,) = processes_of(run_dir)
            seen.append((process.nice(), process.environ()["OMP_NUM_THREADS"], os.getsid(process.pid)))
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        train(run_dir, iterations=2, every=1, on_iteration=on_iteration)
    ((nice, threads, session),) = seen
    assert (nice, threads) == (psutil.Process().nice() + 10, "1")
    assert session != os.getsid(0)
    # training failed: the recorder is gone at once, and so is its unfinished video
    assert processes_of(run_dir) == []
    assert in_videos(run_dir) == []


def test_a_request_to_stop_ends_the_recording_at_once(tmp_path):
    run_dir = make_run_dir(tmp_path / "run", ENDLESS)
    stop = StopRequest()

    def on_iteration(version):
        if version == 2:
            wait_until(lambda: films(run_dir))
            stop.received = signal.SIGINT

    began = time.monotonic()
    train(run_dir, iterations=2, every=1, stop=stop, on_iteration=on_iteration)
    assert time.monotonic() - began < LAST_VIDEO_LIMIT_S
    assert processes_of(run_dir) == []
    assert in_videos(run_dir) == []


def test_a_recorder_that_fails_is_reported_once_with_the_end_of_its_log(run_dir, caplog):
    others = psutil.Process().children()  # left by other tests, such as a resource tracker

    def on_iteration(version):
        (run_dir / "config.yaml").write_text("nonsense: true")
        ours = [child for child in psutil.Process().children() if child not in others]
        wait_until(lambda: all(child.status() == psutil.STATUS_ZOMBIE for child in ours))

    with caplog.at_level(logging.WARNING):
        videos = train(run_dir, iterations=3, every=1, on_iteration=on_iteration)
    assert videos.failures == 3
    warnings = [record.getMessage() for record in caplog.records if record.name == "mineonline.callbacks.videos"]
    assert len(warnings) == 1
    assert "nonsense: there is no such key" in warnings[0]
    assert in_videos(run_dir) == []


def test_0_records_nothing(run_dir):
    train(run_dir, iterations=2, every=0, on_iteration=lambda version: None)
    assert [file.name for file in run_dir.iterdir()] == ["config.yaml"]


def test_a_killed_trainer_leaves_no_recorder_and_no_file(start, tmp_path):
    run_dir = make_run_dir(tmp_path / "run", ENDLESS)
    trainer = start(str(run_dir), "100000", "1", "0.1", module="tests.helpers.video_trainer")
    trainer.wait_for(lambda: (run_dir / "videos").exists() and films(run_dir))
    trainer.kill()
    wait_until(lambda: not processes_of(run_dir))
    assert in_videos(run_dir) == []
