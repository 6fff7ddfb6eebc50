"""Policies written for MineStudio, behind the adapter, against what MineStudio's own code makes of them."""

from __future__ import annotations

import copy
import multiprocessing

import pytest
import torch
from torch import nn

from mineonline import MinePolicyAdapter
from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.envs.minestudio.package import import_mine_policy, light_models
from mineonline.errors import ConfigError
from mineonline.imports import make

ACTIONS = {"buttons": 8641, "camera": 121}
SPEC = EnvSpec({"image": TensorSpec((64, 64, 3), "uint8")}, ACTIONS)
EXAMPLE = {"_target_": "examples.minepolicy.MyPolicy", "hiddim": 16}
WIDE = EnvSpec({"image": TensorSpec((4, 4, 3), "uint8"), "goal": TensorSpec((2,), "float32")}, ACTIONS)
B, T = 2, 6

MinePolicy = import_mine_policy().MinePolicy


class Nested(MinePolicy):
    """Counts its rows from 3, in a nested state; sees a picture and a goal."""

    def __init__(self, hiddim=8):
        super().__init__(hiddim)
        self.linear = nn.Linear(3, hiddim)
        self.reset_parameters()
        nn.init.normal_(self.value_head.linear.weight)

    def forward(self, input, state_in, **kwargs):
        count = state_in["counts"][0].unsqueeze(1) + torch.arange(1, input["goal"].shape[1] + 1)
        hidden = self.linear(torch.cat([input["goal"], count.float().unsqueeze(-1)], -1))
        assert input["image"].shape[2:] == (4, 4, 3)
        latents = {"pi_logits": self.pi_head(hidden), "vpred": self.value_head(hidden)}
        return latents, {"counts": [count[:, -1]], "nothing": None, "ever": state_in["ever"]}

    def initial_state(self, batch_size=1):
        return {
            "counts": [torch.full((batch_size,), 3)], "nothing": None,
            "ever": torch.ones(batch_size, 2, dtype=torch.bool),
        }  # fmt: skip


class Forgetful(Nested):
    def initial_state(self, batch_size=1):
        return None

    def forward(self, input, state_in, **kwargs):
        assert state_in is None
        hidden = self.linear(torch.nn.functional.pad(input["goal"], (0, 1)))
        return {"pi_logits": self.pi_head(hidden), "vpred": self.value_head(hidden)}, None


def observe(spec):
    return {
        name: torch.randint(0, 256, (B, T, *s.shape), dtype=torch.uint8) if s.dtype == "uint8"
        else torch.randn(B, T, *s.shape) for name, s in spec.observation.items()
    }  # fmt: skip


