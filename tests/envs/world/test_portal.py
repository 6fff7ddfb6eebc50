"""The portal score is MineStudio's, and its rise is the reward."""

import importlib

import numpy as np
import pytest

from mineonline.envs.world.blocks import BLOCK_ID
from mineonline.envs.world.portal import portal_score
from mineonline.envs.world.state import OFF_HAND
from tests.helpers.flat_world import GROUND, MIDDLE, a_task, cells, flat_env, give, press

OBSIDIAN = BLOCK_ID["obsidian"]
# across and up, from the lowest corner
FRAME = [(a, u) for a in range(4) for u in range(5) if a in (0, 3) or u in (0, 4)]


@pytest.fixture(scope="module")
def minestudios():
    """MineStudio's GateRewardsCallback."""
    np.unicode_ = np.str_  # its simulator was written for numpy 1
    callbacks = importlib.import_module("minestudio.simulator.callbacks")
    return callbacks.GateRewardsCallback()


def portal_env():
    return flat_env(a_task(rewards=[], portal_reward=True))


def score(env):
    return portal_score(env.world.block[0], env.world.player[0])


def build(env, places, *, along_x, at=(0, 0, 2)):
    x, y, z = MIDDLE + at[0], GROUND + at[1], MIDDLE + at[2]
    for across, up in places:
        cells(env)[x + across * along_x, z + across * (not along_x), y + up] = OBSIDIAN


@pytest.mark.parametrize("along_x", [True, False])
def test_a_whole_frame_is_worth_sixteen_less_a_tenth_a_block(along_x):
    env = portal_env()
    assert score(env) == 0
    build(env, FRAME, along_x=along_x)
    assert score(env) == pytest.approx(14 + 2 - 0.1 * 14)
    build(env, [(1, 1)], along_x=along_x)
    assert score(env) == pytest.approx(14 + 2 - 1 - 0.1 * 15)


def random_places(dice):
    """Part of a frame, with stray blocks around it."""
    env = portal_env()
    kept = [place for place in FRAME if dice.random() < 0.8]
    at = dice.integers(-8, 6, 3) * [1, 0.5, 1]
    build(env, kept, along_x=bool(dice.integers(2)), at=at.astype(int))
    for x, y, z in dice.integers(-9, 10, (dice.integers(0, 30), 3)):
        cells(env)[MIDDLE + x, MIDDLE + z, max(0, GROUND + y)] = OBSIDIAN
    player = env.world.player[0]
    player["x"], player["y"], player["z"] = np.array([MIDDLE, GROUND, MIDDLE]) + dice.uniform(-3, 3, 3)
    return env


def test_it_is_minestudios_score_on_random_arrangements(minestudios):
    dice = np.random.default_rng(0)
    scores = []
    for _ in range(150):
        env = random_places(dice)
        info = env.infos(voxels=(-7, 7, -7, 7, -7, 7))[0]
        scores.append(score(env))
        assert scores[-1] == minestudios.gate_reward(info)
    assert min(scores) == 0
    assert max(scores) > 9


def test_what_is_at_the_edge_of_the_world_does_not_matter(minestudios):
    env = portal_env()
    player = env.world.player[0]
    player["x"], player["y"], player["z"] = 0.5, 31.0, 63.5
    cells(env)[0:4, 63, 27:32] = OBSIDIAN
    assert score(env) == minestudios.gate_reward(env.infos(voxels=(-7, 7) * 3)[0]) > 0


def test_each_tick_pays_by_what_the_score_went_up_and_takes_back_what_it_went_down():
    env = portal_env()
    assert env.spec.statistics == ("portal_score",)
    build(env, FRAME[:5], along_x=True)
    step = press(env)
    assert step.reward_N[0] == pytest.approx(4.5)
    assert step.statistics_NK.tolist() == [[4.5]]
    assert press(env).reward_N[0] == 0
    env.world.player[0]["z"] -= 20
    step = press(env)
    assert step.reward_N[0] == pytest.approx(-4.5)
    assert step.statistics_NK.tolist() == [[0]]


def test_a_decision_of_several_ticks_pays_for_all_of_them():
    env = flat_env(a_task(portal_reward=True, action_repeat=4))
    build(env, FRAME, along_x=False)
    assert env.spec.statistics == ("kill_entity/cow", "portal_score")
    step = press(env)
    assert step.reward_N[0] == pytest.approx(14.6)
    np.testing.assert_allclose(step.statistics_NK, [[0, 14.6]], rtol=1e-6)


def test_the_score_begins_anew_with_each_episode():
    env = portal_env()
    build(env, FRAME, along_x=True)
    press(env)
    env.reset(np.ones(1, np.bool_))
    step = press(env)
    assert step.reward_N[0] == 0
    assert step.statistics_NK.tolist() == [[0]]


def test_a_player_who_places_obsidian_in_a_row_is_paid_for_each_block():
    env = portal_env()
    give(env, "diamond_pickaxe")
    give(env, "obsidian", 64, OFF_HAND)
    player = env.world.player[0]
    paid = []
    # on the ground two blocks ahead, then one block ahead, then on top of that one
    for pitch in (40.0, 29.0, 25.0):
        player["pitch"] = pitch
        paid.append(press(env, "use").reward_N[0])
        press(env)
    assert paid == pytest.approx([0.9, 0.9, 0.9])
    assert env.infos()[0]["use_item"] == {"obsidian": 3}
