"""What the real programs answer to a mistake: one error that says what to type, before anything is started."""

import socket
import subprocess
import sys

import pytest
import yaml

from mineonline.__main__ import COMMANDS
from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import CARTPOLE, checkpoint_of


def run(*arguments, module="mineonline.train", cwd=None):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=cwd,
        check=False,
    )


def refused(tmp_path, *arguments):
    """The error of a command, which must end at once with exit code 1 and without a traceback."""
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error:") == 1, result.stderr
    return result.stderr


def test_help_shows_commands_groups_and_settings():
    result = run("--help")
    assert result.returncode == 0
    for expected in ("checkpoint=latest", "trainer.devices=2", "gate, hunt_cow, shoot", "buffer.max_staleness"):
        assert expected in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = run("--help", module=f"mineonline.{command}")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) > 2
    assert f"  {command} " in run(module="mineonline").stdout


def test_a_misspelt_key_ends_the_program_before_anything_is_written(tmp_path):
    assert "Did you mean iterations?" in refused(tmp_path, "iteration=5")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_reports_mistakes_as_a_single_run_does(tmp_path):
    assert "error: iteration: there is no such key. Did you mean iterations?" in refused(
        tmp_path, "-m", "iteration=1,2"
    )
    assert "error: task=hunt_cows: there is no such task. Did you mean task=hunt_cow?" in refused(
        tmp_path, "-m", "task=hunt_cows"
    )
    assert "error: iterations=0: must be at least 1." in refused(tmp_path, "-m", *CARTPOLE, "iterations=0,1")


def test_devices_that_are_not_there_are_refused(tmp_path):
    assert "trainer.accelerator=cpu" in refused(tmp_path, *CARTPOLE, "trainer.devices=8")
    assert "trainer.accelerator=gpu" in refused(tmp_path, *CARTPOLE, "trainer.accelerator=gpu")
    message = refused(tmp_path, *CARTPOLE, "+trainer.device=2")
    assert "trainer.device: lightning.Trainer has no such argument. Did you mean trainer.devices?" in message
    assert list(tmp_path.iterdir()) == []


def test_sharding_is_refused_by_one_rank_before_anything_is_written(tmp_path):
    two = ["trainer.devices=2", "trainer.accelerator=cpu"]
    message = refused(tmp_path, *CARTPOLE, *two, "trainer.strategy=fsdp")
    assert "error: trainer.strategy=fsdp: every rank is a program of its own" in message
    assert list(tmp_path.iterdir()) == []


def test_a_device_for_collectors_that_is_not_there_is_refused_before_anything_is_written(tmp_path):
    message = refused(tmp_path, *CARTPOLE, "collector.device=cuda:99")
    assert "collector.device=cuda:99: this machine has" in message
    assert list(tmp_path.iterdir()) == []


def test_fragments_that_cannot_be_divided_are_refused(tmp_path):
    odd = ["trainer.devices=2", "trainer.accelerator=cpu", "buffer.fragments_per_iteration=9"]
    message = refused(tmp_path, *CARTPOLE, *odd)
    assert "cannot be divided among 2 ranks. Give a multiple of 2, for example 10." in message


def test_a_buffer_that_does_not_fit_on_the_disk_is_refused(tmp_path):
    large = ["buffer.storage=disk", "buffer.capacity=2000000000", f"run_dir={tmp_path}/r"]
    message = refused(tmp_path, *CARTPOLE, *large)
    assert "buffer.storage=disk: 2000000000 fragments take 5," in message
    left = {file.name for file in (tmp_path / "r").iterdir() if file.is_file()}
    assert left == {"config.yaml", "overrides.yaml", "code.yaml", "loggers.yaml", "lock"}


def test_an_unknown_gym_environment_is_refused(tmp_path):
    assert "CartPoll-v1" in refused(tmp_path, "env=gym", "env.id=CartPoll-v1", "policy=mlp")


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("precious")
    message = refused(tmp_path, *CARTPOLE, f"run_dir={tmp_path}/run")
    assert "already holds a run. Give another run_dir" in message
    assert (tmp_path / "run" / "metrics.csv").read_text() == "precious"


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = ["network.host=127.0.0.1", f"network.port={port}"]
        message = refused(tmp_path, *CARTPOLE, *taken, f"run_dir={tmp_path}/r")
    assert f"network.port={port} is taken on 127.0.0.1" in message


def test_checkpoints_that_are_missing_or_broken_are_refused(tmp_path):
    assert "there is no such file" in refused(tmp_path, *CARTPOLE, "checkpoint=no.ckpt")
    broken = tmp_path / "run" / "checkpoints" / "last.ckpt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a checkpoint")
    assert "cannot be read" in refused(tmp_path, *CARTPOLE, f"checkpoint={broken}")


def test_a_checkpoint_of_another_policy_is_refused(tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", *CARTPOLE)
    (tmp_path / "run" / "overrides.yaml").write_text(yaml.safe_dump(list(CARTPOLE)))
    message = refused(tmp_path, f"checkpoint={checkpoint}", "policy.hidden_sizes=[32]")
    assert "is of another policy: actor." in message


def test_a_class_that_cannot_be_imported_is_named_with_the_line_that_fails(tmp_path):
    (tmp_path / "mine.py").write_text("import absent_package\n")
    message = refused(tmp_path, *CARTPOLE, "callbacks=[{_target_: mine.Call}]")
    assert "callbacks._target_=mine.Call: cannot be imported (ModuleNotFoundError: No module named" in message
    assert f"in {tmp_path}/mine.py, line 1)" in message


def test_fewer_than_no_engines_are_refused(tmp_path):
    result = run("--engines=-1", module="mineonline.doctor", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, "error: --engines=-1: must be 0 or more.\n")


def test_the_collector_says_how_it_wants_to_be_called(tmp_path):
    result = run(module="mineonline.collect")
    assert "usage: python -m mineonline.collect run=<run folder>" in result.stderr
    assert "there is no such run folder" in run("run=nowhere", module="mineonline.collect").stderr
