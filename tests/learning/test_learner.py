"""The learner on recorded fragments: what each option does, exact resuming, what ranks share."""

from dataclasses import replace

import lightning
import pytest
import torch

from mineonline.callbacks.checkpoints import SaveCheckpoints
from mineonline.envs.build import env_spec
from mineonline.errors import CheckpointError, ConfigError, LearningError
from mineonline.learning.cloning import Cloning
from mineonline.learning.module import PPO
from mineonline.learning.objective import Rows
from mineonline.learning.sequences import first_pass, reference_logits
from mineonline.policies.build import build_policy
from mineonline.run.checkpoint import check_resumes
from mineonline.run.learner import build_learner
from mineonline.settings.checks import check_ranks
from tests.helpers.learning_set import ALL_OPTIONS, SETTINGS, SPEC, B, T, learn, recorded
from tests.helpers.settings import config_of
from tests.helpers.uneven_ranks import gradients


def same_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def policy_with(*overrides):
    return build_policy(config_of(*SETTINGS, *overrides), SPEC)


@pytest.mark.parametrize("options", [[], ALL_OPTIONS], ids=["defaults", "all options"])
def test_half_the_iterations_a_checkpoint_and_the_other_half_equal_all_of_them_bit_for_bit(tmp_path, options):
    whole = learn(tmp_path / "whole", 6, *options)
    learn(tmp_path / "half", 3, *options)
    lightning.seed_everything(999, verbose=False)  # no state of this process may matter
    resumed = learn(tmp_path / "half", 6, *options, checkpoint=tmp_path / "half" / "last.ckpt")
    assert resumed.iteration == whole.iteration == 6
    same_weights(whole.state_dict(), resumed.state_dict())
    first, second = (
        torch.load(tmp_path / which / "last.ckpt", weights_only=True)["optimizer_states"] for which in ("whole", "half")
    )
    for key, state in first[0]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, second[0]["state"][key][name]), (key, name)


