"""env=own: a class of the user's own; what is not as it promised is one sentence."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from examples.own_env import Walk
from mineonline.envs.build import build_env, env_spec
from mineonline.envs.contract import EnvSpec, Step, TensorSpec
from mineonline.envs.own import OwnEnv
from mineonline.errors import ConfigError, EnvError
from tests.helpers.own_pace import OwnPace
from tests.helpers.settings import config_of
from tests.helpers.two_tasks import TwoTasks

ALL = np.ones(2, np.bool_)
RIGHT = {"move": np.zeros(2, np.int64)}


def config_for(kind, **kwargs):
    arguments = [f"+env.kwargs.{name}={value}" for name, value in kwargs.items()]
    return config_of("env=own", f"env._target_={kind}", "policy=mlp", *arguments).env


def build(kind, num_envs=2, first_index=0, **kwargs):
    config = config_for(f"{__name__}.{kind}", **kwargs)
    return build_env(config, None, seed=1, num_envs=num_envs, first_index=first_index)


class NoSpec:
    def __init__(self, num_envs, seed, first_index):
        pass

    def reset(self, which_N):
        pass

    step = close = reset


class WrongSpec(Walk):
    @staticmethod
    def spec_of(size=5):
        return {"state": (4,)}


class DoubleSpec(Walk):
    @staticmethod
    def spec_of(size=5):
        return EnvSpec({"state": TensorSpec((4,), "float64")}, {"move": 4}, ("steps",))


class NeedsMore(Walk):
    def __init__(self, num_envs, seed, first_index, size, colour):  # no default
        pass


class TasksUntold(Walk):
    @staticmethod
    def spec_of(size=5):
        return EnvSpec({"state": TensorSpec((4,), "float32")}, {"move": 4}, ("steps",), {"near": (), "far": ()})


class TasksCountMore(Walk):
    @staticmethod
    def spec_of(size=5):
        return msgspec.structs.replace(TwoTasks.spec_of(), tasks={"zero": ("zeros", "cows")})


class PlaysAThird(TwoTasks):
    def reset(self, which_N):
        return {**super().reset(which_N), "task": np.array([0, 2])}


class WandersToAThird(TwoTasks):
    def step(self, action, active_N):
        step = super().step({"action": action["move"]}, active_N)
        return msgspec.structs.replace(step, observation={**step.observation, "task": np.array([0, 2])})


class Forgets(Walk):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        del self.waiting_N


class OtherSpec(Walk):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.spec = EnvSpec(self.spec.observation, {"move": 5}, self.spec.statistics)


class OtherCount(Walk):
    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "num_envs": 1})


class Resets(Walk):
    """Returns what `change` makes of the observation of `reset`."""

    change = staticmethod(lambda observation: observation)

    def reset(self, which_N):
        return self.change(super().reset(which_N))


class Unnamed(Resets):
    change = staticmethod(lambda observation: {"vector": observation["state"]})


class Bare(Resets):
    change = staticmethod(lambda observation: observation["state"])


class Narrow(Resets):
    change = staticmethod(lambda observation: {"state": observation["state"][:, :2]})


class Double(Resets):
    change = staticmethod(lambda observation: {"state": observation["state"].astype(np.float64)})


class Listed(Resets):
    change = staticmethod(lambda observation: {"state": observation["state"].tolist()})


class Infinite(Resets):
    change = staticmethod(lambda observation: {"state": observation["state"] / np.float32(0) * 0})


class Steps(Walk):
    """Returns what `change` makes of a step."""

    change = staticmethod(lambda step: step)

    def step(self, action, active_N):
        return self.change(super().step(action, active_N))


class Nothing(Steps):
    change = staticmethod(lambda step: None)


class WholeRewards(Steps):
    change = staticmethod(lambda step: msgspec.structs.replace(step, reward_N=np.ones(2, np.int64)))


class NoNumber(Steps):
    change = staticmethod(lambda step: msgspec.structs.replace(step, reward_N=np.full(2, np.nan, np.float32)))


class Both(Steps):
    change = staticmethod(lambda step: msgspec.structs.replace(step, terminated_N=ALL, truncated_N=ALL))


class Always(Steps):
    change = staticmethod(lambda step: msgspec.structs.replace(step, terminated_N=ALL))


class MoreColumns(Steps):
    change = staticmethod(lambda step: msgspec.structs.replace(step, statistics_NK=np.zeros((2, 2), np.float32)))


class OtherReasons(Steps):
    change = staticmethod(lambda step: msgspec.structs.replace(step, reasons={2: "out of fuel"}))


class NoText(Steps):
    change = staticmethod(lambda step: msgspec.structs.replace(step, reasons={0: ValueError("out of fuel")}))


class AtItsPace(OwnPace):
    """`Walk`, of whose environments some answer sooner. Returns what `change` makes of `receive`."""

    spec_of = staticmethod(Walk.spec_of)
    change = staticmethod(lambda answered_N, step: (answered_N, step))

    def __init__(self, num_envs, seed, first_index, size=5):
        super().__init__(Walk(num_envs, seed, first_index, size), seed)

    def receive(self, at_least, timeout_s):
        return self.change(*super().receive(at_least, timeout_s))


class Talks(Walk):
    """Its `send` and `receive` are no halves of a step."""

    def send(self, message):
        pass

    def receive(self):
        pass


class Waits(AtItsPace):
    def receive(self, at_least, timeout_s):
        self.vector.waiting_N[1] = True
        return super().receive(at_least, timeout_s)


class ShowsWhatIsNew(AtItsPace):
    """In a new array each time."""

    def receive(self, at_least, timeout_s):
        answered_N, step = super().receive(at_least, timeout_s)
        new = {"state": np.where(answered_N[:, None], step.observation["state"], np.float32(0))}
        return answered_N, msgspec.structs.replace(step, observation=new)


class StepAlone(AtItsPace):
    change = staticmethod(lambda answered_N, step: step)


class Numbers(AtItsPace):
    change = staticmethod(lambda answered_N, step: (np.flatnonzero(answered_N), step))


class Unasked(AtItsPace):
    change = staticmethod(lambda answered_N, step: (ALL, step))


class NoStep(AtItsPace):
    change = staticmethod(lambda answered_N, step: (answered_N, None))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Absent", "Absent: cannot be imported (module 'tests.envs.test_own' has no attribute 'Absent')."),
        ("RIGHT", "RIGHT: must be a class that implements mineonline.VectorEnv."),
        ("NoSpec", "NoSpec: has no method spec_of. What it needs: mineonline/envs/own.py."),
        ("WrongSpec", "WrongSpec: spec_of returned {'state': (4,)}, but must return a mineonline.EnvSpec."),
        ("DoubleSpec", "spec_of: state is float64, but an observation is one of uint8, int64, float32, bool."),
        ("TasksUntold", "with several tasks, there must be an observation 'task', an int64 of shape ()."),
        ("TasksCountMore", "task 'zero' counts ('zeros', 'cows'), which must all be in `statistics`."),
        ("NeedsMore", "NeedsMore does not take them (missing a required argument: 'colour')."),
    ],
)  # fmt: skip
def test_a_class_that_cannot_be_used_is_named_before_anything_starts(kind, expected):
    with pytest.raises(ConfigError) as error:
        env_spec(config_for(f"{__name__}.{kind}", size=3), None)
    assert expected in str(error.value)


def start(kind):
    env, first_N = build(kind), np.array([True, False])
    env.reset(ALL)
    if hasattr(env, "send"):
        env.send(RIGHT, first_N)
        env.receive(1, 1.0)
    else:
        env.step(RIGHT, first_N)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Forgets", "Forgets: its constructor must set waiting_N."),
        ("OtherSpec", "OtherSpec: its spec is EnvSpec("),
        ("OtherCount", "OtherCount: its num_envs is 1, but it was asked for 2."),
        ("Unnamed", "Unnamed: the observation of reset has ['vector'], but must be a dict of ['state']."),
        ("Bare", "the observation of reset is a ndarray, but must be a dict of ['state']."),
        ("Narrow", "Narrow: in the observation of reset, state is float32 [2, 2], but must be float32 [2, 4]."),
        ("Double", "Double: in the observation of reset, state is float64 [2, 4], but must be float32 [2, 4]."),
        ("Listed", "state is a list, but must be a numpy array."),
        ("Infinite", "state has numbers that are not finite."),
        ("PlaysAThird", "PlaysAThird: the observation 'task' is [0 2], but must be 0 to 1."),
        ("WandersToAThird", "WandersToAThird: the observation 'task' is [0 2], but must be 0 to 1."),
        ("Nothing", "Nothing: step returned None, but must return a mineonline.Step."),
        ("WholeRewards", "reward_N is int64 [2], but must be float32 [2]."),
        ("NoNumber", "reward_N has numbers that are not finite."),
        ("Both", "environment 0 is both terminated and truncated; give one of them."),
        ("Always", "environment 1 has ended, but it was not active."),
        ("MoreColumns", "statistics_NK is float32 [2, 2], but must be float32 [2, 1]."),
        ("OtherReasons", "the reasons of step are {2: 'out of fuel'}, but must be a dict of environment (0 to 1) -> t"),
        ("NoText", "the reasons of step are {0: ValueError('out of fuel')}, but must be a dict of environment (0 to"),
        ("StepAlone", "StepAlone: receive returned a Step, but must return who has answered, and a Step."),
        ("Numbers", "in what receive returned, answered_N is int64 [1], but must be bool [2]."),
        ("Waits", "environment 1 is in waiting_N, but was not reset."),
        ("Unasked", "environment 1 has answered, but was sent no action."),
        ("NoStep", "NoStep: receive's step returned None, but must return a mineonline.Step."),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
def test_an_environment_that_breaks_its_promise_is_told_in_one_sentence(kind, expected):
    with pytest.raises(EnvError) as error:
        start(kind)
    assert f"env._target_={__name__}.{kind}: " in str(error.value)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def play(env, steps):
    rows = [env.reset(np.ones(env.num_envs, np.bool_))["state"].copy()]
    for t in range(steps):
        step = env.step({"move": np.full(env.num_envs, t % 4)}, np.ones(env.num_envs, np.bool_))
        assert isinstance(step, Step)
        ended_N = step.terminated_N | step.truncated_N
        rows.append(step.observation["state"].copy())
        if ended_N.any():
            env.reset(ended_N)
    return np.stack(rows)


def test_the_examples_episodes_depend_on_the_global_index_and_not_on_n():
    env = build("Walk", num_envs=4)
    assert isinstance(env, OwnEnv)
    together, alone = play(env, 60), play(build("Walk", num_envs=1, first_index=2), 60)
    np.testing.assert_array_equal(together[:, 2], alone[:, 0])


def test_methods_of_the_same_names_with_other_arguments_are_no_halves_of_a_step():
    assert not hasattr(build("Talks"), "send")


@pytest.mark.parametrize("kind", ["AtItsPace", "ShowsWhatIsNew"])
def test_a_class_with_both_halves_of_a_step_plays_the_same_at_its_own_pace(kind):
    env = build(kind)
    shown = env.reset(ALL)
    seen, due_N = [[], []], ALL.copy()
    while min(map(len, seen)) < 12:
        env.send({"move": np.array([len(rows) % 4 for rows in seen])}, due_N)
        before = shown["state"].copy()
        due_N, step = env.receive(1, 1.0)
        shown = step.observation
        np.testing.assert_array_equal(shown["state"][~due_N], before[~due_N])
        ended_N = step.terminated_N | step.truncated_N
        for n in np.flatnonzero(due_N):
            seen[n].append(shown["state"][n].copy())
        if ended_N.any():
            shown = env.reset(ended_N)
    together = play(build("Walk"), 12)[1:]
    for n in range(2):
        np.testing.assert_array_equal(np.stack(seen[n][:12]), together[:, n])


class TakesTask(Walk):
    """Plays a task of mineonline's, which its settings give it."""

    def __init__(self, task, **kwargs):
        super().__init__(**kwargs)

    @staticmethod
    def spec_of(task):
        return EnvSpec({"state": TensorSpec((4,), "float32")}, {"move": 4}, statistics=(task["name"],))


def test_a_class_can_be_given_the_runs_task():
    config = config_of(
        "env=own", f"env._target_={__name__}.TakesTask", "policy=mlp", "task=shoot", "+env.kwargs.task=${task}"
    )
    assert config.task is None
    assert env_spec(config.env, None).statistics == ("shoot",)
