"""Rewards of any scale learn alike with the default settings."""

import numpy as np
import pytest

from tests.helpers.bandit import STEPS
from tests.helpers.settings import config_of
from tests.helpers.synchronous import Synchronous

SETTINGS = [
    "env=gym", "env.id=tests.helpers.bandit:Bandit-v0", "policy=mlp", "policy.hidden_sizes=[32]", "video.every=0",
    "collector.workers=1", "collector.envs_per_worker=8", "fragment.length=32", "buffer.fragments_per_iteration=8",
    "iterations=40", "optimizer.learning_rate=3e-3",
]  # fmt: skip


def learnt(folder, scale, seed, *overrides):
    """Mean return of the last ten iterations' episodes, in units of the scale."""
    synchronous = Synchronous(
        config_of(*SETTINGS, f"+env.kwargs.scale={scale}", f"seed={seed}", *overrides), folder=folder
    )
    synchronous.run()
    returns = [episode for iteration in synchronous.returns[-10:] for episode in iteration]
    return float(np.mean(returns)) / scale


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_bandit_is_learnt_at_every_scale(tmp_path, seed):
    expected = learnt(tmp_path, 1, seed)
    assert expected > 0.85 * STEPS
    for scale in (1e-6, 1e-3, 1e3, 1e6):
        assert learnt(tmp_path, scale, seed) == pytest.approx(expected, rel=0.1), scale


def test_rewards_can_be_scaled_and_clipped(tmp_path):
    raw = "objective.normalize_value=false"
    one, other = (learnt(tmp_path, scale, 0, raw, f"objective.reward_scale={1 / scale}") for scale in (1, 64))
    assert other == pytest.approx(one, rel=1e-3)
    clipped = learnt(tmp_path, 64, 0, raw, "objective.reward_clip=1")
    assert clipped == pytest.approx(one, rel=1e-3)


def test_a_gradient_that_stays_far_above_its_limit_is_named(tmp_path, caplog):
    learnt(tmp_path, 1e6, 0, "objective.normalize_value=false", "iterations=12")
    (warning,) = [record.getMessage() for record in caplog.records if "gradient's norm" in record.getMessage()]
    assert "over 100 times optimizer.max_grad_norm=0.5" in warning
    assert "objective.normalize_value=true" in warning
