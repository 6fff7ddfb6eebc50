"""Chat commands do to the embedded world what they do to Minecraft, and those that it does not know are refused."""

import numpy as np
import pytest

from mineonline.envs.world import WorldEnv
from mineonline.envs.world.blocks import BLOCK_ID
from mineonline.envs.world.commands import CommandError, parse_command, run_command
from mineonline.envs.world.state import FLYING
from mineonline.errors import ConfigError
from tests.helpers.flat_world import GROUND, MIDDLE, a_task, cells, flat_env, give, press, put_mob


def say(env, *commands):
    for command in commands:
        run_command(env.world, 0, command)


def slots(env):
    """Slot -> (item, count), for the slots that hold something."""
    inventory = env.infos()[0]["inventory"]
    return {s: (stack["type"], stack["quantity"]) for s, stack in inventory.items() if stack["type"] != "none"}


def worn(env):
    return {name: stack["type"] for name, stack in env.infos()[0]["equipped_items"].items() if stack["type"] != "none"}


def test_give_fills_the_first_slots_stack_by_stack_and_is_no_pickup():
    env = flat_env()
    say(env, "/give @p minecraft:bow 1", "/give @p minecraft:arrow 64", "/give @s arrow 100", "/give @a dirt")
    assert slots(env) == {0: ("bow", 1), 1: ("arrow", 64), 2: ("arrow", 64), 3: ("arrow", 36), 4: ("dirt", 1)}
    assert env.infos()[0]["pickup"] == {}


def test_replaceitem_reaches_every_slot_and_replaces_what_is_there():
    env = flat_env()
    env.world.player[0]["hotbar"] = 4
    say(
        env,
        "/replaceitem entity @p weapon.mainhand minecraft:diamond_sword 1",
        "/replaceitem entity @s weapon.offhand minecraft:obsidian 64",
        "/replaceitem entity @p armor.head minecraft:iron_helmet",
        "/replaceitem entity @p armor.feet minecraft:iron_boots",
        "/replaceitem entity @p hotbar.8 stone 3",
        "/replaceitem entity @p inventory.26 dirt 2",
        "/replaceitem entity @p container.9 apple 1",
        "/replaceitem entity @p inventory.0 bread 1",
    )
    assert slots(env) == {4: ("diamond_sword", 1), 8: ("stone", 3), 9: ("bread", 1), 35: ("dirt", 2)}
    assert worn(env) == {"mainhand": "diamond_sword", "offhand": "obsidian", "head": "iron_helmet",
                         "feet": "iron_boots"}  # fmt: skip


def test_summon_puts_a_grown_mob_on_the_ground_below_its_place():
    env = flat_env(mobs=2)
    say(env, "/execute as @p at @p run summon minecraft:sheep ~2.25 ~3 ~-1.5 {Age:0}", "/summon cow 10.5 12 20")
    sheep, cow = env.world.mob[0]
    assert (sheep["x"], sheep["y"], sheep["z"]) == (MIDDLE + 2.75, GROUND, MIDDLE - 1.0)
    assert (cow["x"], cow["y"], cow["z"]) == (10.5, GROUND, 20.5)
    assert [mob["name"] for mob in env.infos(mobs=(-40, 40) * 3)[0]["mobs"]] == ["sheep", "cow"]
    say(env, "/summon pig")
    # there is no room for a third
    assert [mob["name"] for mob in env.infos(mobs=(-40, 40) * 3)[0]["mobs"]] == ["sheep", "cow"]


def test_who_is_summoned_into_a_hill_or_over_water_or_a_tree_stands_on_good_ground_near_by():
    env = flat_env(mobs=3)
    cells(env)[MIDDLE, MIDDLE + 3, GROUND : GROUND + 2] = BLOCK_ID["oak_log"]
    cells(env)[MIDDLE + 3, MIDDLE, GROUND : GROUND + 6] = BLOCK_ID["stone"]
    cells(env)[MIDDLE - 3, MIDDLE, GROUND - 1] = BLOCK_ID["water"]
    say(env, "/summon cow ~3 ~3 ~", "/summon cow ~-3 ~3 ~", "/summon cow ~ ~3 ~3")
    for cow in env.world.mob[0]:
        x, z = int(cow["x"]), int(cow["z"])
        assert cow["y"] == GROUND
        assert cells(env)[x, z, GROUND - 1] == BLOCK_ID["grass_block"]
        assert cells(env)[x, z, GROUND] == BLOCK_ID["air"]
        assert max(abs(x - MIDDLE), abs(z - MIDDLE)) <= 4


