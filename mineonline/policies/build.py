"""Builds a policy from the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch

from mineonline.envs.actions import NUM_CLASSES
from mineonline.envs.contract import EnvSpec
from mineonline.envs.tasks import ActionMask
from mineonline.errors import ConfigError
from mineonline.imports import check_arguments, import_target
from mineonline.policies.actor import Actor
from mineonline.policies.heads import Head, head_for
from mineonline.policies.minecraft_heads import FactoredHead, JointHead
from mineonline.policies.mlp import MlpPolicy
from mineonline.policies.policy import Policy
from mineonline.policies.tiny import TinyPolicy
from mineonline.policies.vpt import SIZES, TEMPERATURE, VptPolicy
from mineonline.policies.vpt_files import load_weights, read_model
from mineonline.settings.config import Config, MlpPolicyConfig, OwnPolicyConfig, VptPolicyConfig


def build_actor(config: Config, spec: EnvSpec) -> Actor:
    """The networks that a worker runs; their weights come from the learner."""
    reference = build_policy(config, spec) if config.reference.kl_coef else None
    return Actor(build_policy(config, spec), reference)


def build_policy(config: Config, spec: EnvSpec) -> Policy:
    """The configured policy for an environment; its weights are determined by `config.seed`."""
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(config.seed)
        if isinstance(config.policy, OwnPolicyConfig):
            return _own_policy(config.policy, spec)
        if isinstance(config.policy, MlpPolicyConfig):
            return MlpPolicy(spec, config.policy.hidden_sizes, zero_initial_value=config.policy.zero_initial_value)
        if isinstance(config.policy, VptPolicyConfig):
            settings = _without_model_file(config.policy)
            assert settings.temperature is not None
            return VptPolicy(
                spec, settings.kwargs,
                temperature=settings.temperature, zero_initial_value=settings.zero_initial_value,
            )  # fmt: skip
        head: Head
        masks = tuple(task.actions for task in config.all_tasks) or (ActionMask(),)
        if len(set(masks)) == 1:
            masks = masks[:1]
        if spec.action != NUM_CLASSES:
            head = head_for(config.policy.hidden_size, spec.action)
        elif config.policy.head == "factored":
            head = FactoredHead(config.policy.hidden_size, *masks)
        else:
            head = JointHead(config.policy.hidden_size, *masks)
        return TinyPolicy(
            spec.observation, head,
            channels=config.policy.channels, hidden_size=config.policy.hidden_size,
            recurrent=config.policy.memory == "gru", zero_initial_value=config.policy.zero_initial_value,
            tasks=len(spec.tasks), task_embedding=config.policy.task_embedding,
        )  # fmt: skip


def read_policy_files(config: Config) -> Config:
    """The same settings with the contents of `policy.model` in place of its path: collectors need no such file.

    CheckpointError says what is wrong with the file.
    """
    if not isinstance(config.policy, VptPolicyConfig):
        return config
    return msgspec.structs.replace(config, policy=_without_model_file(config.policy))


def load_policy_weights(policy: Policy, config: Config) -> None:
    """Load the weights that the policy's settings name, if any. CheckpointError says why they cannot be loaded."""
    if isinstance(policy, VptPolicy) and isinstance(config.policy, VptPolicyConfig) and config.policy.weights:
        load_weights(policy, Path(config.policy.weights), zero_value=config.policy.zero_initial_value)


def _without_model_file(settings: VptPolicyConfig) -> VptPolicyConfig:
    arguments, temperature = SIZES.get(settings.size or "", {}), TEMPERATURE
    if settings.model is not None:
        arguments, temperature = read_model(Path(settings.model))
    if settings.temperature is not None:
        temperature = settings.temperature
    kwargs = {**arguments, **settings.kwargs}
    return msgspec.structs.replace(settings, size=None, model=None, kwargs=kwargs, temperature=temperature)


def _own_policy(settings: OwnPolicyConfig, spec: EnvSpec) -> Policy:
    named = f"policy._target_={settings.target}"
    policy_class = import_target("policy", settings.target)
    if not (isinstance(policy_class, type) and issubclass(policy_class, Policy)):
        raise ConfigError(f"{named}: must be a subclass of mineonline.Policy.")
    check_arguments("policy.kwargs", settings.target, policy_class, spec, **settings.kwargs)
    build: Callable[..., Policy] = policy_class
    policy = build(spec, **settings.kwargs)
    missing = [part for part in ("head", "value") if not hasattr(policy, part)]
    if missing:
        raise ConfigError(f"{named}: its constructor must set {' and '.join(missing)}, see mineonline.Policy.")
    return policy


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread: how orthogonal initialisation rounds depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
