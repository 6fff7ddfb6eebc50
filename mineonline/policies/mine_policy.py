"""A `MinePolicy` of MineStudio's, of any user's making, as a policy: its class unchanged, its state as named memory.

Axes: B sequences, T rows, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mineonline.envs.actions import NUM_CLASSES
from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.envs.minestudio.package import import_mine_policy, light_models
from mineonline.errors import ConfigError
from mineonline.imports import make
from mineonline.policies.minecraft_heads import MineStudioHead
from mineonline.policies.policy import Memory, Policy, PolicyOutput, stretches
from mineonline.policies.precision import keep_full_precision
from mineonline.policies.value import ValueHead
from mineonline.policies.vpt_files import load_value

_KEY = "policy.kwargs.network"


class MinePolicyAdapter(Policy):
    """`network`: `{_target_: my_package.MyPolicy, ...}`, a subclass of `MinePolicy` and its arguments.

    Its `forward(input, state)` gets the observations by name, (B, T, ...), and its state: tensors (B, ...), in any
    nesting of lists and dicts, or None. Row by row and all at once it must compute the same: no dropout, no batch
    normalisation. Where an episode begins, the state is what `initial_state` gives.

    Its `pi_head` stays, in full precision under autocast, but actions are sampled from the whole distribution, without
    `nucleus_prob`. The layer and the scale of its `value_head` move to `value`, which predicts the same in units of
    reward. ConfigError if it cannot be made, or the environment is not Minecraft.
    """

    def __init__(self, spec: EnvSpec, network: Mapping[str, Any], *, zero_initial_value: bool = False) -> None:
        if spec.action != NUM_CLASSES:
            raise ConfigError("policy._target_: a MinePolicy plays Minecraft, but this environment has other actions.")
        base = import_mine_policy().MinePolicy
        with light_models():
            net = make(_KEY, network)
        if not isinstance(net, base):
            raise ConfigError(f"{_KEY}._target_={network['_target_']}: must be a subclass of MineStudio's MinePolicy.")
        nesting = net.initial_state(1)
        super().__init__({
            f"state_{i}": TensorSpec(tuple(leaf.shape[1:]), str(leaf.dtype).removeprefix("torch."))
            for i, leaf in enumerate(_leaves(nesting))
        })  # fmt: skip
        self._nesting = nesting
        self._arguments = (spec, dict(network))
        self.head = MineStudioHead()
        self.value = ValueHead(net.value_head.linear.in_features, zero=zero_initial_value)
        if not zero_initial_value:
            load_value(self.value, {f"value_head.{name}": t for name, t in net.value_head.state_dict().items()})
        keep_full_precision(net.pi_head)
        net.value_head = nn.Identity()  # `vpred` is then what the value is predicted from
        self.net: Any = net

    def forward(self, observation: dict[str, Tensor], first_BT: Tensor, memory: Memory) -> PolicyOutput:
        logits, features = [], []
        for rows in stretches(first_BT) if memory else [slice(None)]:
            if memory:
                memory = self._reset(memory, first_BT[:, rows.start])
            state = _nest(self._nesting, iter([memory[name] for name in self.memory_spec]))
            latents, state = self.net({name: tensor[:, rows] for name, tensor in observation.items()}, state)
            memory = {name: leaf.to(memory[name]) for name, leaf in zip(self.memory_spec, _leaves(state), strict=True)}
            logits.append(torch.cat([latents["pi_logits"][name].flatten(2) for name in NUM_CLASSES], -1))
            features.append(latents["vpred"])
        return PolicyOutput(self.head(torch.cat(logits, 1)), self.value(torch.cat(features, 1)), memory)

    def initial_memory(self, count: int) -> Memory:
        leaves = _leaves(self.net.initial_state(count))
        return {name: leaf.to(self.version.device) for name, leaf in zip(self.memory_spec, leaves, strict=True)}

    def _reset(self, memory: Memory, first_B: Tensor) -> Memory:
        fresh = self.initial_memory(len(first_B))
        return {name: torch.where(_like(first_B, old), fresh[name], old) for name, old in memory.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        # to unpickle the user's class itself, a worker would first import all of MineStudio's models
        frozen = [name for name, tensor in self.named_parameters() if not tensor.requires_grad]
        return _rebuild, (*self._arguments, self.state_dict(), frozen, self.training)


def _rebuild(
    spec: EnvSpec, network: dict[str, Any], state: dict[str, Tensor], frozen: list[str], training: bool
) -> MinePolicyAdapter:
    """A policy that uses these same tensors: those in shared memory stay shared."""
    with torch.random.fork_rng(devices=[]):  # the weights that it draws are not used
        policy = MinePolicyAdapter(spec, network)
    policy.load_state_dict(state, assign=True)
    for name in frozen:
        policy.get_parameter(name).requires_grad_(False)
    return policy.train(training)


def _like(flag_B: Tensor, tensor: Tensor) -> Tensor:
    return flag_B.view(-1, *[1] * (tensor.ndim - 1))


def _leaves(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif state is not None:
        for part in state.values() if isinstance(state, dict) else state:
            yield from _leaves(part)


def _nest(like: Any, leaves: Iterator[Tensor]) -> Any:
    """The tensors in the nesting of `like`."""
    if like is None or isinstance(like, Tensor):
        return None if like is None else next(leaves)
    if isinstance(like, dict):
        return {name: _nest(part, leaves) for name, part in like.items()}
    return [_nest(part, leaves) for part in like]
