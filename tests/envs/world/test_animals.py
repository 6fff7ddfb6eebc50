"""Blows, and how animals react to them."""

import numpy as np
import pytest

from mineonline.envs.names import MOBS
from mineonline.envs.world.blocks import ITEM_ID
from mineonline.envs.world.combat import blow_strength
from mineonline.envs.world.mobs import BODY
from tests.helpers.flat_world import GROUND, MIDDLE, a_task, flat_env, press, put_block, put_mob


def hunter(tool="iron_sword", **where):
    env = flat_env(mobs=1, tool=tool)
    # the eyes are above a cow's back
    env.world.player[0]["pitch"] = 15.0
    return env, put_mob(env, **where)


@pytest.mark.parametrize(("tool", "hp"), [(None, 1), ("iron_sword", 6), ("diamond_sword", 7), ("iron_axe", 9),
                                          ("wooden_pickaxe", 2), ("stone_shovel", 3.5)])  # fmt: skip
def test_a_rested_blow_has_the_full_strength_of_its_weapon(tool, hp):
    env, cow = hunter(tool)
    press(env, "attack")
    assert cow["health"] == pytest.approx(10 - hp)
    assert env.infos()[0]["damage_dealt"] == {"cow": pytest.approx(hp)}


@pytest.mark.parametrize("ticks", [0, 3, 8, 12, 13, 40])
def test_a_blow_grows_with_the_square_of_the_rest_since_the_last(ticks):
    recovered = min(1.0, (ticks + 0.5) / 12.5)
    assert blow_strength(ITEM_ID["iron_sword"], ticks) == pytest.approx(6 * (0.2 + 0.8 * recovered**2))


def test_two_rested_blows_of_an_iron_sword_kill_a_cow_and_that_counts_drops_and_is_picked_up():
    env, cow = hunter()
    press(env, "attack")
    press(env, decisions=20)
    cow["x"], cow["z"], cow["y"] = MIDDLE + 0.5, MIDDLE + 2.5, GROUND
    step = press(env, "attack")
    assert step.reward_N[0] == 1.0
    info = env.infos()[0]
    assert info["kill_entity"] == {"cow": 1}
    assert info["damage_dealt"] == {"cow": 10}
    assert info["custom"]["damage_dealt"] == 100
    press(env, "forward", decisions=60)
    picked = env.infos()[0]["pickup"]
    assert 1 <= picked["beef"] <= 3
    assert picked.get("leather", 0) <= 2
    assert cow["kind"] == -1


@pytest.mark.parametrize(("ticks", "hurts"), [(1, False), (8, False), (9, True)])
def test_for_ten_ticks_after_a_blow_another_as_hard_does_nothing(ticks, hurts):
    env, cow = hunter()
    press(env, "attack")
    press(env, decisions=ticks)
    cow["x"], cow["y"], cow["z"] = MIDDLE + 0.5, GROUND, MIDDLE + 2.5
    env.world.player[0]["since_blow"] = 100
    press(env, "attack")
    assert cow["health"] == pytest.approx(0 if hurts else 4)


def test_a_harder_blow_in_that_time_counts_by_what_it_is_harder():
    env, cow = hunter(None)
    press(env, "attack")
    press(env)
    env.world.slot[0, 0]["item"], env.world.player[0]["since_blow"] = ITEM_ID["iron_sword"], 100
    press(env, "attack")
    assert cow["health"] == pytest.approx(10 - 6)


def test_holding_the_button_strikes_once():
    env, cow = hunter()
    press(env, "attack", decisions=40)
    assert cow["health"] == pytest.approx(4)


def test_each_decision_of_several_ticks_is_a_fresh_click():
    env = flat_env(a_task(action_repeat=4, mobs=[{"name": "cow", "number": 1}]))
    env.world.player[0]["pitch"] = 15.0
    cow = put_mob(env)
    healths = []
    for _ in range(4):
        press(env, "attack")
        cow["x"], cow["y"], cow["z"] = MIDDLE + 0.5, GROUND, MIDDLE + 2.5
        healths.append(float(cow["health"]))
    # the fist hits in the first decision and again in the fourth: for ten ticks after a hit nothing hurts
    assert healths[0] == healths[1] == 9
    assert healths[3] < 9


def test_a_missed_click_costs_the_strength_of_the_next_blow():
    env, cow = hunter(ahead=8.0)
    press(env, "attack")
    cow["z"] = MIDDLE + 2.5
    press(env)
    press(env, "attack")
    assert 10 - cow["health"] < 2


@pytest.mark.parametrize(("ahead", "hit"), [(3.3, True), (3.4, False)])
def test_a_blow_reaches_three_blocks(ahead, hit):
    # the view points 15 degrees down, and the front of the box is 0.45 nearer than its middle
    env, cow = hunter(ahead=ahead)
    press(env, "attack")
    assert (cow["health"] < 10) == hit


def test_a_block_in_between_protects():
    env, cow = hunter(ahead=2.9)
    put_block(env, "stone", up=1, ahead=1)
    put_block(env, "stone", up=0, ahead=1)
    press(env, "attack")
    assert cow["health"] == 10


def test_a_hit_cow_is_knocked_back_and_flees():
    env, cow = hunter()
    press(env, "attack")
    press(env, decisions=6)
    assert cow["z"] > MIDDLE + 0.5 + 2.0 + 0.8
    assert cow["panic"] > 0
    before = cow["x"].copy(), cow["z"].copy()
    press(env, decisions=40)
    assert np.hypot(cow["x"] - before[0], cow["z"] - before[1]) > 0.5
    press(env, decisions=60)
    assert cow["panic"] == 0


def test_a_hit_cow_looks_red():
    env, _ = hunter()
    before = env.render(0, 64, 48).astype(int)
    press(env, "attack")
    after = env.render(0, 64, 48).astype(int)
    middle = slice(20, 30), slice(26, 38)
    redder = (after[..., 0] - after[..., 1])[middle].mean() - (before[..., 0] - before[..., 1])[middle].mean()
    assert redder > 30


def test_animals_stroll_slowly_and_stay_on_the_ground():
    env = flat_env(mobs=8)
    cows = [put_mob(env, ahead=3.0 * place - 12, place=place) for place in range(8)]
    start = np.array([(cow["x"], cow["z"]) for cow in cows])
    press(env, decisions=600)
    moved = np.hypot(*(np.array([(cow["x"], cow["z"]) for cow in cows]) - start).T)
    assert moved.max() > 1
    assert moved.mean() < 15
    assert all(cow["y"] == GROUND for cow in cows)


@pytest.mark.parametrize(("name", "hp", "remains"), [("pig", 10, "porkchop"), ("sheep", 8, "mutton")])
def test_pigs_and_sheep_have_their_own_health_and_remains(name, hp, remains):
    env, mob = hunter(None, name=name)
    mob["health"], env.world.player[0]["pitch"] = 1.0, 20.0
    press(env, "attack")
    press(env, "forward", decisions=60)
    info = env.infos()[0]
    assert info["kill_entity"] == {name: 1}
    assert remains in info["pickup"]
    assert BODY[MOBS.index(name), 2] == hp


def test_bodies_push_one_another_apart():
    env, cow = hunter(ahead=0.4)
    press(env, decisions=30)
    apart = max(abs(cow["x"] - env.world.player[0]["x"]), abs(cow["z"] - env.world.player[0]["z"]))
    assert apart > 0.7
