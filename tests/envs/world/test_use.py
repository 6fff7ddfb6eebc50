"""The use button: blocks that are placed, and the bow."""

import numpy as np
import pytest

from mineonline.envs.world.blocks import BLOCK_ID, ITEM_ID
from mineonline.envs.world.state import FLYING, OFF_HAND, SIZE, STUCK
from tests.helpers.flat_world import GROUND, MIDDLE, a_task, cells, flat_env, give, press, put_block, put_mob


def block_at(env, *, right=0, up=0, ahead=0):
    return cells(env)[MIDDLE - right, MIDDLE + ahead, GROUND + up]


def builder(item="obsidian", count=64, slot=0):
    """A player that looks at the ground two blocks ahead."""
    env = flat_env()
    give(env, item, count, slot)
    env.world.player[0]["pitch"] = 40.0
    return env


# ---- placing


def test_a_block_goes_onto_the_face_that_is_looked_at_counts_and_leaves_the_hand():
    env = builder()
    press(env, "use")
    assert block_at(env, ahead=2) == BLOCK_ID["obsidian"]
    info = env.infos()[0]
    assert info["use_item"] == {"obsidian": 1}
    assert info["inventory"][0] == {"type": "obsidian", "quantity": 63}


def test_a_block_goes_against_a_side():
    env = builder()
    put_block(env, "stone", up=1, ahead=3)
    env.world.player[0]["pitch"] = 0.0
    press(env, "use")
    assert block_at(env, up=1, ahead=2) == BLOCK_ID["obsidian"]


def before_a_wall():
    """Room for three blocks, one in front of another, at eye height."""
    env = builder()
    put_block(env, "stone", up=1, ahead=4)
    env.world.player[0]["pitch"] = 0.0
    return env


