"""gymnasium's environments behind the contract: all their spaces, and everything that can go wrong in them."""

import re
import time

import numpy as np
import pytest
import torch
from gymnasium import spaces

from mineonline.envs.build import build_env, env_spec
from mineonline.envs.contract import ContinuousAction, TensorSpec
from mineonline.envs.gym import GymEnv
from mineonline.envs.settings import GymEnvConfig
from mineonline.envs.spaces import action_reader
from mineonline.errors import ConfigError, EnvError
from tests.helpers.settings import CARTPOLE, config_of
from tests.helpers.synchronous import Synchronous

EVERY = {
    "speed": spaces.Box(-1, 1, (2, 3), np.float64),
    "heat": spaces.Box(-1, 1, ()),
    "steps": spaces.Discrete(3, start=-1),
    "dice": spaces.MultiDiscrete([2, 3], start=[1, 0]),
    "keys": spaces.MultiBinary([2, 2]),
    "camera": spaces.Box(0, 255, (40, 36, 3), np.uint8),
    "colours first": spaces.Box(0, 255, (3, 40, 36), np.uint8),
    "grey": spaces.Box(0, 255, (40, 36), np.uint8),
}


def config(name, *, step_timeout_s=20.0, max_failures=5, **kwargs):
    return GymEnvConfig(id=name, step_timeout_s=step_timeout_s, max_failures=max_failures, kwargs=kwargs)


def given(observation, action=None, num_envs=2):
    kwargs = {"observation_space": observation, "action_space": action}
    return GymEnv(config("tests.helpers.space_envs:Given-v0", **kwargs), num_envs=num_envs, seed=0)


def everyone(env):
    return np.ones(env.num_envs, np.bool_)


def test_every_part_of_an_observation_is_there_under_its_name():
    env = given(spaces.Dict({**EVERY, "inner": spaces.Tuple([spaces.Dict({"x": EVERY["heat"]}), EVERY["steps"]])}))
    shown = env.reset(everyone(env))
    assert env.spec.observation == {
        "speed": TensorSpec((2, 3), "float32"), "heat": TensorSpec((1,), "float32"),
        "steps": TensorSpec((3,), "float32"), "dice": TensorSpec((5,), "float32"),
        "keys": TensorSpec((4,), "float32"), "camera": TensorSpec((40, 36, 3), "uint8"),
        "colours first": TensorSpec((40, 36, 3), "uint8"), "grey": TensorSpec((40, 36), "float32"),
        "inner.0.x": TensorSpec((1,), "float32"), "inner.1": TensorSpec((3,), "float32"),
    }  # fmt: skip
    for _ in range(3):
        for n in range(2):
            last = env._envs[n].unwrapped.last
            for name in ("steps", "dice", "keys"):
                assert np.array_equal(shown[name][n], spaces.flatten(EVERY[name], last[name])), name
            for name in ("speed", "heat", "camera", "grey"):
                assert np.array_equal(shown[name][n], np.reshape(last[name], shown[name][n].shape).astype(np.float32))
            assert np.array_equal(shown["colours first"][n], last["colours first"].transpose(1, 2, 0))
            assert shown["inner.0.x"][n] == last["inner"][0]["x"]
            assert shown["inner.1"][n].argmax() == last["inner"][1] + 1
        shown = env.step({"action": np.zeros(2, np.int64)}, everyone(env)).observation


@pytest.mark.parametrize(("name", "expected"), [("speed", "state"), ("steps", "state"), ("colours first", "image")])
def test_an_observation_of_one_part_keeps_its_old_name(name, expected):
    assert list(given(EVERY[name]).spec.observation) == [expected]


def test_a_space_that_cannot_be_read_names_the_wrapper_that_helps():
    for space in (spaces.Text(5), spaces.Sequence(spaces.Discrete(2))):
        with pytest.raises(ConfigError, match=r"'chat' is .*FilterObservation.*TransformObservation"):
            given(spaces.Dict({"chat": space}))
        with pytest.raises(ConfigError, match=r"'chat' is .*TransformAction"):
            given(EVERY["heat"], spaces.Dict({"chat": space}))
    with pytest.raises(ConfigError, match=r"'a\.b' is the name of two parts"):
        given(spaces.Dict({"a.b": EVERY["heat"], "a": spaces.Dict({"b": EVERY["heat"]})}))
    with pytest.raises(ConfigError, match="leaves nothing to choose"):
        action_reader(spaces.Dict(), "Idle-v0")
    for empty in (spaces.Dict(), spaces.Tuple([])):
        with pytest.raises(ConfigError, match=r"the action 'arm\.left' is (Dict|Tuple)\(\), which holds nothing"):
            action_reader(spaces.Dict({"arm": spaces.Dict({"left": empty}), "grip": spaces.Discrete(2)}), "Idle-v0")


