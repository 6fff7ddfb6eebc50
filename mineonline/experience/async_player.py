"""PATH 1, in a worker process: environments that play at their own pace.

The fragments are the same as those of `rollout.Player`, and no row differs in meaning. But no environment waits for
another, for the policy's work on another, for a rollout to be handed over, or for new weights: a thread steps them all
the time, while the process's main thread obeys torchrl. They stand still only if nobody asks for the next rollout for
long, because the learner cannot keep up.

    environment n ── its own row of its own fragment ──▶ complete ──▶ the next rollout: at most N complete fragments

Axes: N environments of this worker, D of them that are due a decision, T rows, U = T + 1 rows, S fragments.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque

import numpy as np
import torch
from torch import Tensor

from mineonline.envs.contract import AsyncVectorEnv, Observation, Step
from mineonline.experience.rollout import RolloutSettings, decide, reason_bytes, seed_sampling
from mineonline.fragment import empty_fragments
from mineonline.policies.actor import Actor
from mineonline.policies.policy import Memory

_LINGER = 2.0
"""Forward passes that the first environment of a batch waits for others, times the share of its time that the policy is
busy: a policy that has time to spare decides soon, one that has none decides for many at once. With 16 environments and
steps of 25 ms this comes within 4 % of deciding for each at once where a pass takes 1 ms, and loses nothing where it
takes 12 ms."""
_LONGEST_LINGER_S = 0.05
"""After a slow pass, such as a GPU's first."""
_SMOOTHING = 0.05
"""Weight of the newest forward pass in that share."""
_HAND_OVER_S = 1.0
"""A rollout is handed over after this time even if fewer fragments are complete, so that one worker whose environments
are slow to start keeps none waiting, and new weights come soon."""
_AHEAD = 0.25
"""Part of a rollout that is played, at most, while nobody asks for the next one. To hand one over and to send it takes
less. Where it takes longer, the learner is the bottleneck, and what is played ahead would only grow stale."""
_LOOK_EVERY_S = 0.2


