"""A class of the user's own behind the contract, and what is checked of it.

The class implements `VectorEnv`. It is called with the keyword arguments `num_envs`, `seed`, `first_index` (the global
index of its first environment) and those in `env.kwargs`. It has more than the contract says:

- `spec_of(**kwargs)`, a static or class method, returns its `EnvSpec` without starting anything.
- It may have `send` and `receive` too, as `AsyncVectorEnv` says: then each environment plays at its own pace.
  Evaluation, videos and lockstep still call `step`.
- `render(n)`, if there are to be videos, returns what environment n shows now, `[H, W, 3]` uint8. With it, a class may
  set `fps`, the pictures per second of these videos.

One that plays several tasks names them in `EnvSpec.tasks`: metrics are then kept for each.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mineonline.envs.arrays import mismatch
from mineonline.envs.contract import Action, EnvSpec, Observation, Step, TensorSpec
from mineonline.envs.settings import DTYPES, OwnEnvConfig
from mineonline.envs.task_mix import TASK
from mineonline.errors import ConfigError, EnvError
from mineonline.imports import check_arguments, import_target

FPS = 30
"""Of videos, where the class has no `fps`."""
_METHODS = ("spec_of", "reset", "step", "close")
_HALVES = {"send": ("action", "which_N"), "receive": ("at_least", "timeout_s")}
_ATTRIBUTES = ("spec", "num_envs", "waiting_N")
_STEP = {
    "reward_N": "float32", "terminated_N": "bool", "truncated_N": "bool", "crashed_N": "bool",
    "statistics_NK": "float32",
}  # fmt: skip


def spec_of(config: OwnEnvConfig) -> EnvSpec:
    """The spec that the class gives. ConfigError if it cannot be imported or used, or takes other arguments."""
    return _spec_of(_class_of(config), config)


class OwnEnv:
    """The user's environments; all that they return is checked. Implements `VectorEnv`.

    EnvError, a sentence, for what is not as the spec or the contract says.
    """

    def __init__(self, config: OwnEnvConfig, *, num_envs: int, seed: int, first_index: int) -> None:
        self.spec = spec_of(config)
        self.num_envs = num_envs
        self._named = f"env._target_={config.target}"
        self._shapes = {
            name: TensorSpec((num_envs, *spec.shape), spec.dtype) for name, spec in self.spec.observation.items()
        }
        columns = {"statistics_NK": (num_envs, len(self.spec.statistics))}
        self._step = {name: TensorSpec(columns.get(name, (num_envs,)), dtype) for name, dtype in _STEP.items()}
        self.env: Any = _class_of(config)(num_envs=num_envs, seed=seed, first_index=first_index, **config.kwargs)
        for name in _ATTRIBUTES:
            if not hasattr(self.env, name):
                raise self._wrong(f"its constructor must set {name}")
        if msgspec.to_builtins(self.env.spec) != msgspec.to_builtins(self.spec):
            raise self._wrong(f"its spec is {self.env.spec}, but spec_of gives {self.spec}")
        if self.env.num_envs != num_envs:
            raise self._wrong(f"its num_envs is {self.env.num_envs}, but it was asked for {num_envs}")

    @property
    def waiting_N(self) -> NDArray[np.bool_]:
        waiting_N: NDArray[np.bool_] = self.env.waiting_N
        self._check("waiting_N", {"waiting_N": waiting_N}, {"waiting_N": TensorSpec((self.num_envs,), "bool")})
        return waiting_N

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        observation: Observation = self.env.reset(which_N)
        self._check("the observation of reset", observation, self._shapes)
        self._check_task(observation)
        return observation

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        return self._checked("step", self.env.step(action, active_N), active_N, "was not active")

    def _checked(self, method: str, step: object, active_N: NDArray[np.bool_], but: str) -> Step:
        """What a method returned for the environments that were active; of the others, this sentence is true."""
        if not isinstance(step, Step):
            raise self._wrong(f"{method} returned {step!r:.100}, but must return a mineonline.Step")
        self._check(f"the observation of {method}", step.observation, self._shapes)
        self._check_task(step.observation)
        self._check(f"what {method} returned", {name: getattr(step, name) for name in _STEP}, self._step)
        if (both_N := step.terminated_N & step.truncated_N).any():
            raise self._wrong(f"environment {both_N.argmax()} is both terminated and truncated; give one of them")
        if (stands_N := (step.terminated_N | step.truncated_N) & ~active_N).any():
            raise self._wrong(f"environment {stands_N.argmax()} has ended, but it {but}")
        if not self._are_reasons(step.reasons):
            raise self._wrong(
                f"the reasons of {method} are {step.reasons!r:.100}, but must be a dict of environment "
                f"(0 to {self.num_envs - 1}) -> text"
            )
        return step

    def _check_task(self, observation: Observation) -> None:
        if self.spec.tasks and not set(observation[TASK].tolist()) <= {*range(len(self.spec.tasks))}:
            raise self._wrong(
                f"the observation {TASK!r} is {observation[TASK]}, but must be 0 to {len(self.spec.tasks) - 1}"
            )

    def _are_reasons(self, found: object) -> bool:
        return isinstance(found, dict) and all(
            isinstance(n, int) and 0 <= n < self.num_envs and isinstance(text, str) for n, text in found.items()
        )

    def check_renders(self) -> None:
        """EnvError if the class has no `render`."""
        if not callable(getattr(self.env, "render", None)):
            raise self._wrong("has no render(n), which gives the pictures of videos: add it, or leave video=... out")

    def render(self) -> NDArray[np.uint8]:
        """What environment 0 shows now, `[H, W, 3]`."""
        picture: NDArray[np.uint8] = self.env.render(0)
        problem = mismatch(picture, TensorSpec((*np.shape(picture)[:2], 3), "uint8"))
        if problem:
            raise self._wrong(f"render(0) {problem}")
        return picture

    @property
    def fps(self) -> int:
        """Pictures per second of a video."""
        return int(getattr(self.env, "fps", FPS))

    def close(self) -> None:
        self.env.close()

    def _check(self, where: str, found: object, expected: Mapping[str, TensorSpec]) -> None:
        if not isinstance(found, dict) or found.keys() != expected.keys():
            names = f"has {sorted(found)}" if isinstance(found, dict) else f"is a {type(found).__name__}"
            raise self._wrong(f"{where} {names}, but must be a dict of {sorted(expected)}")
        for name, spec in expected.items():
            problem = mismatch(found[name], spec)
            if problem:
                raise self._wrong(f"in {where}, {name} {problem}")

    def _wrong(self, text: str) -> EnvError:
        return EnvError(f"{self._named}: {text}.")


class OwnAsyncEnv(OwnEnv):
    """The user's environments, each at its own pace. Implements `AsyncVectorEnv`.

    Keeps what each environment showed last: of what a call returns, only the rows that are new are read.
    """

    def __init__(self, config: OwnEnvConfig, *, num_envs: int, seed: int, first_index: int) -> None:
        super().__init__(config, num_envs=num_envs, seed=seed, first_index=first_index)
        self._observation: Observation = {name: np.zeros(each.shape, each.dtype) for name, each in self._shapes.items()}
        self._stepping_N = np.zeros(num_envs, np.bool_)
        self._waited_N = np.zeros(num_envs, np.bool_)

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        return self._kept(super().reset(which_N), which_N, reset_N=which_N)

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        step = super().step(action, active_N)
        return msgspec.structs.replace(step, observation=self._kept(step.observation, active_N))

    def send(self, action: Action, which_N: NDArray[np.bool_]) -> None:
        self._stepping_N |= which_N
        self.env.send(action, which_N)

    def receive(self, at_least: int, timeout_s: float) -> tuple[NDArray[np.bool_], Step]:
        found = self.env.receive(max(0, at_least), timeout_s)
        if not (isinstance(found, tuple) and len(found) == 2):
            kind = type(found).__name__
            raise self._wrong(f"receive returned a {kind}, but must return who has answered, and a Step")
        answered_N, given = found
        self._check(
            "what receive returned", {"answered_N": answered_N}, {"answered_N": TensorSpec((self.num_envs,), "bool")}
        )
        if (unasked_N := answered_N & ~self._stepping_N).any():
            raise self._wrong(f"environment {unasked_N.argmax()} has answered, but was sent no action")
        self._stepping_N &= ~answered_N
        step = self._checked("receive's step", given, answered_N, "has not answered")
        return answered_N, msgspec.structs.replace(step, observation=self._kept(step.observation, answered_N))

    def _kept(
        self, observation: Observation, new_N: NDArray[np.bool_], reset_N: NDArray[np.bool_] | bool = False
    ) -> Observation:
        """What all show, now that `new_N`, and those whose episode has begun, show this."""
        waiting_N = self.waiting_N
        if (unasked_N := waiting_N & ~self._waited_N & ~np.asarray(reset_N)).any():
            raise self._wrong(f"environment {unasked_N.argmax()} is in waiting_N, but was not reset")
        new_N = new_N | (self._waited_N & ~waiting_N)
        for name, array in self._observation.items():
            array[new_N] = observation[name][new_N]
        self._waited_N = waiting_N.copy()
        return self._observation


def build(config: OwnEnvConfig, *, num_envs: int, seed: int, first_index: int) -> OwnEnv:
    """An `OwnAsyncEnv` if the class has both halves of a step, with their arguments. Errors as said there."""
    found = _class_of(config)
    has_halves = all(_takes(getattr(found, name, None), *arguments) for name, arguments in _HALVES.items())
    return (OwnAsyncEnv if has_halves else OwnEnv)(config, num_envs=num_envs, seed=seed, first_index=first_index)


def _takes(method: object, *arguments: str) -> bool:
    if not callable(method):
        return False
    try:
        inspect.signature(method).bind("self", *arguments)
    except (TypeError, ValueError):
        return False
    return True


def _class_of(config: OwnEnvConfig) -> Any:
    found: Any = import_target("env", config.target)
    is_class = isinstance(found, type)
    named = f"env._target_={config.target}"
    if not is_class:
        raise ConfigError(f"{named}: must be a class that implements mineonline.VectorEnv.")
    missing = [name for name in _METHODS if not callable(getattr(found, name, None))]
    if missing:
        raise ConfigError(f"{named}: has no method {', '.join(missing)}. What it needs: mineonline/envs/own.py.")
    check_arguments("env.kwargs", config.target, partial(found, num_envs=1, seed=0, first_index=0), **config.kwargs)
    check_arguments("env.kwargs", f"{config.target}.spec_of", found.spec_of, **config.kwargs)
    return found


def _spec_of(made: Any, config: OwnEnvConfig) -> EnvSpec:
    found = made.spec_of(**config.kwargs)
    named = f"env._target_={config.target}: spec_of"
    if not isinstance(found, EnvSpec):
        raise ConfigError(f"{named} returned {found!r:.100}, but must return a mineonline.EnvSpec.")
    try:
        spec = msgspec.convert(msgspec.to_builtins(found), EnvSpec)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{named} returned {found!r}, which is no EnvSpec: {error}.") from None
    if not spec.observation or not spec.action:
        raise ConfigError(f"{named} must name at least one observation and one action.")
    for name, tensor in spec.observation.items():
        if tensor.dtype not in DTYPES:
            raise ConfigError(f"{named}: {name} is {tensor.dtype}, but an observation is one of {', '.join(DTYPES)}.")
    if spec.tasks and spec.observation.get(TASK) != TensorSpec((), "int64"):
        raise ConfigError(f"{named}: with several tasks, there must be an observation {TASK!r}, an int64 of shape ().")
    for task, counted in spec.tasks.items():
        if not set(counted) <= set(spec.statistics):
            raise ConfigError(f"{named}: task {task!r} counts {counted}, which must all be in `statistics`.")
    return spec
