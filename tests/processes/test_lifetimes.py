"""Temporary folders whose owner was killed, with and without the process that removes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from mineonline.processes.lifetimes import TemporaryFolder
from tests.helpers.programs import wait_until

pytestmark = pytest.mark.quick

OWNER = """
import time
from mineonline.processes.lifetimes import TemporaryFolder
print(TemporaryFolder("mineonline-").path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def temporary(monkeypatch):
    """The folder for temporary folders, of this process and of those that it starts; short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


@pytest.fixture
def owner(temporary):
    """A process with such a folder, and the folder."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def janitor_of(process: subprocess.Popen) -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


def made_before(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    (owner,) = folder.glob(".owner-*")
    os.utime(owner, (then, then))


def test_an_owner_that_is_killed_leaves_no_folder(owner):
    process, folder = owner
    assert folder.is_dir()
    process.kill()
    wait_until(lambda: not folder.exists())


def test_what_stays_if_all_are_killed_at_once_is_removed_by_the_next(owner):
    process, folder = owner
    (folder / "weights").touch()
    janitor = janitor_of(process)
    janitor.send_signal(signal.SIGSTOP)
    process.kill()
    process.wait()
    janitor.kill()
    TemporaryFolder("mineonline-").remove()
    assert folder.exists()  # it might just be made, and not locked yet
    made_before(folder, 120)
    TemporaryFolder("mineonline-").remove()
    assert not folder.exists()


def test_the_folder_of_a_living_owner_and_a_folder_of_the_users_stay(owner, temporary):
    _, folder = owner
    made_before(folder, 7 * 24 * 3600)
    (temporary / "mineonline-notes").mkdir()
    TemporaryFolder("mineonline-").remove()
    assert folder.is_dir()
    assert (temporary / "mineonline-notes").is_dir()
