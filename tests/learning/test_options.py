"""Options of the learner: the reference's KL, early stop, schedules, groups of parameters, the auxiliary phase."""

from dataclasses import replace

import lightning
import pytest
import torch

from mineonline.envs.contract import ContinuousAction, EnvSpec
from mineonline.errors import CheckpointError, ConfigError
from mineonline.learning.cloning import Cloning
from mineonline.learning.module import PPO
from mineonline.learning.objective import Rows
from mineonline.policies.build import build_policy
from mineonline.run.learner import build_learner
from tests.helpers.learning_set import SETTINGS, SPEC, B, T, learn, recorded
from tests.helpers.settings import config_of


class Notes(lightning.Callback):
    """What a run logged, and the optimiser's learning rates, in each iteration."""

    def __init__(self):
        self.metrics, self.rates = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.rates.append({group["pattern"]: group["lr"] for group in trainer.optimizers[0].param_groups})

    def of(self, name):
        return [metrics[name] for metrics in self.metrics]


def noted(folder, iterations, *overrides, **settings):
    notes = Notes()
    return learn(folder, iterations, *overrides, callbacks=[notes], **settings), notes


def learner_with(folder, *overrides, learner_class=PPO):
    config = config_of(*SETTINGS, *overrides)
    return build_learner(config, SPEC, bad_batch_file=folder / "bad.pt", learner_class=learner_class)


@pytest.mark.parametrize("direction", ["policy_reference", "reference_policy"])
def test_the_divergence_from_the_reference_is_taken_in_the_direction_that_is_set(tmp_path, direction):
    learner = learner_with(tmp_path, "reference.kl_coef=1", f"reference.direction={direction}")
    with torch.no_grad():
        learner.reference.head.linear.weight.mul_(100)
    sequences = learner.prepare(recorded(0).fragments).sequences
    rows = Rows(sequences.decided_BT, sequences.decided_BT.sum())
    found = float(learner.losses(sequences, rows).reference_kl)
    with torch.no_grad():
        ours = learner.policy(sequences.observation, sequences.first_BT, sequences.memory).logits
    p, q = ours.exp()[..., 0, :], sequences.reference_logits.exp()[..., 0, :]
    if direction == "reference_policy":
        p, q = q, p
    assert found == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), rel=1e-4)


def test_the_weight_of_the_reference_follows_its_target_and_resumes(tmp_path):
    settings = ["reference.kl_coef=0.5", "reference.kl_target=1e-9"]
    _, whole = noted(tmp_path / "whole", 4, *settings)
    assert whole.of("loss/reference_coef") == pytest.approx(
        [0.5 * 1.02**i for i in range(4)]
    )  # always above the target
    learn(tmp_path / "half", 2, *settings)
    _, resumed = noted(tmp_path / "half", 4, *settings, checkpoint=tmp_path / "half" / "last.ckpt")
    assert resumed.of("loss/reference_coef") == whole.of("loss/reference_coef")[2:]
    _, below = noted(tmp_path / "below", 3, "reference.kl_coef=0.5", "reference.kl_target=1000")
    assert below.of("loss/reference_coef") == pytest.approx([0.5 * 0.98**i for i in range(3)])


def test_an_iteration_ends_early_when_the_policy_has_moved_far_enough(tmp_path):
    fast = ["optimizer.learning_rate=1e-2", "optimizer.epochs=8"]
    _, free = noted(tmp_path / "free", 3, *fast)
    assert free.of("loss/optimizer_steps") == [16, 16, 16]
    _, held = noted(tmp_path / "held", 3, *fast, "optimizer.target_kl=0.01")
    assert all(1 <= steps < 16 for steps in held.of("loss/optimizer_steps"))
    assert held.of("loss/skipped_steps") == [0, 0, 0]
    assert all(kl <= 0.01 for kl in held.of("loss/update_kl"))
    assert max(free.of("loss/update_kl")) > 0.01


