"""N of MineStudio's simulators behind the contract, each a process. Axes: N environments."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.actions import NUM_CLASSES, checked_classes
from mineonline.envs.contract import Action, EnvSpec, TensorSpec
from mineonline.envs.failures import Failures
from mineonline.envs.messages import Begin
from mineonline.envs.minestudio.simulator_process import start_simulator
from mineonline.envs.opening import episode_seed, first_time_limit, mission_seed
from mineonline.envs.pool import Pool, Slot
from mineonline.envs.process import EnvProcess
from mineonline.envs.settings import MineStudioEnvConfig
from mineonline.envs.task_mix import TaskMix
from mineonline.envs.tasks import Task


class MineStudioEnv(Pool):
    """N of MineStudio's simulators, on one task or each on one of several, which it keeps."""

    def __init__(
        self, config: MineStudioEnvConfig, task: Task | TaskMix, *, num_envs: int, seed: int, first_index: int = 0,
        stagger: bool = False,
    ) -> None:  # fmt: skip
        self._config = config
        self._seed, self._first_index, self._stagger = seed, first_index, stagger
        failures = Failures(
            "the simulator of environment", first_index, most=config.max_failures,
            advice="Check this machine with  python -m mineonline.doctor",
        )  # fmt: skip
        super().__init__(
            spec_of(config, task), num_envs, failures,
            start_timeout_s=config.start_timeout_s, step_timeout_s=config.step_timeout_s,
        )  # fmt: skip
        if isinstance(task, TaskMix):
            index_N = np.array([task.index_of(seed, first_index + n, 0) for n in range(num_envs)])
            self.tasks = [task.tasks[index] for index in index_N]
            """What each environment plays."""
            self._columns = [task.columns(index) for index in index_N]
            self._observation.update(task.told(index_N))
        else:
            self.tasks = [task] * num_envs

    def start(self, n: int) -> EnvProcess:
        return start_simulator(self._config, self.tasks[n])

    def send(self, action: Action, which_N: NDArray[np.bool_]) -> None:
        checked = {name: checked_classes(action[name], limit, name) for name, limit in NUM_CLASSES.items()}
        super().send(checked, which_N)

    def episode(self, n: int, slot: Slot) -> Begin:
        index = self._first_index + n
        limit = self.tasks[n].time_limit_ticks
        if self._stagger and not slot.has_played:
            limit = first_time_limit(self._seed, index, limit)
        land = 0 if self.tasks[n].reset == "same_terrain" else slot.episode
        most = self._config.max_fast_resets
        return Begin(
            episode_seed=episode_seed(self._seed, index, slot.episode),
            mission_seed=mission_seed(self._seed, index, land),
            hard=bool(slot.process and most and slot.process.fast_resets >= most), time_limit=limit,
        )  # fmt: skip

    def is_old(self, n: int, process: EnvProcess) -> bool:
        # the age differs by environment, so that they are not all replaced at once
        interval = self._config.restart_interval_s
        return interval > 0 and time.monotonic() - process.began > interval * (1 + n / self.num_envs / 2)

    def pictures(self) -> list[NDArray[np.uint8]]:
        """`frames`, as arrays `[H, W, 3]` of `render_size`."""
        width, height = self._config.render_size
        return [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in self.frames]


def spec_of(config: MineStudioEnvConfig, task: Task | TaskMix) -> EnvSpec:
    """What a policy needs to be built; starts nothing."""
    if isinstance(task, TaskMix):
        return task.spec(spec_of(config, task.tasks[0]))
    width, height = config.image_size
    return EnvSpec(
        observation={"image": TensorSpec((height, width, 3), "uint8"), **config.declared()}, action=dict(NUM_CLASSES),
        statistics=task.statistics(),
    )  # fmt: skip
