"""Recorded fragments of a small environment with memory, for tests of the learner.

`python -m tests.helpers.learning_set <folder> <iterations> <checkpoint or -> [key=value ...]` learns from them on two
ranks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from mineonline.callbacks.checkpoints import SaveCheckpoints
from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.experience.buffer import Batch
from mineonline.fragment import Fragments
from mineonline.learning.module import PPO
from mineonline.policies.build import build_policy
from mineonline.run.learner import build_learner
from tests.helpers.fit import fit, fresh
from tests.helpers.settings import config_of

SPEC = EnvSpec(observation={"image": TensorSpec((36, 36, 3), "uint8")}, action={"action": 3})
SETTINGS = [
    "env=gym", "env.id=none", "policy=tiny", "policy.memory=gru", "policy.hidden_size=16", "fragment.length=12",
    "buffer.fragments_per_iteration=8", "iterations=6", "optimizer.anneal=true", "optimizer.minibatches=2",
]  # fmt: skip
ALL_OPTIONS = [
    "objective.kind=vtrace", "objective.normalize_value=true", "objective.value_clip=0.2", "objective.value_warmup=2",
    "optimizer.context_length=4", "optimizer.accumulate=2", "optimizer.weight_decay=0.01", "reference.kl_coef=0.3",
    "reference.kl_decay=0.9", "reference.refresh_every=4", "auxiliary.every=2", "optimizer.target_kl=0.1",
    "optimizer.warmup=3", "optimizer.learning_rates={encoder.*: 1e-4}", "optimizer.frozen=[encoder.0.*]",
]  # fmt: skip
B, T = 8, 12


def recorded(number: int, rank: int = 0) -> Batch:
    """Fragments of eight environments; those of `number` follow those of `number` - 1. Some episodes end in them."""
    policy = build_policy(config_of(*SETTINGS, "seed=77"), SPEC)
    g = torch.Generator().manual_seed(1000 * rank + number)
    image = torch.randint(0, 256, (B, T + 1, *SPEC.observation["image"].shape), generator=g, dtype=torch.uint8)
    terminated = torch.rand(B, T, generator=g) < 0.1
    first = torch.cat([torch.rand(B, 1, generator=g) < 0.1, terminated], 1)
    memory = {name: torch.randn(B, *spec.shape, generator=g) for name, spec in policy.memory_spec.items()}
    reference_memory = {name: torch.randn(B, *spec.shape, generator=g) for name, spec in policy.memory_spec.items()}
    action = {"action": torch.randint(0, 3, (B, T), generator=g)}
    with torch.no_grad():
        output = policy({"image": image}, first, memory)
        log_prob = policy.head.log_prob(output.logits[:, :-1], action)
    none = torch.zeros(B, T, dtype=torch.bool)
    fragments = Fragments(
        observation={"image": image}, first_BU=first, action=action, log_prob_BT=log_prob,
        value_BT=output.value_BT[:, :-1], reward_BT=torch.randn(B, T, generator=g), terminated_BT=terminated,
        truncated_BT=none, idle_BT=none, memory=memory, reference_memory=reference_memory,
        version_B=torch.zeros(B, dtype=torch.int64), env_B=torch.arange(B), sequence_B=torch.full((B,), number),
    )  # fmt: skip
    return fresh(fragments)


def learn(
    folder: Path, iterations: int, *overrides: str, checkpoint: Path | None = None, learner_class=PPO, cloning=None,
    change=lambda batch: batch, **trainer_settings,
) -> PPO:  # fmt: skip
    """Learn on the recorded fragments up to `iterations`; saves `last.ckpt` at the end."""
    learner = build_learner(
        config_of(*SETTINGS, *overrides), SPEC, bad_batch_file=folder / "bad.pt",
        learner_class=learner_class,
    )  # fmt: skip
    if cloning is not None:
        learner.cloning = cloning
    callbacks = [SaveCheckpoints(folder, every=3, keep_every=0), *trainer_settings.pop("callbacks", [])]

    def take():
        return change(recorded(learner.iteration, learner.trainer.global_rank))

    return fit(learner, take, iterations, folder, checkpoint=checkpoint, callbacks=callbacks, **trainer_settings)


if __name__ == "__main__":
    folder, count, begin, *rest = sys.argv[1:]
    strategy = config_of(*SETTINGS, *rest).trainer["strategy"]
    two_ranks = {"devices": 2, "strategy": strategy, "use_distributed_sampler": False}
    learner = learn(
        Path(folder), int(count), *rest, checkpoint=None if begin == "-" else Path(begin), **two_ranks
    )  # fmt: skip
    torch.save(learner.state_dict(), Path(folder) / f"rank-{learner.trainer.global_rank}.pt")
