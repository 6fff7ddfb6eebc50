"""What an environment is to the rest of mineonline: N environments behind one call.

Axes: N environments, H height, W width, C channels, K statistics.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

Observation = dict[str, NDArray[np.generic]]
"""Name -> array `[N, *shape]`. Owned by the environment and overwritten by its next call: copy what you keep."""

Action = dict[str, NDArray[np.int64]]
"""Name -> class index of every environment, `[N]`."""


class TensorSpec(msgspec.Struct, frozen=True):
    """Shape (without N) and numpy dtype name of one observation."""

    shape: tuple[int, ...]
    dtype: str


class EnvSpec(msgspec.Struct, frozen=True):
    """All that a policy must know to be built for an environment, without starting one."""

    observation: dict[str, TensorSpec]
    """For example `{"image": ((48, 64, 3), "uint8")}`."""
    action: dict[str, int]
    """Number of classes of each categorical action, for example `{"buttons": 8641, "camera": 121}`."""
    statistics: tuple[str, ...] = ()
    """Names of the columns of `Step.statistics_NK`, for example `("kill_entity/cow",)`."""


class Step(msgspec.Struct, frozen=True):
    """What one decision led to. Rows of environments that were not active hold their last observation, 0 and False."""

    observation: Observation
    """The true next observation: at the end of an episode its last one, never the first of the next episode."""
    reward_N: NDArray[np.float32]
    terminated_N: NDArray[np.bool_]
    """The episode ended in a state without a future (a death): nothing bootstraps."""
    truncated_N: NDArray[np.bool_]
    """The episode was cut (a time limit, a crash): the future goes on unseen, so the value bootstraps."""
    crashed_N: NDArray[np.bool_]
    """The environment failed since the step before, and is replaced; an episode that it played is truncated."""
    statistics_NK: NDArray[np.float32]
    """Totals of the current episode so far, one column a name of `EnvSpec.statistics`."""


class VectorEnv(Protocol):
    """N environments that are stepped together.

    Environments never reset by themselves: whoever steps them calls `reset` for those whose episode ended. Episodes
    are a function of the seed, the environment's global index and its episode count alone, whatever N is.
    """

    spec: EnvSpec
    num_envs: int

    @property
    def waiting_N(self) -> NDArray[np.bool_]:
        """Environments whose new episode has not begun yet: a game that takes seconds to begin holds up nobody else.

        They cannot be active; their rows hold their last observation until the call that takes them out of here, which
        gives the first one of the episode.
        """

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        """Begin a new episode in the environments of `which_N`; the rows of the others are their last observation."""

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        """Take one decision in every environment of `active_N`; the others stand still and their action is ignored."""

    def close(self) -> None:
        """Free processes and files. Safe to call twice."""
