"""The learner: one `training_step` is one PPO iteration on a rank's share of fragments.

Axes: B fragments, T rows, U = T + 1 rows. Consumes a share, waits for nobody but the other ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from mineonline.config import ObjectiveConfig, OptimizerConfig
from mineonline.errors import LearningError
from mineonline.fragment import Fragments
from mineonline.learning.advantage import advantages
from mineonline.learning.objective import Losses, ppo_losses
from mineonline.policies.policy import Policy, PolicyOutput


class HasFragments(Protocol):
    """What a training batch must have."""

    fragments: Fragments


class PPO(lightning.LightningModule):
    """Proximal policy optimisation (Schulman et al. 2017) with manual optimisation.

    `version` counts iterations; it is a buffer of the policy, so that it is published and saved with the weights. An
    optimiser step whose gradient is not finite is skipped; all ranks do so together, since they share the gradient.
    """

    def __init__(
        self,
        policy: Policy,
        objective: ObjectiveConfig,
        optimizer: OptimizerConfig,
        iterations: int,
        *,
        seed: int,
        bad_batch_file: Path,
    ) -> None:
        """`seed` decides the order of minibatches; fragments whose gradients stay non-finite go to `bad_batch_file`."""
        super().__init__()
        self.automatic_optimization = False
        self.policy = policy
        self.objective = objective
        self.optimizer = optimizer
        self.iterations = iterations
        self.seed = seed
        self._bad_batch_file = bad_batch_file
        self._bad_steps_in_a_row = 0

    @property
    def version(self) -> int:
        """PPO iterations that made the present weights."""
        return int(self.policy.version)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        settings = self.optimizer
        return torch.optim.AdamW(
            self.policy.parameters(), lr=settings.learning_rate, eps=settings.eps, weight_decay=settings.weight_decay
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a run that ended be resumed: Lightning would take its only epoch for complete."""
        loop = checkpoint["loops"]["fit_loop"]
        loop["epoch_loop.batch_progress"]["is_last_batch"] = False
        loop["epoch_progress"]["current"].update(processed=0, completed=0)

    def training_step(self, batch: HasFragments, batch_idx: int) -> None:
        fragments = batch.fragments
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        if self.optimizer.anneal:
            for group in optimizer.param_groups:
                group["lr"] = self.optimizer.learning_rate * max(0.0, 1 - self.version / self.iterations)
        value_BU = self._values(fragments)
        advantage_BT = advantages(fragments, value_BU, discount=self.objective.discount, trace=self.objective.trace)
        return_BT = advantage_BT + value_BU[:, :-1]
        decided_BT = ~fragments.final_BT
        if self.objective.normalize_advantage:
            advantage_BT = self._normalized(advantage_BT, decided_BT)
        logs: list[dict[str, Tensor]] = []
        skipped = 0
        for index in self._minibatches(len(fragments)):
            losses = self._losses(fragments[index], advantage_BT[index], return_BT[index])
            optimizer.zero_grad()
            self.manual_backward(losses.total)
            norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.optimizer.max_grad_norm)
            if self._is_good(norm, fragments):
                optimizer.step()
                logs.append({**losses._asdict(), "gradient_norm": norm})
            else:
                skipped += 1
        self.policy.version += 1
        self._log(logs, skipped, value_BU[:, :-1][decided_BT], return_BT[decided_BT])

    def _is_good(self, norm: Tensor, fragments: Fragments) -> bool:
        """Whether a step may be taken. LearningError after too many in a row that may not."""
        if norm.isfinite():
            self._bad_steps_in_a_row = 0
            return True
        self._bad_steps_in_a_row += 1
        if self._bad_steps_in_a_row >= self.optimizer.max_bad_steps:
            names = [name for name, leaf in self.policy.named_parameters() if not _is_finite(leaf.grad)]
            bad_data = [name for name, leaf in fragments.leaves() if not _is_finite(leaf)]
            torch.save(dict(fragments.leaves()), self._bad_batch_file)
            raise LearningError(
                f"{self._bad_steps_in_a_row} optimiser steps in a row had gradients that are not finite: those of "
                f"{', '.join(names)}. Not finite in the fragments: {', '.join(bad_data) or 'nothing'}; they are saved "
                f"as {self._bad_batch_file}. Lower optimizer.learning_rate, or look at the rewards."
            )
        return False

    def _evaluate(self, fragments: Fragments, observation: dict[str, Tensor], first_BX: Tensor) -> PolicyOutput:
        return self.policy(  # type: ignore[no-any-return]
            {name: leaf.to(self.device) for name, leaf in observation.items()},
            first_BX.to(self.device),
            {name: leaf.to(self.device) for name, leaf in fragments.memory.items()},
        )

    @torch.no_grad()
    def _values(self, fragments: Fragments) -> Tensor:
        """(B, U) under the present weights, on the CPU."""
        parts = [
            self._evaluate(part, part.observation, part.first_BU).value_BT
            for part in (fragments[index] for index in self._parts(len(fragments)))
        ]
        return torch.cat(parts).cpu()

    def _losses(self, fragments: Fragments, advantage_BT: Tensor, return_BT: Tensor) -> Losses:
        observation = {name: leaf[:, :-1] for name, leaf in fragments.observation.items()}
        output = self._evaluate(fragments, observation, fragments.first_BU[:, :-1])
        action = {name: leaf.to(self.device) for name, leaf in fragments.action.items()}
        head = self.policy.head
        return ppo_losses(
            head.log_prob(output.logits, action),
            fragments.log_prob_BT.to(self.device),
            advantage_BT.to(self.device),
            output.value_BT,
            return_BT.to(self.device),
            head.entropy(output.logits),
            ~fragments.final_BT.to(self.device),
            clip=self.objective.clip,
            value_coef=self.objective.value_coef,
            entropy_coef=self.objective.entropy_coef,
        )

    def _parts(self, count: int) -> list[Tensor]:
        """Consecutive indices, as many parts as there are minibatches."""
        return list(torch.arange(count).chunk(self.optimizer.minibatches))

    def _minibatches(self, count: int) -> Iterator[Tensor]:
        # a function of seed, rank and iteration, so that a resumed run goes on with the same order
        state = np.random.SeedSequence((self.seed, self.trainer.global_rank, self.version)).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        for _ in range(self.optimizer.epochs):
            yield from torch.randperm(count, generator=generator).chunk(self.optimizer.minibatches)

    def _normalized(self, advantage_BT: Tensor, decided_BT: Tensor) -> Tensor:
        """Mean 0 and standard deviation 1 over the rows with a decision, of all ranks."""
        x = advantage_BT[decided_BT].double()
        moments = torch.stack([x.sum(), (x * x).sum(), decided_BT.sum().double()]).to(self.device)
        total, squares, count = self._sum_over_ranks(moments).cpu()
        mean = total / count
        deviation = (squares / count - mean * mean).clamp(min=0).sqrt()
        normalized: Tensor = (advantage_BT - mean) / (deviation + 1e-8)
        return normalized.float()

    def _sum_over_ranks(self, x: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(x)
        return x

    def _log(self, logs: list[dict[str, Tensor]], skipped: int, value: Tensor, target: Tensor) -> None:
        names = [*Losses._fields, "gradient_norm"]
        metrics: dict[str, Any] = {
            f"loss/{name}": torch.stack([entry[name].detach() for entry in logs]).mean() if logs else float("nan")
            for name in names
        }
        metrics["loss/skipped_steps"] = float(skipped)
        variance = target.var()
        metrics["loss/explained_variance"] = 1 - (target - value).var() / variance if variance > 0 else variance
        self.log_dict(metrics, batch_size=1, sync_dist=self.trainer.world_size > 1)


def _is_finite(leaf: Tensor | None) -> bool:
    return leaf is None or bool(leaf.isfinite().all())
