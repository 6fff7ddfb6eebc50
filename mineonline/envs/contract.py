"""What an environment is to the rest of mineonline: N environments behind one call.

Axes: N environments, H height, W width, C channels, K statistics.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

Observation = dict[str, NDArray[np.generic]]
"""Name -> array `[N, *shape]`. Owned by the environment and overwritten by its next call: copy what you keep."""

Action = dict[str, NDArray[Any]]
"""Name -> what each environment does: class indices `[N]` int64, or, for a continuous action, `[N, *shape]` float32."""


class TensorSpec(msgspec.Struct, frozen=True):
    """Shape (without N) and numpy dtype name of one observation."""

    shape: tuple[int, ...]
    dtype: str


class ContinuousAction(msgspec.Struct, frozen=True):
    """An action of real numbers. A policy may choose any: the environment clips them to their bounds."""

    shape: tuple[int, ...]
    low: tuple[float | None, ...]
    """Lower bound of each number, in C order; None where there is none."""
    high: tuple[float | None, ...]


ActionSpec = int | ContinuousAction
"""Number of classes of a categorical action, or what a continuous one looks like."""


class EnvSpec(msgspec.Struct, frozen=True):
    """All that is needed to build a policy for an environment, without starting one."""

    observation: dict[str, TensorSpec]
    """For example `{"image": ((48, 64, 3), "uint8")}`."""
    action: dict[str, ActionSpec]
    """For example `{"buttons": 8641, "camera": 121}`."""
    statistics: tuple[str, ...] = ()
    """Names of the columns of `Step.statistics_NK`, for example `("kill_entity/cow",)`."""
    tasks: dict[str, tuple[str, ...]] = {}
    """Where there are several tasks: the name of each -> those of `statistics` that it counts. The observation `task`,
    an int64 of shape (), is then the index of the task that an environment plays; it changes at a reset only."""


class Step(msgspec.Struct, frozen=True):
    """What one decision led to. An environment that was not active has its last observation, 0 and False."""

    observation: Observation
    """The true next observation: at the end of an episode its last, never the first of the next episode."""
    reward_N: NDArray[np.float32]
    terminated_N: NDArray[np.bool_]
    """The episode ended in a state without a future (a death): nothing bootstraps."""
    truncated_N: NDArray[np.bool_]
    """The episode was cut (a time limit, a crash): it would have continued, so the value bootstraps."""
    crashed_N: NDArray[np.bool_]
    """The environment has failed since the last step and is replaced; any episode it was playing is truncated."""
    statistics_NK: NDArray[np.float32]
    """Totals of the current episode so far, one column per name in `EnvSpec.statistics`."""
    reasons: dict[int, str] = {}
    """Environment -> why it failed, for those of `crashed_N`: one line, shown to the user."""


class VectorEnv(Protocol):
    """N environments that are stepped together.

    Environments never reset by themselves: whoever steps them calls `reset` for those whose episode ended. Episodes
    depend only on the seed, the environment's global index and its episode count, not on N.
    """

    spec: EnvSpec
    num_envs: int

    @property
    def waiting_N(self) -> NDArray[np.bool_]:
        """Environments whose new episode has not started yet: a game that is slow to start holds up no other.

        They cannot be active. They show their last observation until the call that removes them from here, which
        returns the first observation of the episode.
        """

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        """Start a new episode in the environments of `which_N`; the others show their last observation."""

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        """Take one decision in every environment of `active_N`; the others stand still and their action is ignored."""

    def close(self) -> None:
        """Free processes and files. Safe to call twice."""


class AsyncVectorEnv(VectorEnv, Protocol):
    """N environments of which each can be stepped at its own pace: `step` in two halves.

    Between `send` and the `receive` that gives its answer, an environment is *stepping*. Use the halves, or `step`.
    All observations are the same arrays, in which only what is new is overwritten. `reset` is called while others step:
    one that takes long returns at once, and uses `waiting_N`.
    """

    def send(self, action: Action, which_N: NDArray[np.bool_]) -> None:
        """Hand out an action to each environment of `which_N`: none of them steps or waits. Returns at once."""

    def receive(self, at_least: int, timeout_s: float) -> tuple[NDArray[np.bool_], Step]:
        """The environments that have answered since the last call, all of them, and what their actions led to.

        Waits until `at_least` of the environments that step or wait have answered or begun an episode, or none can any
        more, `timeout_s` at most; not at all if `at_least` is 0 or less. Those whose episode has begun are not in
        `waiting_N` any more.
        """
