"""MineStudio's VPT (Baker et al. 2022) as a policy: its network unchanged, with our heads and named memory.

Axes: B sequences, T rows, M remembered rows, D width.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mineonline.envs.actions import NUM_CLASSES
from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.envs.minestudio.package import import_vpt
from mineonline.errors import ConfigError
from mineonline.policies.checkpointing import keep_activations_of
from mineonline.policies.minecraft_heads import VptHead
from mineonline.policies.policy import Memory, Policy, PolicyOutput
from mineonline.policies.value import ValueHead

TEMPERATURE = 2.0
"""What the published models divide their logits by."""

_PUBLISHED: dict[str, Any] = {
    "attention_mask_style": "clipped_causal",
    "attention_memory_size": 256,
    "img_shape": [128, 128, 3],
    "impala_chans": [16, 32, 32],
    "impala_kwargs": {"post_pool_groups": 1},
    "init_norm_kwargs": {"batch_norm": False, "group_norm_groups": 1},
    "n_recurrence_layers": 4,
    "pointwise_ratio": 4,
    "pointwise_use_activation": False,
    "recurrence_is_residual": True,
    "recurrence_type": "transformer",
    "timesteps": 128,
    "use_pointwise_layer": True,
    "use_pre_lstm_ln": False,
}
SIZES: dict[str, dict[str, Any]] = {
    "mini": {
        **_PUBLISHED, "hidsize": 64, "attention_heads": 4, "impala_width": 1, "impala_chans": [4, 8, 8],
        "n_recurrence_layers": 2, "attention_memory_size": 48, "timesteps": 16,
    },
    "1x": {**_PUBLISHED, "hidsize": 1024, "attention_heads": 8, "impala_width": 4},
    "2x": {**_PUBLISHED, "hidsize": 2048, "attention_heads": 16, "impala_width": 8},
    "3x": {**_PUBLISHED, "hidsize": 3072, "attention_heads": 24, "impala_width": 12},
}  # fmt: skip
"""Arguments of MineStudio's `MinecraftPolicy` by size."""

_NUMBERS = ("hidsize", "attention_heads", "n_recurrence_layers", "attention_memory_size", "timesteps")
"""The arguments that set the shape of the memory, and the heads, which MineStudio checks only at its first step."""

_SUPPORTED = {
    "recurrence_type": "transformer",
    "attention_mask_style": "clipped_causal",
    "single_output": False,
    "img_statistics": None,
}
"""The only values that work here: others need a different memory, or (`img_statistics`) a further file."""


class VptPolicy(Policy):
    """`arguments`: those of `MinecraftPolicy`. ConfigError if they are wrong, or the environment is not Minecraft.

    The memory holds keys and values (B, M, D) per layer, and one `mask` (B, M) for all layers, true for the rows that
    count. MineStudio stores a call's attention mask on the module: never call one policy from two threads.
    """

    head: VptHead

    def __init__(
        self, spec: EnvSpec, arguments: Mapping[str, Any], *, temperature: float, zero_initial_value: bool,
        checkpointing: int = 0,
    ) -> None:  # fmt: skip
        """`checkpointing`: rows whose pictures' activations are kept at a time for the gradient; 0 keeps all."""
        _check_arguments(arguments)
        _check_environment(spec, tuple(arguments["img_shape"]))
        width = arguments["hidsize"]
        self.layers: int = arguments["n_recurrence_layers"]
        remembered = arguments["attention_memory_size"] - arguments["timesteps"]
        memory_spec = {"mask": TensorSpec((remembered,), "bool")}
        for layer in range(self.layers):
            memory_spec[f"keys_{layer}"] = memory_spec[f"values_{layer}"] = TensorSpec((remembered, width), "float32")
        super().__init__(memory_spec)
        self.arguments = dict(arguments)
        self._spec = spec
        try:
            self.net = import_vpt().MinecraftPolicy(**arguments)
        except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, AssertionError) as error:
            raise ConfigError(f"policy.kwargs: MineStudio's MinecraftPolicy refuses them ({error}).") from None
        if checkpointing:
            keep_activations_of(self.net.img_process, checkpointing)
        self.head = VptHead(width, temperature)
        self.value = ValueHead(width, zero=zero_initial_value)

    def forward(self, observation: dict[str, Tensor], first_BT: Tensor, memory: Memory) -> PolicyOutput:
        mask_B1M = memory["mask"].unsqueeze(1)
        state = []
        for layer in range(self.layers):
            state += [mask_B1M, memory[f"keys_{layer}"], memory[f"values_{layer}"]]
        # not VPTPolicy.forward: it ignores `first`, and on an error it waits for a debugger
        (features_BTD, _), state = self.net({"image": observation["image"]}, state, context={"first": first_BT})
        memory = {"mask": state[0].squeeze(1)}
        for layer in range(self.layers):
            memory[f"keys_{layer}"], memory[f"values_{layer}"] = state[3 * layer + 1], state[3 * layer + 2]
        return PolicyOutput(self.head(features_BTD), self.value(features_BTD), memory)

    def __reduce__(self) -> tuple[Any, ...]:
        # to unpickle MineStudio's network itself, a worker would first import all of MineStudio's models
        parameters = dict(self.named_parameters())
        frozen = [name for name, tensor in parameters.items() if not tensor.requires_grad]
        return _rebuild, (self._spec, self.arguments, self.head.temperature, self.state_dict(), frozen, self.training)


