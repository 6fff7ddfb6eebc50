"""Which environment plays which task, and that it plays it as if it were alone."""

from collections import Counter

import msgspec
import numpy as np
import pytest

from mineonline.envs.build import build_env, env_spec
from mineonline.envs.task_mix import TaskMix
from mineonline.envs.world import MixedWorlds, WorldEnv
from tests.helpers.settings import config_of
from tests.helpers.shipped_tasks import shipped

HUNT, CHOP, SHOOT = (
    msgspec.structs.replace(shipped(name), action_repeat=4, time_limit_ticks=24)
    for name in ("hunt_cow", "chop_tree", "shoot")
)
SIZE = (40, 36)


def mix_of(weights, lasts="run", tasks=(CHOP, HUNT)):
    return TaskMix(tasks, weights, lasts)


def worlds(mix, num_envs=4, first_index=0, **settings):
    return MixedWorlds(mix, num_envs=num_envs, image_size=SIZE, seed=5, first_index=first_index, **settings)


def some_actions(draw, num_envs):
    return {"buttons": draw.integers(8641, size=num_envs), "camera": draw.integers(121, size=num_envs)}


def all_of(env):
    return np.ones(env.num_envs, np.bool_)


@pytest.mark.parametrize("weights", [(1, 1), (2, 1), (3, 2), (2, 4), (1, 7)])
@pytest.mark.parametrize("first", [0, 5, 1 << 40])
def test_every_stretch_of_environments_has_its_exact_shares(weights, first):
    mix = mix_of(weights)
    period = len(mix.turns)
    for start in range(first, first + period):
        found = Counter(mix.index_of(0, env, episode=9) for env in range(start, start + period))
        assert found[0] * weights[1] == found[1] * weights[0]
        # as evenly as that allows: no stretch of environments is further from its share than by less than one
        for length in range(1, period):
            part = Counter(mix.index_of(0, env, 0) for env in range(start, start + length))
            assert abs(part[0] - length * weights[0] / sum(weights)) <= 1


def test_workers_and_collectors_share_one_row_of_environments():
    mix = mix_of((2, 1))
    whole = [mix.index_of(0, env, 0) for env in range(12)]
    parts = [worlds(mix, num_envs=2, first_index=first) for first in range(0, 12, 2)]
    assert [int(k) for env in parts for k in env.reset(all_of(env))["task"]] == whole
    assert Counter(whole) == {0: 8, 1: 4}


def test_a_task_drawn_for_an_episode_follows_from_seed_environment_and_episode():
    mix = mix_of((3, 1), "episode")
    drawn = [mix.index_of(seed, env, episode) for seed in range(4) for env in range(25) for episode in range(40)]
    again = [mix.index_of(seed, env, episode) for seed in range(4) for env in range(25) for episode in range(40)]
    assert drawn == again
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.03)  # more than four standard deviations of 4000 draws
    by_env = np.reshape(drawn, (4, 25, 40))
    assert by_env.std(2).min() > 0  # every environment plays both
    assert len({tuple(row) for row in by_env.reshape(100, 40)}) == 100  # and each has draws of its own


@pytest.mark.parametrize("stagger", [False, True])
def test_a_world_that_keeps_its_task_plays_what_it_would_play_alone(stagger):
    mix = mix_of((1, 2))
    both = worlds(mix, num_envs=3, first_index=7, stagger=stagger)
    alone = [WorldEnv(task, num_envs=3, image_size=SIZE, seed=5, first_index=7, stagger=stagger) for task in mix.tasks]
    task_N = both.reset(all_of(both))["task"].copy()
    for env in alone:
        env.reset(all_of(env))
    assert sorted(set(task_N.tolist())) == [0, 1]
    draw, ended = np.random.default_rng(0), 0
    for _ in range(16):
        action = some_actions(draw, 3)
        step, steps = both.step(action, all_of(both)), [env.step(action, all_of(env)) for env in alone]
        for n, k in enumerate(task_N.tolist()):
            names = mix.tasks[k].statistics()
            counted = {name: step.statistics_NK[n, both.spec.statistics.index(name)] for name in names}
            assert np.array_equal(step.observation["image"][n], steps[k].observation["image"][n])
            assert step.reward_N[n] == steps[k].reward_N[n]
            assert step.truncated_N[n] == steps[k].truncated_N[n]
            assert list(counted.values()) == steps[k].statistics_NK[n].tolist()
        over_N = step.terminated_N | step.truncated_N
        ended += over_N.sum()
        seen = both.reset(over_N) if over_N.any() else step.observation
        for k, env in enumerate(alone):
            over = steps[k].terminated_N | steps[k].truncated_N
            if over.any():
                env.reset(over)
        assert seen["task"].tolist() == task_N.tolist()
    assert ended >= 6


