"""A cue that is gone before the fragment with the answer starts: only memory carried between fragments helps."""

import pytest

from mineonline.run.metrics import read_metrics
from tests.helpers.recall_env import LONGEST_DELAY
from tests.helpers.settings import config_of

# discount 0: credit assignment is not the question here
RECALL = [
    "env=gym", "env.id=tests.helpers.recall_env:Recall-v0", "policy=tiny", "policy.hidden_size=64", "iterations=40",
    "collector.workers=1", "collector.envs_per_worker=64", "fragment.length=8", "buffer.fragments_per_iteration=256",
    "objective.discount=0", "objective.entropy_coef=0.01", "optimizer.learning_rate=1e-3", "optimizer.epochs=4",
    "video.every=0",
]  # fmt: skip


def best_without_carrying(rows: int) -> float:
    """Expected return of a policy that answers right whenever cue and answer are in the same fragment of `rows` rows.

    A fragment starts anywhere in an episode, so cue and answer, `gap` rows apart, are in the same one with probability
    1 - gap / rows, or 0.
    """
    apart = range(1, LONGEST_DELAY + 2)
    return sum(max(0, rows - gap) / rows for gap in apart) / len(apart)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["gru", "none"])
def test_a_cue_from_before_the_fragment_is_recalled_with_memory_alone(memory, start, tmp_path):
    run = start(*RECALL, f"policy.memory={memory}", f"run_dir={tmp_path}/run")
    assert run.wait() == 0, run.output
    found = float(read_metrics(tmp_path / "run" / "metrics.csv")[-1]["episode/return"])
    if memory == "gru":
        assert best_without_carrying(config_of(*RECALL).fragment.length) < 0.3
        assert found > 0.9
    else:
        assert abs(found) < 0.4  # four standard deviations of the mean of 100 guesses