def test_setblock_and_fill_count_from_the_player_or_from_the_corner_of_the_world():
    env = flat_env()
    say(env, "/setblock ~2 ~ ~-1 minecraft:obsidian", "/setblock 5 9 6 stone")
    assert cells(env)[MIDDLE + 2, MIDDLE - 1, GROUND] == BLOCK_ID["obsidian"]
    assert cells(env)[5, 6, 9] == BLOCK_ID["stone"]
    say(env, "/fill ~1 ~1 ~1 ~-1 ~ ~3 oak_planks")
    box = cells(env)[MIDDLE - 1 : MIDDLE + 2, MIDDLE + 1 : MIDDLE + 4, GROUND : GROUND + 2]
    assert (box == BLOCK_ID["oak_planks"]).all()
    assert (cells(env) == BLOCK_ID["oak_planks"]).sum() == box.size
    assert env.world.roof[0].reshape(64, 64)[MIDDLE, MIDDLE + 2] == GROUND + 1
    say(env, "/fill ~1 ~2 ~1 ~-1 ~ ~3 dirt keep", "/setblock ~ ~ ~2 air")
    assert (cells(env) == BLOCK_ID["dirt"]).sum() == 9
    assert (box == BLOCK_ID["oak_planks"]).sum() == box.size - 1


def test_a_place_outside_the_world_is_left_alone():
    env = flat_env()
    before = env.world.block.copy()
    say(env, "/setblock 64 5 5 stone", "/fill ~ ~ ~ ~40 ~ ~ stone", "/tp @p 70 9 5")
    np.testing.assert_array_equal(env.world.block, before)
    assert env.world.player[0]["x"] == MIDDLE + 0.5


def test_kill_ends_a_life_and_begins_another_with_nothing_and_counts_but_does_not_end_the_episode():
    env = flat_env()
    give(env, "dirt", 5, slot=7)
    player = env.world.player[0]
    player["hotbar"], player["health"], player["x"] = 3, 4.0, 12.5
    say(env, "/kill")
    assert slots(env) == {}
    assert (player["health"], player["hotbar"]) == (20, 0)
    assert player["x"] == MIDDLE + 0.5
    assert env.infos()[0]["custom"]["deaths"] == 1
    assert not press(env).terminated_N[0]


@pytest.mark.parametrize(("whom", "left"), [("@e[type=!player]", ""), ("@e[type=item]", "arrow cow sheep"),
                                            ("@e[type=minecraft:cow]", "arrow item sheep"),
                                            ("@e[type=!cow]", "cow"), ("@e[type=arrow]", "cow item sheep"),
                                            ("@s", "arrow cow item sheep")])  # fmt: skip
def test_kill_takes_those_that_it_names_without_remains(whom, left):
    env = flat_env(mobs=2)
    put_mob(env, "cow", place=0, ahead=6)
    put_mob(env, "sheep", place=1, ahead=8)
    env.world.drop[0, 3]["item"], env.world.arrow[0, 0]["state"] = 5, FLYING
    say(env, f"/kill {whom}")
    found = [mob["name"] for mob in env.infos(mobs=(-40, 40) * 3)[0]["mobs"]]
    found += ["arrow"] * bool(env.world.arrow[0]["state"].any()) + ["item"] * bool(env.world.drop[0]["item"].any())
    assert " ".join(sorted(found)) == left
    assert env.infos()[0]["kill_entity"] == {}
    assert env.infos()[0]["custom"].get("deaths", 0) == (whom in ("@s", "@e[type=!cow]"))