@pytest.fixture
def two_ranks(start, tmp_path):
    """Starts two ranks on the recorded fragments; gives what waits for their weights, which must be the same."""

    def begin(folder, iterations, *options, checkpoint="-"):
        program = start(
            str(tmp_path / folder), str(iterations), str(checkpoint), *ALL_OPTIONS, *options,
            module="tests.helpers.learning_set",
        )  # fmt: skip

        def learnt():
            assert program.wait() == 0, program.output
            states = [torch.load(tmp_path / folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
            same_weights(*states)
            return states[0]

        return learnt

    return begin


def test_two_ranks_agree_and_resume_bit_for_bit(two_ranks, tmp_path):
    whole = two_ranks("whole", 6)()
    two_ranks("half", 3)()
    same_weights(whole, two_ranks("half", 6, checkpoint=tmp_path / "half" / "last.ckpt")())


@pytest.mark.slow
def test_every_strategy_learns_the_same_bit_for_bit(two_ranks):
    names = ["auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"]
    first, *others = [learnt() for learnt in [two_ranks(name, 4, f"trainer.strategy={name}") for name in names]]
    for other in others:
        same_weights(first, other)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_ranks_are_one_rank_where_fragments_hold_unequally_many_decisions(start, tmp_path, accumulate):
    program = start(str(tmp_path), f"optimizer.accumulate={accumulate}", module="tests.helpers.uneven_ranks")
    assert program.wait() == 0, program.output
    two_ranks = torch.load(tmp_path / "gradients.pt", weights_only=True)
    one_rank = gradients(tmp_path, 1)
    for name, gradient in one_rank.items():
        torch.testing.assert_close(two_ranks[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("field", ["reward_BT", "log_prob_BT"])
def test_what_stands_in_a_row_without_a_decision_changes_nothing(tmp_path, field):
    """A truncation at row 4 puts the last observation in row 5; no loss may read what is recorded there."""

    def cut(value):
        def change(batch):
            f = batch.fragments
            truncated, final = f.truncated_BT.clone(), f.idle_BT.clone()
            truncated[:, 4], final[:, 5] = True, True
            terminated = f.terminated_BT & ~truncated & ~final
            noted = getattr(f, field).clone()
            noted[:, 5] = value
            fields = {"terminated_BT": terminated, "truncated_BT": truncated, "idle_BT": final, field: noted}
            return replace(batch, fragments=replace(f, **fields))

        return change

    one, other = (learn(tmp_path / str(v), 2, change=cut(v)) for v in (-1.0, -3.0))
    same_weights(one.state_dict(), other.state_dict())


def test_learning_prefers_what_was_rewarded(tmp_path):
    def reward_action_1(batch):
        reward_BT = (batch.fragments.action["action"] == 1).float()
        return replace(batch, fragments=replace(batch.fragments, reward_BT=reward_BT))

    def probability(policy):
        with torch.no_grad():
            f = recorded(99).fragments
            return float(policy(f.observation, f.first_BU, f.memory).logits.exp()[..., 0, 1].mean())

    settings = ["optimizer.epochs=4", "objective.discount=0"]
    learner = learn(tmp_path, 6, *settings, change=reward_action_1)
    assert probability(learner.policy) > probability(policy_with()) + 0.05


def test_during_value_warmup_the_policy_stays_bit_for_bit_and_its_version_too(tmp_path):
    learner = learn(tmp_path, 3, "objective.value_warmup=3", "optimizer.weight_decay=0.1", "objective.entropy_coef=0.1")
    before = dict(policy_with().named_parameters())
    moved = {name for name, tensor in learner.policy.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved == {"value.linear.weight", "value.linear.bias"}
    assert (learner.version, learner.iteration) == (0, 3)
    after = learn(tmp_path / "after", 4, "objective.value_warmup=3")
    assert (after.version, after.iteration) == (1, 4)
    assert not torch.equal(after.policy.head.linear.weight, before["head.linear.weight"])


def test_sequences_shorter_than_the_fragment_begin_with_the_memory_that_the_one_before_left():
    policy = policy_with()
    fragments = recorded(0).fragments
    whole, cut = first_pass(policy, fragments, T), first_pass(policy, fragments, 4)
    torch.testing.assert_close(cut.value_BU, whole.value_BU, rtol=0, atol=1e-5)
    torch.testing.assert_close(cut.log_prob_BT, whole.log_prob_BT, rtol=0, atol=1e-5)
    assert cut.memory["gru"].shape == (B, 3, 16)
    with torch.no_grad():
        observation = {name: tensor[:, :8] for name, tensor in fragments.observation.items()}
        after_8 = policy(observation, fragments.first_BU[:, :8], fragments.memory).memory["gru"]
    torch.testing.assert_close(cut.memory["gru"][:, 2], after_8, rtol=0, atol=1e-5)


def test_the_whole_fragment_as_context_and_shorter_sequences_learn_differently(tmp_path):
    """Gradients stop where a sequence starts."""
    one, other = learn(tmp_path / "a", 1), learn(tmp_path / "b", 1, "optimizer.context_length=4")
    assert not torch.equal(one.policy.gru.weight_hh_l0, other.policy.gru.weight_hh_l0)


def test_accumulating_gradients_changes_nothing_but_rounding(tmp_path):
    whole = learn(tmp_path / "whole", 2, "optimizer.learning_rate=1e-4")
    parts = learn(tmp_path / "parts", 2, "optimizer.learning_rate=1e-4", "optimizer.accumulate=4")
    for name, tensor in whole.policy.state_dict().items():
        torch.testing.assert_close(parts.policy.state_dict()[name], tensor, rtol=0, atol=2e-6, msg=name)


class KeepOutputs(lightning.Callback):
    """A callback as users write them: fragments come as `batch`, advantages and losses as `outputs`."""

    def __init__(self):
        self.outputs, self.coefs = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        assert outputs["advantage_BT"].shape == outputs["return_BT"].shape == batch.fragments.reward_BT.shape
        self.outputs.append(outputs)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.coefs.append(pl_module.reference_coef)


def test_callbacks_see_fragments_advantages_and_losses(tmp_path):
    seen = KeepOutputs()
    learn(tmp_path, 2, callbacks=[seen])
    for outputs in seen.outputs:
        assert float(outputs["advantage_BT"].mean()) == pytest.approx(0, abs=1e-5)
        assert float(outputs["advantage_BT"].std(correction=0)) == pytest.approx(1, abs=1e-3)
        assert outputs["value_BU"].shape == (B, T + 1)
        assert len(outputs["losses"]) == 4  # 2 epochs x 2 minibatches
        for losses in outputs["losses"]:
            assert all(loss.isfinite() and not loss.requires_grad for loss in losses)


def test_a_reference_keeps_the_policy_near_and_its_weight_decays(tmp_path):
    settings = ["optimizer.learning_rate=3e-3", "objective.entropy_coef=0"]
    free, held = KeepOutputs(), KeepOutputs()
    learn(tmp_path / "free", 6, *settings, "reference.kl_coef=1e-9", callbacks=[free])
    held_learner = learn(
        tmp_path / "held", 6, *settings, "reference.kl_coef=10", "reference.kl_decay=0.5", callbacks=[held]
    )
    assert held.coefs == pytest.approx([10 * 0.5**i for i in range(6)])
    kl = [float(kept.outputs[-1]["losses"][-1].reference_kl) for kept in (free, held)]
    assert kl[0] > 3 * kl[1] > 0
    same_weights(dict(policy_with().named_parameters()), dict(held_learner.reference.named_parameters()))


def test_a_refreshed_reference_is_the_policy_of_that_iteration(tmp_path):
    options = ["reference.kl_coef=0.1", "reference.refresh_every=2"]
    at_4 = learn(tmp_path / "4", 4, *options)
    at_5 = learn(tmp_path / "5", 5, *options)
    same_weights(at_4.policy.state_dict(), at_5.reference.state_dict())
    assert not torch.equal(at_5.policy.head.linear.weight, at_5.reference.head.linear.weight)


def test_a_reference_and_a_beginning_come_from_checkpoints(tmp_path):
    learn(tmp_path, 3, "seed=5")
    file = tmp_path / "last.ckpt"
    trained = torch.load(file, weights_only=True)["state_dict"]
    learner = learn(tmp_path / "next", 0, f"init_from={file}", "reference.kl_coef=1", f"reference.checkpoint={file}")
    for name, tensor in trained.items():
        if not name.endswith("version"):
            assert torch.equal(tensor, learner.state_dict()[name]), name
            assert torch.equal(tensor, learner.state_dict()[name.replace("policy.", "reference.")]), name
    assert learner.version == 0


def test_the_logits_of_a_reference_in_chunks_equal_those_in_one_piece():
    policy = policy_with("seed=8")
    fragments = recorded(0).fragments
    whole, chunks = (reference_logits(policy, fragments, context) for context in (T, 4))
    torch.testing.assert_close(chunks, whole, rtol=0, atol=1e-5)


def test_cloning_makes_recorded_actions_more_probable(tmp_path):
    demonstrations = recorded(50).fragments
    demonstrations = replace(demonstrations, action={"action": torch.full((B, T), 2)})
    seen = KeepOutputs()
    cloning = Cloning(demonstrations, coef=1.0, fragments=4)
    settings = ["optimizer.learning_rate=3e-3", "optimizer.epochs=4"]
    learner = learn(tmp_path, 6, *settings, cloning=cloning, callbacks=[seen])
    losses = [float(step.cloning) for outputs in seen.outputs for step in outputs["losses"]]
    assert losses[0] == pytest.approx(1.1, abs=0.1)  # -log 1/3
    assert losses[-1] < 0.7
    assert learner.version == 6


@pytest.mark.parametrize("kind", ["ppo", "decoupled", "vtrace"])
def test_all_objectives_are_the_same_without_lag(tmp_path, kind):
    def act_with_the_present_weights(batch):
        learner = holder[0]
        found = first_pass(learner.policy, batch.fragments, T)
        return replace(batch, fragments=replace(batch.fragments, log_prob_BT=found.log_prob_BT))

    def run(which):
        def remember(*arguments, **settings):
            holder[:] = [PPO(*arguments, **settings)]
            return holder[0]

        return learn(
            tmp_path / which, 2, f"objective.kind={which}", learner_class=remember, change=act_with_the_present_weights
        )

    holder: list[PPO] = []
    same_weights(run("ppo").state_dict(), run(kind).state_dict())


def test_stale_fragments_are_corrected_differently_by_each_objective(tmp_path):
    weights = [
        learn(tmp_path / kind, 2, f"objective.kind={kind}").policy.head.linear.weight
        for kind in ("ppo", "decoupled", "vtrace")
    ]
    for i in range(3):
        assert not torch.equal(weights[i], weights[i - 1])


def test_normalised_values_learn_returns_of_any_scale(tmp_path):
    def scaled(batch):
        return replace(batch, fragments=replace(batch.fragments, reward_BT=100 + 100 * batch.fragments.reward_BT))

    def predicted(*options):
        seen = KeepOutputs()
        settings = ["objective.discount=0", "optimizer.epochs=8", *options]
        learn(tmp_path / str(len(options)), 6, *settings, change=scaled, callbacks=[seen])
        return float(seen.outputs[-1]["value_BU"].mean())

    assert predicted("objective.normalize_value=false") < 30
    assert predicted() == pytest.approx(100, abs=60)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_mixed_precision_learns_and_keeps_the_weights_in_full_precision(tmp_path, precision):
    seen = KeepOutputs()
    learner = learn(tmp_path, 2, *ALL_OPTIONS, callbacks=[seen], precision=precision)
    assert all(tensor.dtype == torch.float32 for tensor in learner.policy.parameters())
    assert all(loss.isfinite() for outputs in seen.outputs for step in outputs["losses"] for loss in step)


def test_a_gradient_whose_norm_overflows_is_counted_as_bad(tmp_path):
    def huge(batch):
        return replace(batch, fragments=replace(batch.fragments, reward_BT=1e20 * batch.fragments.reward_BT))

    with pytest.raises(LearningError, match=r"2 optimiser steps in a row .* Not finite in the fragments: nothing"):
        learn(tmp_path, 1, "optimizer.max_bad_steps=2", "objective.normalize_value=false", change=huge)


def test_a_bad_batch_that_cannot_be_saved_does_not_hide_what_is_wrong(tmp_path):
    def infinite(batch):
        return replace(batch, fragments=replace(batch.fragments, reward_BT=torch.inf * batch.fragments.reward_BT))

    def without_a_folder(*arguments, **settings):
        return PPO(*arguments, **{**settings, "bad_batch_file": tmp_path / "absent" / "bad.pt"})

    with pytest.raises(LearningError, match=r"Their batch could not be saved as .*/absent/bad.pt .* Often a lower"):
        learn(tmp_path, 1, "optimizer.max_bad_steps=1", change=infinite, learner_class=without_a_folder)


def test_returns_that_are_not_finite_leave_the_statistics_alone(tmp_path):
    def infinite(batch):
        rewards = torch.full_like(batch.fragments.reward_BT, torch.inf)
        return replace(batch, fragments=replace(batch.fragments, reward_BT=rewards))

    learner = learn(tmp_path, 1, "objective.normalize_value=true", change=infinite)
    assert all(tensor.isfinite().all() for tensor in learner.state_dict().values())


def test_a_resumed_run_takes_the_optimizer_settings_that_are_given_now(tmp_path):
    learn(tmp_path, 2, "optimizer.anneal=false")
    changed = ["optimizer.learning_rate=1e-6", "optimizer.eps=1e-3", "optimizer.weight_decay=0.2"]
    learner = learn(tmp_path, 3, "optimizer.anneal=false", *changed, checkpoint=tmp_path / "last.ckpt")
    (group,) = learner.trainer.optimizers[0].param_groups
    assert (group["lr"], group["eps"], group["weight_decay"]) == (1e-6, 1e-3, 0.2)


def test_a_checkpoint_without_the_reference_that_a_run_wants_is_refused(tmp_path):
    learn(tmp_path, 1)
    wants = build_learner(config_of(*SETTINGS, "reference.kl_coef=1"), SPEC, bad_batch_file=tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="has no reference policy, but this run has one"):
        check_resumes(tmp_path / "last.ckpt", wants)


def test_recorded_actions_that_the_task_forbids_are_refused():
    config = config_of("task=chop_tree", "env.image_size=[40,36]")  # its mask holds attack
    policy = build_policy(config, env_spec(config.env, config.task))
    f = recorded(0).fragments
    still = {"buttons": torch.zeros(B, T, dtype=torch.int64), "camera": torch.full((B, T), 60)}
    image = torch.zeros(B, T + 1, 36, 40, 3, dtype=torch.uint8)
    cloning = Cloning(replace(f, observation={"image": image}, action=still), coef=1.0, fragments=2)
    drawn = cloning.draw(torch.Generator())
    with pytest.raises(ConfigError, match="forbidden by this run's task"):
        cloning.loss(policy, drawn, Rows(~drawn.idle_BT, (~drawn.idle_BT).sum()))


def test_checkpoints_are_kept_at_the_iterations_that_were_asked_for(tmp_path):
    learn(tmp_path, 6, callbacks=[SaveCheckpoints(tmp_path / "kept", every=100, keep_every=2)])
    assert sorted(file.name for file in (tmp_path / "kept").glob("0*")) == [
        "000002.ckpt", "000004.ckpt", "000006.ckpt",
    ]  # fmt: skip
    assert torch.load(tmp_path / "kept" / "000004.ckpt", weights_only=True)["iteration"] == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["optimizer.context_length=5"], "does not divide fragment.length=12"),
     (["collector.mode=lockstep", "collector.envs_per_worker=7"], "there are 14 environments"),
     (["objective.weight_max=0"], "objective.weight_max=0: must be more than 0"),
     (["objective.value_decay=1"], "objective.value_decay=1: must be 0 or more, and less than 1"),
     (["buffer.capacity=-1"], "buffer.capacity=-1: must be 0 or more"),
     (["optimizer.max_grad_norm=nan"], "optimizer.max_grad_norm=nan: must be more than 0"),
     (["trainer.precision=bf16-true"], "There are: 32-true, 32, bf16-mixed, 16-mixed"),
     (["+trainer.gradient_clip_val=1"], "Set that"),
     (["reference.kl_coef=-1"], "reference.kl_coef=-1: must be 0 or more"),
     (["objective.kind=grpo"], "objective.kind=grpo: there is no such choice. There are: ppo, decoupled, vtrace")],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        config_of(*SETTINGS, *overrides)


def test_lockstep_with_two_ranks_is_refused():
    config = config_of(*SETTINGS, "collector.mode=lockstep", "collector.workers=1", "collector.envs_per_worker=8")
    check_ranks(config, 1)
    with pytest.raises(ConfigError, match=r"Set trainer\.devices=1"):
        check_ranks(config, 2)


def test_minibatches_that_do_not_divide_the_sequences_are_refused():
    config = config_of(*SETTINGS, "optimizer.accumulate=3")
    with pytest.raises(ConfigError, match="whose product divides 8"):
        check_ranks(config, 1)
    check_ranks(config_of(*SETTINGS, "optimizer.accumulate=4"), 1)
    check_ranks(config_of(*SETTINGS, "optimizer.accumulate=4", "optimizer.context_length=4"), 1)
