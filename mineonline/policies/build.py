"""From the configuration to a policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mineonline.config import Config, MlpPolicyConfig
from mineonline.envs.contract import EnvSpec
from mineonline.errors import ConfigError
from mineonline.policies.actor import Actor
from mineonline.policies.heads import CategoricalHead, Head
from mineonline.policies.minecraft_heads import FactoredHead, JointHead
from mineonline.policies.mlp import MlpPolicy
from mineonline.policies.policy import Policy
from mineonline.policies.tiny import TinyPolicy


def build_actor(config: Config, spec: EnvSpec) -> Actor:
    """What a worker plays with; its weights come from the learner."""
    reference = build_policy(config, spec) if config.reference.kl_coef else None
    return Actor(build_policy(config, spec), reference)


def build_policy(config: Config, spec: EnvSpec) -> Policy:
    """The configured policy for an environment; its weights are a function of `config.seed`."""
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(config.seed)
        if isinstance(config.policy, MlpPolicyConfig):
            return MlpPolicy(spec, config.policy.hidden_sizes, zero_initial_value=config.policy.zero_initial_value)
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
            recurrent=config.policy.memory == "gru", zero_initial_value=config.policy.zero_initial_value,
        )  # fmt: skip


@contextmanager
def _one_thread() -> Iterator[None]:
    """Orthogonal initialisation rounds differently with another number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
