"""The formulas of PPO: advantages first, then losses.

Axes: B fragments or sequences, T rows, U = T + 1 rows. Rows without a decision are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mineonline.fragment import Fragments


def gae(
    reward_BT: Tensor,
    value_BU: Tensor,
    terminated_BT: Tensor,
    ended_BT: Tensor,
    next_advantage_B: Tensor,
    weight_BT: Tensor | None = None,
    *,
    discount: float,
    trace: float,
) -> Tensor:
    """Advantage of every row, (B, T) (Schulman et al. 2016, eq. 16).

    `weight_BT`, the actions' truncated importance weights ρ = c, corrects what follows each action: ρ_t times the
    result, added to the value, is the V-trace target (Espeholt et al. 2018, remark 1, with c scaled by `trace`).

    `value_BU[:, t + 1]` is the value of what row t led to. `terminated_BT` stops the bootstrap; `ended_BT` (terminated,
    truncated, or a row without a decision) stops the trace. `next_advantage_B` is the advantage of row T times its
    weight, 0 where it is not known. ValueError if the shapes do not fit.
    """
    rows = reward_BT.shape
    if not (rows == terminated_BT.shape == ended_BT.shape and value_BU.shape == (rows[0], rows[1] + 1)):
        raise ValueError(f"rewards are {tuple(rows)}, values {tuple(value_BU.shape)}: expected (B, T) and (B, T + 1)")
    delta_BT = reward_BT + discount * value_BU[:, 1:] * ~terminated_BT - value_BU[:, :-1]
    decay_BT = discount * trace * ~ended_BT
    weighted_B = next_advantage_B
    columns = []
    for t in range(rows[1] - 1, -1, -1):
        advantage_B = delta_BT[:, t] + decay_BT[:, t] * weighted_B
        weighted_B = advantage_B if weight_BT is None else weight_BT[:, t] * advantage_B
        columns.append(advantage_B)
    return torch.stack(columns[::-1], dim=1)


def advantages(
    fragments: Fragments, value_BU: Tensor, weight_BT: Tensor | None = None, *, discount: float, trace: float
) -> Tensor:
    """`gae` of every fragment; the trace continues into the environment's next fragment, if it is in the batch.

    A gap in the sequence numbers of an environment stops the trace; the bootstrap at the fragment's last row remains.
    Rows marked in `idle_BT` hold no decision: their advantage means nothing.
    """
    ended_BT = fragments.terminated_BT | fragments.truncated_BT | fragments.idle_BT
    successor_B = _successors(fragments)
    result_BT = torch.zeros_like(fragments.reward_BT)
    next_advantage_B = torch.zeros_like(fragments.reward_BT[:, 0])
    pending_B = torch.ones_like(successor_B, dtype=torch.bool)
    # a fragment is ready when its successor, if any, is done: one round per fragment of the longest chain
    while pending_B.any():
        follows_B = successor_B >= 0
        ready_B = pending_B & ~(follows_B & pending_B[successor_B.clamp(min=0)])
        index = ready_B.nonzero().squeeze(1)
        known = follows_B[index]
        after = successor_B[index[known]]
        next_advantage_B[index[known]] = result_BT[after, 0] * (1.0 if weight_BT is None else weight_BT[after, 0])
        result_BT[index] = gae(
            fragments.reward_BT[index], value_BU[index], fragments.terminated_BT[index], ended_BT[index],
            next_advantage_B[index], None if weight_BT is None else weight_BT[index], discount=discount, trace=trace,
        )  # fmt: skip
        pending_B[index] = False
    return result_BT


def _successors(fragments: Fragments) -> Tensor:
    """(B,) int64: index of the next fragment of the same environment, or -1."""
    keys = list(zip(fragments.env_B.tolist(), fragments.sequence_B.tolist(), strict=True))
    index = {key: i for i, key in enumerate(keys)}
    found = [index.get((env, sequence + 1), -1) for env, sequence in keys]
    return torch.tensor(found, dtype=torch.int64, device=fragments.env_B.device)


class Losses(NamedTuple):
    """Means over the rows with a decision; `total` is what is minimised, the rest is for the log."""

    total: Tensor
    policy: Tensor
    value: Tensor
    """In units of the returns' variance, if values are normalised."""
    entropy: Tensor
    """Nats."""
    reference_kl: Tensor
    """Between policy and reference in the direction that is set, nats; 0 without a reference."""
    cloning: Tensor
    """On recorded fragments, times its coefficient; 0 without cloning."""
    approximate_kl: Tensor
    """KL(behaviour || policy), estimated as mean(ratio - 1 - log ratio) (Schulman 2020, k3), nats."""
    update_kl: Tensor
    """The same for KL(proximal || policy): how far this iteration has moved the policy so far."""
    clip_fraction: Tensor
    """Fraction of rows whose ratio left the clip range."""

    def detach(self) -> Losses:
        """Without the graph."""
        return Losses(*(loss.detach() for loss in self))


@dataclass(frozen=True)
class Rows:
    """Averages over the decisions of a part of a minibatch."""

    decided_BT: Tensor
    """bool."""
    decisions: Tensor
    """In the whole minibatch, on average over the ranks: their gradients are averaged, and one rank may hold fewer."""

    def mean(self, x_BT: Tensor) -> Tensor:
        """What this part adds to the minibatch's mean: summed over parts and averaged over ranks, it is that mean."""
        total = torch.where(self.decided_BT, x_BT, 0.0).sum()
        return total / torch.where(self.decisions > 0, self.decisions, 1.0)


def estimated_kl(log_ratio_BT: Tensor, limit: float) -> Tensor:
    """KL of every row, in nats, from log(new / old) of actions that the old policy chose (Schulman 2020, k3)."""
    return clamped_exp(log_ratio_BT, limit) - 1 - log_ratio_BT


def clamped_exp(log_ratio_BT: Tensor, limit: float) -> Tensor:
    """exp of the log-ratio, clamped to ± `limit`."""
    return log_ratio_BT.clamp(-limit, limit).exp()


def importance_weight(target_BT: Tensor, behaviour_BT: Tensor, *, largest: float, log_ratio_max: float) -> Tensor:
    """min(`largest`, target / behaviour) of log-probabilities, without gradient (Espeholt et al. 2018, ρ and c)."""
    return clamped_exp((target_BT - behaviour_BT).detach(), log_ratio_max).clamp(max=largest)


def clipped_surrogate(ratio_BT: Tensor, advantage_BT: Tensor, clip: float) -> Tensor:
    """Loss of every row (Schulman et al. 2017, eq. 7, negated)."""
    clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio_BT * advantage_BT, clipped_BT * advantage_BT)


def value_loss(value_BT: Tensor, return_BT: Tensor, old_value_BT: Tensor, deviation: Tensor, clip: float) -> Tensor:
    """Half the squared error of every row, in units of the returns' variance.

    With `clip`, in units of their deviation: the larger of this and the error of the value clamped to within `clip` of
    the old one, so that moving further gains nothing (Schulman et al., value clipping in OpenAI's baselines).
    """
    deviation = torch.where(deviation > 0, deviation, 1.0)  # 0 while every return was 0, and so is every value
    error_BT = ((value_BT - return_BT) / deviation) ** 2
    if clip:
        near_BT = old_value_BT + (value_BT - old_value_BT).clamp(-clip * deviation, clip * deviation)
        error_BT = torch.maximum(error_BT, ((near_BT - return_BT) / deviation) ** 2)
    return 0.5 * error_BT
