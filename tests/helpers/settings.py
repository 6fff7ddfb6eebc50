"""Settings as a command line gives them, and run folders as training leaves them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
import yaml

from mineonline.envs.build import env_spec
from mineonline.policies.build import build_policy
from mineonline.settings.command_line import compose_settings
from mineonline.settings.config import Config
from mineonline.settings.parsing import parse_config

ROOT = Path(__file__).resolve().parent.parent.parent
"""The repository."""
CARTPOLE = ["env=gym", "env.id=CartPole-v1", "policy=mlp", "video.every=0"]
SMALL = [
    "collector.workers=1", "collector.envs_per_worker=8", "collector.spare=false", "fragment.length=16",
    "buffer.fragments_per_iteration=8",
]  # fmt: skip
QUICK = [*CARTPOLE, *SMALL]
RANKS = ["trainer.devices=2", "trainer.accelerator=cpu"]


def config_of(*overrides: str) -> Config:
    """The configuration that a command line gives."""
    return parse_config(compose_settings(list(overrides)))


def config_of_experiment(name: str) -> Config:
    """A preset, with what it leaves to the user."""
    given = ["policy.weights=null"] if name.startswith("minestudio") else []
    return config_of(f"experiment={name}", *given)


def checkpoint_of(run_dir, *overrides, version=0):
    """A run folder as training leaves it after `version` iterations, with untrained weights."""
    config = config_of(*overrides)
    policy = build_policy(config, env_spec(config.env, config.played))
    policy.version.fill_(version)
    file = run_dir / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    state = {f"policy.{name}": tensor for name, tensor in policy.state_dict().items()}
    torch.save({"state_dict": state, "iteration": version}, file)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(config)))
    return file
