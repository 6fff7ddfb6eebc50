"""What tests share: settings composed from `conf/`, and runs of the real programs in real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.util import Finalize
from pathlib import Path

import msgspec
import psutil
import pytest
import torch
import yaml

from mineonline.command_line import compose_settings
from mineonline.config import Config
from mineonline.config_parsing import parse_config
from mineonline.envs.build import env_spec
from mineonline.policies.build import build_policy
from mineonline.processes import RUN_DIR_VARIABLE

# small tensors on two cores: a second thread would mostly wait for the first
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
CARTPOLE = ["env=gym", "env.id=CartPole-v1", "policy=mlp", "video.every=0"]
SMALL = ["collector.workers=1", "collector.envs_per_worker=8", "fragment.length=16", "buffer.fragments_per_iteration=8"]
QUICK = [*CARTPOLE, *SMALL]
RANKS = ["trainer.devices=2", "trainer.accelerator=cpu"]


def config_of(*overrides: str) -> Config:
    """The configuration that a command line gives."""
    return parse_config(compose_settings(list(overrides)))


def config_of_experiment(name: str) -> Config:
    """A preset, with what it leaves to the user."""
    given = ["policy.weights=null"] if name.startswith("minestudio") else []
    return config_of(f"experiment={name}", *given)


def checkpoint_of(run_dir, *overrides, version=0):
    """A run folder as training leaves it after `version` iterations, with untrained weights."""
    config = config_of(*overrides)
    policy = build_policy(config, env_spec(config))
    policy.version.fill_(version)
    file = run_dir / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    state = {f"policy.{name}": leaf for name, leaf in policy.state_dict().items()}
    torch.save({"state_dict": state, "iteration": version}, file)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(config)))
    return file


def processes_of(run_dir: Path) -> list[psutil.Process]:
    """Every living process of a run, found as an operator would."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_DIR_VARIABLE) == str(run_dir) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


class Run:
    """`python -m <module> <arguments>` as a child process in its own session, with its output in a file."""

    def __init__(
        self, folder: Path, *arguments: str, module: str = "mineonline.train", paths: Sequence[Path] = ()
    ) -> None:
        """`paths`: further folders with modules."""
        self.output_file = folder / f"output-{time.monotonic_ns()}.txt"
        with self.output_file.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths)))},
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int:
        """The exit code; fails the test with the output if the process does not end in time."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout_s} s:\n{self.output}")

    def wait_for(self, condition, timeout_s: float) -> None:
        """Until `condition()`; fails the test if the process ends before, or it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.process.poll() is not None:
                pytest.fail(f"ended with {self.process.returncode}:\n{self.output}")
            if time.monotonic() > deadline:
                pytest.fail(f"condition not met after {timeout_s} s:\n{self.output}")
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


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

    def begin(*arguments: str, module: str = "mineonline.train", paths: Sequence[Path] = ()) -> Run:
        runs.append(Run(tmp_path, *arguments, module=module, paths=paths))
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()


def rows(run_dir: Path) -> int:
    """Iterations in a run's metrics so far."""
    file = run_dir / "metrics.csv"
    return max(0, len(file.read_text().splitlines()) - 1) if file.exists() else 0


def leaves_nothing(run_dir: Path, within_s: float = 10.0) -> bool:
    """Waits until no process of the run is left; fails the test after `within_s`."""
    deadline = time.monotonic() + within_s
    while processes_of(run_dir):
        assert time.monotonic() < deadline, [p.cmdline() for p in processes_of(run_dir)]
        time.sleep(0.1)
    return True


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    """What the newest checkpoint holds."""
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
