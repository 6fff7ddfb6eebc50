"""N environments that do not wait for each other: each in a process, replaced when it dies, hangs or grows old.

Axes: N environments, K statistics.
"""

from __future__ import annotations

import logging
import selectors
import time
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.contract import Action, ContinuousAction, EnvSpec, Observation, Step
from mineonline.envs.failures import Failures
from mineonline.envs.messages import Begin, Decide, Outcome, Queued, Ready, Starting
from mineonline.envs.process import Ended, EnvProcess, remove_orphans
from mineonline.envs.settings import IDLE_S

log = logging.getLogger(__name__)

CLOSE_S = 8.0
"""How long processes may take to close by themselves."""


class Slot:
    """One environment: its process, and what it waits for."""

    def __init__(self) -> None:
        self.process: EnvProcess | None = None
        self.order: Begin | None = None
        """The episode to start, or being started; None while one is played."""
        self.asked = False
        """The process has been sent `order`, or an action."""
        self.deadline = 0.0
        """For its next message, while `asked`."""
        self.episode = 0
        """Number of the next episode to be ordered."""
        self.has_played = False


class Pool(ABC):
    """N processes with an environment each. Implements `AsyncVectorEnv`.

    `reset` does not wait: an environment is in `waiting_N` until its episode has started, while the others play. If a
    process fails, its episode ends (truncated, crashed) and it is replaced, after a pause if it keeps failing. EnvError
    after too many failures of one environment without a decision in between, or at once if a new process is no help.
    """

    start_limit = "env.start_timeout_s"
    """The setting behind `patience_s`, as errors name it."""

    def __init__(
        self, spec: EnvSpec, num_envs: int, failures: Failures, *, start_timeout_s: float, step_timeout_s: float
    ) -> None:
        self.spec = spec
        self.num_envs = num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self.filmed = False
        self.frames: list[bytes] = []
        """Pictures of environment 0, one per tick of its last decision, while it is filmed."""
        self.slots = [Slot() for _ in range(num_envs)]
        self._failures = failures
        self._start_timeout_s, self._step_timeout_s = start_timeout_s, step_timeout_s
        self._leaving: list[tuple[EnvProcess, float]] = []
        self._selector = selectors.DefaultSelector()
        self._observation: Observation = {
            name: np.zeros((num_envs, *each.shape), each.dtype) for name, each in spec.observation.items()
        }
        self._statistics_NK = np.zeros((num_envs, len(spec.statistics)), np.float32)
        self._columns: list[slice | list[int]] = [slice(None)] * num_envs
        """Of `_statistics_NK`: those that each environment's process reports."""
        self._continuous = {name for name, action in spec.action.items() if isinstance(action, ContinuousAction)}
        self._stepping: set[int] = set()
        self._answers: dict[int, Outcome | None] = {}
        """What came since the last `receive`; None of an environment that failed while it played."""
        self._begun = 0
        """Episodes that have begun since then."""
        remove_orphans()

    @abstractmethod
    def start(self, n: int) -> EnvProcess:
        """A new process for environment n."""

    @abstractmethod
    def episode(self, n: int, slot: Slot) -> Begin:
        """How the next episode of environment n begins."""

    def is_old(self, n: int, process: EnvProcess) -> bool:
        """Whether to replace a process before its next episode."""
        return False

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        """Ask for new episodes; environments in `waiting_N` still wait for theirs and show their last observation."""
        for n in np.flatnonzero(which_N).tolist():
            self._expect_nothing(n)
            self._order_episode(n)
            self.waiting_N[n] = True
            self._statistics_NK[n] = 0.0
        self._begin_episodes()
        return self._observation

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        """Take one decision in every active environment at once; waits for the slowest."""
        self.send(action, np.asarray(active_N, np.bool_) & ~self.waiting_N)
        if self._stepping:
            while self._stepping:
                self._turn(None)
        else:
            until = time.monotonic() + IDLE_S
            self._turn(0.0)
            while self.waiting_N.all() and (left_s := until - time.monotonic()) > 0:
                self._turn(left_s)
        return self._take()[1]

    def send(self, action: Action, which_N: NDArray[np.bool_]) -> None:
        deadline = time.monotonic() + self._step_timeout_s
        if which_N[0]:
            self.frames = []
        for n in np.flatnonzero(which_N).tolist():
            chosen = {k: v[n].tobytes() if k in self._continuous else int(v[n]) for k, v in action.items()}
            self._expect(n, deadline)
            self._stepping.add(n)
            try:
                self._process(n).send(Decide(chosen, self.filmed and n == 0))
            except Ended as error:
                self._fail(n, str(error))

    def receive(self, at_least: int, timeout_s: float) -> tuple[NDArray[np.bool_], Step]:
        until = time.monotonic() + timeout_s
        while True:
            able = len(self._answers) + self._begun + len(self._stepping) + int(self.waiting_N.sum())
            found = len(self._answers) + self._begun
            left_s = until - time.monotonic() if found < min(at_least, able) else 0.0
            self._turn(max(0.0, left_s))
            if left_s <= 0:
                return self._take()

    def close(self) -> None:
        """End all processes, within `CLOSE_S`."""
        for n, slot in enumerate(self.slots):
            if slot.process is not None:
                self._leave(n)
        while self._leaving:
            self._let_go()
            time.sleep(0.02)

    def _take(self) -> tuple[NDArray[np.bool_], Step]:
        """What came since the last call."""
        ready_N, terminated_N, truncated_N = np.zeros((3, self.num_envs), np.bool_)
        reward_N = np.zeros(self.num_envs, np.float32)
        for n, outcome in self._answers.items():
            ready_N[n] = True
            if outcome is None:
                truncated_N[n] = True
            else:
                reward_N[n] = outcome.reward
                self._statistics_NK[n, self._columns[n]] = outcome.statistics
                terminated_N[n], truncated_N[n] = outcome.terminated, outcome.truncated
        self._answers, self._begun = {}, 0
        reasons = self._failures.take()
        crashed_N = np.zeros(self.num_envs, np.bool_)
        crashed_N[list(reasons)] = True
        return ready_N, Step(
            observation=self._observation, reward_N=reward_N, terminated_N=terminated_N, truncated_N=truncated_N,
            crashed_N=crashed_N, statistics_NK=self._statistics_NK.copy(), reasons=reasons,
        )  # fmt: skip

    def _turn(self, wait_s: float | None) -> None:
        """Hear whoever has something to say, after waiting for the first, `wait_s` at most (None: until a deadline)."""
        self._begin_episodes()
        now = time.monotonic()
        limits = [slot.deadline - now for slot in self.slots if slot.asked]
        pauses = [self._failures.pause_s(n) for n in np.flatnonzero(self.waiting_N).tolist() if not self.slots[n].asked]
        soonest_s = min([*limits, *pauses], default=IDLE_S)
        for key, _ in self._selector.select(max(0.0, soonest_s if wait_s is None else min(wait_s, soonest_s))):
            self._hear(key.data)
        now = time.monotonic()
        for n, slot in enumerate(self.slots):
            if slot.asked and now > slot.deadline:
                self._fail(n, self._overdue(slot))
        self._begin_episodes()
        self._let_go()

    def patience_s(self, process: EnvProcess) -> float:
        """How long a process may take to begin an episode."""
        return self._start_timeout_s

    def _overdue(self, slot: Slot) -> str:
        if slot.order is None:
            return f"no answer within env.step_timeout_s={self._step_timeout_s:g}"
        assert slot.process is not None
        return f"no episode within {self.patience_s(slot.process):g} s ({self.start_limit})"

    def _order_episode(self, n: int) -> None:
        slot = self.slots[n]
        slot.order = self.episode(n, slot)
        slot.episode += 1

    def _begin_episodes(self) -> None:
        """Ask the processes of waiting environments for their episodes, once; start processes where there are none."""
        for n in np.flatnonzero(self.waiting_N).tolist():
            slot = self.slots[n]
            if slot.asked or (slot.process is None and self._failures.pause_s(n)):
                continue
            if slot.process is not None and self.is_old(n, slot.process):
                self._leave(n)  # not killed: its callbacks may still have something to write
            if slot.process is None:
                slot.process = self.start(n)
            self._expect(n, time.monotonic() + self.patience_s(slot.process))
            assert slot.order is not None
            try:
                slot.process.send(slot.order)
            except Ended as error:
                self._fail(n, str(error))

    def _hear(self, n: int) -> None:
        """Take one message from a process."""
        slot = self.slots[n]
        try:
            message = self._process(n).receive()
        except Ended as error:
            self._fail(n, str(error))
            return
        if isinstance(message, Outcome):
            self._expect_nothing(n)
            self._stepping.discard(n)
            self._failures.decided([n])
            self._answers[n] = message
            self._show(n, message.observation)
            if n == 0:
                self.frames = message.frames
        elif isinstance(message, Ready):
            self._ready(n, slot, message)
        else:
            # whoever waits for others to start, or starts only now, gets the whole timeout again
            slot.deadline = time.monotonic() + self._start_timeout_s
            if isinstance(message, Starting):
                log.info("an engine starts")
            else:
                assert isinstance(message, Queued), message

    def _ready(self, n: int, slot: Slot, message: Ready) -> None:
        process, order = self._process(n), slot.order
        assert order is not None
        process.fast_resets = 0 if order.hard else process.fast_resets + 1
        process.trim_log()
        slot.order, slot.has_played = None, True
        self._expect_nothing(n)
        self.waiting_N[n] = False
        self._begun += 1
        self._show(n, message.observation)
        if process.fast_resets == 0:
            # one that waits for its next episode plays too
            playing = sum(each.process is not None and each.process.fast_resets >= 0 for each in self.slots)
            log.info("%d of %d environments play", playing, self.num_envs)

    def _fail(self, n: int, reason: str) -> None:
        """A process has failed: end it; the next one starts after a pause."""
        slot, details = self.slots[n], ""
        self._expect_nothing(n)
        if slot.process is not None:
            details = slot.process.last_words()
            slot.process.end()
        slot.process = None
        if slot.order is not None:  # it may be this episode that cannot begin
            self._order_episode(n)
        if n in self._stepping:
            self._stepping.discard(n)
            self._answers[n] = None
        self._failures.add(n, reason, details=details)

    def _expect(self, n: int, deadline: float) -> None:
        """Listen to a process until `deadline`; not at other times: one that ends meanwhile fails when it is needed."""
        slot = self.slots[n]
        slot.asked, slot.deadline = True, deadline
        self._selector.register(self._process(n).link.reader, selectors.EVENT_READ, n)

    def _expect_nothing(self, n: int) -> None:
        if self.slots[n].asked:
            self.slots[n].asked = False
            self._selector.unregister(self._process(n).link.reader)

    def _leave(self, n: int) -> None:
        self._expect_nothing(n)
        self._leaving.append((self._process(n), time.monotonic() + CLOSE_S))
        self.slots[n].process = None

    def _let_go(self) -> None:
        """Ask the processes that are leaving to close, and drop those that have; does not wait."""
        self._leaving = [(process, until) for process, until in self._leaving if not process.close(until)]

    def _process(self, n: int) -> EnvProcess:
        process = self.slots[n].process
        assert process is not None
        return process

    def _show(self, n: int, observation: dict[str, bytes]) -> None:
        for name, data in observation.items():
            array = self._observation[name]
            array[n] = np.frombuffer(data, array.dtype).reshape(array.shape[1:])
