"""Bodies move as in Minecraft 1.16."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mineonline.envs.actions import encode_camera
from mineonline.envs.world.blocks import BLOCK_ID
from tests.helpers.flat_world import GROUND, MIDDLE, a_task, cells, flat_env, press, put_block

GOLDEN = json.loads((Path(__file__).parent / "golden-physics.json").read_text())
KEYS = {"walk": ["forward"], "sprint": ["forward", "sprint"], "jump": ["jump"]}


@pytest.mark.parametrize("motion", KEYS)
def test_positions_agree_with_prismarine_physics_tick_by_tick(motion):
    env = flat_env()
    player = env.world.player[0]
    # the reference starts without the speed that gravity gives to a body at rest
    player["yaw"], player["vy"] = -180.0, 0.0
    for x, y, z in GOLDEN[motion]:
        press(env, *KEYS[motion])
        here = player["x"] - MIDDLE, player["y"] - GROUND + 60, player["z"] - MIDDLE
        np.testing.assert_allclose(here, (x, y, z), atol=1e-9)


@pytest.mark.parametrize(("keys", "metres_a_second"), [(["forward"], 4.3172), (["forward", "sneak"], 1.2952),
                                                      (["forward", "sprint"], 5.6123)])  # fmt: skip
def test_paces_are_minecrafts(keys, metres_a_second):
    env = flat_env()
    press(env, *keys, decisions=40)
    before = env.world.player[0]["z"]
    press(env, *keys, decisions=20)
    assert env.world.player[0]["z"] - before == pytest.approx(metres_a_second, abs=1e-3)


def test_left_and_right_are_where_a_player_sees_them():
    env = flat_env()
    press(env, "right", decisions=10)
    # a player that looks south has west on its right
    assert env.world.player[0]["x"] < MIDDLE
    press(env, "left", decisions=30)
    assert env.world.player[0]["x"] > MIDDLE + 1


def test_a_wall_stops_and_a_jump_gets_onto_one_block_but_not_onto_two():
    env = flat_env()
    for right in (-1, 0, 1):
        put_block(env, "stone", right=right, ahead=2)
        put_block(env, "stone", right=right, ahead=4)
        put_block(env, "stone", right=right, up=1, ahead=4)
        put_block(env, "stone", right=right, up=2, ahead=4)
    press(env, "forward", decisions=40)
    player = env.world.player[0]
    assert player["z"] == pytest.approx(MIDDLE + 2 - 0.3)
    press(env, "forward", "jump", decisions=60)
    assert MIDDLE + 3 < player["z"] <= MIDDLE + 4 - 0.3 + 1e-9
    assert player["y"] < GROUND + 2.3


def platform():
    """The player stands on a pillar, five blocks above the ground."""
    env = flat_env()
    put_block(env, "stone", up=4)
    env.world.player[0]["y"] = GROUND + 5
    return env


def test_a_sneaking_player_does_not_fall_off_an_edge_and_a_walking_one_does():
    sneaking, walking = platform(), platform()
    for keys in (["forward"], ["forward", "right"], ["left"], ["back"]):
        press(sneaking, "sneak", *keys, decisions=40)
        assert sneaking.world.player[0]["y"] == GROUND + 5
    press(walking, "forward", decisions=40)
    assert walking.world.player[0]["y"] == GROUND


def test_a_fall_of_five_blocks_costs_two_hp_and_one_of_three_costs_nothing():
    env = platform()
    press(env, "forward", decisions=30)
    assert env.world.player[0]["health"] == 18
    env = flat_env()
    env.world.player[0]["y"], env.world.player[0]["on_ground"] = GROUND + 3, 0
    press(env, decisions=30)
    assert env.world.player[0]["health"] == 20


def test_a_deadly_fall_terminates_and_does_not_truncate():
    env = flat_env()
    env.world.player[0]["y"], env.world.player[0]["on_ground"] = GROUND + 23.5, 0
    ended = None
    for _ in range(100):
        step = press(env)
        if step.terminated_N[0] or step.truncated_N[0]:
            ended = step
            break
    assert ended.terminated_N[0]
    assert not ended.truncated_N[0]
    assert env.infos()[0]["custom"]["deaths"] == 1


def in_a_lake():
    env = flat_env()
    cells(env)[:, :, GROUND - 6 : GROUND] = BLOCK_ID["water"]
    env.world.player[0]["y"], env.world.player[0]["on_ground"] = GROUND - 4, 0
    return env


def test_water_slows_a_fall_and_a_held_jump_swims_up():
    env = in_a_lake()
    player = env.world.player[0]
    press(env, decisions=10)
    assert 0 < GROUND - 4 - player["y"] < 0.5
    press(env, "jump", decisions=60)
    assert player["y"] > GROUND - 1.5
    assert player["health"] == 20


def test_a_walker_in_water_is_slower_than_on_land():
    env = in_a_lake()
    press(env, "forward", decisions=20)
    assert 0.5 < env.world.player[0]["z"] - MIDDLE - 0.5 < 2.5


def test_who_stays_under_water_drowns_and_that_terminates():
    env = in_a_lake()
    cells(env)[:, :, GROUND:] = BLOCK_ID["water"]
    for _ in range(800):
        step = press(env)
        if step.terminated_N[0]:
            break
    assert step.terminated_N[0]
    assert env.world.player[0]["tick"] > 300


def test_the_edge_of_the_world_is_a_wall():
    env = flat_env()
    env.world.player[0]["z"] = 62.0
    press(env, "forward", decisions=60)
    assert env.world.player[0]["z"] == pytest.approx(64 - 0.3)


def test_the_view_stops_straight_up_and_straight_down():
    env = flat_env()
    press(env, camera=encode_camera(10, 5).item(), decisions=12)
    assert env.world.player[0]["pitch"] == 90
    press(env, camera=encode_camera(0, 5).item(), decisions=30)
    assert env.world.player[0]["pitch"] == -90


def test_the_camera_class_counts_only_where_the_camera_button_is_on():
    env = flat_env()
    off = {"buttons": np.zeros(1, np.int64), "camera": np.array([encode_camera(5, 10)])}
    env.step(off, np.ones(1, np.bool_))
    assert env.world.player[0]["yaw"] == 0
    press(env, camera=encode_camera(5, 10).item())
    assert env.world.player[0]["yaw"] == pytest.approx(10)


def test_a_decision_of_four_ticks_walks_four_ticks_and_turns_once():
    one, four = flat_env(), flat_env(a_task(action_repeat=4))
    turn = encode_camera(7, 8).item()
    press(one, "forward", camera=turn)
    press(one, "forward", decisions=3)
    press(four, "forward", camera=turn)
    for field in ("x", "y", "z", "yaw", "pitch", "tick"):
        assert one.world.player[0][field] == four.world.player[0][field]
    assert four.world.player[0]["yaw"] == pytest.approx(3.21536913)


def test_yaw_wraps_around():
    env = flat_env()
    press(env, camera=encode_camera(5, 10).item(), decisions=20)
    assert env.world.player[0]["yaw"] == pytest.approx(-160)
    assert math.isfinite(env.world.player[0]["x"])
