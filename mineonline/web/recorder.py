"""Writes what a person plays as fragments (`experience/fragment_files.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mineonline.envs.contract import EnvSpec
from mineonline.experience.fragment_files import write
from mineonline.fragment import Fragments, Tensors, empty_fragments, fragment_schema

FIRST_ENV = 1 << 42
"""Global index of a person's world: far from those of collectors, evaluations and recordings."""

_Pictures = dict[str, NDArray[np.generic]]


class Recorder:
    """Collects decisions, one after another, and writes each full fragment as a file of the set in `folder`.

    A person has no log-probabilities and no values: these are 0, and so is the version. Rows that the agent played are
    idle: nobody clones them, but a policy with memory sees what they show. A fragment of idle rows alone is not
    written, which shows as a gap in `sequence_B`.
    """

    def __init__(self, folder: Path, spec: EnvSpec, *, length: int, env: str) -> None:
        """The folder is made with the first file. `env`: the task's name."""
        self.folder = folder
        self._spec, self._length, self._env = spec, length, env
        self._schema = fragment_schema(spec, {}, {}, length)
        self._rows = self._empty()
        self._row = self._sequence = 0
        self.files = 0
        self.decisions = 0
        """Of the person, in files or waiting for one."""

    def add(
        self, observation: _Pictures, first: bool, action: dict[str, int] | None, reward: float = 0.0,
        *, terminated: bool = False, truncated: bool = False,
    ) -> None:  # fmt: skip
        """A decision: what was seen before it, the person's action (None: not theirs), and what it led to."""
        self._look(observation, first)
        if self._row == self._length:
            self._write()
            self._look(observation, first)
        row = self._row
        for name in self._spec.action:
            self._rows[f"action.{name}"][0, row] = 0 if action is None else action[name]
        self._rows["idle_BT"][0, row] = action is None
        self._rows["reward_BT"][0, row] = reward
        self._rows["terminated_BT"][0, row] = terminated
        self._rows["truncated_BT"][0, row] = truncated
        self.decisions += action is not None
        self._row += 1

    def cut(self, observation: _Pictures) -> None:
        """The episode was truncated after the last decision, and this is its last observation."""
        if self._row:
            self._rows["truncated_BT"][0, self._row - 1] = True
        self.add(observation, False, None)

    def close(self, observation: _Pictures) -> None:
        """Write what waits, filled up with idle rows that show `observation`."""
        if self._row and not bool(self._rows["idle_BT"][0, : self._row].all()):
            while self._row < self._length:
                self.add(observation, False, None)
            self._look(observation, False)
            self._write()

    def _look(self, observation: _Pictures, first: bool) -> None:
        for name, array in observation.items():
            self._rows[f"observation.{name}"][0, self._row] = torch.from_numpy(array)
        self._rows["first_BU"][0, self._row] = first

    def _write(self) -> None:
        if not bool(self._rows["idle_BT"].all()):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._rows["env_B"].fill_(FIRST_ENV)
            self._rows["sequence_B"].fill_(self._sequence)
            write(
                self.folder, self.files, Fragments.from_named_tensors(self._rows), env=self._env,
                actions=self._spec.action,
            )  # fmt: skip
            self.files += 1
        self._rows = self._empty()
        self._row = 0
        self._sequence += 1

    def _empty(self) -> Tensors:
        made = empty_fragments(self._schema, 1, shared=False)
        return {name: tensor.zero_() for name, tensor in made.items()}
