"""Generalised advantage estimation over fragments that may follow one another.

Axes: B fragments, T rows, U = T + 1 rows.
"""

from __future__ import annotations

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

    With `weight_BT`, truncated importance weights ρ = c of the actions, what follows an action is corrected: ρ_t times
    the result, added to the value, is the V-trace target (Espeholt et al. 2018, remark 1, with c scaled by `trace`).

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
    """`gae` of every fragment, where the trace runs on into the fragment that followed, if it is in the batch.

    A gap in the sequence numbers of an environment stops the trace; the bootstrap at the fragment's last row remains.
    Rows in `final_BT` hold no decision: their advantage means nothing.
    """
    ended_BT = fragments.terminated_BT | fragments.truncated_BT | fragments.final_BT
    successor_B = _successors(fragments)
    result_BT = torch.zeros_like(fragments.reward_BT)
    next_advantage_B = torch.zeros_like(fragments.reward_BT[:, 0])
    pending_B = torch.ones_like(successor_B, dtype=torch.bool)
    # a fragment's turn comes when its successor, if any, is done: as many rounds as the longest chain
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
    """(B,) int64: index of the fragment that followed in the same environment, or -1."""
    keys = list(zip(fragments.env_B.tolist(), fragments.sequence_B.tolist(), strict=True))
    index = {key: i for i, key in enumerate(keys)}
    found = [index.get((env, sequence + 1), -1) for env, sequence in keys]
    return torch.tensor(found, dtype=torch.int64, device=fragments.env_B.device)
