"""What a run folder keeps from one session to the next."""

from mineonline.run.folder import create_run_dir, wandb_id
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