def natural(seed=0, index=0):
    env = WorldEnv(a_task(), num_envs=1, image_size=(16, 12), seed=seed, first_index=index)
    env.reset(np.ones(1, np.bool_))
    return env


def state_after(env, *commands, ticks=0):
    say(env, *commands)
    press(env, decisions=ticks) if ticks else None
    player = env.world.player[0].copy()
    # these keep counting through a whole mission
    player["tick"] = player["time_limit"] = 0
    return env.world.block[0].copy(), player


def test_teleportbiome_gives_land_that_nothing_decides_but_the_mission_and_the_words():
    fresh, played = natural(), natural()
    press(played, "forward", "jump", "use", camera=17, decisions=50)
    give(played, "dirt", 5)
    words = "/teleportbiome @a desert -312 ~0 77"
    land, player = state_after(fresh, words)
    other_land, other_player = state_after(played, "/time set 0", words)
    np.testing.assert_array_equal(land, other_land)
    assert player == other_player
    assert fresh.infos()[0]["location_stats"]["biome_name"] == "desert"
    # the player keeps its inventory and its counters
    assert slots(played) == {0: ("dirt", 5)}
    assert played.infos()[0]["custom"]["jump"] >= 1
    for command in ("/teleportbiome @a desert -312 ~0 78", "/teleportbiome @a desert -313 ~0 77",
                    "/teleportbiome @a plains -312 ~0 77"):  # fmt: skip
        assert (state_after(fresh, command)[0] != land).any()
    np.testing.assert_array_equal(state_after(fresh, words)[0], land)
    assert (state_after(natural(seed=1), words)[0] != land).any()


def test_who_was_around_stays_behind_when_the_player_teleports():
    env = flat_env(mobs=1)
    put_mob(env)
    env.world.drop[0, 0]["item"] = 3
    say(env, "/teleportbiome @a plains 5 ~0 5")
    assert env.infos(mobs=(-60, 60) * 3)[0]["mobs"] == []
    assert not env.world.drop[0]["item"].any()


def test_tp_effect_and_clear():
    env = flat_env()
    player = env.world.player[0]
    say(env, "/tp @p 20 8 30.25 90 -10")
    assert (player["x"], player["y"], player["z"], player["yaw"], player["pitch"]) == (20.5, 8, 30.25, 90, -10)
    say(env, "/tp ~-1 ~ ~2")
    assert (player["x"], player["z"]) == (19.5, 32.25)
    player["health"] = 5
    say(env, "/effect give @p minecraft:instant_health 1 1")
    assert player["health"] == 13
    say(env, "/effect give @p minecraft:instant_damage")
    assert player["health"] == 7
    give(env, "dirt", 5)
    give(env, "bow", 1, slot=12)
    say(env, "/clear @p minecraft:dirt")
    assert slots(env) == {12: ("bow", 1)}
    say(env, "/clear")
    assert slots(env) == {}


@pytest.mark.parametrize("command", ["/time set 0", "/time set day", "/weather clear", "/weather rain 600",
                                     "/gamerule doDaylightCycle false", "/effect give @a saturation 99999 1 true",
                                     "/effect clear @p"])  # fmt: skip
def test_what_this_world_lacks_is_accepted_and_changes_nothing(command):
    env = flat_env()
    before = [array.copy() for array in env.world]
    say(env, command)
    for now, then in zip(env.world, before, strict=True):
        np.testing.assert_array_equal(now, then)


