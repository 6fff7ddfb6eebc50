"""Fixtures of all tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from multiprocessing.util import Finalize
from typing import Any

import pytest
import torch

from tests.helpers.programs import Run
from tests.helpers.run_files import unknown_metrics


def pytest_configure():
    if importlib.util.find_spec("minestudio") is None:
        raise pytest.UsageError("MineStudio is missing. Install it with  python -m mineonline.doctor --install")


def pytest_collection_modifyitems(items):
    """What starts no program, and is not slow, is quick: for the edit loop."""
    for item in items:
        starts_programs = "start" in item.fixturenames or item.path.parent.name == "programs"
        if not starts_programs and not any(item.iter_markers("slow")) and not any(item.iter_markers("program")):
            item.add_marker(pytest.mark.quick)


# small tensors on two cores: a second thread would mostly wait for the first
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_temporary_folder():
    """Of this pytest process and all that it starts: what a test leaves behind is not taken for another's."""
    before = tempfile.gettempdir()
    # short, since it is the beginning of the paths of sockets
    folder = tempfile.mkdtemp(prefix="mt-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    # after multiprocessing has removed its own folder in there, whose priority is -100
    Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-200)
    yield
    os.environ["TMPDIR"] = tempfile.tempdir = before


@pytest.fixture
def start(tmp_path):
    """Start programs that are killed, whatever they are, when the test ends."""
    runs: list[Run] = []

    def begin(*arguments: str, **how: Any) -> Run:
        runs.append(Run(tmp_path, *arguments, **how))
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()
    for file in tmp_path.rglob("metrics.csv"):
        assert not unknown_metrics(file)
