"""gymnasium's environments in processes: the same episodes as in one process, and what can go wrong in a process."""

import re
import signal
import time

import numpy as np
import psutil
import pytest

from mineonline.envs.build import build_env
from mineonline.envs.gym import GymEnv
from mineonline.envs.gym_pool import GymPool
from mineonline.envs.settings import GymEnvConfig
from mineonline.errors import ConfigError, EnvError
from tests.helpers.programs import LIMIT_S, wait_until


def config(name, *, step_timeout_s=LIMIT_S, max_failures=5, **kwargs):
    return GymEnvConfig(id=name, step_timeout_s=step_timeout_s, max_failures=max_failures, kwargs=kwargs)


@pytest.fixture
def open_pool():
    opened = []

    def build(chosen, num_envs=2, first_index=0):
        pool = GymPool(chosen, num_envs=num_envs, seed=0, first_index=first_index)
        opened.append(pool)
        begin(pool, everyone(pool))
        return pool

    yield build
    processes = [slot.process.process.pid for pool in opened for slot in pool.slots if slot.process]
    folders = [slot.process.scratch for pool in opened for slot in pool.slots if slot.process]
    for pool in opened:
        pool.close()
    assert not any(map(psutil.pid_exists, processes))
    assert not any(folder.exists() for folder in folders)


def everyone(env):
    return np.ones(env.num_envs, np.bool_)


def begin(env, which_N):
    """Reset these environments and wait until their episodes have begun."""
    shown = env.reset(which_N)
    deadline = time.monotonic() + LIMIT_S
    while env.waiting_N.any():
        assert time.monotonic() < deadline, "no episode has begun"
        nothing = {name: np.zeros(env.num_envs, np.int64) for name in env.spec.action}
        shown = env.step(nothing, np.zeros(env.num_envs, np.bool_)).observation
    return shown


def actions_of(env, dice):
    return {
        name: dice.integers(spec, size=env.num_envs)
        if isinstance(spec, int)
        else dice.normal(size=(env.num_envs, *spec.shape)).astype(np.float32)
        for name, spec in env.spec.action.items()
    }


@pytest.mark.parametrize("name", ["CartPole-v1", "tests.helpers.space_envs:Mixed-v0"])
def test_episodes_are_those_of_environments_in_one_process(open_pool, name):
    pool = open_pool(config(name), first_index=3)
    alone = GymEnv(config(name), num_envs=2, seed=0, first_index=3)
    seen = begin(alone, everyone(alone))
    shown = pool.step({}, np.zeros(2, np.bool_)).observation
    assert pool.spec == alone.spec
    dice = np.random.default_rng(0)
    ends = 0
    for _ in range(80):
        for part, array in seen.items():
            np.testing.assert_array_equal(shown[part], array)
        action = actions_of(alone, dice)
        one, other = alone.step(action, everyone(alone)), pool.step(action, everyone(pool))
        for part in ("reward_N", "terminated_N", "truncated_N", "crashed_N"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
        seen, shown = one.observation, other.observation
        ended_N = one.terminated_N | one.truncated_N
        ends += ended_N.sum()
        if ended_N.any():
            seen, shown = begin(alone, ended_N), begin(pool, ended_N)
    assert ends
    alone.close()


def play(env, active_N=None):
    return env.step({"action": np.zeros(env.num_envs, np.int64)}, everyone(env) if active_N is None else active_N)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("raises", r"KeyError: 'sword' \(odd_envs\.py:\d+\)"),
        ("exits", r"SystemExit: 3 \(odd_envs\.py:\d+\)"),
        ("hangs", r"no answer within env\.step_timeout_s=2"),
        ("nan", r"the observation 'state' is not finite"),
        ("reward", r"its reward is nan, not a finite number"),
        ("shape", r"the observation 'state' has shape \(1,\), but its space \(2,\)"),
        ("few", r"ValueError: not enough values to unpack"),
    ],
)
def test_an_environment_that_fails_costs_its_own_episode_only(open_pool, kind, reason):
    pool = open_pool(
        config("tests.helpers.odd_envs:Faulty-v0", kind=kind, step_timeout_s=2 if kind == "hangs" else 600)
    )
    first = np.array([True, False])
    for _ in range(3):  # environment 0 comes to its step 4 first
        assert not play(pool, first).crashed_N.any()
    step = play(pool)
    assert step.crashed_N.tolist() == step.truncated_N.tolist() == [True, False]
    assert step.reward_N.tolist() == [0, 1]
    assert step.observation["state"].tolist() == [[3, 3], [1, 1]], "the last good observation"
    assert re.match(reason, step.reasons[0]), step.reasons
    begin(pool, first)
    for number in (1, 2):
        step = play(pool)
        assert not step.crashed_N.any()
        assert step.observation["state"][:, 0].tolist() == [number, 1 + number]


def test_one_that_is_stuck_in_c_code_or_killed_is_replaced_too(open_pool):
    pool = open_pool(config("tests.helpers.odd_envs:Stuck-v0", at=2, step_timeout_s=2))
    assert not play(pool).crashed_N.any()
    step = play(pool)
    assert step.crashed_N.tolist() == [True, True]
    begin(pool, everyone(pool))
    victim = pool.slots[1].process.process
    victim.send_signal(signal.SIGKILL)
    wait_until(lambda: victim.poll() is not None)
    step = play(pool)
    assert step.crashed_N.tolist() == step.truncated_N.tolist() == [False, True]
    assert step.reasons == {1: "its process ended"}


