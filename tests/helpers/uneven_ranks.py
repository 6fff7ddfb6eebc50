"""One iteration on fragments that hold unequally many decisions, on one rank or divided between two.

`python -m tests.helpers.uneven_ranks <folder> [key=value ...]` runs it on two ranks.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from mineonline.fragment import Fragments
from mineonline.learning.cloning import Cloning
from mineonline.learning.module import PPO
from tests.helpers.fit import fresh
from tests.helpers.learning_set import B, T, learn, recorded

SETTINGS = ["optimizer.minibatches=1", "optimizer.epochs=1", "objective.entropy_coef=0.1", "reference.kl_coef=0.5"]


class KeepGradients(PPO):
    """Notes the gradients before they are clipped."""

    def on_before_optimizer_step(self, optimizer):
        self.gradients = {name: tensor.grad.clone() for name, tensor in self.policy.named_parameters()}
        super().on_before_optimizer_step(optimizer)


def share(fragments: Fragments) -> Fragments:
    """What this rank learns from."""
    if not torch.distributed.is_initialized():
        return fragments
    return fragments[torch.arange(len(fragments)).chunk(2)[torch.distributed.get_rank()]]


class Recorded:
    """A recorded set from which each rank always draws its own share."""

    def __len__(self) -> int:
        return B

    def __getitem__(self, index: torch.Tensor) -> Fragments:
        return share(uneven(7))


def uneven(number: int) -> Fragments:
    """In the second half of the fragments, three of four rows hold no decision."""
    fragments = recorded(number).fragments
    idle_BT = torch.zeros(B, T, dtype=torch.bool)
    idle_BT[B // 2 :, T // 4 :] = True
    return replace(fragments, idle_BT=idle_BT)


def gradients(folder: Path, ranks: int, *overrides: str) -> dict[str, torch.Tensor]:
    """The gradient of the iteration's only step."""
    two = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False} if ranks == 2 else {}
    cloning = Cloning(Recorded(), coef=0.5, fragments=B)
    return learn(
        folder, 1, *SETTINGS, *overrides, learner_class=KeepGradients, cloning=cloning,
        change=lambda batch: fresh(share(uneven(0))), **two,
    ).gradients  # fmt: skip


if __name__ == "__main__":
    found = gradients(Path(sys.argv[1]), 2, *sys.argv[2:])
    torch.save(found, Path(sys.argv[1]) / "gradients.pt")
