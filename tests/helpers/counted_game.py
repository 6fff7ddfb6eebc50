"""Games that count their steps where others see it; one that sleeps is `tests.helpers.counted_game:Counted-v0`."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

import gymnasium
import numpy as np

from tests.helpers.odd_envs import Sleeps

FOLDER = "COUNTED_GAME_FOLDER"
"""Environment variable: where each game has a file with the number of its steps."""
RESETS, HANGS = "resets", "hangs"
"""A file of this name in that folder: the first game that finds it ends its episode, or hangs, and takes it away."""
RESET_S = 20.0
"""How long the reset after such an end takes."""


class StepCount:
    """Steps of one game, or of several together, in a file of its own."""

    def __init__(self) -> None:
        self.folder = Path(os.environ[FOLDER])
        self._steps = np.memmap(self.folder / f"{uuid.uuid4().hex}.count", np.int64, mode="w+", shape=(1,))

    def add(self, steps: int) -> None:
        self._steps[0] += steps


class CountedGame(Sleeps):
    def __init__(self, ms: float = 25, sigma: float = 0.0) -> None:
        super().__init__(ms, sigma)
        self._count = StepCount()
        self._resets = False

    def reset(self, *, seed=None, options=None):
        if self._resets:
            time.sleep(RESET_S)
            self._resets = False
        return super().reset(seed=seed)

    def step(self, action):
        if self._told_to(HANGS):
            time.sleep(3600)
        self._resets = self._told_to(RESETS)
        shown, reward, _, truncated, info = super().step(action)
        self._count.add(1)
        return shown, reward, self._resets, truncated, info

    def _told_to(self, what: str) -> bool:
        with suppress(FileNotFoundError):
            (self._count.folder / what).unlink()
            return True
        return False


gymnasium.register("Counted-v0", entry_point=CountedGame)


def steps_of(folder: Path) -> dict[str, int]:
    """Name of each game that has taken a step -> its steps so far."""
    found = {file.stem: int.from_bytes(file.read_bytes(), "little") for file in folder.glob("*.count")}
    return {name: steps for name, steps in found.items() if steps > 0}
