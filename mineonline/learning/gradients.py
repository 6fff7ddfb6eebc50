"""Clips gradients, drops those that are not finite, and says when something stays wrong with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

_STEEP = 100.0
_STEEP_ITERATIONS = 10
"""A warning comes when the norm has been `_STEEP` times its limit for this many iterations in a row."""


class Gradients:
    """The gradients of one module, step by step."""

    def __init__(self, module: nn.Module, *, max_norm: float) -> None:
        self._module = module
        self._max_norm = max_norm
        self._steep_in_a_row = 0
        self.norm = torch.zeros(())
        """L2 norm of the newest gradient, before it was clipped."""
        self.bad_in_a_row = 0
        """Newest gradients that were not finite."""
        self.not_finite: list[str] = []
        """The parameters whose gradients were not finite in the newest of these; none if only their norm overflowed."""

    def clip(self) -> None:
        """Clip the gradient; remove one that is not finite, so that the optimiser does nothing."""
        self.norm = nn.utils.clip_grad_norm_(self._module.parameters(), self._max_norm)
        if self.norm.isfinite():
            self.bad_in_a_row = 0
            return
        self.bad_in_a_row += 1
        self.not_finite = [name for name, p in self._module.named_parameters() if not is_finite(p.grad)]
        forget(self._module.parameters())

    def iteration_ended(self, norm: float) -> None:
        """Warn if the mean norm of an iteration's steps is far above its limit, and has been for a while."""
        self._steep_in_a_row = self._steep_in_a_row + 1 if norm > _STEEP * self._max_norm else 0
        if self._steep_in_a_row == _STEEP_ITERATIONS:
            log.warning(
                "the gradient's norm (%.3g) has been over %.0f times optimizer.max_grad_norm=%g for %d iterations: one "
                "loss drowns the others. If rewards are large or small, set objective.normalize_value=true or "
                "objective.reward_scale; otherwise raise optimizer.max_grad_norm.",
                norm, _STEEP, self._max_norm, _STEEP_ITERATIONS,
            )  # fmt: skip


def forget(parameters: Iterable[nn.Parameter]) -> None:
    """Remove the gradients: an optimiser leaves these parameters as they are."""
    for parameter in parameters:
        parameter.grad = None


def is_finite(tensor: Tensor | None) -> bool:
    """Whether all of the tensor is finite; true if there is no tensor."""
    return tensor is None or bool(tensor.isfinite().all())