@pytest.mark.parametrize(
    ("space", "specs", "chosen", "expected"),
    [
        (spaces.Discrete(3, start=4), {"action": 3}, {"action": [2, 0]}, [6, 4]),
        (
            spaces.MultiDiscrete([2, 3], start=[1, -1]), {"action0": 2, "action1": 3},
            {"action0": [0, 1], "action1": [2, 0]}, [[1, 1], [2, -1]],
        ),
        (
            spaces.MultiBinary([1, 2]), {"action0": 2, "action1": 2}, {"action0": [0, 1], "action1": [1, 1]},
            [[[0, 1]], [[1, 1]]],
        ),
        (
            spaces.Box(np.array([-1, 0]), np.array([1, np.inf])),
            {"action": ContinuousAction((2,), (-1.0, 0.0), (1.0, None))},
            {"action": np.array([[-7, 7], [0.5, -0.5]], np.float32)}, [[-1, 7], [0.5, 0]],
        ),
        (
            spaces.Box(0, 9, (), np.int32), {"action": ContinuousAction((), (0.0,), (9.0,))},
            {"action": np.array([3.6, 99], np.float32)}, [4, 9],
        ),
        (
            spaces.Dict({"arm": spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)])}),
            {"arm.0": 2, "arm.1.0": 2, "arm.1.1": 2}, {"arm.0": [1, 0], "arm.1.0": [0, 1], "arm.1.1": [1, 0]},
            [{"arm": (1, np.array([0, 1], np.int8))}, {"arm": (0, np.array([1, 0], np.int8))}],
        ),
    ],
)  # fmt: skip
def test_actions_reach_the_environment_as_its_space_says(space, specs, chosen, expected):
    env = given(EVERY["heat"], space)
    assert env.spec.action == specs
    env.reset(everyone(env))
    env.step({name: np.array(column) for name, column in chosen.items()}, everyone(env))
    for n in range(2):
        (got,) = env._envs[n].unwrapped.actions
        assert space.contains(got), got
        assert str(got) == str(expected[n]) if isinstance(space, spaces.Dict) else np.array_equal(got, expected[n])


@pytest.mark.parametrize(("policy", "picture"), [("mlp", False), ("tiny", True)])
def test_a_mixed_action_is_learnt_from_all_parts_of_an_observation(policy, picture, tmp_path):
    learnt = Synchronous(
        config_of(
            "env=gym", "env.id=tests.helpers.space_envs:Mixed-v0", f"+env.kwargs.picture={picture}", f"policy={policy}",
            "iterations=40", "collector.workers=1", "collector.envs_per_worker=16", "fragment.length=16",
            "buffer.fragments_per_iteration=16", "objective.discount=0", "optimizer.learning_rate=3e-3",
            "optimizer.epochs=8", "objective.entropy_coef=0", "video.every=0",
        ),
        folder=tmp_path,
    )  # fmt: skip
    learnt.run()
    assert np.mean(learnt.returns[0]) < 2.0
    assert np.mean(learnt.returns[-1]) > 3.2


def test_the_mean_of_a_continuous_action_goes_to_the_target(tmp_path):
    learnt = Synchronous(
        config_of(
            "env=gym", "env.id=tests.helpers.space_envs:Target-v0", "policy=mlp", "iterations=30",
            "collector.workers=1", "collector.envs_per_worker=16", "fragment.length=16",
            "buffer.fragments_per_iteration=16", "objective.discount=0", "optimizer.learning_rate=3e-3",
            "optimizer.epochs=8", "objective.entropy_coef=0", "video.every=0",
        ),
        folder=tmp_path,
    )  # fmt: skip
    policy = learnt.learner.policy

    def mean():
        with torch.no_grad():
            output = policy({"state": torch.zeros(1, 1, 1)}, torch.zeros(1, 1, dtype=torch.bool), {})
            return float(policy.head.best(output.logits)["action"])

    assert mean() == pytest.approx(5.0, abs=0.5)  # the middle of -10..20
    learnt.run()
    assert mean() == pytest.approx(13.0, abs=1.0)


def faulty(num_envs=3, **settings):
    return GymEnv(config("tests.helpers.odd_envs:Faulty-v0", **settings), num_envs=num_envs, seed=0, first_index=10)


def play(env, active_N=None):
    return env.step({"action": np.zeros(env.num_envs, np.int64)}, everyone(env) if active_N is None else active_N)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("raises", r"KeyError: 'sword' \(odd_envs\.py:\d+\)"),
        ("exits", r"SystemExit: 3 \(odd_envs\.py:\d+\)"),
        ("hangs", r"no answer within env\.step_timeout_s=0\.5 \(odd_envs\.py, misbehave\)"),
        ("spins", r"no answer within env\.step_timeout_s=0\.5 \(odd_envs\.py, misbehave\)"),
        ("nan", r"the observation 'state' is not finite"),
        ("inf", r"the observation 'state' is not finite"),
        ("reward", r"its reward is nan, not a finite number"),
        ("shape", r"the observation 'state' has shape \(1,\), but its space \(2,\)"),
        ("kind", r"the observation 'state' holds <U1, but its space float32"),
        ("few", r"ValueError: not enough values to unpack"),
    ],
)
def test_an_environment_that_fails_costs_its_own_episode_only(kind, reason):
    env = faulty(kind=kind, step_timeout_s=0.5)
    env._envs[1] = None
    env.reset(everyone(env))
    for n in (0, 2):
        env._envs[n].unwrapped.at = 0  # only environment 1 fails
    for _ in range(3):
        step = play(env)
    assert not step.crashed_N.any()
    assert step.reasons == {}
    step = play(env)
    assert step.crashed_N.tolist() == step.truncated_N.tolist() == [False, True, False]
    assert not step.terminated_N.any()
    assert step.reward_N.tolist() == [1, 0, 1]
    assert step.observation["state"].tolist() == [[4, 4], [3, 3], [4, 4]], "the last good observation"
    assert list(step.reasons) == [1]
    assert re.match(reason, step.reasons[1]), step.reasons
    step = play(env, np.array([True, False, True]))
    assert step.observation["state"].tolist() == [[5, 5], [3, 3], [5, 5]]
    assert env.reset(np.array([False, True, False]))["state"].tolist() == [[5, 5], [0, 0], [5, 5]]
    assert not env.waiting_N.any()
    for number in range(1, 4):
        step = play(env)
        assert not step.crashed_N.any()
        assert step.observation["state"][:, 0].tolist() == [5 + number, number, 5 + number]
    env.close()


