"""The agent that a person plays against: a checkpoint's policy, and what its run says it scores."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from mineonline.envs.contract import Observation
from mineonline.run.checkpoint import read_iteration
from mineonline.run.folder import METRICS_FILE, read_metrics, run_dir_of
from mineonline.run.trained import read_policy
from mineonline.settings.config import Config

_PREFIX = "episode/"


class Agent:
    """A policy that follows one world. It sees every decision, whoever makes it, so that its memory is always right.

    One that takes another's place in the middle of an episode remembers what it sees from then on.
    """

    def __init__(self, config: Config, checkpoint: Path, device: str) -> None:
        """CheckpointError if the checkpoint cannot be read, or is of another policy than `config` describes."""
        self.checkpoint = checkpoint
        self._policy = read_policy(checkpoint, config).eval().to(device)
        self._memory = self._policy.initial_memory(1)
        self.iteration = read_iteration(checkpoint)
        self.scores = scores_of_run(run_dir_of(checkpoint) / METRICS_FILE, self.iteration)
        """Means of the statistics of an episode, by name, and `return`; empty if the run has none."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{run_dir_of(self.checkpoint).name}, iteration {self.iteration:,}"

    @torch.inference_mode()
    def look(self, observation: Observation, first: bool) -> tuple[float, dict[str, int]]:
        """The value that the policy predicts, and the action that it would take (sampled, as in training)."""
        device = self._policy.version.device
        seen = {name: torch.from_numpy(array).unsqueeze(1).to(device) for name, array in observation.items()}
        output = self._policy(seen, torch.tensor([[first]], device=device), self._memory)
        self._memory = output.memory
        action = self._policy.head.sample(output.logits)
        return float(output.value_BT), {name: int(chosen) for name, chosen in action.items()}


def scores_of_run(metrics: Path, iteration: int) -> dict[str, float]:
    """The means over episodes in the row of `iteration`, or the last before it; empty if there are none."""
    try:
        rows = [row for row in read_metrics(metrics) if int(row["iteration"]) <= iteration]
    except (OSError, ValueError, KeyError, csv.Error):  # absent, or being rewritten
        return {}
    for row in reversed(rows):
        found = {name.removeprefix(_PREFIX): float(text) for name, text in row.items()
                 if name.startswith(_PREFIX) and text}  # fmt: skip
        if found.get("return", float("nan")) == found.get("return"):  # before the first episode it is NaN
            return found
    return {}
