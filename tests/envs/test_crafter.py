"""Crafter behind the contract: episodes follow from their seed, how they end, and the score."""

import subprocess
import sys

import numpy as np
import pytest

from mineonline.envs.build import build_env, env_spec
from mineonline.envs.crafter import ACHIEVEMENTS, ACTIONS, CrafterEnv, score
from mineonline.errors import ConfigError
from mineonline.policies.build import build_policy
from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import ROOT, config_of

NOOP, DO = ACTIONS.index("noop"), ACTIONS.index("do")


def new(num_envs, *, length=10000, seed=0, first_index=0):
    return CrafterEnv(num_envs=num_envs, length=length, seed=seed, first_index=first_index)


def everything(num_envs):
    return np.ones(num_envs, np.bool_)


def choices(index, steps):
    return np.random.default_rng(index).integers(0, len(ACTIONS), steps)


def played(env, steps, first_index=0):
    """Every picture, reward and end of each environment, across deaths and new episodes: `[N]` lists of `steps`."""
    plans = [choices(first_index + n, steps) for n in range(env.num_envs)]
    env.reset(everything(env.num_envs))
    seen = [[] for _ in plans]
    for t in range(steps):
        step = env.step({"action": np.array([plan[t] for plan in plans])}, everything(env.num_envs))
        ended_N = step.terminated_N | step.truncated_N
        for n, rows in enumerate(seen):
            statistics = step.statistics_NK[n].tolist()
            rows.append((step.observation["image"][n].tobytes(), float(step.reward_N[n]), ended_N[n], statistics))
        if ended_N.any():
            env.reset(ended_N)
    return seen


def test_episodes_are_the_same_however_many_environments_stand_beside_each_other():
    together = played(new(3, length=150, first_index=4), 320, first_index=4)
    assert all(sum(ended for _, _, ended, _ in rows) >= 2 for rows in together)
    # this changes memory addresses, which decide the order of Crafter's own sets
    clutter = [[object() for _ in range(50)] for _ in range(100)]
    for n in (2, 1):
        assert played(new(1, length=150, first_index=4 + n), 320, first_index=4 + n)[0] == together[n], n
    del clutter


def test_environments_seeds_and_episodes_have_worlds_of_their_own():
    one, other = new(2), new(1, seed=1)
    pictures = [*one.reset(everything(2))["image"].copy(), *other.reset(everything(1))["image"].copy()]
    pictures += [*one.reset(everything(2))["image"].copy()]
    assert len({picture.tobytes() for picture in pictures}) == 5


def test_environments_that_are_not_active_stand_still():
    env = new(2)
    before = env.reset(everything(2))["image"].copy()
    for _ in range(5):
        step = env.step({"action": np.array([DO, ACTIONS.index("move_left")])}, np.array([False, True]))
    assert np.array_equal(step.observation["image"][0], before[0])
    assert not np.array_equal(step.observation["image"][1], before[1])
    assert step.reward_N[0] == 0


def test_health_0_is_a_death_even_at_the_time_limit_and_the_time_limit_alone_a_cut():
    env = new(2, length=3)
    env.reset(everything(2))
    for _ in range(2):
        step = env.step({"action": np.array([NOOP, NOOP])}, everything(2))
        assert not (step.terminated_N | step.truncated_N).any()
    env._envs[0]._player.health = 0
    step = env.step({"action": np.array([NOOP, NOOP])}, everything(2))
    assert step.terminated_N.tolist() == [True, False]
    assert step.truncated_N.tolist() == [False, True]
    assert step.reward_N[0] == pytest.approx(-0.9)


def test_an_achievement_counts_from_its_first_time_to_the_end_of_the_episode():
    env = new(1)
    env.reset(everything(1))
    column = {name: k for k, name in enumerate(env.spec.statistics)}
    env._envs[0]._player.inventory["sapling"] = 1
    place = {"action": np.array([ACTIONS.index("place_plant")])}
    for action in (place, {"action": np.array([NOOP])}):
        step = env.step(action, everything(1))
        assert step.statistics_NK[0, column["achievement/place_plant"]] == 1
        assert step.statistics_NK[0, column["achievements"]] == 1 == step.statistics_NK[0, 1:].sum()
        assert step.reward_N[0] == (1 if action is place else 0)
    env.reset(everything(1))
    assert not env.step(place, everything(1)).statistics_NK.any()


def test_looking_at_an_environment_does_not_change_it():
    plain, watched = new(1), new(1)
    for env in (plain, watched):
        env.reset(everything(1))
        env._envs[0]._step = 250  # night, when pictures have noise
    for action in choices(0, 20):
        step = {"action": np.array([action])}
        pictures = [env.step(step, everything(1)).observation["image"] for env in (plain, watched)]
        assert np.array_equal(*pictures)
        assert watched.render(0, 180, 90).shape == (90, 180, 3)


def test_the_score_is_that_of_the_paper():
    assert score([0.0] * 22) == 0
    assert score([1.0] * 22) == pytest.approx(100)
    rates = np.linspace(0, 1, len(ACHIEVEMENTS))
    product = 1.0
    for rate in rates:
        product *= (1 + 100 * rate) ** (1 / len(rates))
    assert score(rates) == pytest.approx(product - 1)


def test_it_composes_with_the_policies_for_pictures_and_no_other():
    for name in ("tiny", "nature"):
        config = config_of("env=crafter", f"policy={name}")
        policy = build_policy(config, env_spec(config.env, config.task))
        assert policy.head.linear.out_features == len(ACTIONS)
    with pytest.raises(ConfigError, match=r"env=crafter shows pictures. Use policy=tiny."):
        config_of("env=crafter", "policy=mlp")
    with pytest.raises(ConfigError, match=r"env.time_limit_steps=0: must be at least 1."):
        config_of("env=crafter", "env.time_limit_steps=0")
    config = config_of("env=crafter", "env.time_limit_steps=1")
    env = build_env(config.env, config.task, seed=0, num_envs=1, first_index=0)
    env.reset(everything(1))
    assert env.step({"action": np.array([NOOP])}, everything(1)).truncated_N.all()


@pytest.mark.program
def test_without_its_package_the_error_says_what_to_type(tmp_path):
    (tmp_path / "crafter.py").write_text("raise ModuleNotFoundError('No module named crafter', name='crafter')\n")
    found = subprocess.run(
        [sys.executable, "-m", "mineonline.train", "env=crafter", f"run_dir={tmp_path}/run"],
        env={"PATH": "", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert found.returncode != 0
    assert "env=crafter: the package crafter is missing. Install it with  pip install -e '.[crafter]'" in found.stderr
    assert "Traceback" not in found.stderr
