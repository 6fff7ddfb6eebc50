"""A policy whose decisions take time, as on a GPU: `policy._target_=tests.helpers.slow_policy.SlowPolicy`."""

import time

from mineonline.envs.tasks import ActionMask
from mineonline.policies.minecraft_heads import FactoredHead
from mineonline.policies.tiny import TinyPolicy


class SlowPolicy(TinyPolicy):
    def __init__(self, spec, *, ms):
        super().__init__(
            spec.observation, FactoredHead(256, ActionMask()),
            channels=[16, 32, 32], hidden_size=256, recurrent=False, zero_initial_value=False,
        )  # fmt: skip
        self.ms = ms

    def forward(self, observation, first_BT, memory):
        if first_BT.shape[1] == 1:  # in a worker
            time.sleep(self.ms / 1000)
        return super().forward(observation, first_BT, memory)
