"""Heads for MineStudio's actions (`buttons` 8641 x `camera` 121).

All produce the same actions. `FactoredHead` and `JointHead` apply the task's action mask, and count the camera only
where the buttons say that it moves; VPT's weights were trained with `VptHead`. Given several masks, one for each task,
they apply that of the row's task. Axes: G groups, K choices per group.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mineonline.envs.actions import (
    BUTTON_NAMES,
    BUTTON_TABLE,
    GROUP_NAMES,
    GROUPS,
    INVENTORY,
    NUM_BUTTONS,
    NUM_CAMERA,
    legal_buttons,
)
from mineonline.envs.tasks import ActionMask
from mineonline.fragment import Tensors
from mineonline.policies.heads import IMPOSSIBLE, GroupedHead, Head, of_task, orthogonal_
from mineonline.policies.precision import FullPrecisionLinear

_CAMERA_BINS = 11
_CAMERA_GROUP = GROUP_NAMES.index("camera")
_INVENTORY_GROUP = GROUP_NAMES.index("inventory")
_PITCH_GROUP = len(GROUP_NAMES)
_YAW_GROUP = _PITCH_GROUP + 1


class FactoredHead(GroupedHead):
    """Independent choices for each group of buttons, pitch and yaw: learns from scratch in minutes.

    `inventory` excludes all other groups, and pitch and yaw count only where the camera moves. Log-probability and
    entropy follow the same rules.
    """

    table: Tensor
    strides: Tensor

    def __init__(self, features: int, mask: ActionMask, *others: ActionMask) -> None:
        super().__init__(features, _of_all([_possible(each) for each in (mask, *others)]))
        self.register_buffer("table", torch.from_numpy(BUTTON_TABLE), persistent=False)
        sizes = [len(choices) for choices in GROUPS.values()][:_INVENTORY_GROUP]
        strides = torch.tensor(sizes).flip(0).cumprod(0).flip(0) // torch.tensor(sizes)
        self.register_buffer("strides", strides, persistent=False)
        with torch.no_grad():
            # favour small movements at first: otherwise untrained agents end up staring at the sky or at the floor
            bins = torch.arange(_CAMERA_BINS)
            bias_GK = self.linear.bias.view(self.groups, self.classes)
            bias_GK[[_PITCH_GROUP, _YAW_GROUP]] = -0.5 * ((bins - _CAMERA_BINS // 2) / 1.5) ** 2

    def _action(self, choice: Tensor) -> Tensors:
        product_class = (choice[..., :_INVENTORY_GROUP] * self.strides).sum(-1)
        opens = choice[..., _INVENTORY_GROUP] == 1
        camera = choice[..., _PITCH_GROUP] * _CAMERA_BINS + choice[..., _YAW_GROUP]
        return {"buttons": torch.where(opens, INVENTORY, product_class), "camera": camera}

    def sample(self, logits: Tensor) -> Tensors:
        return self._action(self._choose(logits, random=True))

    def best(self, logits: Tensor) -> Tensors:
        return self._action(self._choose(logits, random=False))

    def log_prob(self, logits: Tensor, action: Tensors) -> Tensor:
        buttons = self.table[action["buttons"]]
        camera = action["camera"]
        pitch_yaw = torch.stack([camera // _CAMERA_BINS, camera % _CAMERA_BINS], -1)
        each = self._group_log_prob(logits, torch.cat([buttons, pitch_yaw], -1))
        moves = buttons[..., _CAMERA_GROUP].float()
        others = each[..., :_INVENTORY_GROUP].sum(-1) + moves * each[..., _PITCH_GROUP:].sum(-1)
        return each[..., _INVENTORY_GROUP] + torch.where(buttons[..., _INVENTORY_GROUP] == 1, 0.0, others)

    def entropy(self, logits: Tensor) -> Tensor:
        return self._of_whole_actions(logits, self._group_entropy(logits))

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        return self._of_whole_actions(logits, self._group_kl(logits, other))

    def _of_whole_actions(self, logits: Tensor, each: Tensor) -> Tensor:
        """Sum of the groups' entropies or divergences, by the chain rule: each weighted by how likely it counts."""
        moves = logits[..., _CAMERA_GROUP, 1].exp()
        closed = logits[..., _INVENTORY_GROUP, 0].exp()
        others = each[..., :_INVENTORY_GROUP].sum(-1) + moves * each[..., _PITCH_GROUP:].sum(-1)
        return each[..., _INVENTORY_GROUP] + closed * others


class _FlatHead(Head):
    """One categorical over the button classes and one over the camera classes, concatenated in the logits."""

    def sample(self, logits: Tensor) -> Tensors:
        return self.best(logits - torch.empty_like(logits).exponential_().log_())

    def best(self, logits: Tensor) -> Tensors:
        return {"buttons": logits[..., :NUM_BUTTONS].argmax(-1), "camera": logits[..., NUM_BUTTONS:].argmax(-1)}


