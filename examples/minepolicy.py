"""A policy written for MineStudio, as its tutorials have it, trained here as it is.

python -m mineonline.train env=minestudio env.engine=world env.image_size=[64,64] env.render_size=[64,64] policy=own policy._target_=mineonline.MinePolicyAdapter '+policy.kwargs.network={_target_: examples.minepolicy.MyPolicy, hiddim: 128}'
"""  # noqa: E501 one command

import torch
from einops import rearrange
from minestudio.models.base_policy import MinePolicy
from torch import nn


class MyPolicy(MinePolicy):
    def __init__(self, hiddim, action_space=None):
        super().__init__(hiddim, action_space)
        self.eyes = nn.Sequential(
            nn.Conv2d(3, 16, 8, stride=4), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 6 * 6, hiddim), nn.ReLU(),
        )  # fmt: skip
        self.memory = nn.GRU(hiddim, hiddim, batch_first=True)
        self.hiddim = hiddim
        self.reset_parameters()

    def forward(self, input, state_in=None, **kwargs):
        batch, rows = input["image"].shape[:2]
        (state,) = state_in or self.initial_state(batch)
        image = rearrange(input["image"], "b t h w c -> (b t) c h w") / 255
        seen = rearrange(self.eyes(image), "(b t) d -> b t d", t=rows)
        hidden, state = self.memory(seen, state.unsqueeze(0))
        latents = {"pi_logits": self.pi_head(hidden), "vpred": self.value_head(hidden)}
        return latents, [state.squeeze(0)]

    def initial_state(self, batch_size=1):
        return [torch.zeros(batch_size, self.hiddim, device=self.device)]
