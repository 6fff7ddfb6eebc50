"""The learner: one `training_step` is one PPO iteration on a rank's batch of fragments.

    fragments -> first pass (values, proximal log-probabilities, reference logits) -> advantages -> sequences
              -> epochs x minibatches: losses, gradient, clip, step -> auxiliary phase, if it is due -> version + 1

Axes: B fragments or sequences, T rows, U = T + 1 rows. Consumes a batch; waits only for the other ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol, TypedDict

import lightning
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from mineonline.atomic import written_whole
from mineonline.errors import LearningError
from mineonline.fragment import Fragments
from mineonline.learning.cloning import Cloning
from mineonline.learning.gradients import Gradients, forget, is_finite
from mineonline.learning.objective import (
    Losses,
    Rows,
    advantages,
    clamped_exp,
    clipped_surrogate,
    estimated_kl,
    importance_weight,
    value_loss,
)
from mineonline.learning.optimizer import build_optimizer, check_groups, freeze, set_rates
from mineonline.learning.ranks import mean_over_ranks, sum_over_ranks
from mineonline.learning.sequences import FirstPass, Sequences, cut, first_pass, reference_logits
from mineonline.learning.staging import staged
from mineonline.policies.actor import Actor, ActorState
from mineonline.policies.policy import Policy
from mineonline.settings.config import AuxiliaryConfig, ObjectiveConfig, OptimizerConfig, ReferenceConfig


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


class Minibatch(NamedTuple):
    """What an optimiser step learns from."""

    parts: Iterator[Sequences]
    """On the learner's device, for the whole phase: the next `number` are this minibatch's."""
    number: int
    decisions: Tensor
    """In all of them, on average over the ranks."""


class Steps(NamedTuple):
    """What the optimiser did in an iteration."""

    tried: list[Losses]
    """Of each step, those whose gradient was not finite included; the first always counts."""
    losses: list[Losses]
    """Of each step that was taken."""
    norms: list[Tensor]
    """Of their gradients, before they were clipped."""


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
        auxiliary: AuxiliaryConfig,
        reference_settings: ReferenceConfig,
        cloning: Cloning | None,
        iterations: int,
        seed: int,
        bad_batch_file: Path,
    ) -> None:
        """`seed` decides the order of minibatches; fragments whose gradients stay non-finite go to `bad_batch_file`."""
        super().__init__()
        self.automatic_optimization = False
        freeze(policy, optimizer.frozen)
        self.policy = policy
        self.reference = reference
        if reference is not None:
            reference.requires_grad_(False)
        self.iteration = 0
        self.objective = objective
        self.optimizer = optimizer
        self.auxiliary = auxiliary
        self.iterations = iterations
        self.seed = seed
        self._reference_settings = reference_settings
        self.cloning = cloning
        self.bad_batch_file = bad_batch_file
        self._gradients = Gradients(policy, max_norm=optimizer.max_grad_norm)
        self._reference_scale = 1.0
        """What `reference.kl_target` has made of the reference's weight."""

    @property
    def version(self) -> int:
        """Number of iterations that changed the policy so far."""
        return int(self.policy.version)

    @property
    def warms_up(self) -> bool:
        """Whether only the value is learnt in this iteration."""
        return self.iteration < self.objective.value_warmup

    def published(self, dtype: torch.dtype = torch.float32) -> ActorState:
        """The networks that the collectors get, with the policy's parameters as `dtype`."""
        return Actor(self.policy, self.reference).parts(dtype)

    @property
    def reference_version(self) -> int:
        """Number of times that the reference was replaced by the current policy."""
        every = self._reference_settings.refresh_every
        return self.iteration // every if every else 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.policy, self.optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a finished run be resumed too: otherwise Lightning would consider its only epoch complete."""
        checkpoint["iteration"] = self.iteration
        checkpoint["reference_scale"] = self._reference_scale
        loop = checkpoint["loops"]["fit_loop"]
        loop["epoch_loop.batch_progress"]["is_last_batch"] = False
        loop["epoch_progress"]["current"].update(processed=0, completed=0)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue counting iterations. CheckpointError if the optimiser's groups are others."""
        self.iteration = checkpoint["iteration"]
        self._reference_scale = checkpoint["reference_scale"]
        check_groups(checkpoint, build_optimizer(self.policy, self.optimizer))

    def training_step(self, batch: HasFragments, batch_idx: int) -> IterationOutput:
        fragments = batch.fragments
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        set_rates(optimizer.param_groups, self.optimizer, self.iteration, self.iterations)
        prepared = self.prepare(fragments)
        generator = self._generator()
        self.policy.value.cut_off = self._value_is_cut_off
        steps = self._policy_phase(optimizer, prepared.sequences, fragments, generator)
        self.policy.value.cut_off = False
        if self.auxiliary.every and (self.iteration + 1) % self.auxiliary.every == 0 and not self.warms_up:
            self._auxiliary_phase(optimizer, prepared.sequences, fragments, generator)
        self._log(steps, prepared, ~fragments.idle_BT)
        self._end_iteration(steps.losses)
        return {
            "advantage_BT": prepared.advantage_BT, "return_BT": prepared.return_BT, "value_BU": prepared.value_BU,
            "losses": steps.losses,
        }  # fmt: skip

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Number what is logged by iterations that were done, as metrics.csv, checkpoints and videos do."""
        self.log("step", float(self.iteration), batch_size=1)  # Lightning takes this name as the number of the row

    def _policy_phase(
        self, optimizer: LightningOptimizer, sequences: Sequences, fragments: Fragments, generator: torch.Generator
    ) -> Steps:
        steps = Steps([], [], [])
        for minibatch in self._minibatches(sequences, generator, epochs=self.optimizer.epochs):
            optimizer.zero_grad()
            each = self._backward(optimizer, minibatch, generator)
            limit = self.optimizer.target_kl
            if steps.tried and limit and float(mean_over_ranks(each.update_kl)) > limit:
                break
            steps.tried.append(each)
            if self._step(optimizer, fragments):
                steps.losses.append(each)
                steps.norms.append(self._gradients.norm)
        return steps

    def _auxiliary_phase(
        self, optimizer: LightningOptimizer, sequences: Sequences, fragments: Fragments, generator: torch.Generator
    ) -> None:
        """Train the value with all that it depends on, and keep the policy where it is (Cobbe et al. 2021, eq. 3)."""
        settings = self.auxiliary
        with torch.no_grad():
            parts = staged((sequences[index] for index in self._chunks(len(sequences))), self.device)
            before = torch.cat([self.policy(p.observation, p.first_BT, p.memory).logits for p in parts])
        sequences = replace(sequences, reference_logits=before)
        for minibatch in self._minibatches(sequences, generator, epochs=settings.epochs):
            optimizer.zero_grad()
            self._accumulate(optimizer, [partial(self._auxiliary_loss, minibatch)] * minibatch.number)
            self._step(optimizer, fragments)

    def _auxiliary_loss(self, minibatch: Minibatch) -> Tensor:
        part = next(minibatch.parts)
        rows = Rows(part.decided_BT, minibatch.decisions)
        output = self.policy(part.observation, part.first_BT, part.memory)
        assert part.reference_logits is not None
        value = value_loss(output.value_BT, part.return_BT, part.value_BT, self.policy.value.deviation, 0)
        kl = self.policy.head.kl(part.reference_logits, output.logits)
        return self.objective.value_coef * rows.mean(value) + self.auxiliary.kl_coef * rows.mean(kl)

    @property
    def _value_is_cut_off(self) -> bool:
        """In a network that policy and value share, phases take turns (Cobbe et al. 2021, section 3.4)."""
        own = {id(parameter) for parameter in self.policy.value.parameters()}
        return self.auxiliary.every > 0 and {id(p) for p in self.policy.value_parameters()} == own

    def prepare(self, fragments: Fragments) -> Prepared:
        """Everything that is computed before the first optimiser step; also updates the statistics of the returns."""
        settings = self.objective
        if settings.reward_scale != 1 or settings.reward_clip:
            reward_BT = settings.reward_scale * fragments.reward_BT
            limit = settings.reward_clip or float("inf")
            fragments = replace(fragments, reward_BT=reward_BT.clamp(-limit, limit))
        found, logits = self._look_at(fragments)
        advantage_BT, return_BT = self.targets(fragments, found)
        decided_BT = ~fragments.idle_BT
        if settings.normalize_advantage:
            mean, mean_square = self._moments(advantage_BT[decided_BT])
            # rounding errors are no advantages: below this fraction, differences mean nothing
            deviation = (mean_square - mean**2).clamp(min=1e-12 * mean_square).sqrt()
            advantage_BT = ((advantage_BT - mean) / torch.where(deviation > 0, deviation, 1.0)).float()
        if settings.normalize_value:
            moments = self._moments(return_BT[decided_BT])
            if all(moment.isfinite() for moment in moments):  # over all ranks, so all decide alike
                self.policy.value.update(*moments, decay=settings.value_decay)
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
            pair = output.logits, part.reference_logits
            forward = self._reference_settings.direction == "reference_policy"
            kl = rows.mean(head.kl(*(pair[::-1] if forward else pair)))
        others = settings.policy_coef * policy - settings.entropy_coef * entropy + self.reference_coef * kl
        if self.warms_up:
            others = 0.0 * others  # the gradients must exist, even if 0, for ranks to share them
        with torch.no_grad():
            approximate_kl, update_kl = (
                rows.mean(estimated_kl(log_prob_BT - old_BT, settings.log_ratio_max))
                for old_BT in (part.behaviour_log_prob_BT, part.proximal_log_prob_BT)
            )
            clip_fraction = rows.mean(((ratio_BT - 1).abs() > settings.clip).float())
        total = settings.value_coef * value + others
        return Losses(total, policy, value, entropy, kl, torch.zeros_like(kl), approximate_kl, update_kl, clip_fraction)

    @property
    def reference_coef(self) -> float:
        """Weight of the reference's KL in this iteration."""
        settings = self._reference_settings
        return float(self._reference_scale * settings.kl_coef * settings.kl_decay**self.iteration)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient; a gradient that is not finite is removed, so that the optimiser does nothing."""
        if self.warms_up:
            learnt = {id(parameter) for parameter in self.policy.value_parameters()}
            forget(parameter for parameter in self.policy.parameters() if id(parameter) not in learnt)
        self._gradients.clip()

    def _backward(self, optimizer: LightningOptimizer, minibatch: Minibatch, generator: torch.Generator) -> Losses:
        """Gradient of a minibatch, part by part."""
        found: list[Losses] = []
        cloned: list[Tensor] = []

        def learn() -> Tensor:
            part = next(minibatch.parts)
            losses = self.losses(part, Rows(part.decided_BT, minibatch.decisions))
            found.append(losses.detach())
            return losses.total

        def clone() -> Tensor:
            assert self.cloning is not None
            part = next(recorded)
            loss = self.cloning.coef * self.cloning.loss(self.policy, part, Rows(~part.idle_BT, cloned_decisions))
            cloned.append(loss.detach())
            return loss

        work: list[Callable[[], Tensor]] = []
        if self.cloning is not None and not self.warms_up:
            drawn = self.cloning.draw(generator)
            cloned_decisions = mean_over_ranks((~drawn.idle_BT).sum().float().to(self.device))
            chunks = torch.arange(len(drawn)).chunk(self.optimizer.accumulate)
            recorded = staged((drawn[chunk] for chunk in chunks), self.device)
            work += [clone] * len(chunks)
        self._accumulate(optimizer, [*work, *[learn] * minibatch.number])
        losses = Losses(*(torch.stack(column).sum() for column in zip(*found, strict=True)))
        cloning = torch.stack(cloned).sum() if cloned else torch.zeros_like(losses.total)
        return losses._replace(cloning=cloning, total=losses.total + cloning)

    def _accumulate(self, optimizer: LightningOptimizer, work: Sequence[Callable[[], Tensor]]) -> None:
        """Add up the gradients of losses, one after the other; the last backward pass shares the sum with the ranks."""
        for number, loss in enumerate(work, 1):
            with nullcontext() if number == len(work) else optimizer.toggle_model(sync_grad=False):
                self.manual_backward(loss())

    def _step(self, optimizer: LightningOptimizer, fragments: Fragments) -> bool:
        """Step, unless the gradient is not finite. LearningError after too many such steps in a row."""
        optimizer.step()
        if self._gradients.bad_in_a_row >= self.optimizer.max_bad_steps:
            self._give_up(fragments)
        return not self._gradients.bad_in_a_row

    def _give_up(self, fragments: Fragments) -> NoReturn:
        bad_data = [name for name, tensor in fragments.named_tensors() if not is_finite(tensor)]
        saved = {"fragments": dict(fragments.named_tensors()), "state_dict": self.state_dict()}
        advice = f"Investigate with `python -m mineonline.replay file={self.bad_batch_file}`; often"
        try:
            with written_whole(self.bad_batch_file) as partial_file:
                torch.save({**saved, "iteration": self.iteration}, partial_file)
        except (OSError, RuntimeError) as error:  # what went wrong with the gradients matters more
            advice = f"Their batch could not be saved as {self.bad_batch_file} ({error}). Often"
        names = ", ".join(self._gradients.not_finite) or "all parameters together, whose norm overflows"
        raise LearningError(
            f"{self._gradients.bad_in_a_row} optimiser steps in a row had gradients that are not finite: those of "
            f"{names}. Not finite in the fragments: {', '.join(bad_data) or 'nothing'}. {advice} a lower "
            "optimizer.learning_rate helps, or the rewards are wrong."
        )

    def _context(self, fragments: Fragments) -> int:
        return self.optimizer.context_length or fragments.reward_BT.shape[1]

    def _look_at(self, fragments: Fragments) -> tuple[FirstPass, Tensor | None]:
        """The first pass over all fragments, in parts to limit device memory; and the reference's logits."""
        length = fragments.reward_BT.shape[1]
        # without memory there is nothing to carry: all rows at once
        context = self._context(fragments) if self.policy.memory_spec else length
        found, logits = [], []
        for part in staged((fragments[index] for index in self._chunks(len(fragments))), self.device):
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

    def _chunks(self, count: int) -> Sequence[Tensor]:
        """Indices of `count` fragments or sequences, in parts that are evaluated at once."""
        return torch.arange(count).chunk(self.optimizer.minibatches * self.optimizer.accumulate)

    def _draw(self, count: int, generator: torch.Generator, epochs: int) -> list[Tensor]:
        """Which of `count` sequences each minibatch holds."""
        orders = [torch.randperm(count, generator=generator) for _ in range(epochs)]
        return [index for order in orders for index in order.chunk(self.optimizer.minibatches)]

    def _minibatches(self, sequences: Sequences, generator: torch.Generator, *, epochs: int) -> Iterator[Minibatch]:
        indices = self._draw(len(sequences), generator, epochs)
        counts = torch.stack([sequences.decided_BT[index].sum() for index in indices])
        decisions = mean_over_ranks(counts.float().to(self.device))
        chunks = [index.chunk(self.optimizer.accumulate) for index in indices]
        parts = staged((sequences[part] for each in chunks for part in each), self.device)
        return (Minibatch(parts, len(each), total) for each, total in zip(chunks, decisions, strict=True))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean square over all ranks, float64 on the CPU."""
        x = x.double()
        sums = torch.stack([x.sum(), (x * x).sum(), torch.tensor(x.numel(), dtype=torch.float64)])
        total, squares, count = sum_over_ranks(sums.to(self.device)).cpu()
        return total / count, squares / count

    def _end_iteration(self, losses: list[Losses]) -> None:
        settings = self._reference_settings
        if settings.kl_target and losses and not self.warms_up:
            kl = float(mean_over_ranks(torch.stack([each.reference_kl for each in losses]).mean()))
            # Ziegler et al. 2019, section 2.2
            self._reference_scale *= 1 + 0.1 * min(0.2, max(-0.2, kl / settings.kl_target - 1))
        if not self.warms_up:
            self.policy.version += 1
        self.iteration += 1
        if self.reference is not None and settings.refresh_every and self.iteration % settings.refresh_every == 0:
            self.reference.load_state_dict(self.policy.state_dict())

    def _log(self, steps: Steps, prepared: Prepared, decided_BT: Tensor) -> None:
        value, target = prepared.value_BU[:, :-1][decided_BT], prepared.return_BT[decided_BT]
        columns = (
            zip(*steps.losses, strict=True) if steps.losses else [[torch.tensor(float("nan"))]] * len(Losses._fields)
        )
        metrics: dict[str, Any] = {
            f"loss/{name}": torch.stack(list(column)).mean()
            for name, column in zip(Losses._fields, columns, strict=True)
        }
        first = steps.tried[0]
        norm = torch.stack(steps.norms).mean() if steps.norms else torch.tensor(float("nan"))
        variance = target.var()
        metrics |= {
            # without lag nothing has changed since the actions were chosen: more than 0 shows that the collectors'
            # policy is not the learner's
            "loss/first_clip_fraction": first.clip_fraction,
            "loss/first_approximate_kl": first.approximate_kl,
            "loss/gradient_norm": norm,
            "loss/optimizer_steps": float(len(steps.norms)),
            "loss/skipped_steps": float(len(steps.tried) - len(steps.norms)),
            "loss/explained_variance": 1 - (target - value).var() / variance if variance > 0 else variance,
        }
        if self.reference is not None:
            metrics["loss/reference_coef"] = self.reference_coef
        self.log_dict(metrics, batch_size=1, sync_dist=self.trainer.world_size > 1)
        self._gradients.iteration_ended(float(norm))
