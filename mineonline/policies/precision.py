"""Mixed precision: workers act under the learner's autocast, and what PPO compares stays in full precision."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which Lightning runs the learner for `trainer.precision=<precision>`."""
    return torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES)


class FullPrecisionLinear(nn.Linear):
    """A linear layer that autocast leaves in the precision of its weights.

    For logits and values: rounded to bfloat16, a log-probability of -5 is off by up to 0.016, and the ratio with it.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def keep_full_precision(module: nn.Module) -> None:
    """Let autocast leave `module`, of any class, in the precision of its weights."""
    # a bound method: a copy of the module gets its own
    module.forward = MethodType(_forward_in_full_precision, module)


def _forward_in_full_precision(module: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    with torch.autocast(x.device.type, enabled=False):
        return type(module).forward(module, x.to(next(module.parameters()).dtype), *args, **kwargs)