WRONG = {
    "/gve @p bow": ["'/gve @p bow'", "/give @p ITEM [COUNT]", "/summon MOB"],
    "give @p bow": ["'give @p bow'", "/give @p ITEM"],
    "/": ["'/'", "/give"],
    "/give @p minecraft:bwo": ["'minecraft:bwo'", "not a known item", "bow", "/give @p ITEM [COUNT]"],
    "/give Steve bow": ["'Steve'", "@p, @s, @a"],
    "/give @p bow many": ["'many'", "whole number from 1"],
    "/give @p": ["two or three words", "/give @p ITEM [COUNT]"],
    "/replaceitem entity @p weapon.hat bow": ["'weapon.hat'", "weapon.offhand", "hotbar.0 to 8"],
    "/replaceitem entity @p hotbar.9 bow": ["'hotbar.9'", "hotbar.0 to 8"],
    "/replaceitem entity @p hotbar.1 bow 2": ["a stack of bow is 1 to 1, not 2"],
    "/replaceitem block 1 2 3 container.1 bow": ["'entity'"],
    "/summon minecraft:zombie ~ ~ ~": ["'minecraft:zombie'", "not a known mob", "cow, pig, sheep"],
    "/summon cow ~ ~": ["a mob, its place"],
    "/summon cow ~ ~ ~ {Age:-100}": ["{Age:0}"],
    "/summon cow ~x ~ ~": ["'~x'", "not a valid x"],
    "/setblock ~ ~ ~ lava": ["'lava'", "not a known block", "obsidian"],
    "/setblock ~ ~0.5 1.5 stone": ["'1.5'", "not a valid z"],
    "/fill 1 2 3 4 5 stone": ["6 numbers"],
    "/fill 1 2 3 4 5 6 stone hollow": ["'replace' or 'keep'"],
    "/kill Steve": ["'Steve'", "@e[type=...]"],
    "/kill @e[type=zombie]": ["'zombie'", "type of entity", "item"],
    "/time set soon": ["'soon'"],
    "/weather snow": ["clear, rain or thunder"],
    "/teleportbiome @a nether 1 ~0 1": ["'nether'", "not a known biome", "plains"],
    "/teleportbiome @a plains 1 5 1": ["~0"],
    "/effect give @p wither": ["'wither'", "not a known effect", "instant_health"],
    "/gamerule keepInventory true": ["'keepInventory'", "doDaylightCycle"],
    "/execute as @p run": ["'run' and a command"],
    "/execute as @p at @p run summon wolf": ["'wolf'", "cow"],
}


@pytest.mark.parametrize("command", WRONG)
def test_an_error_repeats_the_command_and_says_what_is_known(command):
    with pytest.raises(CommandError) as error:
        parse_command(command)
    assert command.rpartition("run ")[2] in str(error.value)
    for part in WRONG[command]:
        assert part in str(error.value)


@pytest.mark.parametrize(("changes", "expected"), [
    ({"commands": ["/kill", "/enchant @p sharpness"]}, ["task.commands[1]", "/enchant", "/give @p ITEM"]),
    ({"inventory": [{"slot": 3, "item": "bow", "count": 2}]}, ["task.inventory[0]", "stack of bow", "not 2"]),
    ({"callbacks": [{"_target_": "minestudio.simulator.callbacks.PrevActionCallback"}]},
     ["task.callbacks[0]", "PrevActionCallback", "env=minestudio"]),
])  # fmt: skip
def test_a_task_that_this_world_cannot_play_is_refused_before_it_begins(changes, expected):
    task = a_task(**changes)
    for build in (lambda: WorldEnv.spec_of(task, (16, 12)),
                  lambda: WorldEnv(task, num_envs=1, image_size=(16, 12), seed=0)):  # fmt: skip
        with pytest.raises(ConfigError) as error:
            build()
        for part in expected:
            assert part in str(error.value)


def test_a_tasks_commands_are_run_at_its_start():
    task = a_task(commands=["/give @p minecraft:bow 1", "/summon pig ~ ~3 ~4", "/kill @e[type=cow]"],
                  mobs=[{"name": "cow", "number": 2}], inventory=[{"slot": 2, "item": "dirt"}])  # fmt: skip
    env = WorldEnv(task, num_envs=1, image_size=(16, 12), seed=0)
    for _ in range(2):
        env.reset(np.ones(1, np.bool_))
        assert slots(env) == {0: ("bow", 1), 2: ("dirt", 1)}
        assert [mob["name"] for mob in env.infos(mobs=(-40, 40) * 3)[0]["mobs"]] == ["pig"]
