"""Reads and writes MineStudio's two files of a VPT: `.model` (a pickle of arguments) and `.weights` (a state dict).

Neither is trusted: the pickle may hold only plain data, the state dict only tensors.
"""

from __future__ import annotations

import collections
import logging
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from mineonline.errors import CheckpointError
from mineonline.policies.value import ValueHead
from mineonline.policies.vpt import SIZES, VptPolicy, network_arguments

log = logging.getLogger(__name__)

_LARGEST_MODEL = 1 << 20
"""Bytes; the published ones have a few thousand."""
_PARTS = ("net.", "pi_head.", "value_head.")
_WIDTH_TENSOR = "net.lastlayer.layer.weight"


class _PlainUnpickler(pickle.Unpickler):
    """Reads only plain data: a pickle can call anything that it names, so it may name nothing but OrderedDict."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"it wants to run {module}.{name}")


def read_model(file: Path) -> tuple[dict[str, Any], float]:
    """The arguments of `MinecraftPolicy`, and the temperature. CheckpointError names the file and the reason."""
    said = f"policy.model={file}"
    _check_file(file, said)
    if file.stat().st_size > _LARGEST_MODEL:
        raise CheckpointError(f"{said}: is too large for a .model file. Are .model and .weights mixed up?")
    try:
        with file.open("rb") as stream:
            content = _PlainUnpickler(stream).load()
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{said}: is refused as it is not a pickle of plain data ({error}). Give the .model file that belongs "
            "to the weights, or leave policy.model out and set policy.size."
        ) from None
    except Exception:  # noqa: BLE001 pickle raises many kinds for a file that is not what it should be
        raise CheckpointError(f"{said}: cannot be read; it is truncated, or not a .model file.") from None
    try:
        arguments = msgspec.convert(content, _ModelFile, strict=False).model.args
        plain = msgspec.to_builtins(arguments.net.args)
    except (msgspec.ValidationError, TypeError) as error:
        raise CheckpointError(f"{said}: is not a .model file of MineStudio ({error}).") from None
    unused = set(plain) - network_arguments()
    if unused:
        log.info("%s: MineStudio does not use %s", said, ", ".join(sorted(unused)))
    return {name: plain[name] for name in plain if name not in unused}, arguments.pi_head_opts.temperature


def write_model(file: Path, arguments: Mapping[str, Any], temperature: float) -> None:
    """Write a file that `read_model` and MineStudio's `load_vpt_policy` can read."""
    content = {"model": {"args": {"net": {"args": dict(arguments)}, "pi_head_opts": {"temperature": temperature}}}}
    _replace(file, lambda partial: partial.write_bytes(pickle.dumps(content)))


def write_weights(file: Path, policy: VptPolicy) -> None:
    """Write a file that `load_weights` and MineStudio's `load_vpt_policy` can read."""
    _replace(file, lambda partial: torch.save(minestudio_state(policy), partial))


def load_weights(policy: VptPolicy, file: Path, *, zero_value: bool) -> None:
    """Load the weights of a file. With `zero_value`, the value starts at 0 everywhere instead.

    CheckpointError names the file, what does not fit and what to set.
    """
    said = f"policy.weights={file}"
    found = _read_weights(file, said)
    _check_weights(found, minestudio_state(policy), said)
    ours = {name: tensor for name, tensor in found.items() if name.startswith("net.")}
    for part in ("buttons", "camera"):
        for tensor in ("weight", "bias"):
            ours[f"head.{part}.{tensor}"] = found[f"pi_head.{part}.linear_layer.{tensor}"]
    policy.load_state_dict({**policy.state_dict(), **ours})
    if not zero_value:
        load_value(policy.value, found)


def minestudio_state(policy: VptPolicy) -> dict[str, Tensor]:
    """The state dict of a `VPTPolicy` with the same logits, and the same values in units of reward."""
    state = {name: tensor for name, tensor in policy.state_dict().items() if name.startswith("net.")}
    for part in ("buttons", "camera"):
        linear = getattr(policy.head, part)
        state[f"pi_head.{part}.linear_layer.weight"] = linear.weight.detach()
        state[f"pi_head.{part}.linear_layer.bias"] = linear.bias.detach()
    return {**state, **_value_state(policy.value)}


