"""A small policy after MineStudio's ROCKET-1: it sees the picture, a mask of its goal and its last action.

python -m mineonline.train --config-dir examples/conf experiment=rocket env.engine=world
"""

import torch
from torch import nn

from mineonline import ActionMask, EnvSpec, FactoredHead, Policy, PolicyOutput, TensorSpec, ValueHead, errors


class RocketPolicy(Policy):
    def __init__(self, spec: EnvSpec, width: int = 128, forbid=("hotbar", "use", "drop", "inventory")):
        super().__init__({"gru": TensorSpec((width,), "float32")})
        missing = {"image", "mask", "previous"} - spec.observation.keys()
        if missing:
            raise errors.ConfigError(f"RocketPolicy sees {', '.join(sorted(missing))} too: see experiment=rocket.")
        self.eyes = nn.Sequential(
            nn.Conv2d(4, 16, 8, stride=4), nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2), nn.ReLU(),
            nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        height, picture_width, _ = spec.observation["image"].shape
        (actions,) = spec.observation["previous"].shape
        self.seen = nn.Linear(self.eyes(torch.zeros(1, 4, height, picture_width)).shape[1], width)
        self.previous = nn.Linear(actions, width)
        self.memory = nn.GRUCell(width, width)
        self.head = FactoredHead(width, ActionMask(forbid=tuple(forbid)))
        self.value = ValueHead(width)

    def forward(self, observation, first_BT, memory):
        image_BTHWC, mask_BTHW = observation["image"] / 255, observation["mask"].float()
        picture = torch.cat([image_BTHWC, mask_BTHW.unsqueeze(-1)], -1).flatten(0, 1).permute(0, 3, 1, 2)
        seen_BTD = self.seen(self.eyes(picture)).unflatten(0, first_BT.shape)
        x_BTD = torch.relu(seen_BTD + self.previous(observation["previous"]))
        state_BD, rows = memory["gru"], []
        for t in range(first_BT.shape[1]):
            state_BD = self.memory(x_BTD[:, t], state_BD * ~first_BT[:, t, None])
            rows.append(state_BD)
        y_BTD = torch.stack(rows, 1)
        return PolicyOutput(self.head(y_BTD), self.value(y_BTD), {"gru": state_BD})
