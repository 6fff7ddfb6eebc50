"""The learner against PPO written in one plain file, on the same recorded fragments."""

import lightning
import pytest
import torch

from mineonline.fragment import concatenate
from mineonline.learning.module import PPO
from tests.helpers.fit import fit, fresh
from tests.helpers.plain_ppo import PlainPPO
from tests.helpers.settings import CARTPOLE, config_of
from tests.helpers.synchronous import Synchronous

# episodes of at most 12 steps, so that time limits, deaths and episodes cut by the end of a fragment all occur
SETTINGS = [
    *CARTPOLE, "+env.kwargs.max_episode_steps=12", "policy.hidden_sizes=[8,8]", "collector.workers=1",
    "collector.envs_per_worker=6", "fragment.length=14", "buffer.fragments_per_iteration=6", "optimizer.minibatches=2",
    "optimizer.weight_decay=0.01", "objective.entropy_coef=0.02", "objective.normalize_value=false", "iterations=3",
    "seed=5",
]  # fmt: skip
NAMES = {
    "head.linear.weight": "head.weight", "head.linear.bias": "head.bias",
    "value.linear.weight": "value.weight", "value.linear.bias": "value.bias",
}  # fmt: skip


class Noted(PPO):
    """Records the gradients of each step and the order of minibatches."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.gradients, self.order = [], []

    def on_before_optimizer_step(self, optimizer):
        self.gradients.append({plain(n): p.grad.clone() for n, p in self.policy.named_parameters()})
        super().on_before_optimizer_step(optimizer)

    def _draw(self, count, generator, epochs):
        drawn = super()._draw(count, generator, epochs)
        self.order += [index.tolist() for index in drawn]
        return drawn


class KeepLosses(lightning.Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses += outputs["losses"]


def plain(name):
    return NAMES.get(name, name)


def recorded(settings, folder):
    """Per iteration, two consecutive fragments of each environment; one is missing before the last iteration."""
    player = Synchronous(config_of(*settings), folder=folder)
    parts = [player.play().fragments for _ in range(7)]
    return [concatenate([parts[i], parts[i + 1]]) for i in (0, 2, 5)]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_losses_gradients_and_weights_equal_those_of_plain_ppo(tmp_path, accumulate):
    settings = [*SETTINGS, f"optimizer.accumulate={accumulate}"]
    config = config_of(*settings)
    batches = recorded(settings, tmp_path)
    assert all(b.truncated_BT.any() and b.terminated_BT.any() and b.idle_BT.any() for b in batches)
    learner = Synchronous(config, learner_class=Noted, folder=tmp_path).learner
    objective, optimizer = config.objective, config.optimizer
    simple = PlainPPO(
        {plain(n): p.detach().clone() for n, p in learner.policy.named_parameters()}, objective.discount,
        objective.trace, objective.clip, objective.value_coef, objective.entropy_coef, optimizer.learning_rate,
        optimizer.eps, optimizer.weight_decay, optimizer.max_grad_norm,
    )  # fmt: skip
    losses = KeepLosses()
    fit(learner, lambda: fresh(batches[learner.iteration]), 3, tmp_path, callbacks=[losses])
    per_iteration = optimizer.epochs * optimizer.minibatches
    for number, batch in enumerate(batches):
        order = learner.order[number * per_iteration : (number + 1) * per_iteration]
        simple.iterate(dict(batch.named_tensors()), order)
    assert len(simple.steps) == len(losses.losses) == 3 * per_iteration
    for step, ours, gradients in zip(simple.steps, losses.losses, learner.gradients, strict=True):
        for name, value in step.losses.items():
            assert float(getattr(ours, name)) == pytest.approx(value, abs=1e-6, rel=1e-6), name
        for name, gradient in step.gradients.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-6, msg=name)
    for name, weight in learner.policy.named_parameters():
        torch.testing.assert_close(weight.detach(), simple.weights[plain(name)].detach(), rtol=0, atol=1e-6)
