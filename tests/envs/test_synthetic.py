"""env=synthetic: nothing but pictures that change and steps that last as long as they should."""

import time

import numpy as np
import pytest

from mineonline.envs.build import build_env, env_spec
from mineonline.errors import ConfigError
from mineonline.policies.build import build_policy
from tests.helpers.settings import config_of


def new(num_envs, *overrides, seed=0, first_index=0, stagger=True):
    config = config_of("env=synthetic", *overrides)
    return build_env(config.env, config.task, seed=seed, num_envs=num_envs, first_index=first_index, stagger=stagger)


def everything(num_envs):
    return np.ones(num_envs, np.bool_)


def step(env, active_N=None):
    none = {name: np.zeros(env.num_envs, np.int64) for name in env.spec.action}
    return env.step(none, everything(env.num_envs) if active_N is None else np.array(active_N))


def played(env, steps):
    """Picture, reward, end and statistics of each environment in each step: `[N]` lists."""
    seen = [[image.tobytes()] for image in env.reset(everything(env.num_envs))["image"]]
    for _ in range(steps):
        result = step(env)
        assert not result.terminated_N.any()
        assert np.isfinite(result.reward_N).all()
        for n, rows in enumerate(seen):
            row = result.reward_N[n], result.truncated_N[n], result.statistics_NK[n].tolist()
            rows.append((result.observation["image"][n].tobytes(), *row))
        if result.truncated_N.any():
            env.reset(result.truncated_N)
    return seen


def test_episodes_follow_from_seed_index_and_count_however_many_stand_beside_each_other():
    short = "env.episode_decisions=20"
    together = played(new(3, short, first_index=4), 70)
    for n in range(3):
        assert played(new(1, short, first_index=4 + n), 70)[0] == together[n]
    assert len({rows[0] for rows in together}) == 3
    assert played(new(3, short, first_index=4, seed=1), 70) != together


def test_pictures_change_with_every_step_and_an_environment_that_is_not_active_stands_still():
    env = new(2)
    before = env.reset(everything(2))["image"].copy()
    for _ in range(3):
        result = step(env, [False, True])
        assert np.array_equal(result.observation["image"][0], before[0])
        assert not np.array_equal(result.observation["image"][1], before[1])
        assert result.reward_N[0] == 0
        before = result.observation["image"].copy()
    assert result.statistics_NK.tolist() == [[0], [3]]


def test_episodes_are_truncated_at_their_length_and_the_first_ones_are_staggered():
    lengths = []
    for stagger in (False, True):
        ends = [row[2] for row in played(new(1, "env.episode_decisions=20", stagger=stagger, first_index=3), 60)[0][1:]]
        lengths.append(np.diff(np.flatnonzero([True, *ends])).tolist())
    assert lengths[0] == [20, 20, 20]
    assert lengths[1][0] < 20
    assert set(lengths[1][1:]) == {20}


def slept(monkeypatch, env, steps):
    """How long each step slept, in seconds; measured times would depend on the machine."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    env.reset(everything(env.num_envs))
    for _ in range(steps):
        step(env)
    return waits


def test_steps_take_the_given_time_and_all_environments_of_a_worker_wait_at_the_same_time(monkeypatch):
    assert slept(monkeypatch, new(2), 10) == []
    assert slept(monkeypatch, new(4, "env.step_ms=50", stagger=False), 10) == pytest.approx([0.05] * 10)
    long = ["env.step_ms=50", "env.jitter=0.5", "env.episode_decisions=2000"]
    alone = [slept(monkeypatch, new(1, *long, stagger=False, first_index=n), 2000) for n in range(4)]
    assert np.mean(alone) == pytest.approx(0.05, rel=0.03)
    assert np.std(np.log(alone)) == pytest.approx(0.5, rel=0.03)
    assert slept(monkeypatch, new(4, *long, stagger=False), 2000) == pytest.approx(np.max(alone, axis=0))


def test_a_step_really_waits():
    env = new(2, "env.step_ms=20")
    env.reset(everything(2))
    began, cpu = time.monotonic(), time.process_time()
    for _ in range(10):
        step(env)
    assert time.monotonic() - began >= 0.2
    assert time.process_time() - cpu < 0.2


@pytest.mark.parametrize("settings", [[], ["policy=vpt", "policy.size=mini", "env.image_size=[128,128]"]])
def test_policies_for_minecraft_play_it(settings):
    config = config_of("env=synthetic", *settings)
    build_policy(config, env_spec(config.env, config.task))


@pytest.mark.parametrize("key", ["env.step_ms", "env.jitter", "env.episode_decisions"])
def test_numbers_below_their_range_are_named(key):
    with pytest.raises(ConfigError, match=f"{key}=-1: must be"):
        config_of("env=synthetic", f"{key}=-1")


@pytest.mark.program
def test_it_trains(start, tmp_path):
    run = start(
        "env=synthetic", "env.step_ms=1", "env.jitter=0.5", "iterations=2", "env.episode_decisions=20",
        f"run_dir={tmp_path}/run",
    )  # fmt: skip
    assert run.wait() == 0, run.output
    assert "finished after 2 iterations" in run.output