class JointHead(_FlatHead):
    """VPT's choices, to train from scratch: one categorical over all legal button classes, one over the camera."""

    possible: Tensor
    moves: Tensor

    def __init__(self, features: int, mask: ActionMask, *others: ActionMask, gain: float = 0.01) -> None:
        super().__init__()
        self.by_task = len(others) > 0
        self.linear = FullPrecisionLinear(features, NUM_BUTTONS + NUM_CAMERA)
        orthogonal_(self.linear, gain)
        legal = [torch.from_numpy(legal_buttons(each.forbid, each.hold)) for each in (mask, *others)]
        possible = _of_all(legal)
        moves = torch.from_numpy(BUTTON_TABLE[:, _CAMERA_GROUP] == 1)
        self.register_buffer("possible", possible, persistent=False)
        self.register_buffer("moves", moves, persistent=False)

    def forward(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        logits = self.linear(features)
        possible = of_task(self.possible, self, task)
        buttons = logits[..., :NUM_BUTTONS].masked_fill(~possible, IMPOSSIBLE).log_softmax(-1)
        return torch.cat([buttons, logits[..., NUM_BUTTONS:].log_softmax(-1)], -1)

    def log_prob(self, logits: Tensor, action: Tensors) -> Tensor:
        buttons, camera = _chosen(logits, action)
        return buttons + torch.where(self.moves[action["buttons"]], camera, 0.0)

    def entropy(self, logits: Tensor) -> Tensor:
        buttons, camera = logits[..., :NUM_BUTTONS], logits[..., NUM_BUTTONS:]
        moves = buttons[..., self.moves].exp().sum(-1)
        return -(buttons.exp() * buttons).sum(-1) - moves * (camera.exp() * camera).sum(-1)

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        moves = logits[..., :NUM_BUTTONS][..., self.moves].exp().sum(-1)
        each = logits.exp() * (logits - other)
        return each[..., :NUM_BUTTONS].sum(-1) + moves * each[..., NUM_BUTTONS:].sum(-1)


class MineStudioHead(_FlatHead):
    """MineStudio's distribution, in which all classes are possible and the camera always counts.

    A task's mask applies only in the environment, as in MineStudio: a forbidden action can be sampled, but is not
    performed. Its features are the logits of both, (..., 8641 + 121).
    """

    def forward(self, features: Tensor) -> Tensor:
        parts = features[..., :NUM_BUTTONS].float(), features[..., NUM_BUTTONS:].float()
        return torch.cat([part.log_softmax(-1) for part in parts], -1)

    def log_prob(self, logits: Tensor, action: Tensors) -> Tensor:
        buttons, camera = _chosen(logits, action)
        return buttons + camera

    def entropy(self, logits: Tensor) -> Tensor:
        return -(logits.exp() * logits).sum(-1)

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        return (logits.exp() * (logits - other)).sum(-1)


class VptHead(MineStudioHead):
    """VPT's linear layers, whose logits are divided by `temperature`."""

    def __init__(self, features: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.buttons = FullPrecisionLinear(features, NUM_BUTTONS)
        self.camera = FullPrecisionLinear(features, NUM_CAMERA)
        with torch.no_grad():
            for linear in (self.buttons, self.camera):
                # weights of norm 0.01 per class: nearly uniform at first, as in MineStudio
                linear.weight.mul_(0.01 / linear.weight.norm(dim=1, keepdim=True))
                nn.init.zeros_(linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        parts = [linear(features) / self.temperature for linear in (self.buttons, self.camera)]
        return torch.cat([part.log_softmax(-1) for part in parts], -1)


def _chosen(logits: Tensor, action: Tensors) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the button class and of the camera class."""
    buttons = logits.gather(-1, action["buttons"].unsqueeze(-1)).squeeze(-1)
    camera = logits.gather(-1, NUM_BUTTONS + action["camera"].unsqueeze(-1)).squeeze(-1)
    return buttons, camera


def _of_all(possible: list[Tensor]) -> Tensor:
    """Of one task, as it is; of several, along a first axis."""
    return possible[0] if len(possible) == 1 else torch.stack(possible)


def _possible(mask: ActionMask) -> Tensor:
    """(G, K) bool: the choices that a task's mask allows, groups of buttons first, then pitch and yaw."""
    classes = max(_CAMERA_BINS, *(len(choices) for choices in GROUPS.values()))
    possible_GK = torch.zeros(len(GROUPS) + 2, classes, dtype=torch.bool)
    for group, (name, choices) in enumerate(GROUPS.items()):
        held = [choice for choice in choices if choice in mask.hold]
        for k, choice in enumerate(choices):
            forbidden = choice in mask.forbid or (name in mask.forbid and choice != "none")
            possible_GK[group, k] = choice == held[0] if held else not forbidden
    possible_GK[len(GROUPS) :, :_CAMERA_BINS] = True
    assert set(mask.forbid) | set(mask.hold) <= set(BUTTON_NAMES)
    return possible_GK
