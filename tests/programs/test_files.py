"""Run folders that vanish, disks that are full, and what the terminal says of them."""

import shutil
import signal
import subprocess

import pytest

from mineonline.run.metrics import read_metrics
from tests.helpers.programs import collector_of, leaves_nothing, rows, weights
from tests.helpers.settings import QUICK, RANKS


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk):
    """Leaves no room, and returns the file to delete when there shall be room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


@pytest.mark.parametrize("ranks", [[], pytest.param(RANKS, marks=pytest.mark.slow)], ids=["one rank", "two ranks"])
def test_a_run_whose_disk_is_full_for_a_while_loses_nothing(start, small_disk, ranks):
    run_dir = small_disk / "run"
    run = start(*QUICK, *ranks, "iterations=100000", "checkpointing.every=5", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 6)
    filler = fill(small_disk)
    run.wait_for(lambda: "(failure 2)" in run.output)
    before = int(weights(run_dir)["policy.version"])  # what was saved before can be read
    filler.unlink()
    run.wait_for(lambda: int(weights(run_dir)["policy.version"]) > before)
    run.send(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.output
    assert "Traceback" not in run.output
    metrics = read_metrics(run_dir / "metrics.csv")
    assert [int(row["iteration"]) for row in metrics] == list(range(1, len(metrics) + 1))
    assert float(metrics[-1]["checkpoint_failures"]) >= 2
    assert int(weights(run_dir)["policy.version"]) == len(metrics)
    assert not list((run_dir / "checkpoints").glob(".*"))
    assert leaves_nothing(run_dir)


@pytest.mark.parametrize("ranks", [[], pytest.param(RANKS, marks=pytest.mark.slow)], ids=["one rank", "two ranks"])
def test_a_run_that_shall_stop_when_its_disk_is_full_says_so_in_one_sentence(start, small_disk, ranks):
    run_dir = small_disk / "run"
    stop = ["checkpointing.every=5", "checkpointing.on_error=stop"]
    run = start(*QUICK, *ranks, *stop, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 6)
    fill(small_disk)
    assert run.wait() == 1, run.output
    assert run.output.count("error: ") == 1, run.output
    assert "last.ckpt cannot be saved (No space left on device); what was saved before is intact." in run.output
    assert f"Continue with checkpoint={run_dir} when files can be written." in run.output
    assert "Traceback" not in run.output
    assert int(weights(run_dir)["policy.version"]) % 5 == 0
    assert not list((run_dir / "checkpoints").glob(".*"))
    assert leaves_nothing(run_dir)


def test_a_run_folder_that_is_deleted_does_not_come_back_and_the_run_says_so(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", "checkpointing.every=3", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 4)
    collector = collector_of(run_dir)
    while run_dir.exists():
        shutil.rmtree(run_dir, ignore_errors=True)  # the run writes into it meanwhile
    collector.kill()  # its successor logs nothing, but plays
    run.wait_for(lambda: "another is started" in run.output)
    failed = run.output.count("Training goes on")
    run.wait_for(lambda: run.output.count("Training goes on") > failed + 1)
    run.send(signal.SIGINT)
    assert run.wait() == 1, run.output
    assert "last.ckpt cannot be saved: the run folder is gone. Training goes on" in run.output
    assert run.output.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in run.output
    assert not run_dir.exists()
    assert leaves_nothing(run_dir)