def test_an_episode_that_cannot_begin_is_not_tried_again(open_pool):
    chosen = config("tests.helpers.odd_envs:BadLevels-v0", max_failures=50)
    pool = open_pool(chosen, num_envs=4)
    same = GymEnv(chosen, num_envs=4, seed=0)
    levels = pool.step({"action": np.zeros(4, np.int64)}, np.zeros(4, np.bool_)).observation["state"].tolist()
    assert levels == begin(same, everyone(same))["state"].tolist()
    same.close()


def test_what_an_environment_has_started_ends_with_its_process(open_pool):
    pool = open_pool(config("tests.helpers.odd_envs:StartsAProgram-v0", at=2, step_timeout_s=2))
    first = [int(pid) for pid in play(pool).observation["state"][:, 0]]
    assert all(map(psutil.pid_exists, first))
    assert play(pool).crashed_N.all()
    wait_until(lambda: not any(map(psutil.pid_exists, first)))


def test_the_long_log_of_a_talkative_environment_is_emptied_when_an_episode_begins(open_pool):
    pool = open_pool(config("tests.helpers.odd_envs:StartsAProgram-v0", talks=2**21))
    log = pool.slots[0].process.scratch / "output.log"
    play(pool)
    play(pool)
    assert log.stat().st_size > 2**20
    begin(pool, everyone(pool))
    assert log.stat().st_size == 0


def test_one_that_dies_between_two_actions_fails_in_the_second(open_pool):
    pool = open_pool(config("CartPole-v1"))
    victim = pool.slots[1].process.process
    victim.send_signal(signal.SIGKILL)
    wait_until(lambda: victim.poll() is not None)
    pool.send({"action": np.zeros(2, np.int64)}, np.array([True, False]))
    answered_N, step = pool.receive(1, LIMIT_S)  # it is heard of no more, and nothing is asked of it
    assert answered_N.tolist() == [True, False]
    assert step.reasons == {}
    step = play(pool)
    assert step.crashed_N.tolist() == step.truncated_N.tolist() == [False, True]
    assert step.reasons == {1: "its process ended"}


def test_one_that_never_plays_ends_the_run_with_the_reason(open_pool):
    pool = open_pool(config("tests.helpers.odd_envs:NeverPlays-v0", max_failures=2), num_envs=1, first_index=7)
    assert play(pool).crashed_N[0]
    begin(pool, everyone(pool))
    with pytest.raises(EnvError, match=r"environment 7 failed 2 times .*the sky has fallen .*\(odd_envs\.py:\d+\)"):
        play(pool)


def test_what_only_the_user_can_fix_is_raised_at_once():
    with pytest.raises(ConfigError, match="gymnasium has no such environment"):
        GymPool(config("NoSuchGame-v0"), num_envs=1, seed=0)


def test_the_answers_come_as_they_are_ready(open_pool):
    """Two halves: environment 0 answers while 1 takes its time."""
    pool = open_pool(config("tests.helpers.odd_envs:Sleeps-v0", ms=1))
    pool.slots[1].process.process.send_signal(signal.SIGSTOP)
    pool.send({"action": np.zeros(2, np.int64)}, everyone(pool))
    answered_N, step = pool.receive(1, LIMIT_S)
    assert answered_N.tolist() == [True, False]
    assert step.observation["state"].tolist() == [[1, 1], [0, 0]]
    answered_N, _ = pool.receive(1, 0.1)
    assert not answered_N.any()
    pool.send({"action": np.zeros(2, np.int64)}, np.array([True, False]))
    answered_N, step = pool.receive(1, LIMIT_S)
    assert answered_N.tolist() == [True, False]
    pool.slots[1].process.process.send_signal(signal.SIGCONT)
    answered_N, step = pool.receive(5, LIMIT_S)
    assert answered_N.tolist() == [False, True]
    assert step.observation["state"].tolist() == [[2, 2], [1, 1]]


def test_slow_games_get_processes_by_themselves():
    slow, quick = config("tests.helpers.odd_envs:Sleeps-v0", ms=25), config("CartPole-v1")
    for chosen, own_pace, expected in ((slow, True, GymPool), (slow, False, GymEnv), (quick, True, GymEnv)):
        env = build_env(chosen, None, seed=0, num_envs=1, first_index=0, own_pace=own_pace)
        assert isinstance(env, expected)
        env.close()


def test_a_game_that_fails_while_it_is_tried_fails_as_it_would_later():
    fails = config("tests.helpers.odd_envs:NeverPlays-v0")
    assert isinstance(build_env(fails, None, seed=0, num_envs=1, first_index=0, own_pace=True), GymEnv)
    hangs = config("tests.helpers.odd_envs:Faulty-v0", kind="hangs", step_timeout_s=1)
    env = build_env(hangs, None, seed=0, num_envs=1, first_index=0, own_pace=True)
    assert isinstance(env, GymPool)
    env.close()
