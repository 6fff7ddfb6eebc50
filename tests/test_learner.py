"""The learner on recorded fragments: exact resuming, and what an iteration does to the policy."""

from dataclasses import replace

import lightning
import pytest
import torch

from mineonline.callbacks.checkpoints import SaveCheckpoints
from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.experience.buffer import Share
from mineonline.fragment import Fragments
from mineonline.learning.build import build_learner
from mineonline.learning.module import PPO
from mineonline.policies.build import build_policy
from tests.conftest import CARTPOLE, config_of
from tests.fit import fit, fresh

SPEC = EnvSpec(observation={"state": TensorSpec((4,), "float32")}, action={"action": 2})
B, T = 8, 16


def recorded(number: int, policy) -> Share:
    """Random fragments that `policy` could have sent."""
    g = torch.Generator().manual_seed(number)
    state = torch.randn(B, T + 1, 4, generator=g)
    first = torch.rand(B, T + 1, generator=g) < 0.1
    with torch.no_grad():
        output = policy({"state": state}, first, {})
        action = {"action": torch.randint(0, 2, (B, T), generator=g)}
        log_prob = policy.head.log_prob(output.logits[:, :-1], action)
    terminated = first[:, 1:].clone()
    flags = torch.zeros(B, T, dtype=torch.bool)
    fragments = Fragments(
        observation={"state": state}, first_BU=first, action=action, log_prob_BT=log_prob,
        value_BT=output.value_BT[:, :-1], reward_BT=(action["action"] == (state[:, :-1, 0] > 0)).float(),
        terminated_BT=terminated, truncated_BT=flags, final_BT=flags, memory={}, reference_memory={},
        version_B=torch.zeros(B, dtype=torch.int64), env_B=torch.arange(B),
        sequence_B=torch.full((B,), number),
    )  # fmt: skip
    return fresh(fragments)


def learn(folder, iterations, *, checkpoint=None, change=lambda share: share, overrides=(), kind=PPO):
    """Run up to `iterations` on the recorded shares; the learner afterwards. Saves `last.ckpt` at the end."""
    config = config_of(*CARTPOLE, "iterations=6", "optimizer.anneal=true", *overrides)
    recorder = build_policy(config_of(*CARTPOLE, "seed=77"), SPEC)
    learner = build_learner(config, SPEC, bad_batch_file=folder / "bad.pt", kind=kind)
    return fit(
        learner, lambda: change(recorded(learner.iteration, recorder)), iterations, folder, checkpoint=checkpoint,
        callbacks=[SaveCheckpoints(folder, every=3, keep_every=0)],
    )  # fmt: skip


def test_half_the_iterations_a_checkpoint_and_the_other_half_equal_all_of_them_bit_for_bit(tmp_path):
    whole = learn(tmp_path / "whole", 6)
    learn(tmp_path / "half", 3)
    lightning.seed_everything(999, verbose=False)  # no state of this process may matter
    resumed = learn(tmp_path / "half", 6, checkpoint=tmp_path / "half" / "last.ckpt")
    assert resumed.version == whole.version == 6
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    first, second = (
        torch.load(tmp_path / which / "last.ckpt", weights_only=True)["optimizer_states"] for which in ("whole", "half")
    )
    for key, state in first[0]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, second[0]["state"][key][name]), (key, name)


def test_learning_prefers_what_was_rewarded(tmp_path):
    learner = learn(tmp_path, 6, overrides=["optimizer.epochs=6"])
    state = torch.randn(500, 1, 4, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        output = learner.policy({"state": state}, torch.zeros(500, 1, dtype=torch.bool), {})
        good = learner.policy.head.log_prob(output.logits, {"action": (state[..., 0] > 0).long()}).exp()
    assert float(good.mean()) > 0.55


@pytest.mark.parametrize("field", ["reward_BT", "log_prob_BT"])
def test_what_stands_in_a_row_without_a_decision_changes_nothing(tmp_path, field):
    """A cut at row 4 puts the last observation in row 5; no loss may read what is noted there."""

    def cut(value):
        def change(share):
            f = share.fragments
            truncated, final = f.truncated_BT.clone(), f.final_BT.clone()
            truncated[:, 4], final[:, 5] = True, True
            terminated = f.terminated_BT & ~truncated & ~final
            noted = getattr(f, field).clone()
            noted[:, 5] = value
            fields = {"terminated_BT": terminated, "truncated_BT": truncated, "final_BT": final, field: noted}
            return replace(share, fragments=replace(f, **fields))

        return change

    one, other = (learn(tmp_path / str(v), 2, change=cut(v)) for v in (-1.0, -3.0))
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