def test_learning_rates_rise_at_the_start_and_fall_until_the_end(tmp_path):
    _, notes = noted(tmp_path, 6, "optimizer.learning_rate=0.6", "optimizer.warmup=4")
    risen = [0.25, 0.5, 0.75, 1, 1, 1]
    left = [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert [rates["*"] for rates in notes.rates] == pytest.approx(
        [0.6 * r * f for r, f in zip(risen, left, strict=True)]
    )


GROUPS = "optimizer.learning_rates={encoder.*: 0, *.bias: 1e-3}"


def test_parts_of_the_policy_have_their_own_learning_rates(tmp_path):
    before = learner_with(tmp_path).policy.state_dict()
    learner, notes = noted(tmp_path, 2, GROUPS, "optimizer.anneal=false", "optimizer.learning_rate=1e-2")
    assert notes.rates[-1] == {"encoder.*": 0, "*.bias": 1e-3, "*": 1e-2}
    for name, tensor in learner.policy.named_parameters():
        assert torch.equal(tensor, before[name]) == name.startswith("encoder."), name


def test_a_resumed_run_may_change_the_rates_of_its_groups_but_not_the_groups(tmp_path):
    learn(tmp_path, 2, GROUPS)
    last = tmp_path / "last.ckpt"
    changed = "optimizer.learning_rates={encoder.*: 1e-5, *.bias: 1e-4}"
    _, notes = noted(tmp_path / "same", 3, changed, "optimizer.anneal=false", checkpoint=last)
    assert notes.rates[-1] == {"encoder.*": 1e-5, "*.bias": 1e-4, "*": 7e-4}
    expected = r"^this checkpoint was saved with .* for \['encoder\.\*', '\*\.bias'\], but this run has \[\]"
    with pytest.raises(CheckpointError, match=expected):
        learn(tmp_path / "other", 3, checkpoint=last)


def test_frozen_parameters_stay_bit_for_bit_and_can_be_freed_in_a_resumed_run(tmp_path):
    decay = "optimizer.weight_decay=0.1"
    before = learner_with(tmp_path).policy.state_dict()
    learner = learn(tmp_path, 2, "optimizer.frozen=[encoder.*, linear.bias]", decay)
    for name, tensor in learner.policy.named_parameters():
        frozen = name.startswith("encoder.") or name == "linear.bias"
        assert torch.equal(tensor, before[name]) == frozen, name
    freed = learn(tmp_path / "freed", 3, decay, checkpoint=tmp_path / "last.ckpt")
    assert not torch.equal(freed.policy.linear.bias, before["linear.bias"])


@pytest.mark.parametrize(
    ("override", "message"),
    [("optimizer.frozen=[encode.*]", r"optimizer.frozen=\[encode.\*\]: no parameter's name matches it. There are: enc"),
     ("optimizer.frozen=['*']", "nothing is left to train"),
     ("optimizer.learning_rates={nett.*: 1}", r"optimizer.learning_rates.nett.\*: no parameter's name matches it"),
     ("optimizer.learning_rates={*: 1, gru.*: 2}", r"learning_rates.gru.\*: an earlier pattern has all")],
)  # fmt: skip
def test_patterns_that_mean_nothing_are_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        learner_with(tmp_path, override).configure_optimizers()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["reference.kl_target=1", "reference.kl_coef=1", "reference.kl_decay=0.9"], "Set reference.kl_decay=1"),
     (["reference.kl_target=1"], "Give reference.kl_coef"),
     (["reference.direction=both"], "There are: policy_reference, reference_policy"),
     (["optimizer.learning_rates={net.*: -1}"], r"optimizer.learning_rates.net.\*=-1: must be 0 or more"),
     (["objective.reward_scale=0"], "objective.reward_scale=0: must be more than 0"),
     (["auxiliary.epochs=0"], "auxiliary.epochs=0: must be at least 1")],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        config_of(*SETTINGS, *overrides)


class NoteTheTrunk(PPO):
    """With a peaked policy; notes which gradients reach the part of the network that policy and value share."""

    def __init__(self, policy, *arguments, **settings):
        with torch.no_grad():
            policy.head.linear.weight.mul_(100)
        super().__init__(policy, *arguments, **settings)

    def losses(self, part, rows):
        losses = super().losses(part, rows)
        (reaches,) = torch.autograd.grad(losses.value, self.policy.linear.weight, retain_graph=True, allow_unused=True)
        self.value_reached = reaches is not None
        return losses


def cloning_loss(spec, action):
    """The loss of recorded fragments with these actions."""
    known = recorded(0).fragments
    policy = build_policy(config_of(*SETTINGS), EnvSpec(SPEC.observation, spec))
    rows = Rows(~known.idle_BT, torch.tensor(float(B * T)))
    cloning = Cloning([known], coef=1.0, fragments=1)
    return float(cloning.loss(policy, replace(known, action=action), rows))


def test_a_recorded_class_may_be_forbidden_but_a_recorded_number_is_only_unlikely():
    third = torch.full((B, T), 2)
    with pytest.raises(ConfigError, match="recorded actions are forbidden by this run's task"):
        cloning_loss({"choice": 2, "other": 3}, {"choice": third, "other": third})
    number = ContinuousAction((), (None,), (None,))
    loss = cloning_loss({"number": number, "other": 3}, {"number": torch.full((B, T), 1e4), "other": third})
    assert loss == pytest.approx(0.5e8, rel=0.01)


def test_in_an_auxiliary_phase_alone_the_value_trains_the_shared_network_and_the_policy_stays(tmp_path):
    fast = ["optimizer.learning_rate=3e-3", "objective.policy_coef=0", "objective.entropy_coef=0"]
    phases = ["auxiliary.every=2", "auxiliary.epochs=6"]
    assert learn(tmp_path / "none", 1, *fast, learner_class=NoteTheTrunk).value_reached
    before = learner_with(tmp_path, learner_class=NoteTheTrunk).policy
    one = learn(tmp_path / "one", 1, *fast, *phases, learner_class=NoteTheTrunk)
    assert not one.value_reached
    assert torch.equal(one.policy.linear.weight, before.linear.weight)  # not yet
    fragments = recorded(0).fragments

    def divergence(policy):
        with torch.no_grad():
            found = [
                each(fragments.observation, fragments.first_BU, fragments.memory).logits for each in (before, policy)
            ]
        return float(policy.head.kl(*found).mean())

    free, held = (
        learn(tmp_path / f"{coef}", 2, *fast, *phases, f"auxiliary.kl_coef={coef}", learner_class=NoteTheTrunk)
        for coef in (0, 100)
    )
    assert not torch.equal(held.policy.linear.weight, before.linear.weight)
    assert divergence(held.policy) < 0.5 * divergence(free.policy)