class AsyncPlayer:
    """N environments and an actor that make rollouts, each written over the previous one.

    While a fragment is played the weights may change: its `version` is that of its first row, and each row has the
    log-probability under the weights that acted in it. Of the N fragments of a rollout, those that were not complete in
    time hold no decision.
    """

    def __init__(
        self, vector: AsyncVectorEnv, observation: Observation, actor: Actor, settings: RolloutSettings, *,
        first_env: int,
    ) -> None:  # fmt: skip
        """As for `Player`."""
        n = vector.num_envs
        self._vector, self._observation = vector, observation
        self._length, self._precision = settings.length, settings.precision
        self._batch_min = settings.batch_min or max(1, n // 4)
        self._torch_threads = settings.torch_threads
        schema = settings.schema(actor)
        self.tensors = empty_fragments((*schema, *settings.report_schema()), n)
        """Name -> (N, *shape): the newest rollout, in shared memory."""
        self._seed = settings.seed, first_env
        self._newest = actor
        """torchrl writes new weights into it between two rollouts."""
        self._actor = copy.deepcopy(actor)
        """What acts: its weights change only between two decisions."""
        # copies, since single rows of them are written: a policy may give one state to all environments, or a parameter
        self._memory = _copied(actor.policy.initial_memory(n))
        self._reference_memory = _copied(actor.reference.initial_memory(n)) if actor.reference else {}

        slots = 2 * n  # each environment fills one, while as many wait to be handed over
        self._slots = empty_fragments((*schema, *settings.report_rows()), slots, shared=False)
        self._free, self._complete = deque(range(slots)), deque[int]()
        self._slot_N = np.full(n, -1)
        self._row_N = np.zeros(n, np.int64)
        self._sequence_N = np.zeros(n, np.int64)
        self._env_N = torch.arange(n) + first_env
        self._due_N = ~vector.waiting_N
        """A row of it can be filled: its observation has not been decided on."""
        self._waiting_N = vector.waiting_N.copy()
        self._first_N = self._due_N.copy()
        self._idle_N = np.zeros(n, np.bool_)
        """Its episode was truncated: its next row holds the last observation, and no decision."""
        self._forward_s = self._due_since = 0.0
        self._busy_share, self._decided_at = 1.0, time.monotonic()

        self._condition = threading.Condition()
        """Held for what both threads use: the slots that are free and complete, the reports, the error."""
        self._asked, self._ahead = False, 0
        """Whether a rollout is asked for; rows that were played while none was, since the last one."""
        self._weights = threading.Lock()
        self._failures = 0
        self._reasons: dict[int, str] = {}
        self._env_s = self._policy_s = 0.0
        self._turns = 0
        """Of the thread's loop, each of which takes a fraction of a second."""
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def play(self) -> None:
        """Write the next complete fragments into `tensors`. Raises what the environments or the actor have raised."""
        self._take_weights()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="player", daemon=True)
            self._thread.start()
        n = self._vector.num_envs
        with self._condition:
            self._asked, self._ahead = True, 0
            self._condition.notify_all()
            # a thread that is stuck in an environment holds this up, until the collector's watch ends the worker
            until, turns = time.monotonic() + _HAND_OVER_S, self._turns
            while self._error is None and len(self._complete) < n:
                self._condition.wait(_LOOK_EVERY_S)
                if time.monotonic() > until and self._turns > turns:
                    break
            if self._error is not None:
                raise self._error
            self._asked = False
            slots = [self._complete.popleft() for _ in range(min(n, len(self._complete)))]
            failures, self._failures = self._failures, 0
            reasons, self._reasons = self._reasons, {}
            env_s, policy_s = self._env_s, self._policy_s
            self._env_s = self._policy_s = 0.0
        count = len(slots)
        for name, tensor in self._slots.items():
            if count:
                torch.index_select(tensor, 0, torch.tensor(slots), out=self.tensors[name][:count])
        for name in ("reward_BT", "terminated_BT", "truncated_BT", "report.crashed_BT"):
            self.tensors[name][count:] = 0
        self.tensors["idle_BT"][count:] = True
        self.tensors["env_B"][count:] = self._env_N[0]
        self._report(failures, reasons, env_s, policy_s)
        with self._condition:
            self._free.extend(slots)
            self._condition.notify_all()

    def close(self) -> None:
        """Stop the thread, which takes a fraction of a second. The environments stay as they are."""
        self._closed = True
        if self._thread is not None:
            self._thread.join(10.0)

    def _report(self, failures: int, reasons: dict[int, str], env_s: float, policy_s: float) -> None:
        tensors = self.tensors
        tensors["report.failures"].zero_()[0] = failures
        tensors["report.reason"].zero_()
        tensors["report.reason_env"].copy_(tensors["env_B"])
        for row, (n, reason) in enumerate(reasons.items()):
            tensors["report.reason"][row] = torch.from_numpy(reason_bytes(reason))
            tensors["report.reason_env"][row] = self._env_N[n]
        tensors["report.env_s"].fill_(env_s)
        tensors["report.policy_s"].fill_(policy_s)

    def _take_weights(self) -> None:
        """Let the thread act with the newest weights from its next decision on."""
        if self._thread is None or self._is_new():
            with self._weights:
                self._actor.load_state_dict(self._newest.state_dict())

    def _is_new(self) -> bool:
        """Another trainer may give its own weights the same number: then the last parameter tells them apart."""
        newest, acting = (
            [each.version, *list(each.parameters())[-1:]] for each in (self._newest.policy, self._actor.policy)
        )
        return any(not torch.equal(one, two) for one, two in zip(newest, acting, strict=True))

    @torch.inference_mode()
    def _run(self) -> None:
        try:
            torch.set_num_threads(self._torch_threads)  # it counts for the thread that says it
            seed_sampling(*self._seed)
            while not self._closed:
                self._turn()
                self._turns += 1
        except BaseException as error:  # noqa: BLE001 raised again in the main thread
            with self._condition:
                self._error = error
                self._condition.notify_all()

    def _turn(self) -> None:
        self._begin_fragments()
        due_N = self._due_N & (self._slot_N >= 0) & self._goes_on()
        others = not self._due_N.all()  # step, or wait for an episode
        if due_N.sum() >= self._batch_min or (
            due_N.any() and (not others or time.monotonic() >= self._lingers_until())
        ):
            self._decide(np.flatnonzero(due_N))
            due_N = self._due_N & (self._slot_N >= 0) & self._goes_on()
        started = time.monotonic()
        if self._due_N.all() and not due_N.any():
            with self._condition:  # all stand still until a rollout is asked for, or handed over
                able = (self._slot_N >= 0).any()
                self._condition.wait_for(lambda: self._goes_on() and (able or self._free), _LOOK_EVERY_S)
            return
        if due_N.any():
            left_s = self._lingers_until() - started
            answered_N, step = self._vector.receive(self._batch_min - int(due_N.sum()), max(0.0, left_s))
        else:
            answered_N, step = self._vector.receive(1, self._wait_s())
        self._take_in(answered_N, step)
        with self._condition:
            self._env_s += time.monotonic() - started

    def _goes_on(self) -> bool:
        return self._asked or self._ahead < _AHEAD * self._length * self._vector.num_envs

    def _lingers_until(self) -> float:
        return self._due_since + min(_LONGEST_LINGER_S, _LINGER * self._busy_share * self._forward_s)

    def _wait_s(self) -> float:
        """While environments stand still, look often whether they may go on."""
        stands_still = not self._goes_on() or (self._due_N & (self._slot_N < 0)).any()
        return 0.01 if stands_still else _LOOK_EVERY_S

    def _begin_fragments(self) -> None:
        """Give a free fragment to each environment that is due a decision and has none."""
        for n in np.flatnonzero(self._due_N & (self._slot_N < 0)).tolist():
            with self._condition:
                if not self._free:
                    return
                self._slot_N[n] = self._free.popleft()
            self._row_N[n] = 0

    def _decide(self, due_D: np.ndarray) -> None:
        """Let the policy choose for these environments, and hand the actions out."""
        started = time.monotonic()
        slot_D, row_D = torch.from_numpy(self._slot_N[due_D]), torch.from_numpy(self._row_N[due_D])
        first_D, idle_D = torch.from_numpy(self._first_N[due_D]), torch.from_numpy(self._idle_N[due_D])
        begins_D = row_D == 0
        observation = {}
        for name, array in self._observation.items():
            found = torch.from_numpy(array[due_D])
            self._slots[f"observation.{name}"][slot_D, row_D] = found
            observation[name] = found.unsqueeze(1)
        self._slots["first_BU"][slot_D, row_D] = first_D
        with self._weights:
            self._begin_rows(due_D, slot_D, begins_D)
            envs_D = torch.from_numpy(due_D)
            memory, reference_memory = (
                {name: state[envs_D.to(state.device)] for name, state in memories.items()}
                for memories in (self._memory, self._reference_memory)
            )
            decision = decide(self._actor, observation, first_D, memory, reference_memory, self._precision)
        for kept, after in ((self._memory, decision.memory), (self._reference_memory, decision.reference_memory)):
            for name, state in after.items():
                kept[name][envs_D.to(state.device)] = state.to(kept[name].dtype)
        for name, value in {**decision.row, "idle_BT": idle_D}.items():
            self._slots[name][slot_D, row_D] = value.to(self._slots[name].dtype)
        self._due_N[due_D] = self._first_N[due_D] = False
        acts_N = np.zeros_like(self._due_N)
        acts_N[due_D] = ~self._idle_N[due_D]
        action = {}
        for name, value in decision.action.items():
            action[name] = np.zeros((len(acts_N), *value.shape[1:]), value.numpy().dtype)
            action[name][due_D] = value.numpy()
        self._vector.send(action, acts_N)
        ended = time.monotonic()
        self._forward_s = ended - started
        self._busy_share += _SMOOTHING * (self._forward_s / (ended - self._decided_at) - self._busy_share)
        self._decided_at = ended
        with self._condition:
            self._policy_s += self._forward_s
        rest_N = np.zeros_like(acts_N)
        rest_N[due_D] = self._idle_N[due_D]
        if rest_N.any():
            self._finish_rows(rest_N, None)
            self._idle_N &= ~rest_N
            self._reset(rest_N)

    def _begin_rows(self, due_D: np.ndarray, slot_D: Tensor, begins_D: Tensor) -> None:
        """What a fragment has once, for those that are in their first row."""
        for i in begins_D.nonzero()[:, 0].tolist():
            n, slot = int(due_D[i]), int(slot_D[i])
            for name, state in self._memory.items():
                self._slots[f"memory.{name}"][slot] = state[n]
            for name, state in self._reference_memory.items():
                self._slots[f"reference_memory.{name}"][slot] = state[n]
            self._slots["version_B"][slot] = self._actor.policy.version
            self._slots["env_B"][slot] = self._env_N[n]
            self._slots["sequence_B"][slot] = int(self._sequence_N[n])
            self._sequence_N[n] += 1

    def _take_in(self, answered_N: np.ndarray, step: Step) -> None:
        """Write what actions led to, and see who is due a decision now."""
        self._observation = step.observation
        if step.crashed_N.any():
            with self._condition:
                self._failures += int(step.crashed_N.sum())
                self._reasons |= step.reasons
        if not self._due_N.any():
            self._due_since = time.monotonic()
        self._see_who_waits(self._waiting_N)
        if answered_N.any():
            self._finish_rows(answered_N, step)
            self._idle_N |= answered_N & step.truncated_N
            self._due_N |= answered_N & ~step.terminated_N
            died_N = answered_N & step.terminated_N
            if died_N.any():
                self._reset(died_N)

    def _reset(self, which_N: np.ndarray) -> None:
        self._observation = self._vector.reset(which_N)
        self._see_who_waits(self._waiting_N | which_N)

    def _see_who_waits(self, waited_N: np.ndarray) -> None:
        """Those that waited for an episode and do no longer are due its first decision."""
        self._waiting_N = self._vector.waiting_N.copy()
        begun_N = waited_N & ~self._waiting_N
        self._due_N |= begun_N
        self._first_N |= begun_N

    def _finish_rows(self, which_N: np.ndarray, step: Step | None) -> None:
        """Fill in the present row of these environments (`step` None: it holds no decision) and go to the next one."""
        found = np.flatnonzero(which_N)
        slot, row = torch.from_numpy(self._slot_N[found]), torch.from_numpy(self._row_N[found])
        outcome = {
            "reward_BT": "reward_N", "terminated_BT": "terminated_N", "truncated_BT": "truncated_N",
            "report.statistics_BTK": "statistics_NK", "report.crashed_BT": "crashed_N",
        }  # fmt: skip
        for name, field in outcome.items():
            self._slots[name][slot, row] = 0 if step is None else torch.from_numpy(getattr(step, field)[found])
        self._row_N[found] += 1
        if not self._asked:
            self._ahead += len(found)
        for n in found[self._row_N[found] == self._length].tolist():
            self._complete_fragment(n, ended=step is None or bool(step.terminated_N[n]))

    def _complete_fragment(self, n: int, *, ended: bool) -> None:
        """The last of the U rows shows what the last action led to; after the end of an episode nobody reads it."""
        slot = int(self._slot_N[n])
        for name, array in self._observation.items():
            self._slots[f"observation.{name}"][slot, self._length] = torch.as_tensor(array[n])  # may be a number
        self._slots["first_BU"][slot, self._length] = ended
        self._slot_N[n] = -1
        with self._condition:
            self._complete.append(slot)
            self._condition.notify_all()


def _copied(memory: Memory) -> Memory:
    return {name: state.detach().clone() for name, state in memory.items()}