def test_the_task_of_a_world_changes_only_when_an_episode_begins():
    env = worlds(mix_of((1, 1), "episode"), num_envs=4)
    task_N = env.reset(all_of(env))["task"].copy()
    draw, played = np.random.default_rng(1), [set(), set(), set(), set()]
    for _ in range(60):
        step = env.step(some_actions(draw, 4), all_of(env))
        assert step.observation["task"].tolist() == task_N.tolist()  # the last observation is the ended episode's
        over_N = step.terminated_N | step.truncated_N
        if over_N.any():
            task_N = env.reset(over_N)["task"].copy()
        for n in range(4):
            played[n].add(int(task_N[n]))
    assert played == [{0, 1}] * 4


def test_a_world_that_stands_still_earns_nothing_and_shows_its_last_observation():
    env = worlds(mix_of((1, 1)), num_envs=2)
    before = env.reset(all_of(env))["image"].copy()
    step = env.step(some_actions(np.random.default_rng(2), 2), np.array([True, False]))
    assert not np.array_equal(step.observation["image"][0], before[0])
    assert np.array_equal(step.observation["image"][1], before[1])
    assert (step.reward_N[1], step.terminated_N[1], step.truncated_N[1]) == (0, False, False)


def test_what_a_policy_is_told_is_part_of_the_spec():
    mix = mix_of((1, 1))
    env = worlds(mix)
    assert env.spec.tasks == {task.name: task.statistics() for task in (CHOP, HUNT)}
    assert set(env.spec.statistics) == {*CHOP.statistics(), *HUNT.statistics()}
    assert (env.spec.observation["task"].shape, env.spec.observation["task"].dtype) == ((), "int64")
    assert "task_vector" not in env.spec.observation


def test_a_vector_in_the_tasks_files_is_shown_to_the_policy():
    tasks = tuple(
        msgspec.structs.replace(task, vector=vector)
        for task, vector in ((CHOP, (0.5, -1.0)), (HUNT, (2.0, 3.0)))
    )  # fmt: skip
    env = worlds(mix_of((1, 1), tasks=tasks), num_envs=2)
    assert env.spec.observation["task_vector"].shape == (2,)
    seen = env.reset(all_of(env))
    assert seen["task_vector"].tolist() == [list(tasks[k].vector) for k in seen["task"]]
    assert seen["task_vector"].dtype == np.float32


def test_a_worker_makes_worlds_only_for_the_tasks_that_it_plays():
    mix = mix_of((1, 1, 1), tasks=(CHOP, HUNT, SHOOT))
    assert sorted(worlds(mix, num_envs=1, first_index=1).parts) == [1]
    assert sorted(worlds(mix_of((1, 1), "episode"), num_envs=1).parts) == [0, 1]


def test_settings_lead_to_mixed_worlds():
    config = config_of("tasks={hunt_cow: 2, chop_tree: 1}")
    env = build_env(config.env, config.played, seed=0, num_envs=3, first_index=0)
    assert env.spec == env_spec(config.env, config.played)
    assert list(env.spec.tasks) == ["chop_tree", "hunt_cow"]
    assert Counter(env.reset(all_of(env))["task"].tolist()) == {0: 1, 1: 2}
