"""Checkpoints that cannot be saved: what the user is told, what is left, and what a run does next."""

import shutil

import pytest
import torch

from mineonline.callbacks.checkpoints import SaveCheckpoints
from mineonline.errors import CheckpointError
from mineonline.run.metrics import MetricsFile, read_metrics
from tests.helpers.learning_set import learn


class Obstacle(SaveCheckpoints):
    """In the way of what is saved after iteration `first`, until iteration `last` has ended."""

    def __init__(self, folder, *, first, last, **settings):
        super().__init__(folder, every=1, keep_every=0, **settings)
        self.file = folder / "last.ckpt"
        self.first, self.last = first, last
        self.kept = []

    def iteration_ended(self, trainer, learner, batch):
        super().iteration_ended(trainer, learner, batch)
        if learner.iteration == self.first:
            self.kept = torch.load(self.file, weights_only=True)["iteration"]
            self.file.rename(self.file.with_name("good"))
            (self.file / "in the way").mkdir(parents=True)
        if learner.iteration == self.last:
            shutil.rmtree(self.file)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_training_goes_on_and_saves_again_when_it_can(tmp_path, folder, caplog):
    metrics = MetricsFile(tmp_path / "metrics.csv", resume_at=0)
    saving = Obstacle(folder, first=2, last=4, on_error="continue")
    learner = learn(tmp_path, 5, callbacks=[saving], logger=metrics, log_every_n_steps=1)
    assert learner.iteration == 5
    assert saving.kept == 1
    assert torch.load(folder / "last.ckpt", weights_only=True)["iteration"] == 5
    assert [row["checkpoint_failures"] for row in read_metrics(tmp_path / "metrics.csv")] == ["0", "0", "1", "2", "2"]
    said = [record.message for record in caplog.records if "cannot be saved" in record.message]
    assert len(said) == 2
    assert f"{folder}/last.ckpt cannot be saved (Is a directory); what was saved before is intact." in said[0]
    assert "tries again when the next is due (failure 2)" in said[1]
    assert sorted(file.name for file in folder.iterdir()) == ["good", "last.ckpt"]


@pytest.mark.parametrize(("on_error", "last_iteration"), [("stop", 2), ("continue", 5)])
def test_a_run_that_cannot_save_its_last_iteration_ends_with_an_error(tmp_path, folder, on_error, last_iteration):
    saving = Obstacle(folder, first=2, last=99, on_error=on_error)
    with pytest.raises(CheckpointError) as error:
        learn(tmp_path, 5, callbacks=[saving])
    assert f"{folder}/last.ckpt cannot be saved (Is a directory)" in str(error.value)
    assert f"Continue with checkpoint={tmp_path} when files can be written." in str(error.value)
    assert torch.load(folder / "good", weights_only=True)["iteration"] == 1
    assert sorted(file.name for file in folder.iterdir()) == ["good", "last.ckpt"]
    assert saving.failures == last_iteration - 2


def test_a_run_folder_that_is_gone_is_not_made_again(tmp_path):
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    saving = Obstacle(run_dir / "checkpoints", first=99, last=99, on_error="continue")

    def remove(batch):
        shutil.rmtree(run_dir, ignore_errors=True)
        return batch

    with pytest.raises(CheckpointError) as error:
        learn(tmp_path, 3, callbacks=[saving], change=remove)
    assert str(error.value) == f"{run_dir}/checkpoints/last.ckpt cannot be saved: the run folder is gone."
    assert not run_dir.exists()
