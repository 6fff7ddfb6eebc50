"""Blocks take as long to break as in Minecraft, drop what they should, and wear the tool."""

import numpy as np
import pytest

from mineonline.envs.actions import GROUPS
from mineonline.envs.world.blocks import BLOCK_ID
from mineonline.envs.world.tick import live
from tests.helpers.flat_world import GROUND, MIDDLE, a_task, cells, flat_env, give, press, put_block

# seconds from world.md; False: nothing drops
TIMES = [
    ("oak_log", None, 3.0, True), ("oak_log", "wooden_axe", 1.5, True), ("oak_log", "stone_axe", 0.75, True),
    ("oak_log", "iron_axe", 0.5, True), ("oak_log", "diamond_axe", 0.4, True), ("oak_leaves", None, 0.3, False),
    ("grass_block", None, 0.9, True), ("grass_block", "wooden_shovel", 0.45, True), ("dirt", None, 0.75, True),
    ("dirt", "wooden_shovel", 0.4, True), ("stone", None, 7.5, False), ("stone", "wooden_pickaxe", 1.15, True),
    ("stone", "stone_pickaxe", 0.6, True), ("stone", "iron_pickaxe", 0.4, True),
    ("stone", "diamond_pickaxe", 0.3, True),
    ("cobblestone", "wooden_pickaxe", 1.5, True), ("coal_ore", "wooden_pickaxe", 2.3, True),
    ("coal_ore", "stone_pickaxe", 1.15, True), ("iron_ore", "wooden_pickaxe", 7.5, False),
    ("iron_ore", "stone_pickaxe", 1.15, True), ("iron_ore", "iron_pickaxe", 0.75, True),
    ("diamond_ore", "stone_pickaxe", 3.75, False), ("diamond_ore", "iron_pickaxe", 0.75, True),
    ("diamond_ore", "diamond_pickaxe", 0.6, True), ("obsidian", "iron_pickaxe", 41.7, False),
    ("obsidian", "diamond_pickaxe", 9.4, True), ("oak_planks", None, 3.0, True), ("crafting_table", None, 3.75, True),
    ("furnace", "wooden_pickaxe", 2.65, True),
]  # fmt: skip


def facing(block, tool=None, task=None):
    """A player with a block at eye height, one block away."""
    env = flat_env(task, tool=tool if task is None else None)
    if task is not None and tool:
        give(env, tool)
    put_block(env, block, up=1, ahead=2)
    return env


def is_there(env, ahead=2):
    return cells(env)[MIDDLE, MIDDLE + ahead, GROUND + 1] != BLOCK_ID["air"]


def ticks_to_break(env, limit=2000):
    for tick in range(1, limit):
        press(env, "attack")
        if not is_there(env):
            return tick
    return None


@pytest.mark.parametrize(("block", "tool", "seconds", "drops"), TIMES)
def test_break_times_and_drops(block, tool, seconds, drops):
    env = facing(block, tool)
    # the table is 1 / progress per tick; float32 sums reach 1 up to a tick later
    assert abs(ticks_to_break(env) - seconds * 20) <= 1
    assert env.infos()[0]["mine_block"] == {block: 1}
    assert (env.world.drop[0]["item"] != 0).any() == drops


@pytest.mark.parametrize(("block", "ticks"), [("dirt", 15), ("oak_leaves", 6), ("oak_log", 61), ("grass_block", 18)])
def test_progress_adds_up_in_float32(block, ticks):
    assert ticks_to_break(facing(block)) == ticks


def test_bedrock_never_breaks():
    env = facing("bedrock", "diamond_pickaxe")
    press(env, "attack", decisions=400)
    assert is_there(env)


def test_a_block_out_of_reach_is_not_mined():
    env = flat_env()
    put_block(env, "dirt", up=1, ahead=5)
    env.world.player[0]["z"] -= 0.1
    press(env, "attack", decisions=30)
    assert is_there(env, ahead=5)
    env.world.player[0]["z"] += 0.2
    press(env, "attack", decisions=30)
    assert not is_there(env, ahead=5)


def test_progress_is_lost_when_the_button_is_released():
    env = facing("dirt")
    press(env, "attack", decisions=14)
    press(env)
    press(env, "attack", decisions=14)
    assert is_there(env)
    press(env, "attack")
    assert not is_there(env)


def test_progress_is_lost_when_the_target_changes():
    env = facing("dirt")
    put_block(env, "dirt", up=0, ahead=2)
    press(env, "attack", decisions=14)
    env.world.player[0]["pitch"] = 40.0
    press(env, "attack")
    env.world.player[0]["pitch"] = 0.0
    press(env, "attack", decisions=14)
    assert is_there(env)


