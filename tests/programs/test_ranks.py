"""Two trainer processes, and gradients that are not finite in one of them: all ranks do the same."""

import os
import signal
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import torch

from mineonline.run.metrics import read_metrics
from tests.helpers.programs import leaves_nothing, rows, weights
from tests.helpers.settings import QUICK, RANKS


def test_two_ranks_train_on_different_fragments_and_stay_identical(start, tmp_path):
    run_dir = tmp_path / "run"
    compare = "{_target_: tests.helpers.compare_ranks.CompareRanks}"
    run = start(*QUICK, "iterations=6", f"run_dir={run_dir}", "trainer.devices=2", "trainer.accelerator=cpu",
                f"callbacks=[{compare}]")  # fmt: skip
    assert run.wait() == 0, run.output
    assert run.output.count("ranks identical: True, batches differ: True") == 6, run.output
    assert leaves_nothing(run_dir)


def test_ctrl_c_stops_two_ranks_after_the_same_iteration(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, *RANKS, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    run.send(signal.SIGINT)  # to rank 0 alone: it must stop the other rank too
    assert run.wait() == 130, run.output
    assert leaves_nothing(run_dir)
    assert int(weights(run_dir)["policy.version"]) == rows(run_dir)


def test_a_signal_to_another_rank_stops_all_and_the_run_is_not_called_complete(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, *RANKS, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    other_rank(run).send_signal(signal.SIGINT)
    assert run.wait() == 143, run.output
    assert "continue with: " in run.output
    assert not (run_dir / "done").exists()
    assert leaves_nothing(run_dir)


def other_rank(run):
    """The process of rank 1."""
    (other,) = [child for child in psutil.Process(run.process.pid).children() if "mineonline.train" in child.cmdline()]
    return other


def test_a_signal_to_rank_0_stops_ranks_that_wait_for_fragments(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, *RANKS, "collector.count=0", f"run_dir={run_dir}")
    run.wait_for((run_dir / "join").exists)
    time.sleep(2)
    run.send(signal.SIGTERM)
    assert run.wait() == 143, run.output
    assert leaves_nothing(run_dir)


def test_a_killed_rank_ends_the_run_and_leaves_nothing(start, tmp_path):
    run_dir = tmp_path / "run"
    before = set(Path(tempfile.gettempdir()).glob("mineonline-*"))
    run = start(*QUICK, *RANKS, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    other_rank(run).kill()
    assert run.wait() != 0
    assert leaves_nothing(run_dir)
    assert not set(Path(tempfile.gettempdir()).glob("mineonline-*")) - before


def test_a_rank_whose_rank_0_was_killed_while_it_imported_ends(start, tmp_path, monkeypatch):
    """It has another parent by the time at which it could ask the kernel to be killed with the first."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("MINEONLINE_LAUNCHER", "4194304")
    run = start(*QUICK, *RANKS, f"run_dir={tmp_path / 'run'}")
    assert run.wait() == -signal.SIGKILL, run.output


def test_an_error_of_rank_0_ends_all_ranks(start, tmp_path):
    run_dir = tmp_path / "run"
    raising = ["env.id=tests.helpers.odd_envs:NeverPlays-v0", "env.max_failures=2"]
    run = start(*QUICK, *RANKS, *raising, f"run_dir={run_dir}")
    assert run.wait() == 1
    assert "the sky has fallen on this environment" in run.output
    assert leaves_nothing(run_dir)


@pytest.mark.slow
def test_steps_whose_gradient_is_not_finite_are_skipped_by_all_ranks_and_counted(start, tmp_path):
    run_dir = tmp_path / "run"
    compare = "{_target_: tests.helpers.compare_ranks.CompareRanks}"
    poison = f"callbacks=[{{_target_: tests.helpers.poison.Poison, first: 1, last: 2}},{compare}]"
    run = start(*QUICK, *RANKS, poison, "iterations=4", f"run_dir={run_dir}")
    assert run.wait() == 0, run.output
    skipped = [float(row["loss/skipped_steps"]) for row in read_metrics(run_dir / "metrics.csv")]
    assert skipped[1] > 0
    assert skipped[0] == skipped[2] == skipped[3] == 0
    assert run.output.count("ranks identical: True") == 4, run.output
    assert all(tensor.isfinite().all() for tensor in weights(run_dir).values())


def test_gradients_that_stay_non_finite_end_the_run_and_save_the_fragments(start, tmp_path):
    run_dir = tmp_path / "run"
    poison = "callbacks=[{_target_: tests.helpers.poison.Poison, first: 1, last: 99}]"
    run = start(*QUICK, poison, "optimizer.max_bad_steps=10", f"run_dir={run_dir}")
    assert run.wait() == 1
    assert "Not finite in the fragments: reward_BT" in run.output
    assert "actor.0.weight" in run.output
    saved = torch.load(run_dir / "bad_batch-0.pt", weights_only=True)
    assert not saved["fragments"]["reward_BT"].isfinite().all()
    replay = start(f"file={run_dir / 'bad_batch-0.pt'}", module="mineonline.replay")
    assert replay.wait() == 0
    assert "fragments: reward_BT has 1 of 128 not finite, the first at (0, 0)" in replay.output
    assert "fragment 0 (environment 0), sequence 0: losses not finite: total, policy" in replay.output
    assert leaves_nothing(run_dir)


def test_ctrl_c_in_a_terminal_which_reaches_every_rank_saves_and_says_how_to_continue(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, *RANKS, "buffer.fragments_per_iteration=16", "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.wait() == 128 + signal.SIGINT, run.output
    assert "continue with: " in run.output
    assert "Traceback" not in run.output
    assert leaves_nothing(run_dir)
