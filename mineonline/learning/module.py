"""The learner: one `training_step` is one PPO iteration on a rank's batch of fragments.

    fragments -> first pass (values, proximal log-probabilities, reference logits) -> advantages -> sequences
              -> epochs x minibatches: losses, gradient, clip, step -> version + 1

Axes: B fragments or sequences, T rows, U = T + 1 rows. Consumes a batch; waits only for the other ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict

import lightning
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from mineonline.errors import LearningError
from mineonline.fragment import Fragments
from mineonline.learning.cloning import Cloning
from mineonline.learning.objective import (
    Losses,
    Rows,
    advantages,
    clamped_exp,
    clipped_surrogate,
    importance_weight,
    value_loss,
)
from mineonline.learning.sequences import FirstPass, Sequences, cut, first_pass, reference_logits
from mineonline.policies.actor import Actor, ActorState
from mineonline.policies.policy import Policy
from mineonline.settings.config import ObjectiveConfig, OptimizerConfig, ReferenceConfig


class HasFragments(Protocol):
    """What a training batch must have."""

    fragments: Fragments


class IterationOutput(TypedDict):
    """What callbacks get as `outputs` in `on_train_batch_end`; on the CPU, for this rank's fragments."""

    advantage_BT: Tensor
    """As the losses saw it: normalised, if that is set."""
    return_BT: Tensor
    """In units of reward."""
    value_BU: Tensor
    """Before the iteration, in units of reward."""
    losses: list[Losses]
    """One per optimiser step that was taken, without its graph."""


class Prepared(NamedTuple):
    """What an iteration learns from, on the CPU (the reference's logits: on the learner's device)."""

    sequences: Sequences
    advantage_BT: Tensor
    return_BT: Tensor
    value_BU: Tensor


