"""PPO written as plainly as possible: one file, loops over rows, nothing from `mineonline.learning`.

The learner is compared with this. The network is two tanh towers; `weights` are its tensors by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

BETAS = (0.9, 0.999)


@dataclass
class Step:
    """One step of the optimiser."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]
    """Before they are clipped."""


@dataclass
class PlainPPO:
    weights: dict[str, Tensor]
    discount: float
    trace: float
    clip: float
    value_coef: float
    entropy_coef: float
    learning_rate: float
    eps: float
    weight_decay: float
    max_grad_norm: float
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self):
        self.first_moment = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        self.second_moment = {name: torch.zeros_like(w) for name, w in self.weights.items()}

    def tower(self, name: str, state: Tensor) -> Tensor:
        hidden = torch.tanh(state @ self.weights[f"{name}.0.weight"].T + self.weights[f"{name}.0.bias"])
        return torch.tanh(hidden @ self.weights[f"{name}.2.weight"].T + self.weights[f"{name}.2.bias"])

    def log_probs(self, state: Tensor) -> Tensor:
        logits = self.tower("actor", state) @ self.weights["head.weight"].T + self.weights["head.bias"]
        return torch.log_softmax(logits, -1)

    def value(self, state: Tensor) -> Tensor:
        return (self.tower("critic", state) @ self.weights["value.weight"].T + self.weights["value.bias"]).squeeze(-1)

    def advantages(self, fragments: dict[str, Tensor], value: Tensor) -> Tensor:
        """By the definition: the discounted sum of TD errors, to the end of the episode or of the known fragments."""
        reward, terminated = fragments["reward_BT"], fragments["terminated_BT"]
        ended = terminated | fragments["truncated_BT"] | fragments["idle_BT"]
        count, length = reward.shape
        index = {
            (int(env), int(sequence)): b
            for b, (env, sequence) in enumerate(zip(fragments["env_B"], fragments["sequence_B"], strict=True))
        }
        result = torch.zeros(count, length)
        for b in range(count):
            for t in range(length):
                where, row, factor, total = b, t, 1.0, 0.0
                while True:
                    bootstrap = 0.0 if terminated[where, row] else self.discount * float(value[where, row + 1])
                    total += factor * (float(reward[where, row]) + bootstrap - float(value[where, row]))
                    if ended[where, row]:
                        break
                    factor *= self.discount * self.trace
                    row += 1
                    if row == length:
                        key = (int(fragments["env_B"][where]), int(fragments["sequence_B"][where]) + 1)
                        if key not in index:
                            break
                        where, row = index[key], 0
                result[b, t] = total
        return result

    def iterate(self, fragments: dict[str, Tensor], minibatches: list[list[int]]) -> None:
        """One iteration: a step for each of `minibatches`, lists of indices of fragments."""
        with torch.no_grad():
            value = self.value(fragments["observation.state"])
        advantage = self.advantages(fragments, value)
        target = advantage + value[:, :-1]
        decided = ~fragments["idle_BT"]
        advantage = (advantage - advantage[decided].mean()) / (advantage[decided].std(correction=0) + 1e-8)
        for minibatch in minibatches:
            self.step(fragments, minibatch, advantage, target, decided)

    def step(self, fragments, minibatch, advantage, target, decided) -> None:
        for weight in self.weights.values():
            weight.requires_grad_(True)
            weight.grad = None
        policy_loss = value_loss = entropy = torch.zeros(())
        rows = 0
        for b in minibatch:
            for t in range(decided.shape[1]):
                if not decided[b, t]:
                    continue
                rows += 1
                state = fragments["observation.state"][b, t]
                log_probs = self.log_probs(state)
                action = fragments["action.action"][b, t]
                ratio = torch.exp(log_probs[action] - fragments["log_prob_BT"][b, t])
                clipped = torch.clamp(ratio, 1 - self.clip, 1 + self.clip)
                policy_loss = policy_loss - torch.min(ratio * advantage[b, t], clipped * advantage[b, t])
                value_loss = value_loss + 0.5 * (self.value(state) - target[b, t]) ** 2
                entropy = entropy - (log_probs.exp() * log_probs).sum()
        total = (policy_loss + self.value_coef * value_loss - self.entropy_coef * entropy) / rows
        total.backward()
        losses = {"total": total, "policy": policy_loss / rows, "value": value_loss / rows, "entropy": entropy / rows}
        gradients = {name: weight.grad.clone() for name, weight in self.weights.items()}
        self.steps.append(Step({name: float(loss) for name, loss in losses.items()}, gradients))
        self.adamw(gradients)

    def adamw(self, gradients: dict[str, Tensor]) -> None:
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients.values()))
        scale = min(1.0, self.max_grad_norm / (norm + 1e-6))
        number = len(self.steps)
        for name, weight in self.weights.items():
            gradient = gradients[name] * scale
            first, second = self.first_moment[name], self.second_moment[name]
            first.mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
            second.mul_(BETAS[1]).add_(gradient * gradient, alpha=1 - BETAS[1])
            with torch.no_grad():
                weight.mul_(1 - self.learning_rate * self.weight_decay)
                unbiased = second / (1 - BETAS[1] ** number)
                weight.sub_(self.learning_rate * (first / (1 - BETAS[0] ** number)) / (unbiased.sqrt() + self.eps))
