"""A policy of your own: it sees a coarse picture, and has no convolutions.

python -m mineonline.train policy=own policy._target_=examples.own_policy.CoarsePolicy +policy.kwargs.width=128
"""

from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from mineonline import ActionMask, EnvSpec, FactoredHead, Policy, PolicyOutput, ValueHead, errors


class CoarsePolicy(Policy):
    def __init__(self, spec: EnvSpec, width: int = 64, forbid=("hotbar", "use", "drop", "inventory")):
        super().__init__()  # with memory: super().__init__({"name": TensorSpec(shape, "float32")})
        if "image" not in spec.observation:
            raise errors.ConfigError("CoarsePolicy sees pictures: give env=world or env=minestudio.")
        self.body = nn.Sequential(nn.Linear(3 * 12 * 16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = FactoredHead(width, ActionMask(forbid=tuple(forbid)))
        self.value = ValueHead(width)

    def forward(self, observation, first_BT, memory):
        image_BTHWC = observation["image"]
        pixels = image_BTHWC.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        coarse = adaptive_avg_pool2d(pixels, (12, 16)).flatten(1)
        features_BTD = self.body(coarse).unflatten(0, first_BT.shape)
        return PolicyOutput(self.head(features_BTD), self.value(features_BTD), memory)