class PPO(lightning.LightningModule):
    """Proximal policy optimisation (Schulman et al. 2017) with manual optimisation.

    `iteration` counts iterations, `version` those that changed the policy; the latter is a buffer of the policy, so
    that it is published and saved with the weights. An optimiser step whose gradient is not finite is skipped; all
    ranks do so together, since they share the gradient.

    For an objective of your own, override `surrogate` (the policy's loss), `losses` (all of them) or `targets`
    (advantages and returns), and give the class as `learner._target_`.
    """

    def __init__(
        self,
        policy: Policy,
        reference: Policy | None,
        *,
        objective: ObjectiveConfig,
        optimizer: OptimizerConfig,
        reference_settings: ReferenceConfig,
        cloning: Cloning | None,
        iterations: int,
        seed: int,
        bad_batch_file: Path,
    ) -> None:
        """`seed` decides the order of minibatches; fragments whose gradients stay non-finite go to `bad_batch_file`."""
        super().__init__()
        self.automatic_optimization = False
        self.policy = policy
        self.reference = reference
        if reference is not None:
            reference.requires_grad_(False)
        self.iteration = 0
        self.objective = objective
        self.optimizer = optimizer
        self.iterations = iterations
        self.seed = seed
        self._reference_settings = reference_settings
        self.cloning = cloning
        self._bad_batch_file = bad_batch_file
        self._bad_steps_in_a_row = 0
        self._bad_parameters: list[str] = []
        self._norm = torch.zeros(())

    @property
    def version(self) -> int:
        """Number of iterations that changed the policy so far."""
        return int(self.policy.version)

    @property
    def warms_up(self) -> bool:
        """Whether only the value is learnt in this iteration."""
        return self.iteration < self.objective.value_warmup

    def published(self) -> ActorState:
        """The networks that the collectors get."""
        return Actor(self.policy, self.reference).parts()

    @property
    def reference_version(self) -> int:
        """Number of times that the reference was replaced by the current policy."""
        every = self._reference_settings.refresh_every
        return self.iteration // every if every else 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        settings = self.optimizer
        return torch.optim.AdamW(
            self.policy.parameters(), lr=settings.learning_rate, eps=settings.eps, weight_decay=settings.weight_decay
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a finished run be resumed too: otherwise Lightning would consider its only epoch complete."""
        checkpoint["iteration"] = self.iteration
        loop = checkpoint["loops"]["fit_loop"]
        loop["epoch_loop.batch_progress"]["is_last_batch"] = False
        loop["epoch_progress"]["current"].update(processed=0, completed=0)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue counting iterations."""
        self.iteration = checkpoint["iteration"]

    def training_step(self, batch: HasFragments, batch_idx: int) -> IterationOutput:
        fragments = batch.fragments
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        self._set_optimizer(optimizer)
        prepared = self.prepare(fragments)
        sequences = prepared.sequences
        losses, norms, skipped = [], [], 0
        generator = self._generator()
        for index in self._minibatches(len(sequences), generator):
            optimizer.zero_grad()
            each = self._backward(optimizer, sequences, index, generator)
            optimizer.step()
            if not self._norm.isfinite():
                skipped += 1
                self._note_bad_step(fragments)
            else:
                self._bad_steps_in_a_row = 0
                losses.append(each)
                norms.append(self._norm)
        self._end_iteration()
        decided_BT = ~fragments.idle_BT
        self._log(losses, norms, skipped, prepared.value_BU[:, :-1][decided_BT], prepared.return_BT[decided_BT])
        return {
            "advantage_BT": prepared.advantage_BT, "return_BT": prepared.return_BT, "value_BU": prepared.value_BU,
            "losses": losses,
        }  # fmt: skip

    def prepare(self, fragments: Fragments) -> Prepared:
        """Everything that is computed before the first optimiser step; also updates the statistics of the returns."""
        found, logits = self._look_at(fragments)
        advantage_BT, return_BT = self.targets(fragments, found)
        decided_BT = ~fragments.idle_BT
        if self.objective.normalize_advantage:
            mean, mean_square = self._moments(advantage_BT[decided_BT])
            deviation = (mean_square - mean**2).clamp(min=0).sqrt()
            advantage_BT = ((advantage_BT - mean) / (deviation + 1e-8)).float()
        if self.objective.normalize_value:
            moments = self._moments(return_BT[decided_BT])
            if all(moment.isfinite() for moment in moments):  # over all ranks, so all decide alike
                self.policy.value.update(*moments, decay=self.objective.value_decay)
        sequences = cut(
            fragments, self._context(fragments), found,
            return_BT=return_BT, advantage_BT=advantage_BT, reference_logits=logits,
        )  # fmt: skip
        return Prepared(sequences, advantage_BT, return_BT, found.value_BU)

    def targets(self, fragments: Fragments, found: FirstPass) -> tuple[Tensor, Tensor]:
        """Advantages (before they are normalised) and returns, (B, T) each, in units of reward."""
        settings = self.objective
        value_BT = found.value_BU[:, :-1]
        if settings.kind != "vtrace":
            advantage_BT = advantages(fragments, found.value_BU, discount=settings.discount, trace=settings.trace)
            return advantage_BT, value_BT + advantage_BT
        weight_BT = self._weight(found.log_prob_BT, fragments.log_prob_BT)
        advantage_BT = advantages(
            fragments, found.value_BU, weight_BT, discount=settings.discount, trace=settings.trace
        )
        return advantage_BT, value_BT + weight_BT * advantage_BT

    def surrogate(self, log_prob_BT: Tensor, part: Sequences) -> tuple[Tensor, Tensor]:
        """Policy loss of every row, and the ratio that was clipped."""
        settings = self.objective
        on_policy = settings.kind == "ppo"
        anchor_BT = part.behaviour_log_prob_BT if on_policy else part.proximal_log_prob_BT
        ratio_BT = clamped_exp(log_prob_BT - anchor_BT, settings.log_ratio_max)
        loss_BT = clipped_surrogate(ratio_BT, part.advantage_BT, settings.clip)
        if not on_policy:
            loss_BT = loss_BT * self._weight(anchor_BT, part.behaviour_log_prob_BT)
        return loss_BT, ratio_BT

    def _weight(self, proximal_BT: Tensor, behaviour_BT: Tensor) -> Tensor:
        settings = self.objective
        return importance_weight(
            proximal_BT, behaviour_BT, largest=settings.weight_max, log_ratio_max=settings.log_ratio_max
        )

    def losses(self, part: Sequences, rows: Rows) -> Losses:
        """What a part of a minibatch, on this device, adds to the minibatch's losses."""
        settings = self.objective
        output = self.policy(part.observation, part.first_BT, part.memory)
        head = self.policy.head
        log_prob_BT = head.log_prob(output.logits, part.action)
        loss_BT, ratio_BT = self.surrogate(log_prob_BT, part)
        policy = rows.mean(loss_BT)
        value = rows.mean(
            value_loss(output.value_BT, part.return_BT, part.value_BT, self.policy.value.deviation, settings.value_clip)
        )
        entropy = rows.mean(head.entropy(output.logits))
        kl = torch.zeros_like(value)
        if part.reference_logits is not None:
            kl = rows.mean(head.kl(output.logits, part.reference_logits))
        others = settings.policy_coef * policy - settings.entropy_coef * entropy + self.reference_coef * kl
        if self.warms_up:
            others = 0.0 * others  # the gradients must exist, even if 0, for ranks to share them
        with torch.no_grad():
            log_ratio_BT = log_prob_BT - part.behaviour_log_prob_BT
            approximate_kl = rows.mean(clamped_exp(log_ratio_BT, settings.log_ratio_max) - 1 - log_ratio_BT)
            clip_fraction = rows.mean(((ratio_BT - 1).abs() > settings.clip).float())
        total = settings.value_coef * value + others
        return Losses(total, policy, value, entropy, kl, torch.zeros_like(kl), approximate_kl, clip_fraction)

    @property
    def reference_coef(self) -> float:
        """Weight of the reference's KL in this iteration."""
        settings = self._reference_settings
        return float(settings.kl_coef * settings.kl_decay**self.iteration)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients, or remove them if they are not finite, so that the optimiser does nothing."""
        if self.warms_up:
            learnt = {id(parameter) for parameter in self.policy.value_parameters()}
            _forget_gradients(parameter for parameter in self.policy.parameters() if id(parameter) not in learnt)
        self._norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.optimizer.max_grad_norm)
        if not self._norm.isfinite():
            self._bad_parameters = [name for name, p in self.policy.named_parameters() if not is_finite(p.grad)]
            _forget_gradients(self.policy.parameters())

    def _backward(
        self, optimizer: LightningOptimizer, sequences: Sequences, index: Tensor, generator: torch.Generator
    ) -> Losses:
        """Gradient of a minibatch, part by part; the last part's backward pass shares it with the other ranks."""
        decisions = sequences.decided_BT[index].sum().to(self.device)
        cloning = torch.zeros((), device=self.device)
        if self.cloning is not None and not self.warms_up:
            with optimizer.toggle_model(sync_grad=False):
                cloning = self.cloning.loss(self.policy, generator)
                self.manual_backward(cloning)
        part_losses = []
        parts = index.chunk(self.optimizer.accumulate)
        for number, chosen in enumerate(parts, 1):
            part = sequences[chosen].to(self.device)
            losses = self.losses(part, Rows(part.decided_BT, decisions))
            last = number == len(parts)
            with nullcontext() if last else optimizer.toggle_model(sync_grad=False):
                self.manual_backward(losses.total)
            part_losses.append(losses.detach())
        losses = Losses(*(torch.stack(column).sum() for column in zip(*part_losses, strict=True)))
        return losses._replace(cloning=cloning.detach(), total=losses.total + cloning.detach())

    def _note_bad_step(self, fragments: Fragments) -> None:
        """LearningError after too many in a row."""
        self._bad_steps_in_a_row += 1
        if self._bad_steps_in_a_row < self.optimizer.max_bad_steps:
            return
        bad_data = [name for name, tensor in fragments.named_tensors() if not is_finite(tensor)]
        saved = {"fragments": dict(fragments.named_tensors()), "state_dict": self.state_dict()}
        torch.save({**saved, "iteration": self.iteration}, self._bad_batch_file)
        names = ", ".join(self._bad_parameters) or "all parameters together, whose norm overflows"
        raise LearningError(
            f"{self._bad_steps_in_a_row} optimiser steps in a row had gradients that are not finite: those of {names}. "
            f"Not finite in the fragments: {', '.join(bad_data) or 'nothing'}. Investigate with "
            f"`python -m mineonline.replay file={self._bad_batch_file}`; often a lower optimizer.learning_rate helps, "
            "or the rewards are wrong."
        )

    def _context(self, fragments: Fragments) -> int:
        return self.optimizer.context_length or fragments.reward_BT.shape[1]

    def _look_at(self, fragments: Fragments) -> tuple[FirstPass, Tensor | None]:
        """The first pass over all fragments, in parts to limit device memory; and the reference's logits."""
        length = fragments.reward_BT.shape[1]
        # without memory there is nothing to carry: all rows at once
        context = self._context(fragments) if self.policy.memory_spec else length
        found, logits = [], []
        for index in torch.arange(len(fragments)).chunk(self.optimizer.minibatches * self.optimizer.accumulate):
            part = fragments[index].to(self.device)
            found.append(first_pass(self.policy, part, context))
            if self.reference is not None:
                logits.append(reference_logits(self.reference, part, context))
        values, log_probs, memories = zip(*found, strict=True)
        memory = {name: torch.cat([each[name] for each in memories]) for name in memories[0]}
        return FirstPass(torch.cat(values), torch.cat(log_probs), memory), torch.cat(logits) if logits else None

    def _generator(self) -> torch.Generator:
        # a function of seed, rank and iteration, so that a resumed run continues in the same order
        state = np.random.SeedSequence((self.seed, self.trainer.global_rank, self.iteration)).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))

    def _minibatches(self, count: int, generator: torch.Generator) -> Iterator[Tensor]:
        for _ in range(self.optimizer.epochs):
            yield from torch.randperm(count, generator=generator).chunk(self.optimizer.minibatches)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean square over all ranks, float64 on the CPU."""
        x = x.double()
        sums = torch.stack([x.sum(), (x * x).sum(), torch.tensor(x.numel(), dtype=torch.float64)]).to(self.device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        total, squares, count = sums.cpu()
        return total / count, squares / count

    def _set_optimizer(self, optimizer: LightningOptimizer) -> None:
        """Use the current settings, not those in the checkpoint of a resumed run."""
        settings = self.optimizer
        left = max(0.0, 1 - self.iteration / self.iterations) if settings.anneal else 1.0
        for group in optimizer.param_groups:
            group.update(lr=left * settings.learning_rate, eps=settings.eps, weight_decay=settings.weight_decay)

    def _end_iteration(self) -> None:
        if not self.warms_up:
            self.policy.version += 1
        self.iteration += 1
        every = self._reference_settings.refresh_every
        if self.reference is not None and every and self.iteration % every == 0:
            self.reference.load_state_dict(self.policy.state_dict())

    def _log(self, losses: list[Losses], norms: list[Tensor], skipped: int, value: Tensor, target: Tensor) -> None:
        columns = zip(*losses, strict=True) if losses else [[torch.tensor(float("nan"))]] * len(Losses._fields)
        metrics: dict[str, Any] = {
            f"loss/{name}": torch.stack(list(column)).mean()
            for name, column in zip(Losses._fields, columns, strict=True)
        }
        metrics["loss/gradient_norm"] = torch.stack(norms).mean() if norms else float("nan")
        metrics["loss/skipped_steps"] = float(skipped)
        variance = target.var()
        metrics["loss/explained_variance"] = 1 - (target - value).var() / variance if variance > 0 else variance
        self.log_dict(metrics, batch_size=1, sync_dist=self.trainer.world_size > 1)


def _forget_gradients(parameters: Iterator[torch.nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def is_finite(tensor: Tensor | None) -> bool:
    """Whether all of the tensor is finite; true if there is no tensor."""
    return tensor is None or bool(tensor.isfinite().all())
