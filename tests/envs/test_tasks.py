"""A task either means exactly what it says, or its error says which key is wrong, what was found, what is allowed."""

import copy

import pytest
import yaml

from mineonline.envs.tasks import ActionMask, Mobs, Reward, parse_task
from mineonline.errors import ConfigError
from mineonline.settings.command_line import CONF_DIR
from tests.helpers.shipped_tasks import shipped

TASKS = sorted((CONF_DIR / "task").glob("*.yaml"))


@pytest.fixture
def hunt_cow():
    return yaml.safe_load((CONF_DIR / "task" / "hunt_cow.yaml").read_text())


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_every_shipped_task_is_valid_and_opens_with_its_question(path):
    assert shipped(path.stem).name == path.stem
    first, second, *_ = path.read_text().splitlines()
    assert first.startswith("# ")
    assert f"task={path.stem}" in second


def test_the_default_task_is_minestudios_quick_start(hunt_cow):
    task = parse_task(hunt_cow)
    assert task.time_limit_ticks == 600
    assert (task.mobs[0].name, task.mobs[0].number, task.mobs[0].range_x) == ("cow", 10, (-5.0, 5.0))
    assert task.inventory[0].item == "iron_sword"


def test_gate_is_minestudios():
    gate = shipped("gate")
    assert (gate.time_limit_ticks, gate.action_repeat, gate.biome, gate.random_tp_range) == (2400, 1, "plains", 1000)
    assert gate.commands == (
        "/give @p minecraft:diamond_pickaxe 1", "/replaceitem entity @s weapon.offhand minecraft:obsidian 64",
    )  # fmt: skip
    assert gate.actions == ActionMask(forbid=("inventory",))
    assert gate.portal_reward
    assert gate.rewards == ()


def test_shoot_is_minestudios():
    task = shipped("shoot")
    assert (task.time_limit_ticks, task.action_repeat, task.biome, task.random_tp_range) == (600, 1, "plains", 1000)
    assert task.mobs == (Mobs("sheep", 50, (-15.0, 15.0), (-15.0, 15.0)),)
    assert task.commands == ("/give @p minecraft:bow 1", *["/give @p minecraft:arrow 64"] * 2)
    assert task.actions == ActionMask(forbid=("attack",))
    assert task.rewards == (Reward("kill_entity", ("sheep",), 5.0, 30, identity="shoot_sheep"),)


