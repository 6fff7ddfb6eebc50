"""Several tasks in one run: which environment plays which, and what a policy is told of it.

Axes: N environments, D numbers of a task's vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mineonline.envs.contract import EnvSpec, Observation, TensorSpec
from mineonline.envs.opening import mixed
from mineonline.envs.tasks import Task

TASK = "task"
"""The observation that holds the index of the task being played."""
TASK_VECTOR = "task_vector"
"""The observation that holds its `Task.vector`."""


class WeightedTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task, and how much of a run it gets."""

    weight: int
    """Against the other tasks' weights; at least 1 while training."""
    task: Task


@dataclass(frozen=True)
class TaskMix:
    """The tasks of a run. The index of a task is its place among them."""

    tasks: tuple[Task, ...]
    weights: tuple[int, ...]
    """A task with weight 0 is known to the policy, and not played."""
    lasts: Literal["run", "episode"]
    """`run`: an environment keeps its task. `episode`: a task is drawn for each of its episodes."""

    @cached_property
    def turns(self) -> tuple[int, ...]:
        """The tasks one after the other, each as often as its weight says, spread as evenly as that allows."""
        divisor = math.gcd(*self.weights)
        weights = [weight // divisor for weight in self.weights]
        credits, turns = [0] * len(weights), []
        for _ in range(sum(weights)):
            credits = [credit + weight for credit, weight in zip(credits, weights, strict=True)]
            turn = credits.index(max(credits))
            credits[turn] -= sum(weights)
            turns.append(turn)
        return tuple(turns)

    def index_of(self, seed: int, env: int, episode: int) -> int:
        """Which task the environment with the global index `env` plays in an episode, counted from 0."""
        place = mixed(seed, env, episode, 0) if self.lasts == "episode" else env
        return self.turns[place % len(self.turns)]

    def spec(self, one: EnvSpec) -> EnvSpec:
        """What a policy for all tasks must fit. `one`: the same for an environment that plays one of them alone."""
        length = len(self.tasks[0].vector)
        told = {TASK: TensorSpec((), "int64")} | ({TASK_VECTOR: TensorSpec((length,), "float32")} if length else {})
        tasks = {task.name: task.statistics() for task in self.tasks}
        every = tuple(dict.fromkeys(name for names in tasks.values() for name in names))
        return EnvSpec({**one.observation, **told}, one.action, every, tasks)

    def columns(self, index: int) -> list[int]:
        """Where the statistics of a task are among those of all tasks."""
        every = list(dict.fromkeys(name for task in self.tasks for name in task.statistics()))
        return [every.index(name) for name in self.tasks[index].statistics()]

    def told(self, task_N: NDArray[np.int64]) -> Observation:
        """What a policy is told of the task that each environment plays, given its index."""
        if not self.tasks[0].vector:
            return {TASK: task_N}
        vectors = np.array([task.vector for task in self.tasks], np.float32)
        return {TASK: task_N, TASK_VECTOR: vectors[task_N]}
