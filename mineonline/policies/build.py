"""From the configuration to a policy."""

from __future__ import annotations

import torch

from mineonline.config import Config, MlpPolicyConfig
from mineonline.envs.contract import EnvSpec
from mineonline.errors import ConfigError
from mineonline.policies.heads import CategoricalHead, Head
from mineonline.policies.minecraft_heads import FactoredHead, JointHead
from mineonline.policies.mlp import MlpPolicy
from mineonline.policies.policy import Policy
from mineonline.policies.tiny import TinyPolicy


def build_policy(config: Config, spec: EnvSpec) -> Policy:
    """The configured policy for an environment; its weights are a function of `config.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if isinstance(config.policy, MlpPolicyConfig):
            return MlpPolicy(spec, config.policy.hidden_sizes)
        if "image" not in spec.observation:
            raise ConfigError("policy=tiny reads pictures, but the environment shows vectors. Use policy=mlp.")
        head: Head
        if config.task is None:
            head = CategoricalHead(config.policy.hidden_size, spec.action)
        elif config.policy.head == "factored":
            head = FactoredHead(config.policy.hidden_size, config.task.actions)
        else:
            head = JointHead(config.policy.hidden_size, config.task.actions)
        return TinyPolicy(
            spec.observation["image"], head,
            channels=config.policy.channels, hidden_size=config.policy.hidden_size,
            recurrent=config.policy.memory == "gru",
        )  # fmt: skip