def test_an_episode_that_cannot_begin_is_tried_again_while_the_others_play():
    env = faulty(num_envs=2, kind="reset", at=3)
    env.reset(everyone(env))
    env._envs[0].unwrapped.at = 0
    for _ in range(3):
        step = play(env)
    assert step.terminated_N.tolist() == [False, True]
    broken = np.array([False, True])
    assert env.reset(broken)["state"].tolist() == [[3, 3], [3, 3]]
    assert env.waiting_N.tolist() == [False, True]
    step = play(env, ~broken)
    assert step.crashed_N.tolist() == [False, True]
    assert "FileNotFoundError: the level is gone" in step.reasons[1]
    assert not step.truncated_N.any(), "no episode was played"
    assert not env.waiting_N.any()
    assert step.observation["state"].tolist() == [[4, 4], [0, 0]]


def test_one_that_never_plays_ends_the_run_after_pauses_with_the_reason():
    began = time.monotonic()
    env = GymEnv(config("tests.helpers.odd_envs:NeverPlays-v0", max_failures=3), num_envs=1, seed=0, first_index=7)
    env.reset(everyone(env))
    for _ in range(2):
        assert play(env).crashed_N[0]
        env.reset(everyone(env))
        while env.waiting_N[0]:
            assert not play(env, ~env.waiting_N).crashed_N[0]
    with pytest.raises(EnvError, match=r"environment 7 failed 3 times .*the sky has fallen .*\(odd_envs\.py:\d+\)"):
        play(env)
    assert time.monotonic() - began > 1.0, "there was no pause after the second"


def test_the_failures_of_one_environment_do_not_change_the_episodes_of_another():
    env = faulty(num_envs=2, kind="raises")
    other = GymEnv(config("CartPole-v1"), num_envs=2, seed=0)
    alone = GymEnv(config("CartPole-v1"), num_envs=1, seed=0, first_index=1)
    other.reset(everyone(other))
    other._envs[0].step = lambda action: 1 / 0
    alone.reset(everyone(alone))
    for _ in range(60):
        both, one = play(other), play(alone)
        assert np.array_equal(both.observation["state"][1], one.observation["state"][0])
        ended_N = both.terminated_N | both.truncated_N
        if ended_N.any():
            other.reset(ended_N)
        if ended_N[1]:
            alone.reset(everyone(alone))
    env.close()


def test_what_cannot_be_made_is_named_before_anything_starts():
    with pytest.raises(EnvError, match=r"env\.id=tests\.helpers\.odd_envs:Faulty-v0: it cannot be made\. TypeError"):
        env_spec(config("tests.helpers.odd_envs:Faulty-v0", colour=3), None)


def test_gym_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match=r"env\.step_timeout_s=0: must be more than 0 seconds"):
        config_of(*CARTPOLE, "env.step_timeout_s=0")
    with pytest.raises(ConfigError, match=r"env\.max_failures=0: must be at least 1"):
        config_of(*CARTPOLE, "env.max_failures=0")
    with pytest.raises(ConfigError, match=r"collector\.batch_timeout_s=120: .*3 x env\.step_timeout_s = 150 s"):
        config_of(*CARTPOLE, "env.step_timeout_s=50")


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["policy=mlp"], r"policy=mlp reads vectors, but the environment shows a picture \('camera'\)"),
        (["policy=tiny"], r"shows 2 \(camera, colours first\)\. Bring a policy of your own: policy=own"),
    ],
)
def test_policies_say_what_they_cannot_read(overrides, complaint):
    from mineonline.policies.build import build_policy

    spec = given(spaces.Dict(EVERY)).spec
    with pytest.raises(ConfigError, match=complaint):
        build_policy(config_of(*CARTPOLE, *overrides), spec)


def test_the_environments_of_a_configuration_are_these():
    settings = config_of(*CARTPOLE)
    env = build_env(settings.env, None, seed=0, num_envs=2, first_index=0)
    assert isinstance(env, GymEnv)
    assert env.spec == env_spec(settings.env, None)
