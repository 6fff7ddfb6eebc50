"""N simulators behind the contract, each a process, stepped together, and replaced when they die, hang or grow old.

Axes: N environments, H height, W width, C channels, K statistics.
"""

from __future__ import annotations

import logging
import time
from multiprocessing.connection import wait

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.actions import NUM_CLASSES, checked_classes
from mineonline.envs.contract import Action, EnvSpec, Observation, Step, TensorSpec
from mineonline.envs.failures import Failures
from mineonline.envs.minestudio.messages import Begin, Decide, Outcome, Queued, Ready, Starting
from mineonline.envs.minestudio.process import Ended, SimulatorProcess, remove_orphans
from mineonline.envs.opening import episode_seed, first_time_limit, mission_seed
from mineonline.envs.settings import IDLE_S, MineStudioEnvConfig
from mineonline.envs.tasks import Task

log = logging.getLogger(__name__)

CLOSE_S = 8.0
"""How long simulators may take to close by themselves."""


class _Slot:
    """One environment: its simulator, and what it waits for."""

    def __init__(self) -> None:
        self.simulator: SimulatorProcess | None = None
        self.order: Begin | None = None
        """The episode to start, or being started; None while one is played."""
        self.asked = False
        """`order` has been sent to the simulator."""
        self.deadline = 0.0
        self.episode = 0


