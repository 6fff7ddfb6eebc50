"""mineonline trains Minecraft agents online, with PPO, while they play.

Two kinds of process, and the two paths between them:

    collector process (c = 0..C-1)                       trainer process (rank r = 0..R-1)
    run/collector.py                                     run/trainer.py, run/connections.py
    ┌────────────────────────────────────┐               ┌────────────────────────────────────┐
    │ worker processes (torchrl):        │    PATH 1     │ receiver thread                    │
    │   N environments + policy copy     │  experience   │     ▼                              │
    │     ▼ shared memory                │ ────────────▶ │ fragment buffer                    │
    │ main thread: sends fragments,      │ DEALER▶ROUTER │     ▼                              │
    │   waits when all ranks are full    │ to every rank │ datamodule                         │
    │     ▲                              │               │     ▼                              │
    │ takes the newest weights           │    PATH 2     │ learner: one PPO iteration a step  │
    │   between two rollouts             │ ◀──────────── │     ▼                              │
    │                                    │ SUB ◀── XPUB  │ publisher thread (rank 0)          │
    └────────────────────────────────────┘               └────────────────────────────────────┘
             ▲ processes/join.py: one request to rank 0 gives a collector the settings and all addresses
             ▲ run/meeting.py: rank 0 gives the other ranks, whoever started them, the run folder, its id and keys
             ▲ processes/supervisor.py: rank 0 starts and replaces the collectors of its own machine, and keeps a spare
             ▲ processes/fork_server.py: each collector has a process that forks its workers, in milliseconds

PATH 1: a fragment, from the environment's step to the loss. It waits when the learner is behind; nothing is dropped
uncounted.

    experience/worker.py       a worker process, as torchrl runs it
    experience/rollout.py      it steps its environments together, and writes fragments
    experience/async_player.py    or each at its own pace, where they can
    experience/collector.py    the collector takes a rollout from its workers and sends each fragment
    experience/wire.py         the message, its sender and the rank's receiver
    experience/buffer.py       fragments wait in the rank, and grow stale
    experience/datamodule.py   Lightning asks for a batch
    learning/module.py         one iteration: first pass, advantages, minibatches, optimiser steps
    learning/sequences.py      fragments are cut into sequences
    learning/objective.py      advantages and losses

PATH 2: weights, from the optimiser to the next action. Only the newest count.

    callbacks/connections.py   publishes after each iteration that changed the policy
    weights/publisher.py       keeps the newest weights and sends them
    weights/subscriber.py      keeps what arrived until the collector takes it
    experience/collector.py    gives it to the workers, between two rollouts

Where many collectors share a node, a relay (`run/relay.py`) may stand in both paths. `web/` is the page of
`mineonline.play`, in processes of its own.

The records of both are in `fragment.py`. At the top are the commands: each parses its command line and calls one
function of `run/`. `settings/` says what can be set, `envs/contract.py` what an environment is, `policies/policy.py`
what a policy is. Folders import only those further down: web, run, callbacks, (learning, experience, weights, video),
policies, settings, fragment, envs, processes, imports, status, (atomic, errors, metrics_table).
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from mineonline import errors
    from mineonline.envs.contract import AsyncVectorEnv, ContinuousAction, EnvSpec, Step, TensorSpec, VectorEnv
    from mineonline.envs.tasks import ActionMask
    from mineonline.experience.buffer import Arrivals, Batch
    from mineonline.experience.fragment_files import RecordedFragments
    from mineonline.fragment import Episode, Fragments
    from mineonline.learning.module import PPO, IterationOutput
    from mineonline.learning.objective import Losses, Rows
    from mineonline.learning.sequences import FirstPass, Sequences
    from mineonline.policies.heads import CategoricalHead, GaussianHead, Head, head_for
    from mineonline.policies.mine_policy import MinePolicyAdapter
    from mineonline.policies.minecraft_heads import FactoredHead, JointHead
    from mineonline.policies.policy import Memory, Policy, PolicyOutput
    from mineonline.policies.value import ValueHead
    from mineonline.run.trained import load_policy, make_env

_HOMES = {
    "errors": ("errors",),
    "envs.contract": ("AsyncVectorEnv", "ContinuousAction", "EnvSpec", "Step", "TensorSpec", "VectorEnv"),
    "envs.tasks": ("ActionMask",),
    "experience.buffer": ("Arrivals", "Batch"),
    "experience.fragment_files": ("RecordedFragments",),
    "fragment": ("Episode", "Fragments"),
    "learning.module": ("PPO", "IterationOutput"),
    "learning.objective": ("Losses", "Rows"),
    "learning.sequences": ("FirstPass", "Sequences"),
    "policies.heads": ("CategoricalHead", "GaussianHead", "Head", "head_for"),
    "policies.mine_policy": ("MinePolicyAdapter",),
    "policies.minecraft_heads": ("FactoredHead", "JointHead"),
    "policies.policy": ("Memory", "Policy", "PolicyOutput"),
    "policies.value": ("ValueHead",),
    "run.trained": ("load_policy", "make_env"),
}
"""Module -> the public names in it. Everything that is not here may change without notice."""

__all__ = [
    "PPO",
    "ActionMask",
    "Arrivals",
    "AsyncVectorEnv",
    "Batch",
    "CategoricalHead",
    "ContinuousAction",
    "EnvSpec",
    "Episode",
    "FactoredHead",
    "FirstPass",
    "Fragments",
    "GaussianHead",
    "Head",
    "IterationOutput",
    "JointHead",
    "Losses",
    "Memory",
    "MinePolicyAdapter",
    "Policy",
    "PolicyOutput",
    "RecordedFragments",
    "Rows",
    "Sequences",
    "Step",
    "TensorSpec",
    "ValueHead",
    "VectorEnv",
    "__version__",
    "errors",
    "head_for",
    "load_policy",
    "make_env",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch and Lightning take seconds."""
    if name == "__version__":
        return importlib.metadata.version("mineonline")
    for module, names in _HOMES.items():
        if name in names:
            home = importlib.import_module(f"mineonline.{module}")
            return home if module == name else getattr(home, name)
    raise AttributeError(f"module 'mineonline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
