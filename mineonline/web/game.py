"""One world that a person and an agent play in turns, tick by tick.

A decision of the agent lasts `task.action_repeat` ticks, exactly as in training. A person acts in every tick; what is
recorded is, for each decision's ticks, the action that comes closest (`Controls.decision`).
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from mineonline.envs.actions import NO_CAMERA
from mineonline.envs.contract import Observation, Step
from mineonline.envs.settings import WorldEnvConfig
from mineonline.envs.tasks import TICK_S, Task
from mineonline.envs.world import WorldEnv
from mineonline.video.film import WORLD_FPS, Keys
from mineonline.video.overlay import Caption, Frame, Overlay
from mineonline.web.agent import Agent
from mineonline.web.controls import Controls, in_last_tick
from mineonline.web.messages import Score, Situation
from mineonline.web.recorder import FIRST_ENV, Recorder
from mineonline.web.words import in_words

NEXT_EPISODE_TICKS = 40
"""After the end of an episode of the agent's, until the next one begins."""
_EVERYONE = np.ones(1, np.bool_)


class Game:
    """Episodes, one after another, and their scores. It starts paused, with the person at the controls."""

    def __init__(
        self, env: WorldEnvConfig, task: Task, *, seed: int, agent: Agent | None, recorder: Recorder | None
    ) -> None:
        tick_by_tick = msgspec.structs.replace(task, action_repeat=1)
        self._env = WorldEnv(tick_by_tick, num_envs=1, image_size=env.image_size, seed=seed, first_index=FIRST_ENV)
        self._task, self._size = task, env.video_size
        self._keys = Keys(task)
        self._recorder = recorder
        self.controls = Controls(task.actions)
        self.agent = agent
        self.wanted: Literal["person", "agent"] = "person"
        """Who gets the controls at the next decision."""
        self.paused = True
        self.note = ""
        self._over = ""
        self._decided = self._shared = False
        """Whether the episode has had a decision, and one of the agent's."""
        self._who: Literal["person", "agent"] = "person"
        self._episode = 0
        self._played: list[dict[str, float]] = []
        """Scores of the whole episodes of the person."""
        self.restart()

    def restart(self) -> None:
        """Begin a new episode; one that has not ended is cut."""
        if self._episode and not self._over and self._recorder is not None and self._decided:
            self._cut()
        self.controls.forget()
        self._observation = self._copied(self._env.reset(_EVERYONE))
        self._episode += 1
        self._tick = self._ticks = self._ticks_over = 0
        """Of the decision, of the episode, and since its end."""
        self._decided = self._shared = False
        self._over = ""
        self._return = self._reward = 0.0
        self._statistics = np.zeros(len(self._env.spec.statistics), np.float32)
        self._first = True
        self._value: float | None = None
        self._chosen: dict[str, int] = {}
        self._pressed = {"buttons": 0, "camera": NO_CAMERA}
        self._overlay = Overlay(WORLD_FPS)
        self._newest_reward = 0.0

    def tick(self) -> bool:
        """A twentieth of a second. Whether the situation has changed."""
        if self._over:
            self._ticks_over += 1
            if self.wanted == "agent" and self._ticks_over >= NEXT_EPISODE_TICKS:
                self.restart()
                return True
            return False
        if self._tick == 0:
            self._begin_decision()
        self._pressed = self._agents_tick() if self._who == "agent" else self._persons_tick()
        step = self._env.step({name: np.array([chosen]) for name, chosen in self._pressed.items()}, _EVERYONE)
        self._tick += 1
        self._ticks += 1
        self._newest_reward = float(step.reward_N[0])
        self._reward += self._newest_reward
        self._return += self._newest_reward
        self._statistics = step.statistics_NK[0]
        ended = bool(step.terminated_N[0] or step.truncated_N[0])
        if self._tick == self._task.action_repeat or ended:
            self._end_decision(step)
            return True
        return False

    def picture(self) -> Frame:
        """What the player sees now, with the HUD of the videos."""
        frame = self._env.render(0, *self._size)
        keys = self._keys.of({name: np.array([chosen]) for name, chosen in self._pressed.items()})
        # a second picture of the same tick, as while the game pauses, pays nothing again
        reward, self._newest_reward = self._newest_reward, 0.0
        return self._overlay.draw(frame, Caption(self._ticks * TICK_S, self._value, reward, keys))

    def situation(self) -> Situation:
        """How the game stands."""
        now = self._scores()
        agent = self.agent.scores if self.agent is not None else {}
        return Situation(
            who=self.wanted, agent=self.agent.name if self.agent is not None else "", paused=self.paused,
            over=self._over, episode=self._episode, shared=self._shared,
            left_s=(self._task.time_limit_ticks - self._ticks) * TICK_S, episodes=len(self._played),
            scores=[self._score(name, value, agent) for name, value in now.items()],
            recorded=self._recorder.decisions if self._recorder is not None else 0, note=self.note,
        )  # fmt: skip

    def close(self) -> None:
        """Write what the recorder still has."""
        if self._recorder is not None:
            if self._decided and not self._over:
                self._cut()
            self._recorder.close(self._observation)

    def _begin_decision(self) -> None:
        if self._who != self.wanted:
            self._who = self.wanted
            self.controls.release()
        self._reward = 0.0
        if self.agent is not None:
            self._value, self._chosen = self.agent.look(self._observation, self._first)
        self._shared |= self._who == "agent"

    def _agents_tick(self) -> dict[str, int]:
        """As `WorldEnv` plays a decision: the camera moves in the first tick, attack is released in the last."""
        repeat, buttons = self._task.action_repeat, self._chosen["buttons"]
        if repeat > 1 and self._tick == repeat - 1:
            buttons = in_last_tick(buttons, self._task.actions)
        return {"buttons": buttons, "camera": NO_CAMERA if self._tick else self._chosen["camera"]}

    def _persons_tick(self) -> dict[str, int]:
        buttons, camera = self.controls.tick()
        return {"buttons": buttons, "camera": camera}

    def _end_decision(self, step: Step) -> None:
        terminated, truncated = bool(step.terminated_N[0]), bool(step.truncated_N[0])
        action = self.controls.decision() if self._who == "person" else None
        if self._recorder is not None:
            self._recorder.add(
                self._observation, self._first, action, self._reward, terminated=terminated, truncated=truncated
            )
        self._observation = self._copied(step.observation)
        self._first, self._decided, self._tick = False, True, 0
        if terminated or truncated:
            self._over = "you died" if terminated else "time is up"
            self.controls.release()
            if truncated and self._recorder is not None:
                self._recorder.cut(self._observation)
            if not self._shared:
                self._played.append(self._scores())

    def _cut(self) -> None:
        assert self._recorder is not None
        self._recorder.cut(self._observation)

    def _scores(self) -> dict[str, float]:
        return {
            **dict(zip(self._env.spec.statistics, map(float, self._statistics), strict=True)),
            "return": self._return,
        }

    def _score(self, name: str, now: float, agent: dict[str, float]) -> Score:
        played = [scores[name] for scores in self._played]
        mean = sum(played) / len(played) if played else None
        return Score(in_words(name), now, max(played, default=None), mean, agent.get(name))

    @staticmethod
    def _copied(observation: Observation) -> Observation:
        return {name: array.copy() for name, array in observation.items()}