def _rebuild(
    spec: EnvSpec,
    arguments: dict[str, Any],
    temperature: float,
    state: dict[str, Tensor],
    frozen: list[str],
    training: bool,
) -> VptPolicy:
    """A policy that uses these same tensors: those in shared memory stay shared."""
    with torch.device("meta"):
        policy = VptPolicy(spec, arguments, temperature=temperature, zero_initial_value=True)
    policy.load_state_dict(state, assign=True)
    for name in frozen:
        policy.get_parameter(name).requires_grad_(False)
    return policy.train(training)


def network_arguments() -> set[str]:
    """Names of the arguments of `MinecraftPolicy`. EnvError if MineStudio is missing."""
    parameters = inspect.signature(import_vpt().MinecraftPolicy).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    known = network_arguments()
    # MineStudio silently accepts an unknown name, and builds a different network than intended
    for name in set(arguments) - known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"policy.kwargs.{name}: MineStudio's MinecraftPolicy has no such argument.{hint}")
    missing = {"img_shape", *_NUMBERS} - set(arguments)
    if missing:
        raise ConfigError(f"policy.kwargs: {', '.join(sorted(missing))} must be given. Or give policy.size.")
    for name in _NUMBERS:
        if not isinstance(arguments[name], int) or arguments[name] < 1:
            raise ConfigError(f"policy.kwargs.{name}={arguments[name]}: must be a whole number of at least 1.")
    for name, value in _SUPPORTED.items():
        if arguments.get(name, value) != value:
            raise ConfigError(f"policy.kwargs.{name}={arguments[name]}: only {value} works here.")
    if arguments["hidsize"] % arguments["attention_heads"]:
        raise ConfigError(
            f"policy.kwargs: hidsize={arguments['hidsize']} is not a multiple of "
            f"attention_heads={arguments['attention_heads']}."
        )
    if arguments["timesteps"] >= arguments["attention_memory_size"]:
        raise ConfigError(
            f"policy.kwargs: attention_memory_size={arguments['attention_memory_size']} must be more than "
            f"timesteps={arguments['timesteps']}; the difference is the number of remembered rows."
        )


def _check_environment(spec: EnvSpec, image: tuple[int, ...]) -> None:
    if spec.action != NUM_CLASSES or "image" not in spec.observation:
        raise ConfigError("policy=vpt plays Minecraft, but this environment has other actions. Use policy=tiny or mlp.")
    height, width, _ = spec.observation["image"].shape
    if (height, width, 3) != image:
        raise ConfigError(
            f"policy=vpt expects pictures of {image[1]}x{image[0]} pixels, but the environment's are {width}x{height}. "
            f"Set env.image_size=[{image[1]},{image[0]}]."
        )
