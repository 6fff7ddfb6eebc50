"""Gradient checkpointing (Chen et al. 2016): activations are computed a second time instead of kept.

Axes: B sequences, T rows.
"""

from __future__ import annotations

from functools import partial
from types import MethodType

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def keep_activations_of(module: nn.Module, rows: int) -> None:
    """While gradients flow, let `module` keep the activations of at most `rows` rows at a time.

    `module` must treat each row of its (B, T, ...) input by itself.
    """
    # a bound method: a copy of the module gets its own
    module.forward = MethodType(partial(_forward_in_parts, rows), module)


def _forward_in_parts(rows: int, module: nn.Module, x_BT: Tensor) -> Tensor:
    forward = partial(type(module).forward, module)
    if not torch.is_grad_enabled():
        result: Tensor = forward(x_BT)
        return result
    parts = torch.split(x_BT.flatten(0, 1).unsqueeze(1), rows)
    done = torch.cat([checkpoint(forward, part, use_reentrant=False) for part in parts])
    return done.view(*x_BT.shape[:2], *done.shape[2:])