class MineStudioEnv:
    """N of MineStudio's simulators on one task. Implements `VectorEnv`.

    `reset` does not wait: an environment is in `waiting_N` until its episode has started, while the others play. If a
    simulator fails, its episode ends (truncated, crashed) and it is replaced, after a pause if it keeps failing.
    EnvError after `config.max_failures` failures of one environment without a decision in between, or at once if a new
    engine would not help.
    """

    def __init__(
        self, config: MineStudioEnvConfig, task: Task, *, num_envs: int, seed: int, first_index: int = 0,
        stagger: bool = False,
    ) -> None:  # fmt: skip
        self.spec = spec_of(config, task)
        self.num_envs = num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self.frames: list[NDArray[np.uint8]] = []
        """Pictures of environment 0, one per tick of its last decision, while it is filmed."""
        self.filmed = False
        self._config, self._task = config, task
        self._seed, self._first_index, self._stagger = seed, first_index, stagger
        self._slots = [_Slot() for _ in range(num_envs)]
        self._leaving: list[tuple[SimulatorProcess, float]] = []
        remove_orphans()
        self._observation: Observation = {
            name: np.zeros((num_envs, *spec.shape), spec.dtype) for name, spec in self.spec.observation.items()
        }
        self._statistics_NK = np.zeros((num_envs, len(self.spec.statistics)), np.float32)
        self._failures = Failures(
            "the simulator of environment", first_index, most=config.max_failures,
            advice="Check this machine with  python -m mineonline.doctor",
        )  # fmt: skip

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        """Ask for new episodes; environments in `waiting_N` still wait for theirs and show their last observation."""
        for n in np.flatnonzero(which_N).tolist():
            slot = self._slots[n]
            slot.order = self._episode(n)
            slot.asked = False
            slot.episode += 1
            self.waiting_N[n] = True
            self._statistics_NK[n] = 0.0
        self._begin_episodes(0.0)
        return self._observation

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        """Take one decision in every active environment at once; waits for the slowest, `step_timeout_s` at most."""
        active_N = np.asarray(active_N, np.bool_) & ~self.waiting_N
        reward_N = np.zeros(self.num_envs, np.float32)
        terminated_N, truncated_N = np.zeros((2, self.num_envs), np.bool_)
        for n, outcome in self._decide(action, np.flatnonzero(active_N).tolist()).items():
            if outcome is None:
                truncated_N[n] = True
                continue
            self._failures.decided([n])
            self._show(n, outcome.observation)
            reward_N[n], self._statistics_NK[n] = outcome.reward, outcome.statistics
            terminated_N[n], truncated_N[n] = outcome.terminated, outcome.truncated
            if n == 0:
                self.frames = [self._picture(frame) for frame in outcome.frames]
        self._begin_episodes(0.0 if active_N.any() else IDLE_S)
        reasons = self._failures.take()
        crashed_N = np.zeros(self.num_envs, np.bool_)
        crashed_N[list(reasons)] = True
        return Step(
            observation=self._observation, reward_N=reward_N, terminated_N=terminated_N, truncated_N=truncated_N,
            crashed_N=crashed_N, statistics_NK=self._statistics_NK.copy(), reasons=reasons,
        )  # fmt: skip

    def close(self) -> None:
        """End all simulators, within `CLOSE_S`."""
        for slot in self._slots:
            if slot.simulator is not None:
                self._leaving.append((slot.simulator, time.monotonic() + CLOSE_S))
                slot.simulator = None
        while self._leaving:
            self._let_go()
            time.sleep(0.02)

    def _let_go(self) -> None:
        """Ask the simulators that are leaving to close, and drop those that have; does not wait."""
        self._leaving = [(simulator, until) for simulator, until in self._leaving if not simulator.close(until)]

    def _episode(self, n: int) -> Begin:
        index, slot = self._first_index + n, self._slots[n]
        limit = self._task.time_limit_ticks
        if self._stagger and slot.episode == 0:
            limit = first_time_limit(self._seed, index, limit)
        land = 0 if self._task.reset == "same_terrain" else slot.episode
        simulator = slot.simulator
        hard = bool(
            simulator and self._config.max_fast_resets and simulator.fast_resets >= self._config.max_fast_resets
        )
        return Begin(
            mission_seed=mission_seed(self._seed, index, land),
            episode_seed=episode_seed(self._seed, index, slot.episode),
            hard=hard, time_limit=limit,
        )  # fmt: skip

    def _decide(self, action: Action, playing: list[int]) -> dict[int, Outcome | None]:
        """Play one decision in each environment. The outcome is None if its simulator failed and is gone."""
        buttons, camera = (checked_classes(action[name], limit, name) for name, limit in NUM_CLASSES.items())
        outcomes: dict[int, Outcome | None] = {}
        self.frames = []
        for n in playing:
            try:
                self._simulator(n).send(Decide(int(buttons[n]), int(camera[n]), self.filmed and n == 0))
            except Ended as error:
                self._fail(n, str(error))
                outcomes[n] = None
        deadline = time.monotonic() + self._config.step_timeout_s
        while pending := [n for n in playing if n not in outcomes]:
            readable = self._readable(pending, deadline - time.monotonic())
            if not readable:
                for n in pending:
                    self._fail(n, f"no answer within env.step_timeout_s={self._config.step_timeout_s:g}")
                    outcomes[n] = None
            for n in readable:
                try:
                    outcomes[n] = self._simulator(n).receive()
                except Ended as error:
                    self._fail(n, str(error))
                    outcomes[n] = None
        return outcomes

    def _begin_episodes(self, wait_s: float) -> None:
        """Advance the waiting environments: start simulators, ask them for episodes, show those that have started.

        Waits for the first of these episodes, `wait_s` at most.
        """
        self._let_go()
        until = time.monotonic() + wait_s
        while waiting := np.flatnonzero(self.waiting_N).tolist():
            for n in waiting:
                self._ask(n)
            asked = [n for n in waiting if self._slots[n].asked]
            readable = self._readable(asked, max(0.0, until - time.monotonic()))
            for n in readable:
                self._hear(n)
            for n in asked:
                if n not in readable and time.monotonic() > self._slots[n].deadline:
                    self._fail(n, f"no episode within env.start_timeout_s={self._config.start_timeout_s:g}")
            if not self.waiting_N.all() or time.monotonic() >= until:
                return
            if not asked:
                time.sleep(min(0.05, wait_s))

    def _ask(self, n: int) -> None:
        """Send a waiting environment's order to its simulator, once; start a simulator if there is none."""
        slot = self._slots[n]
        if slot.asked or (slot.simulator is None and self._failures.pause_s(n)):
            return
        if slot.simulator is not None and self._is_old(n, slot.simulator):
            # not killed: its callbacks may still have something to write
            self._leaving.append((slot.simulator, time.monotonic() + CLOSE_S))
            slot.simulator = None
        if slot.simulator is None:
            slot.simulator = SimulatorProcess(self._config, self._task)
        slot.asked = True
        slot.deadline = time.monotonic() + self._config.start_timeout_s
        assert slot.order is not None
        try:
            slot.simulator.send(slot.order)
        except Ended as error:
            self._fail(n, str(error))

    def _hear(self, n: int) -> None:
        """Take one message from a simulator that was asked for an episode."""
        slot = self._slots[n]
        try:
            message = self._simulator(n).receive()
        except Ended as error:
            self._fail(n, str(error))
            return
        # a simulator that waits for others to start, or starts only now, gets the whole timeout again
        slot.deadline = time.monotonic() + self._config.start_timeout_s
        if isinstance(message, Ready):
            simulator, order = self._simulator(n), slot.order
            assert order is not None
            simulator.fast_resets = 0 if order.hard else simulator.fast_resets + 1
            slot.order, slot.asked = None, False
            self.waiting_N[n] = False
            self._show(n, message.observation)
            if simulator.fast_resets == 0:
                log.info("%d of %d environments play", self.num_envs - int(self.waiting_N.sum()), self.num_envs)
        elif isinstance(message, Starting):
            log.info("an engine starts")
        else:
            assert isinstance(message, Queued), message

    def _fail(self, n: int, reason: str) -> None:
        """A simulator has failed: end its process; the next one starts after a pause."""
        slot, details = self._slots[n], ""
        if slot.simulator is not None:
            details = slot.simulator.last_words()
            slot.simulator.end()
        slot.simulator, slot.asked = None, False
        self._failures.add(n, reason, details=details)

    def _is_old(self, n: int, simulator: SimulatorProcess) -> bool:
        """Whether to replace it; the age differs by environment, so that they are not all replaced at once."""
        interval = self._config.restart_interval_s
        age = time.monotonic() - simulator.began
        return interval > 0 and age > interval * (1 + n / self.num_envs / 2)

    def _simulator(self, n: int) -> SimulatorProcess:
        simulator = self._slots[n].simulator
        assert simulator is not None
        return simulator

    def _readable(self, which: list[int], wait_s: float) -> list[int]:
        readers = {self._simulator(n).link.reader: n for n in which}
        return [readers[reader] for reader in wait(list(readers), max(0.0, wait_s))]  # type: ignore[index]

    def _show(self, n: int, observation: dict[str, bytes]) -> None:
        for name, array in self._observation.items():
            array[n] = np.frombuffer(observation[name], array.dtype).reshape(array.shape[1:])

    def _picture(self, frame: bytes) -> NDArray[np.uint8]:
        width, height = self._config.render_size
        return np.frombuffer(frame, np.uint8).reshape(height, width, 3)


def spec_of(config: MineStudioEnvConfig, task: Task) -> EnvSpec:
    """What a policy needs to be built; starts nothing."""
    width, height = config.image_size
    return EnvSpec(
        observation={"image": TensorSpec((height, width, 3), "uint8"), **config.declared()}, action=dict(NUM_CLASSES),
        statistics=task.statistics(),
    )  # fmt: skip
