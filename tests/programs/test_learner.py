"""The learner's options, typed as a user types them, in the real programs."""

import torch

from mineonline.run.metrics import read_metrics
from tests.helpers.settings import QUICK, SMALL


def test_a_run_begins_from_another_ones_policy_and_learns_from_its_recorded_play_with_a_learner_of_ones_own(
    start, tmp_path
):
    first = start(*QUICK, "iterations=2", f"run_dir={tmp_path / 'first'}")
    assert first.wait() == 0, first.output
    recording = start(
        f"checkpoint={tmp_path / 'first'}", f"record={tmp_path / 'set'}", "fragments=8", module="mineonline.collect"
    )
    assert recording.wait() == 0, recording.output
    second = start(
        *QUICK, "iterations=4", f"run_dir={tmp_path / 'second'}", f"init_from={tmp_path / 'first'}",
        f"reference.checkpoint={tmp_path / 'first'}", "reference.kl_coef=0.1", f"offline.folder={tmp_path / 'set'}",
        "objective.value_warmup=2", "learner._target_=tests.helpers.recomputed_ppo.RecomputedPPO",
    )  # fmt: skip
    assert second.wait() == 0, second.output
    rows = read_metrics(tmp_path / "second" / "metrics.csv")
    assert [float(row["loss/cloning"]) > 0 for row in rows] == [False, False, True, True]
    assert [float(row["loss/reference_kl"]) > 1e-9 for row in rows] == [False, False, True, True]
    # only the first weights were published while the value warmed up, and no fragment counts as stale for that
    assert [float(row["lag_versions_max"]) for row in rows[:3]] == [0, 0, 0]
    state = torch.load(tmp_path / "second" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (state["iteration"], int(state["state_dict"]["policy.version"])) == (4, 2)
    begin = torch.load(tmp_path / "first" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(begin["policy.head.linear.weight"], state["state_dict"]["reference.head.linear.weight"])


def test_a_learner_or_a_set_that_is_not_there_is_named(start, tmp_path):
    run = start(*QUICK, "learner._target_=no_such_package.Learner")
    other = start(*QUICK, "learner._target_=pathlib.Path")
    set_ = start(*QUICK, f"offline.folder={tmp_path / 'nothing'}")
    assert run.wait() == 1
    assert "error: learner._target_=no_such_package.Learner: cannot be imported (" in run.output
    assert other.wait() == 1
    assert "learner._target_=pathlib.Path: must be a subclass of mineonline.PPO." in other.output
    assert set_.wait() == 1
    assert "nothing: there is no such folder of recorded fragments" in set_.output


def test_a_policy_that_diverges_ends_the_run_and_says_so(start, tmp_path):
    run = start(
        "env=gym", "env.id=tests.helpers.recall_env:Recall-v0", "policy=tiny", *SMALL, "video.every=0",
        "optimizer.learning_rate=1e30", f"run_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert run.wait() == 1
    # whichever is seen first: fragments that are refused, or gradients from those that are not
    assert "The behaviour policy has diverged" in run.output or "had gradients that are not finite" in run.output
