"""What a run folder keeps from one session to the next."""

import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from mineonline.errors import ConfigError
from mineonline.run.folder import LOCK_FILE, create_run_dir, lock_run_dir, wandb_id
from tests.helpers.programs import wait_until
from tests.helpers.settings import CARTPOLE, checkpoint_of


def test_a_resumed_run_keeps_its_wandb_id_and_a_new_one_gets_its_own(tmp_path):
    folder = tmp_path / "run"
    checkpoint = checkpoint_of(folder, *CARTPOLE)
    create_run_dir(folder, {}, [], None)
    first = wandb_id(folder)
    assert wandb_id(folder) == first
    create_run_dir(folder, {}, [], str(checkpoint))
    assert wandb_id(folder) == first
    create_run_dir(tmp_path / "branch", {}, [], str(checkpoint))
    assert wandb_id(tmp_path / "branch") != first
    create_run_dir(folder, {}, [], None)  # a new run in the folder of one that never got started
    assert wandb_id(folder) != first
    assert not [file for file in folder.iterdir() if file.name.startswith(".")]


_HOLD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from mineonline.run.folder import lock_run_dir

with ExitStack() as stack:
    lock_run_dir(stack, Path(sys.argv[1]))
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    words = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_run_folder_is_free_again_once_its_trainer_was_killed(tmp_path, holder):
    with ExitStack() as stack, pytest.raises(ConfigError, match=f"a trainer is running there .process {holder.pid} on"):
        lock_run_dir(stack, tmp_path)
    holder.kill()
    holder.wait()
    with ExitStack() as stack:
        lock_run_dir(stack, tmp_path)


def test_a_trainer_on_another_machine_is_waited_for(tmp_path, holder, capsys):
    (tmp_path / LOCK_FILE).write_text("elsewhere 1")
    said = ""

    def waits():
        nonlocal said
        said += capsys.readouterr().err
        return "waiting 120 s for the trainer on elsewhere to end" in said

    with ExitStack() as stack:
        # POSIX locks belong to the process, whichever thread takes them
        thread = threading.Thread(target=lock_run_dir, args=(stack, tmp_path))
        thread.start()
        wait_until(waits)
        holder.stdin.close()
        thread.join()
        assert (tmp_path / LOCK_FILE).read_text() != "elsewhere 1"