def test_the_next_block_begins_five_ticks_after_one_broke():
    env = facing("dirt")
    put_block(env, "dirt", up=1, ahead=3)
    press(env, "attack", decisions=15)
    assert not is_there(env)
    press(env, "attack", decisions=5 + 14)
    assert is_there(env, ahead=3)
    press(env, "attack")
    assert not is_there(env, ahead=3)


def test_mining_in_the_air_takes_five_times_as_long():
    env = facing("oak_leaves")
    cells(env)[MIDDLE, MIDDLE, :GROUND] = BLOCK_ID["air"]
    env.world.player[0]["on_ground"] = 0
    before = env.world.player[0]["progress"]
    press(env, "attack")
    assert env.world.player[0]["progress"] - before == pytest.approx(1 / 6 / 5, rel=1e-5)


def test_a_decision_of_several_ticks_lets_go_of_the_block_at_its_end():
    env = facing("oak_log", "iron_axe", a_task(action_repeat=4))
    press(env, "attack", decisions=20)
    assert is_there(env)
    # a block that needs fewer ticks does break: leaves take six
    env = facing("oak_leaves", "iron_axe", a_task(action_repeat=7))
    press(env, "attack")
    assert not is_there(env)


def test_an_attack_that_the_task_holds_mines_through_the_decisions():
    env = facing("oak_log", "iron_axe", a_task(action_repeat=4, actions={"hold": ["attack"]}))
    # half a second is ten ticks: two and a half decisions
    press(env, decisions=2)
    assert is_there(env)
    press(env)
    assert not is_there(env)


def test_what_drops_is_picked_up_once_and_counted():
    env = facing("oak_log", "diamond_axe")
    press(env, "attack", decisions=8)
    assert env.infos()[0]["pickup"] == {}
    press(env, decisions=20)
    press(env, "forward", decisions=20)
    info = env.infos()[0]
    assert info["pickup"] == {"oak_log": 1}
    assert info["inventory"][1] == {"type": "oak_log", "quantity": 1}
    assert not (env.world.drop[0]["item"] != 0).any()


def test_a_full_inventory_leaves_things_on_the_ground():
    env = facing("dirt")
    for slot in range(36):
        give(env, "stone", 64, slot)
    press(env, "attack", decisions=15)
    press(env, decisions=40)
    press(env, "forward", decisions=20)
    assert env.infos()[0]["pickup"] == {}
    assert (env.world.drop[0]["item"] != 0).sum() == 1


def test_things_stack_onto_their_kind():
    env = facing("dirt")
    give(env, "dirt", 63, slot=4)
    press(env, "attack", decisions=15)
    press(env, decisions=20)
    press(env, "forward", decisions=20)
    assert env.infos()[0]["inventory"][4] == {"type": "dirt", "quantity": 64}


def test_a_tool_wears_and_breaks_at_its_last_use():
    env = facing("oak_log", "wooden_axe")
    env.world.slot[0, 0]["wear"] = 58
    assert ticks_to_break(env) == 30
    info = env.infos()[0]
    assert info["break_item"] == {"wooden_axe": 1}
    assert info["use_item"] == {"wooden_axe": 1}
    assert info["inventory"][0] == {"type": "none", "quantity": 0}


def test_water_flows_into_a_hole_beside_it():
    env = facing("dirt")
    put_block(env, "water", up=1, ahead=3)
    press(env, "attack", decisions=15)
    assert cells(env)[MIDDLE, MIDDLE + 2, GROUND + 1] == BLOCK_ID["water"]


def test_the_drop_key_throws_one_item_that_cannot_be_picked_up_at_once():
    env = flat_env()
    give(env, "dirt", 3)
    drop = np.zeros(len(GROUPS), np.int64)
    drop[list(GROUPS).index("drop")] = 1
    live(env.world, 0, drop, 0.0, 0.0, 5)
    info = env.infos()[0]
    # a key that is held down acts once
    assert info["inventory"][0] == {"type": "dirt", "quantity": 2}
    assert info["custom"]["drop"] == 1
    assert info["pickup"] == {}


def test_a_policy_cannot_drop_things_because_minestudio_never_sends_that_key():
    env = flat_env()
    give(env, "dirt", 3)
    press(env, "drop", decisions=5)
    assert env.infos()[0]["inventory"][0] == {"type": "dirt", "quantity": 3}
    assert not (env.world.drop[0]["item"] != 0).any()