# how to spoil a valid task, and what the message must then say: the key, what was found, what is allowed
WRONG = {
    "an unknown key": (lambda t: t.update(biom="plains"), ["task.biom ", "'plains'", "Did you mean biome"]),
    "an unknown key inside": (lambda t: t["rewards"][1].update(rewrd=3), ["task.rewards[1].rewrd", "3", "mean reward"]),
    "a missing key": (lambda t: t["rewards"][0].pop("event"), ["task.rewards[0].event", "objects", "must be str"]),
    "a wrong type": (lambda t: t.update(time_limit_ticks="long"), ["task.time_limit_ticks", "'long'", "int"]),
    "an unknown biome": (lambda t: t.update(biome="plain"), ["task.biome", "'plain'", "mean plains", "forest"]),
    "an unknown item": (lambda t: t["inventory"][0].update(item="iron_sward"),
                        ["task.inventory[0].item", "'iron_sward'", "mean iron_sword"]),
    "an unknown mob": (lambda t: t["mobs"][0].update(name="cov"), ["task.mobs[0].name", "'cov'", "mean cow", "sheep"]),
    "an unknown event": (lambda t: t["rewards"][0].update(event="kill_entities"),
                         ["task.rewards[0].event", "'kill_entities'", "mean kill_entity", "mine_block"]),
    "an unknown block": (lambda t: t["rewards"][0].update(event="mine_block", objects=["oak_lug"]),
                         ["task.rewards[0].objects[0]", "'oak_lug'", "mean oak_log", "stone"]),
    "an unknown button": (lambda t: t["actions"].update(forbid=["use", "atack"]),
                          ["task.actions.forbid[1]", "'atack'", "mean attack", "jump"]),
    "an unknown block to start at": (lambda t: t.update(spawn_near="oaklog"),
                                     ["task.spawn_near", "'oaklog'", "oak_log"]),
    "an unknown slot": (lambda t: t["inventory"][0].update(slot="hat"), ["task.inventory[0].slot", "'hat'", "head"]),
    "a slot out of range": (lambda t: t["inventory"][0].update(slot=41), ["task.inventory[0].slot", "41", "0 to 40"]),
    "a slot taken twice": (lambda t: t["inventory"].append({"slot": 0, "item": "bow"}),
                           ["task.inventory[1].slot", "0", "inventory[0]", "0 to 35"]),
    "a stack too large": (lambda t: t["inventory"][0].update(count=65), ["task.inventory[0].count", "65", "1 to 64"]),
    "no time": (lambda t: t.update(time_limit_ticks=0), ["task.time_limit_ticks", "0", "1 to"]),
    "a repeat out of range": (lambda t: t.update(action_repeat=21), ["task.action_repeat", "21", "1 to 20"]),
    "no rewards": (lambda t: t.update(rewards=[]), ["task.rewards", "empty", "event"]),
    "a range upside down": (lambda t: t["mobs"][0].update(range_x=[5, -5]),
                            ["task.mobs[0].range_x", "[5, -5]", "least"]),
    "half a range": (lambda t: t["mobs"][0].update(range_z=[5]), ["task.mobs[0].range_z", "[5]", "length 2"]),
    "forbidden and held": (lambda t: t["actions"].update(hold=["use"]),
                           ["task.actions.hold", "['use']", "one of them"]),
    "two of a group held": (lambda t: t["actions"].update(forbid=[], hold=["forward", "attack", "back"]),
                            ["task.actions.hold[2]", "'back'", "'forward' is held too", "only one of forward, back"]),
    "the hotbar and a slot held": (lambda t: t["actions"].update(forbid=[], hold=["hotbar", "hotbar.2"]),
                                   ["task.actions.hold[1]", "'hotbar.2'", "'hotbar' is held too"]),
    "the inventory and more held": (lambda t: t["actions"].update(forbid=[], hold=["attack", "inventory"]),
                                    ["task.actions.hold", "'inventory'", "excludes every other"]),
    "a command without a slash": (lambda t: t.update(commands=["/kill", "give @p bow"]),
                                  ["task.commands[1]", "'give @p bow'", "starts with a slash"]),
    "a callback without a class": (lambda t: t.update(callbacks=[{"seconds": 5}]),
                                   ["task.callbacks[0]", "only seconds", "_target_"]),
    "a callback whose class is no name": (lambda t: t.update(callbacks=[{"_target_": 3}]),
                                          ["task.callbacks[0]", "_target_ 3", "name a class"]),
    "new terrains nowhere": (lambda t: t.update(random_tp_range=1), ["task.random_tp_range", "1", "2 to"]),
    "an unknown reset": (lambda t: t.update(reset="never"), ["task.reset", "'never'", "new_terrain, same_terrain"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_the_key_what_was_found_and_what_may_stand_there(hunt_cow, case):
    spoil, expected = WRONG[case]
    task = copy.deepcopy(hunt_cow)
    spoil(task)
    with pytest.raises(ConfigError) as error:
        parse_task(task)
    for part in expected:
        assert part in str(error.value)


def test_a_task_may_be_paid_for_a_portal_alone(hunt_cow):
    assert parse_task(hunt_cow | {"rewards": [], "portal_reward": True}).rewards == ()


def test_a_success_may_count_what_is_not_paid_for(hunt_cow):
    goals = [{"kill_entity/pig": 2, "kill_entity/cow": 1}, {"kill_entity/sheep": 1}]
    task = parse_task(hunt_cow | {"success": goals})
    assert task.statistics() == ("kill_entity/cow", "damage_dealt/cow", "kill_entity/pig", "kill_entity/sheep")
    counts = dict.fromkeys(task.statistics(), 0.0)
    assert task.succeeded(counts | {"kill_entity/sheep": 1.0})
    assert task.succeeded(counts | {"kill_entity/pig": 2.0, "kill_entity/cow": 3.0})
    assert not task.succeeded(counts | {"kill_entity/pig": 2.0})
    assert parse_task(hunt_cow | {"success": []}).succeeded(counts) is None
    with pytest.raises(ConfigError, match=r"success\[0\].portal_score is 'portal_score', which is not a known event"):
        parse_task(hunt_cow | {"success": [{"portal_score": 14}]})
    assert parse_task(hunt_cow | {"success": [{"portal_score": 14}], "portal_reward": True}).succeeded(
        {"portal_score": 14.6}
    )


def test_a_task_that_is_no_mapping_says_so():
    with pytest.raises(ConfigError, match="task is None"):
        parse_task(None)
