"""A run with every kind of logger: what their files hold after it was resumed further back."""

import json
import re

import pytest
import yaml

from mineonline.run.metrics import read_metrics
from tests.helpers.run_files import events, wandb_config, wandb_records, wandb_rows
from tests.helpers.settings import QUICK

NOTES = "{_target_: tests.helpers.note_logger.Notes, folder: notes, fails_at: 5}"
WORDS = [
    *QUICK, "video.every=4", "checkpointing.every=3", "checkpointing.keep_every=3",
    f"logger=[csv,tensorboard,wandb,{NOTES}]", "wandb.tags=[a,b]", "wandb.group=seeds", "wandb.notes=why not",
    "optimizer.learning_rate=0.0123",
]  # fmt: skip


def notes(tmp_path):
    (file,) = (tmp_path / "notes").iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def steps(found, name):
    return [event.step for event in found.Scalars(name)]


@pytest.mark.slow
def test_every_logger_has_settings_code_videos_and_each_iteration_once_also_after_a_resume(tmp_path, start):
    run_dir = tmp_path / "run"
    first = start(*WORDS, "iterations=5", f"run_dir={run_dir}")
    assert first.wait() == 0, first.output
    said = [line for line in first.output.splitlines() if re.search(r"(?i)warn|traceback|deprecat|Notes", line)]
    assert len(said) == 2, first.output  # the failure, and at the end how many calls were lost
    assert "Notes failed in log_metrics (ConnectionError: the service is down). Training goes on" in said[0]
    # iterations 4 and 5 were logged, and are done again
    second = start("iterations=6", f"checkpoint={run_dir}/checkpoints/000003.ckpt")
    assert second.wait() == 0, second.output

    rows = read_metrics(run_dir / "metrics.csv")
    assert [row["iteration"] for row in rows] == list("123456")
    assert [row["logger_failures"] for row in rows] == list("000000")
    code = yaml.safe_load((run_dir / "code.yaml").read_text())
    assert code["packages"]["torch"]
    videos = sorted(file.name for file in (run_dir / "videos").iterdir())
    assert "000006.mp4" in videos

    board = events(run_dir / "tensorboard")
    assert steps(board, "episode/length") == [1, 2, 3, 4, 5, 6]
    assert steps(events(run_dir / "tensorboard" / "by_env_steps"), "by_env_steps/episode/length") == [
        int(float(row["env_steps"])) for row in rows
    ]
    assert [image.step for image in board.Images("video/episode")][-1] == 6
    assert "_hparams_/experiment" in board.PluginTagToContent("hparams")

    taken = notes(tmp_path)
    assert [note["step"] for note in taken if "metrics" in note] == [1, 2, 3, 4, 6]
    assert [note["params"]["optimizer.learning_rate"] for note in taken if "params" in note] == [0.0123]
    assert {note["step"]: note["video"].endswith("000006.mp4") for note in taken if "video" in note}[6]

    files = sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    logged = [row["trainer/global_step"] for file in files for row in wandb_rows(file) if "episode/length" in row]
    assert logged == [1, 2, 3, 4, 5, 6]
    (run, _) = (next(r.run for r in wandb_records(file) if r.HasField("run")) for file in files)
    assert (list(run.tags), run.run_group, run.notes) == (["a", "b"], "seeds", "why not")
    config = wandb_config(files[0])
    assert config["optimizer"]["learning_rate"] == 0.0123
    assert config["code"]["packages"] == code["packages"]
    assert len({file.stem for file in files}) == 1
    assert list((run_dir / "wandb").glob("offline-run-*/files/media/videos/video/*.mp4"))
