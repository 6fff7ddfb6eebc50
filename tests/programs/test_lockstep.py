"""At lag 0 the distributed system equals its own PPO run synchronously in one process, bit for bit."""

import pytest
import torch

from mineonline.run.metrics import read_metrics
from tests.helpers.settings import CARTPOLE, config_of
from tests.helpers.synchronous import Synchronous

LOCKSTEP = [
    "collector.mode=lockstep", "collector.workers=2", "collector.envs_per_worker=2", "fragment.length=16",
    "buffer.fragments_per_iteration=4", "collector.spare=false", "torch_threads=1", "video.every=0", "iterations=6",
    "seed=3",
]  # fmt: skip
WORLD = ["policy.memory=gru", "env.image_size=[40,36]", "task.time_limit_ticks=40", "reference.kl_coef=0.1"]


TASKS = [*WORLD, "tasks={hunt_cow: 2, chop_tree: 2}", "task_lasts=episode", "policy.task_embedding=4"]
TWO_BATCHES = [*CARTPOLE, "buffer.fragments_per_iteration=8"]


@pytest.mark.parametrize(
    "task", [TWO_BATCHES, WORLD, TASKS], ids=["CartPole", "world with memory and a reference", "two tasks, drawn"]
)
def test_a_distributed_run_without_lag_equals_synchronous_ppo_bit_for_bit(start, tmp_path, task):
    run = start(*LOCKSTEP, *task, f"run_dir={tmp_path / 'run'}")
    alone = Synchronous(config_of(*LOCKSTEP, *task), folder=tmp_path).run()
    assert run.wait() == 0, run.output
    distributed = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert distributed.keys() == alone.state_dict().keys()
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, distributed[name]), name
    metrics = read_metrics(tmp_path / "run" / "metrics.csv")
    assert [float(row["lag_versions_max"]) for row in metrics] == [0.0] * 6


def test_an_environment_that_starts_late_gets_its_share_and_strangers_are_refused(start, tmp_path):
    run_dir = tmp_path / "run"
    late = ["env=own", "env._target_=tests.helpers.late_env.Late", "policy=mlp", "collector.workers=1", "iterations=8"]
    run = start(*LOCKSTEP, *late, "collector.envs_per_worker=4", f"run_dir={run_dir}")
    run.wait_for(lambda: (run_dir / "join").exists())
    stranger = start(f"run={run_dir}", module="mineonline.collect")
    assert stranger.wait() != 0
    assert "in lockstep (collector.mode) a run has the collectors that its trainer starts" in stranger.output
    assert run.wait() == 0, run.output
    metrics = read_metrics(run_dir / "metrics.csv")
    assert [float(row["lag_versions_max"]) for row in metrics] == [0.0] * 8
    assert [float(row["env_steps"]) for row in metrics][-1] > 0
    assert sum(float(row["dropped/surplus"]) for row in metrics) > 0
    assert sum(float(row["dropped/stale"]) for row in metrics) == 0
