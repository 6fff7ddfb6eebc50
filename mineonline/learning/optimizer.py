"""AdamW over groups of the policy's parameters, each with its own learning rate, and its schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from mineonline.errors import CheckpointError, ConfigError
from mineonline.settings.config import OptimizerConfig

_REST = "*"


def freeze(policy: nn.Module, patterns: Sequence[str]) -> None:
    """Let nothing train the parameters whose names match one of `patterns`. ConfigError if one matches none."""
    names = [name for name, _ in policy.named_parameters()]
    for pattern in patterns:
        _check_matches(f"optimizer.frozen=[{pattern}]", pattern, names)
    for name, parameter in policy.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in policy.parameters()):
        raise ConfigError(f"optimizer.frozen={list(patterns)}: nothing is left to train.")


def build_optimizer(policy: nn.Module, settings: OptimizerConfig) -> torch.optim.AdamW:
    """A parameter belongs to the first of `learning_rates` whose pattern matches its name.

    ConfigError if a pattern gets no parameter.
    """
    groups: dict[str, list[nn.Parameter]] = {pattern: [] for pattern in (*settings.learning_rates, _REST)}
    for name, parameter in policy.named_parameters():
        groups[next(pattern for pattern in groups if fnmatchcase(name, pattern))].append(parameter)
    names = [name for name, _ in policy.named_parameters()]
    for pattern in settings.learning_rates:
        if not groups[pattern]:
            _check_matches(f"optimizer.learning_rates.{pattern}", pattern, names)
            raise ConfigError(f"optimizer.learning_rates.{pattern}: an earlier pattern has all that it matches.")
    return torch.optim.AdamW(
        [{"params": members, "pattern": pattern} for pattern, members in groups.items() if members],
        lr=settings.learning_rate, eps=settings.eps, weight_decay=settings.weight_decay,
    )  # fmt: skip


def set_rates(groups: Sequence[dict[str, Any]], settings: OptimizerConfig, iteration: int, iterations: int) -> None:
    """Give an optimiser's groups what holds in this iteration: the settings of now, not those of a resumed run."""
    left = max(0.0, 1 - iteration / iterations) if settings.anneal else 1.0
    warm = min(1.0, (iteration + 1) / settings.warmup) if settings.warmup else 1.0
    for group in groups:
        rate = settings.learning_rates.get(group["pattern"], settings.learning_rate)
        group.update(lr=left * warm * rate, eps=settings.eps, weight_decay=settings.weight_decay)


def check_groups(checkpoint: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """CheckpointError if the checkpoint's optimiser has other groups."""
    saved = [group["pattern"] for group in checkpoint["optimizer_states"][0]["param_groups"]]
    ours = [group["pattern"] for group in optimizer.param_groups]
    if saved != ours:
        before, now = ([pattern for pattern in each if pattern != _REST] for each in (saved, ours))
        raise CheckpointError(
            f"this checkpoint was saved with optimizer.learning_rates for {before}, but this run has {now}. Give "
            "the same patterns (their rates may change), or start a new run with init_from=<checkpoint>."
        )


def _check_matches(said: str, pattern: str, names: Sequence[str]) -> None:
    if not any(fnmatchcase(name, pattern) for name in names):
        parts = dict.fromkeys(f"{name.split('.')[0]}.*" for name in names)
        raise ConfigError(f"{said}: no parameter's name matches it. There are: {', '.join(parts)}.")
