"""A small VPT in the real programs, as a user types it: two ranks, and a reference with memory."""

import torch

from mineonline.envs.build import env_spec
from mineonline.policies.build import build_policy
from mineonline.policies.vpt_files import write_model, write_weights
from mineonline.run.checkpoint import read_policy_state
from mineonline.run.folder import read_config
from mineonline.run.metrics import read_metrics
from tests.policies.test_vpt import small

PROGRAM = [
    "env=world", "task=hunt_cow", "env.image_size=[128,128]", "policy=vpt", "reference.kl_coef=0.2",
    "collector.workers=1", "collector.envs_per_worker=2", "fragment.length=8", "buffer.fragments_per_iteration=4",
    "optimizer.minibatches=1", "optimizer.epochs=1", "optimizer.context_length=4", "video.every=0",
    "trainer.devices=2", "trainer.accelerator=cpu", "torch_threads=1",
]  # fmt: skip


def test_two_ranks_train_a_vpt_from_files_near_its_frozen_copy(start, tmp_path):
    begin = small("seed=3")
    model, weights = tmp_path / "a.model", tmp_path / "a.weights"
    write_model(model, begin.arguments, begin.head.temperature)
    write_weights(weights, begin)
    run_dir = tmp_path / "run"
    run = start(
        *PROGRAM, "iterations=2", f"policy.model={model}", f"policy.weights={weights}", f"run_dir={run_dir}",
        "policy.any_pace=true",
    )  # fmt: skip
    assert run.wait() == 0, run.output
    rows = read_metrics(run_dir / "metrics.csv")
    assert len(rows) == 2
    assert float(rows[0]["loss/approximate_kl"]) < 1e-6  # no lag, and the memory that was sent is the one that played
    assert 0 <= float(rows[0]["loss/reference_kl"]) < 1e-6 < float(rows[1]["loss/reference_kl"])
    state = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    start_state = begin.state_dict()
    for name, tensor in begin.named_parameters():
        assert torch.equal(state[f"reference.{name}"], tensor) or name.startswith("value."), name
        assert not torch.equal(state[f"policy.{name}"], start_state[name]), name
    model.unlink()  # config.yaml holds everything that was in it
    file = run_dir / "checkpoints" / "last.ckpt"
    config = read_config(file)
    policy = build_policy(config, env_spec(config.env, config.task))
    policy.load_state_dict(read_policy_state(file, policy))
    assert policy.arguments == begin.arguments
