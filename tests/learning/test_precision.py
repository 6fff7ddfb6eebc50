"""trainer.precision=bf16-mixed: what a worker recorded is what the learner computes, so ratios start at 1."""

import pytest
import torch

from mineonline.learning.sequences import first_pass
from mineonline.policies.precision import autocast
from tests.helpers.settings import config_of
from tests.helpers.synchronous import Synchronous

SETTINGS = [
    "trainer.precision=bf16-mixed", "collector.workers=1", "collector.envs_per_worker=4", "fragment.length=32",
    "buffer.fragments_per_iteration=4", "optimizer.context_length=16", "optimizer.minibatches=2", "iterations=1",
]  # fmt: skip
POLICIES = {
    "tiny": ["env.image_size=[40,36]"],
    "gru": ["env.image_size=[40,36]", "policy.memory=gru"],
    "vpt": ["policy=vpt", "policy.size=mini", "env.image_size=[128,128]"],
}


def peaked(name, folder):
    """A policy that prefers some actions strongly, as trained ones do: errors of its logits show in full."""
    synchronous = Synchronous(config_of(*SETTINGS, *POLICIES[name]), folder=folder)
    with torch.no_grad():
        for parameter, tensor in synchronous.learner.policy.head.named_parameters():
            if parameter.endswith("weight"):
                tensor.mul_(2000 if name == "vpt" else 100)
    return synchronous


def outside(learner, fragments, precision):
    """Fraction of decisions whose ratio is outside the clip range before anything was learnt."""
    with autocast(precision, torch.device("cpu")):
        found = first_pass(learner.policy, fragments, 16)
    ratio_BT = (found.log_prob_BT - fragments.log_prob_BT).exp()[~fragments.idle_BT]
    return float(((ratio_BT - 1).abs() > learner.objective.clip).float().mean())


@pytest.mark.parametrize("name", POLICIES)
def test_learner_and_worker_agree_at_lag_0(tmp_path, name):
    synchronous = peaked(name, tmp_path)
    fragments = synchronous.play().fragments
    assert outside(synchronous.learner, fragments, "bf16-mixed") < 0.01
    if name == "vpt":  # what the test would see if workers acted in another precision
        assert outside(synchronous.learner, fragments, "32-true") > 0.1


@pytest.mark.parametrize("name", POLICIES)
def test_the_first_step_of_an_iteration_shows_whether_they_agree(tmp_path, name):
    synchronous = peaked(name, tmp_path)
    learner = synchronous.run()
    metrics = learner.trainer.callback_metrics
    assert float(metrics["loss/first_clip_fraction"]) < 0.01
    assert float(metrics["loss/first_approximate_kl"]) < 1e-3
    assert float(metrics["loss/approximate_kl"]) > float(metrics["loss/first_approximate_kl"])
