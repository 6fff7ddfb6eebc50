"""A cue that is gone before the fragment with the answer begins: memory carried between fragments alone helps."""

import pytest

from mineonline.metrics import read_metrics
from tests.conftest import config_of, rows
from tests.recall_env import DELAY

RECALL = [
    "env=gym", "env.id=tests.recall_env:Recall-v0", "policy=tiny", "policy.hidden_size=64", "iterations=80",
    "collector.workers=1", "collector.envs_per_worker=64", "fragment.length=8", "buffer.fragments_per_iteration=256",
    "objective.discount=0.99", "objective.entropy_coef=0.01", "optimizer.learning_rate=1e-3", "optimizer.anneal=true",
    "optimizer.epochs=4", "video.every=0",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["gru", "none"])
def test_a_cue_from_before_the_fragment_is_recalled_with_memory_alone(memory, start, tmp_path):
    assert config_of(*RECALL).fragment.length < DELAY
    run = start(*RECALL, f"policy.memory={memory}", f"run_dir={tmp_path}/run")
    assert run.wait(280) == 0, run.output
    assert rows(tmp_path / "run") == 80
    found = float(read_metrics(tmp_path / "run" / "metrics.csv")[-1]["episode/return"])
    if memory == "gru":
        assert found > 0.9
    else:
        assert abs(found) < 0.4  # four standard deviations of the mean of 100 guesses