class _Statistics(NamedTuple):
    """MineStudio's running statistics of returns: dividing by `weight` corrects for the cold start."""

    weight: Tensor
    mean: Tensor
    mean_square: Tensor

    def scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation as MineStudio computes them, in float32 too."""
        weight = self.weight.clamp(min=1e-5)
        mean = self.mean / weight
        return mean, (self.mean_square / weight - mean**2).clamp(min=1e-2).sqrt()


@torch.no_grad()
def load_value(value: ValueHead, found: Mapping[str, Tensor]) -> None:
    """Give `value` the weights and the scale of MineStudio's value head, whose tensors `found` has among others."""
    sums = _Statistics(
        found["value_head.normalizer.debiasing_term"].float(),
        found["value_head.normalizer.running_mean"].float()[0],
        found["value_head.normalizer.running_mean_sq"].float()[0],
    )
    mean, deviation = sums.scale()
    value.linear.weight.copy_(found["value_head.linear.weight"])
    value.linear.bias.copy_(found["value_head.linear.bias"])
    if sums.weight > 0:
        value.mean.copy_(mean)
        value.deviation.copy_(deviation)
        value.moments.copy_(torch.stack(sums))
    else:
        # never trained on returns: what MineStudio divides by is then just its lower limit, so fold it into the layer
        value.linear.weight.mul_(deviation)
        value.linear.bias.mul_(deviation).add_(mean)
        value.mean.zero_()
        value.deviation.fill_(1.0)
        value.moments.zero_()


@torch.no_grad()
def _value_state(value: ValueHead) -> dict[str, Tensor]:
    sums = _Statistics(*value.moments.float())
    mean, deviation = sums.scale()
    # the two scales differ only by rounding, and by MineStudio's lower limit of the deviation
    weight = value.linear.weight * (value.deviation / deviation)
    bias = (value.linear.bias * value.deviation + value.mean - mean) / deviation
    return {
        "value_head.linear.weight": weight,
        "value_head.linear.bias": bias,
        "value_head.normalizer.running_mean": sums.mean.reshape(1).clone(),
        "value_head.normalizer.running_mean_sq": sums.mean_square.reshape(1).clone(),
        "value_head.normalizer.debiasing_term": sums.weight.clone(),
    }


def _read_weights(file: Path, said: str) -> dict[str, Tensor]:
    _check_file(file, said)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 torch raises many kinds for a file that is not what it should be
        # torch's messages suggest loading it without weights_only, which would run code from the file
        raise CheckpointError(
            f"{said}: cannot be read; it is truncated, or holds more than tensors, which is refused."
        ) from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):  # a checkpoint of MineStudio's trainers
        found = {str(name).replace("mine_policy.", ""): tensor for name, tensor in found["state_dict"].items()}
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise CheckpointError(f"{said}: holds no state dict; give a .weights file of MineStudio.")
    return found


def _check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], said: str) -> None:
    cure = "Give the .model file that belongs to these weights as policy.model."
    width, ours = (len(state[_WIDTH_TENSOR]) if _WIDTH_TENSOR in state else None for state in (found, expected))
    if width is not None and width != ours:
        size = next((size for size, arguments in SIZES.items() if arguments["hidsize"] == width), None)
        if size is not None:
            cure = f"Set policy.size={size}, or give the .model file that belongs to these weights as policy.model."
        known = f" ({size})" if size else ""
        raise CheckpointError(f"{said}: the weights have width {width}{known}, the policy {ours}. {cure}")
    missing = [name for name in expected if name not in found]
    if missing:
        raise CheckpointError(f"{said}: {len(missing)} tensors are missing, the first is {missing[0]}. {cure}")
    unknown = [name for name in found if name not in expected]
    extra = [name for name in unknown if name.startswith(_PARTS)]
    if extra:
        raise CheckpointError(f"{said}: {len(extra)} tensors are not in the policy, the first is {extra[0]}. {cure}")
    if unknown:
        log.warning("%s: these tensors are not used: %s", said, ", ".join(unknown))
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            there, here = tuple(found[name].shape), tuple(tensor.shape)
            raise CheckpointError(f"{said}: {name} is {there} in the file, but {here} in the policy. {cure}")


def _check_file(file: Path, said: str) -> None:
    if not file.is_file():
        raise CheckpointError(f"{said}: there is no such file.")


def _replace(file: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary file next to it, then rename: a reader never sees half a file."""
    partial = file.absolute().with_name(f".{file.name}.{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    write(partial)
    partial.replace(file)


class _Arguments(msgspec.Struct, frozen=True):
    args: dict[str, Any]


class _HeadOptions(msgspec.Struct, frozen=True):
    temperature: float


class _PolicyArguments(msgspec.Struct, frozen=True):
    net: _Arguments
    pi_head_opts: _HeadOptions


class _Policy(msgspec.Struct, frozen=True):
    args: _PolicyArguments


class _ModelFile(msgspec.Struct, frozen=True):
    model: _Policy