@pytest.mark.parametrize(("held", "placed"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_button_that_is_held_places_every_fourth_tick(held, placed):
    env = before_a_wall()
    press(env, "use", decisions=held)
    assert env.infos()[0]["use_item"] == {"obsidian": placed}


def test_each_press_places_at_once():
    env = before_a_wall()
    for placed in (1, 2, 3):
        press(env, "use")
        assert env.infos()[0]["use_item"] == {"obsidian": placed}
        press(env)


def test_the_main_hand_goes_before_the_off_hand():
    env = builder("dirt")
    give(env, "obsidian", 64, OFF_HAND)
    press(env, "use")
    assert block_at(env, ahead=2) == BLOCK_ID["dirt"]
    assert env.world.slot[0, OFF_HAND]["count"] == 64


def test_a_tool_has_no_use_and_leaves_it_to_the_off_hand():
    env = builder("diamond_pickaxe", 1)
    give(env, "obsidian", 64, OFF_HAND)
    press(env, "use")
    assert block_at(env, ahead=2) == BLOCK_ID["obsidian"]
    assert env.world.slot[0, OFF_HAND]["count"] == 63


def test_no_block_is_placed_in_the_players_body():
    env = builder()
    env.world.player[0]["pitch"] = 90.0
    press(env, "use", decisions=10)
    assert block_at(env) == BLOCK_ID["air"]
    # but one is placed under it while it jumps high enough
    press(env, "use", "jump", decisions=8)
    assert block_at(env) == BLOCK_ID["obsidian"]


def test_no_block_is_placed_in_an_animals_body():
    env = flat_env(mobs=1)
    give(env, "obsidian", 64)
    env.world.player[0]["pitch"] = 50.0
    # the front of its body is in the cell for the block, its back beyond, and the view passes below
    mob = put_mob(env, ahead=1.9)
    env.world.player[0]["sneaking"] = 1
    mob["y"] = GROUND + 0.9
    press(env, "use", "sneak")
    assert block_at(env, ahead=1) == BLOCK_ID["air"]
    mob["x"] += 10
    press(env)
    press(env, "use", "sneak")
    assert block_at(env, ahead=1) == BLOCK_ID["obsidian"]


@pytest.mark.parametrize(("ahead", "placed"), [(5, True), (6, False)])
def test_blocks_are_placed_within_reach_only(ahead, placed):
    env = builder()
    put_block(env, "stone", up=1, ahead=ahead)
    env.world.player[0]["pitch"] = 0.0
    press(env, "use")
    assert (block_at(env, up=1, ahead=ahead - 1) == BLOCK_ID["obsidian"]) == placed


def test_a_block_replaces_water():
    env = builder()
    put_block(env, "water", ahead=2)
    press(env, "use")
    assert block_at(env, ahead=2) == BLOCK_ID["obsidian"]


def test_the_last_block_empties_the_hand_and_nothing_more_is_placed():
    env = builder(count=1)
    press(env, "use", decisions=20)
    info = env.infos()[0]
    assert info["inventory"][0] == {"type": "none", "quantity": 0}
    assert info["use_item"] == {"obsidian": 1}


def test_who_mines_does_not_place():
    env = builder("diamond_pickaxe", 1)
    give(env, "obsidian", 64, OFF_HAND)
    press(env, "attack", "use", decisions=3)
    assert env.infos()[0]["use_item"] == {}


def test_what_is_placed_is_seen_throws_a_shade_and_can_be_mined_again():
    env = builder()
    before = env.render(0, 64, 48)
    press(env, "use")
    env.world.player[0]["swing"] = 0
    seen = env.render(0, 64, 48)
    assert (seen[20:28, 28:36].astype(int).sum() - before[20:28, 28:36].astype(int).sum()) < -3000
    assert env.world.roof[0].reshape(SIZE, SIZE)[MIDDLE, MIDDLE + 2] == GROUND
    give(env, "diamond_pickaxe")
    press(env, "attack", decisions=187)
    assert block_at(env, ahead=2) == BLOCK_ID["obsidian"]
    press(env, "attack")
    assert block_at(env, ahead=2) == BLOCK_ID["air"]
    assert env.infos()[0]["mine_block"] == {"obsidian": 1}


# ---- the bow


def archer(arrows=10, mobs=0, **changes):
    env = flat_env(a_task(mobs=[{"name": "sheep", "number": mobs}] if mobs else [], **changes))
    give(env, "bow")
    if arrows:
        give(env, "arrow", arrows, slot=5)
    return env


def shoot(env, ticks):
    press(env, "use", decisions=ticks)
    press(env)
    return env.world.arrow[0, 0]


@pytest.mark.parametrize("ticks", [4, 10, 15, 20, 40])
def test_an_arrow_is_as_fast_as_its_bow_was_drawn_long(ticks):
    env = archer()
    arrow = shoot(env, ticks)
    drawn = min(1.0, ((ticks / 20) ** 2 + 2 * ticks / 20) / 3)
    # one tick of air drag; the spread is 0.75 % of the speed along each axis
    assert np.hypot(arrow["vx"], arrow["vz"]) == pytest.approx(3 * drawn * 0.99, rel=0.03)
    assert arrow["state"] == FLYING
    assert bool(arrow["critical"]) == (ticks >= 20)
    info = env.infos()[0]
    assert info["use_item"] == {"bow": 1}
    assert info["inventory"][5]["quantity"] == 9
    assert info["equipped_items"]["mainhand"] == {"type": "bow", "damage": 1, "maxDamage": 384}


def test_arrows_in_the_off_hand_are_shot_first():
    env = archer()
    give(env, "arrow", 3, slot=OFF_HAND)
    shoot(env, 20)
    assert env.world.slot[0, OFF_HAND]["count"] == 2
    assert env.infos()[0]["inventory"][5]["quantity"] == 10


def test_a_bow_that_was_hardly_drawn_does_not_shoot():
    env = archer()
    # reaching a power of a tenth takes between two and three ticks
    assert shoot(env, 2)["state"] == 0
    assert env.infos()[0]["inventory"][5]["quantity"] == 10
    assert shoot(env, 3)["state"] == FLYING


def test_a_bow_without_arrows_is_not_drawn():
    env = archer(arrows=0)
    press(env, "use", decisions=10)
    assert env.world.player[0]["draw_slot"] == -1
    press(env)
    assert env.infos()[0]["use_item"] == {}


def test_who_changes_hands_lets_the_bow_go_without_a_shot():
    env = archer()
    press(env, "use", decisions=20)
    press(env, "use", "hotbar.2")
    press(env)
    assert (env.world.arrow[0]["state"] == 0).all()
    assert env.infos()[0]["use_item"] == {}


def test_who_draws_a_bow_walks_slowly_and_does_not_strike():
    env = archer(mobs=1)
    sheep = put_mob(env, "sheep")
    env.world.player[0]["pitch"] = 15.0
    press(env, "use")
    press(env, "use", "attack", decisions=3)
    assert sheep["health"] == 8
    sheep["x"] += 20
    press(env, "use", "forward", decisions=30)
    before = env.world.player[0]["z"]
    press(env, "use", "forward", decisions=20)
    assert env.world.player[0]["z"] - before == pytest.approx(0.2 * 4.3172, abs=0.01)


def test_arrows_fall_as_minecrafts_do():
    env = archer()
    env.world.player[0]["pitch"] = -30.0
    arrow = shoot(env, 20)
    position, speed = np.array([arrow[a] for a in "xyz"]), np.array([arrow[f"v{a}"] for a in "xyz"])
    for _ in range(10):
        press(env)
        position, speed = position + speed, speed * 0.99 - [0, 0.05, 0]
        np.testing.assert_allclose([arrow[a] for a in "xyz"], position, atol=1e-9)


def test_an_arrow_sticks_in_a_block_is_picked_up_and_counts():
    env = archer()
    put_block(env, "stone", up=1, ahead=8)
    put_block(env, "stone", up=0, ahead=8)
    put_block(env, "stone", up=2, ahead=8)
    arrow = shoot(env, 20)
    press(env, decisions=5)
    assert arrow["state"] == STUCK
    assert arrow["z"] == pytest.approx(MIDDLE + 8, abs=0.1)
    press(env, "forward", decisions=40)
    assert arrow["state"] == 0
    info = env.infos()[0]
    assert info["pickup"] == {"arrow": 1}
    assert info["inventory"][5]["quantity"] == 10


def test_an_arrow_whose_block_is_taken_away_falls():
    env = archer()
    put_block(env, "stone", up=1, ahead=8)
    arrow = shoot(env, 20)
    press(env, decisions=5)
    assert arrow["state"] == STUCK
    height = arrow["y"].copy()
    put_block(env, "air", up=1, ahead=8)
    press(env, decisions=20)
    assert arrow["y"] < height - 0.5


def test_a_fully_drawn_bow_kills_a_sheep_in_two_shots_at_most_and_is_paid_for():
    paid = {"event": "kill_entity", "objects": ["sheep"], "reward": 5.0, "max_reward_times": 30}
    env = archer(mobs=1, rewards=[paid])
    sheep = put_mob(env, "sheep", ahead=8.0)
    env.world.player[0]["pitch"] = 3.0
    returned, shots = 0.0, 0
    while sheep["health"] > 0 and shots < 2:
        shots += 1
        press(env, "use", decisions=20)
        sheep["x"], sheep["y"], sheep["z"] = MIDDLE + 0.5, GROUND, MIDDLE + 8.5
        for _ in range(6):
            returned += press(env).reward_N[0]
        assert sheep["health"] <= 2
    assert returned == 5.0
    info = env.infos()[0]
    assert info["kill_entity"] == {"sheep": 1}
    assert info["damage_dealt"] == {"sheep": 8}
    assert info["custom"]["mob_kills"] == 1


def test_the_hit_of_an_arrow_is_twice_its_speed_rounded_up():
    env = archer(mobs=1)
    sheep = put_mob(env, "sheep", ahead=2.5)
    # ten ticks draw to a power of five twelfths: 1.25 blocks per tick, which cost 3 hp
    shoot(env, 10)
    press(env, decisions=3)
    assert 8 - sheep["health"] == 3


def test_the_bow_breaks_after_384_shots():
    env = archer()
    env.world.slot[0, 0]["wear"] = 383
    shoot(env, 20)
    info = env.infos()[0]
    assert info["break_item"] == {"bow": 1}
    assert info["inventory"][0] == {"type": "none", "quantity": 0}


def test_a_bow_is_not_worn_by_blows_and_mining():
    env = archer(mobs=1)
    put_mob(env, "sheep")
    env.world.player[0]["pitch"] = 15.0
    press(env, "attack")
    env.world.player[0]["pitch"] = 80.0
    press(env, "attack", decisions=40)
    assert env.world.slot[0, 0]["wear"] == 0
    assert env.infos()[0]["mine_block"]["grass_block"] >= 1


def test_an_arrow_is_seen():
    env = archer()
    put_block(env, "stone", up=1, ahead=3)
    env.world.player[0]["pitch"] = 0.0
    before = env.render(0, 128, 128)
    arrow = shoot(env, 20)
    press(env, decisions=10)
    assert arrow["state"] == STUCK
    # around the crosshair, away from the hand
    changed = (env.render(0, 128, 128) != before).any(axis=-1)[40:90, 40:80]
    assert 3 < changed.sum() < 400


def test_the_item_of_the_off_hand_is_seen_on_the_left():
    env = flat_env()
    before = env.render(0, 128, 128)
    env.world.slot[0, OFF_HAND]["item"], env.world.slot[0, OFF_HAND]["count"] = ITEM_ID["obsidian"], 64
    changed = (env.render(0, 128, 128) != before).any(axis=(0, 2))
    assert changed[4:23].all()
    assert not changed[27:].any()