@torch.no_grad()
def test_it_gives_what_the_policy_itself_gives():
    torch.manual_seed(0)
    policy = MinePolicyAdapter(SPEC, EXAMPLE)
    with light_models():
        own = make("x", EXAMPLE)
    own.load_state_dict(policy.net.state_dict(), strict=False)
    own.value_head.linear.load_state_dict(policy.value.linear.state_dict())
    observation = observe(SPEC)
    output = policy(observation, torch.zeros(B, T, dtype=torch.bool), policy.initial_memory(B))
    latents, state = own(observation, own.initial_state(B))
    action = {name: tensor.squeeze(-1) for name, tensor in own.pi_head.sample(latents["pi_logits"]).items()}
    theirs = {name: tensor.unsqueeze(-1) for name, tensor in action.items()}
    log_prob = own.pi_head.logprob(theirs, latents["pi_logits"])
    torch.testing.assert_close(policy.head.log_prob(output.logits, action), log_prob.view(B, T), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        policy.head.entropy(output.logits), own.pi_head.entropy(latents["pi_logits"]).view(B, T), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(output.value_BT, latents["vpred"].squeeze(-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(output.memory["state_0"], state[0], rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_value_head_trained_by_minestudio_keeps_its_values_in_units_of_reward(monkeypatch):
    trained = Nested()
    for _ in range(50):
        trained.value_head.normalize(30 + 5 * torch.randn(64, 1))
    found = copy.deepcopy(trained.__dict__)
    monkeypatch.setattr(f"{__name__}.Nested.__init__", lambda self: self.__dict__.update(found))
    policy = MinePolicyAdapter(WIDE, {"_target_": f"{__name__}.Nested"})
    observation = observe(WIDE)
    output = policy(observation, torch.zeros(B, T, dtype=torch.bool), policy.initial_memory(B))
    latents, _ = trained(observation, trained.initial_state(B))
    expected = trained.value_head.denormalize(latents["vpred"]).squeeze(-1)
    torch.testing.assert_close(output.value_BT, expected, rtol=1e-4, atol=1e-4)
    assert expected.mean() > 20


@torch.no_grad()
@pytest.mark.parametrize("kind", ["Nested", "Forgetful"])
def test_a_nested_state_is_carried_and_begins_anew_with_each_episode(kind):
    policy = MinePolicyAdapter(WIDE, {"_target_": f"{__name__}.{kind}"})
    observation = observe(WIDE)
    first_BT = torch.zeros(B, T, dtype=torch.bool)
    first_BT[:, 0] = first_BT[1, 2] = True
    whole = policy(observation, first_BT, policy.initial_memory(B))
    memory, values = policy.initial_memory(B), []
    for t in range(T):
        output = policy({k: v[:, t : t + 1] for k, v in observation.items()}, first_BT[:, t : t + 1], memory)
        memory = output.memory
        values.append(output.value_BT)
    torch.testing.assert_close(torch.cat(values, 1), whole.value_BT, rtol=0, atol=1e-5)
    if kind == "Nested":
        assert [spec.dtype for spec in policy.memory_spec.values()] == ["int64", "bool"]
        assert whole.memory["state_0"].tolist() == [3 + T, 3 + T - 2]
    else:
        assert not policy.memory_spec


def _evaluate(policy, observation, pipe):
    with torch.no_grad():
        output = policy(observation, torch.zeros(B, T, dtype=torch.bool), policy.initial_memory(B))
        pipe.send(output.value_BT.tolist())
        assert pipe.recv() == "changed"
        output = policy(observation, torch.zeros(B, T, dtype=torch.bool), policy.initial_memory(B))
        pipe.send(output.value_BT.tolist())


@pytest.mark.program
def test_another_process_gets_the_policy_and_shares_its_weights():
    policy = MinePolicyAdapter(SPEC, EXAMPLE).share_memory()
    policy.net.memory.weight_ih_l0.requires_grad_(False)
    observation = observe(SPEC)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_evaluate, args=(policy, observation, theirs))
    process.start()

    def values():
        with torch.no_grad():
            return policy(observation, torch.zeros(B, T, dtype=torch.bool), policy.initial_memory(B)).value_BT

    try:
        assert ours.poll(300)
        torch.testing.assert_close(torch.tensor(ours.recv()), values(), rtol=0, atol=1e-5)
        with torch.no_grad():
            policy.value.linear.bias.add_(7.0)
        ours.send("changed")
        assert ours.poll(300)
        torch.testing.assert_close(torch.tensor(ours.recv()), values(), rtol=0, atol=1e-5)
    finally:
        process.kill()
        process.join()
    frozen = [name for name, p in copy.deepcopy(policy).named_parameters() if not p.requires_grad]
    assert frozen == ["net.memory.weight_ih_l0"]


@pytest.mark.parametrize(
    ("spec", "network", "expected"),
    [
        (EnvSpec(SPEC.observation, {"action": 4}), EXAMPLE, "plays Minecraft, but this environment has other actions"),
        (SPEC, EXAMPLE["_target_"], "network: examples.minepolicy.MyPolicy names no class. Add _target_"),
        (SPEC, {"hiddim": 4}, "policy.kwargs.network: {'hiddim': 4} names no class."),
        (
            SPEC,
            {"_target_": "examples.minepolicy.Absent"},
            "network._target_=examples.minepolicy.Absent: cannot be imp",
        ),
        (SPEC, {"_target_": "pathlib.Path"}, "pathlib.Path: must be a subclass of MineStudio's MinePolicy."),
        (SPEC, {**EXAMPLE, "width": 3}, "cannot be made (TypeError: MyPolicy.__init__() got an unexpected keyword"),
    ],
)
def test_what_cannot_be_adapted_is_named(spec, network, expected):
    with pytest.raises(ConfigError) as error:
        MinePolicyAdapter(spec, network)
    assert expected in str(error.value)


@torch.no_grad()
def test_under_autocast_its_logits_are_in_full_precision_also_in_a_copy():
    policy = MinePolicyAdapter(SPEC, EXAMPLE)
    twin = copy.deepcopy(policy.net.pi_head)
    for parameter in twin.parameters():
        parameter.zero_()
    hidden = torch.randn(B, T, 16).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, zero = policy.net.pi_head(hidden), twin(hidden)
    expected = policy.net.pi_head(hidden.float())
    for name in ACTIONS:
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], expected[name])
        assert torch.equal(zero[name], zero[name][..., :1].expand_as(zero[name])), "a copy has its own weights"
