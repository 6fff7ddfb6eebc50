"""A small convolutional policy for a picture, and vectors beside it: learns the embedded world's tasks on a laptop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mineonline.envs.contract import TensorSpec
from mineonline.envs.task_mix import TASK
from mineonline.errors import ConfigError
from mineonline.policies.heads import Head, orthogonal_
from mineonline.policies.policy import Memory, Policy, PolicyOutput, picture_names, stretches
from mineonline.policies.value import ValueHead


class TinyPolicy(Policy):
    """Three convolutions of `channels`, and a linear layer that also reads all vectors; then a GRU if `recurrent`.

    `head` reads `hidden_size` features. If there are `tasks`, the linear layer reads `task_embedding` numbers of the
    one being played. ConfigError if `observation` does not hold exactly one picture, or one too small for the
    convolutions (under 36 pixels).
    """

    def __init__(
        self,
        observation: Mapping[str, TensorSpec],
        head: Head,
        *,
        channels: Sequence[int],
        hidden_size: int,
        recurrent: bool,
        zero_initial_value: bool,
        tasks: int = 0,
        task_embedding: int = 0,
    ) -> None:
        super().__init__({"gru": TensorSpec((hidden_size,), "float32")} if recurrent else None)
        self._picture = _only_picture(observation)
        # the index of a task is not a quantity
        self._vectors = [name for name in observation if name != self._picture and not (tasks and name == TASK)]
        height, width, colours = observation[self._picture].shape
        first, second, third = channels
        if min(height, width) < 36:
            raise ConfigError(
                f"policy=tiny needs pictures of at least 36x36 pixels, but they are {width}x{height}. "
                "Raise env.image_size."
            )
        self.encoder = nn.Sequential(
            nn.Conv2d(colours, first, 8, stride=4), nn.ReLU(),
            nn.Conv2d(first, second, 4, stride=2), nn.ReLU(),
            nn.Conv2d(second, third, 3), nn.ReLU(),
        )  # fmt: skip
        for layer in self.encoder:
            if isinstance(layer, nn.Conv2d):
                orthogonal_(layer, math.sqrt(2))
        with torch.no_grad():
            size = self.encoder(torch.zeros(1, colours, height, width)).numel()
        size += sum(math.prod(observation[name].shape) for name in self._vectors)
        self.embedding = _embedding(tasks, task_embedding) if task_embedding else None
        self.linear = nn.Linear(size + task_embedding, hidden_size)
        orthogonal_(self.linear, math.sqrt(2))
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True) if recurrent else None
        self.head = head
        self.value = ValueHead(hidden_size, zero=zero_initial_value)
        # pictures arrive as (..., H, W, C): with this layout they need no copy
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, observation: dict[str, Tensor], first_BT: Tensor, memory: Memory) -> PolicyOutput:
        image_BTHWC = observation[self._picture]
        pixels = image_BTHWC.flatten(0, 1).permute(0, 3, 1, 2).to(self.linear.weight.dtype).mul(1 / 255)
        seen = self.encoder(pixels).flatten(1)
        if self._vectors:
            seen = torch.cat([seen, *(observation[name].flatten(2).flatten(0, 1) for name in self._vectors)], -1)
        if self.embedding is not None:
            seen = torch.cat([seen, self.embedding(observation[TASK].flatten(0, 1))], -1)
        features = torch.relu(self.linear(seen)).view(*first_BT.shape, -1)
        if self.gru is not None:
            features, state_BD = _gru(self.gru, features, first_BT, memory["gru"])
            memory = {"gru": state_BD}
        logits = self.head(features, observation[TASK]) if self.head.by_task else self.head(features)
        return PolicyOutput(logits, self.value(features), memory)


def _embedding(tasks: int, size: int) -> nn.Embedding:
    if not tasks:
        raise ConfigError(
            f"policy.task_embedding={size}: this run has one task. Give several, for example "
            "'tasks={hunt_cow: 2, chop_tree: 1}', or policy.task_embedding=0."
        )
    return nn.Embedding(tasks, size)


def _only_picture(observation: Mapping[str, TensorSpec]) -> str:
    pictures = picture_names(observation)
    if not pictures:
        raise ConfigError("policy=tiny reads pictures, but the environment shows vectors. Use policy=mlp.")
    if len(pictures) > 1:
        raise ConfigError(
            f"policy=tiny reads one picture, but the environment shows {len(pictures)} ({', '.join(pictures)}). Bring "
            "a policy of your own: policy=own policy._target_=<module>.<class>."
        )
    return pictures[0]


def _gru(gru: nn.GRU, x_BTD: Tensor, first_BT: Tensor, state_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Run over T rows, zeroing the state before each row marked in `first_BT`: one call per stretch without resets.

    In full precision, also under autocast: the state's rounding errors would add up over an episode.
    """
    outputs = []
    state = state_BD.unsqueeze(0)
    with torch.autocast(x_BTD.device.type, enabled=False):
        x_BTD = x_BTD.to(state_BD.dtype)
        for rows in stretches(first_BT):
            state = state * ~first_BT[:, rows.start].unsqueeze(1)
            output, state = gru(x_BTD[:, rows], state)
            outputs.append(output)
    return torch.cat(outputs, 1), state.squeeze(0)
