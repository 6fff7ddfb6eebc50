"""Episodes: what determines them, how they end, what they pay, and what they report."""

import itertools

import numpy as np
import pytest

from mineonline.envs.actions import NO_CAMERA, legal_buttons
from mineonline.envs.contract import TensorSpec
from mineonline.envs.names import BIOMES
from mineonline.envs.world import WorldEnv, jit
from mineonline.envs.world.blocks import BLOCK_ID, ITEM_ID
from tests.helpers.flat_world import MIDDLE, a_task, buttons, cells, flat_env, give, press, put_block, put_mob

HUNT = {
    "inventory": [{"slot": 0, "item": "iron_sword"}, {"slot": "offhand", "item": "obsidian", "count": 64}],
    "mobs": [{"name": "cow", "number": 6}, {"name": "sheep", "number": 3}],
    "actions": {"forbid": ["hotbar", "use", "drop", "inventory"]},
    "action_repeat": 4,
    "rewards": [
        {"event": "kill_entity", "objects": ["cow", "sheep"], "reward": 1.0, "max_reward_times": 2},
        {"event": "damage_dealt", "objects": ["cow"], "reward": 0.1, "max_reward_times": 15, "per_unit": True},
        {"event": "mine_block", "objects": ["grass_block", "dirt"], "reward": -0.5, "max_reward_times": 3},
    ],
}


def worlds(num_envs, *, seed=7, **options):
    changes = options.pop("task", {})
    return WorldEnv(a_task(**(HUNT | changes)), num_envs=num_envs, image_size=(32, 24), seed=seed, **options)


def all_of(env):
    return np.ones(env.num_envs, np.bool_)


def random_actions(decisions, num_envs, seed=0):
    dice = np.random.default_rng(seed)
    legal = np.flatnonzero(legal_buttons(HUNT["actions"]["forbid"]))
    for _ in range(decisions):
        yield {"buttons": dice.choice(legal, num_envs), "camera": dice.integers(0, 121, num_envs)}


def play(env, decisions=60, seed=0):
    """Frames and rewards of each environment over a fixed series of random actions: `[decisions, N, ...]`."""
    frames, rewards = [env.reset(all_of(env))["image"].copy()], []
    for action in random_actions(decisions, 8, seed):
        step = env.step({name: classes[: env.num_envs] for name, classes in action.items()}, all_of(env))
        frames.append(step.observation["image"].copy())
        rewards.append(step.reward_N)
    return np.array(frames), np.array(rewards)


def test_an_episode_is_the_same_whatever_the_number_of_environments():
    one, five = play(worlds(1)), play(worlds(5))
    np.testing.assert_array_equal(one[0], five[0][:, :1])
    np.testing.assert_array_equal(one[1], five[1][:, :1])


def test_an_episode_belongs_to_the_global_index():
    env = worlds(1, first_index=3)
    env.reset(all_of(env))
    five = worlds(5)
    np.testing.assert_array_equal(env.render(0, 64, 48), (five.reset(all_of(five)), five.render(3, 64, 48))[1])


def test_seeds_indices_and_episodes_differ():
    env, other = worlds(2), worlds(1, seed=8)
    first = env.reset(all_of(env))["image"].copy()
    second = env.reset(all_of(env))["image"].copy()
    different = other.reset(all_of(other))["image"]
    assert (first[0] != first[1]).any()
    assert (first[0] != second[0]).any()
    assert (first[0] != different[0]).any()


def test_who_is_not_active_stands_still_and_the_others_do_not_notice():
    alone, mixed = worlds(1), worlds(3)
    alone.reset(all_of(alone))
    mixed.reset(all_of(mixed))
    before = mixed.world.player[1].copy()
    dice = np.random.default_rng(1)
    for action in random_actions(30, 3, seed=2):
        active = np.array([True, False, bool(dice.integers(2))])
        step = mixed.step(action, active)
        reference = alone.step({name: classes[:1] for name, classes in action.items()}, all_of(alone))
        np.testing.assert_array_equal(step.observation["image"][0], reference.observation["image"][0])
        assert step.reward_N[1] == 0
        assert not step.terminated_N[1]
        assert not step.truncated_N[1]
    assert mixed.world.player[1] == before


def test_an_inactive_environment_keeps_its_last_picture():
    env = worlds(2)
    first = env.reset(all_of(env))["image"].copy()
    action = next(random_actions(1, 2))
    step = env.step(action, np.array([False, True]))
    np.testing.assert_array_equal(step.observation["image"][0], first[0])


def test_a_reset_of_one_environment_leaves_the_other_alone():
    env, reference = worlds(2), worlds(2)
    env.reset(all_of(env))
    reference.reset(all_of(reference))
    env.reset(np.array([True, False]))
    for action in random_actions(10, 2):
        step, expected = env.step(action, all_of(env)), reference.step(action, all_of(reference))
        np.testing.assert_array_equal(step.observation["image"][1], expected.observation["image"][1])


def test_the_time_limit_truncates_at_its_tick_and_does_not_terminate():
    env = flat_env(a_task(time_limit_ticks=10, action_repeat=4))
    for _ in range(2):
        step = press(env, "forward")
        assert not step.truncated_N[0]
    step = press(env, "forward")
    assert step.truncated_N[0]
    assert not step.terminated_N[0]
    # the third decision ended after two of its ticks
    assert env.world.player[0]["tick"] == 10


def test_staggered_first_episodes_end_at_different_times_and_later_ones_at_the_limit():
    env = worlds(16, stagger=True, task={"time_limit_ticks": 100})
    env.reset(all_of(env))
    limits = env.world.player["time_limit"].copy()
    assert len(set(limits)) > 8
    assert limits.min() >= 1
    assert limits.max() <= 100
    env.reset(all_of(env))
    assert (env.world.player["time_limit"] == 100).all()


def test_the_same_terrain_stays_where_the_task_says_so():
    env = worlds(1, task={"reset": "same_terrain"})
    env.reset(all_of(env))
    first, mobs = env.world.block.copy(), env.world.mob["x"].copy()
    env.world.block[0, 1000:2000] = BLOCK_ID["obsidian"]
    env.reset(all_of(env))
    np.testing.assert_array_equal(env.world.block, first)
    assert (env.world.mob["x"] != mobs).any()


@pytest.mark.parametrize("biome", BIOMES)
def test_every_biome_starts_on_dry_land_with_everyone_on_walkable_ground(biome):
    env = worlds(6, task={"biome": biome})
    env.reset(all_of(env))
    for n, info in enumerate(env.infos(mobs=(-8, 8, -8, 8, -8, 8))):
        assert info["location_stats"]["biome_name"] == biome
        assert len(info["mobs"]) == 9
        player = env.world.player[n]
        x, y, z = int(player["x"]), int(player["y"]), int(player["z"])
        land = cells(env, n)
        assert land[x, z, y] == land[x, z, y + 1] == BLOCK_ID["air"]
        assert land[x, z, y - 1] not in (BLOCK_ID["air"], BLOCK_ID["water"], BLOCK_ID["cactus"])


def test_a_player_can_start_at_a_trunk_and_looks_at_it():
    task = {"biome": "forest", "spawn_near": "oak_log", "inventory": [{"slot": 0, "item": "diamond_axe"}], "mobs": [],
            "actions": {"hold": ["attack"]}}  # fmt: skip
    env = worlds(8, task=task)
    env.reset(all_of(env))
    press(env, "attack", decisions=4)
    assert all(info["mine_block"].get("oak_log") == 1 for info in env.infos())


def minestudios_rewards(rules, infos):
    """MineStudio 1.1.6's RewardsCallback in plain Python, plus `per_unit`, over the infos of successive ticks."""
    paid, total = [0.0] * len(rules), 0.0
    for before, now in itertools.pairwise(infos):
        for r, rule in enumerate(rules):
            rise = sum(now[rule.event].get(o, 0) - before[rule.event].get(o, 0) for o in rule.objects)
            if rise > 0:
                times = min(rise if rule.per_unit else 1, rule.max_reward_times - paid[r])
                paid[r] += times
                total += times * rule.reward
    return total


def test_rewards_are_what_minestudios_rule_gives_on_the_infos():
    env = worlds(4)
    ticks = []
    env.on_tick = lambda: ticks.append(env.infos())
    env.reset(all_of(env))
    ticks.append(env.infos())
    returns = np.zeros(4)
    # a rested player that faces an animal, then one that digs: every rule pays until its limit
    player, mob = env.world.player, env.world.mob[:, ::4]
    for action in random_actions(100, 4, seed=3):
        player["since_blow"], player["yaw"], player["pitch"] = 100, 0.0, 25.0
        mob["x"], mob["y"], mob["z"] = player["x"][:, None], player["y"][:, None], player["z"][:, None] + 1.4
        returns += env.step(action, all_of(env)).reward_N
    player["pitch"] = 80.0
    # a block of dirt breaks within the three ticks of a decision in which the button is down
    env.world.slot[:, 0]["item"] = ITEM_ID["diamond_shovel"]
    for _ in range(40):
        returns += press(env, "attack").reward_N
    expected = [minestudios_rewards(env._task.rewards, [tick[n] for tick in ticks]) for n in range(4)]
    np.testing.assert_allclose(returns, expected, atol=1e-4)
    assert env._scores.paid.max(axis=0).tolist() == [2, 15, 3]


def test_a_reward_pays_once_a_tick_and_no_more_often_than_its_limit():
    rule = {"event": "damage_dealt", "objects": ["cow"], "reward": 2.0, "max_reward_times": 2}
    env = flat_env(a_task(mobs=[{"name": "cow", "number": 4}], rewards=[rule]))
    env.world.player[0]["pitch"] = 15.0
    paid = []
    for place in range(4):
        put_mob(env, place=place, ahead=1.0)
        paid.append(press(env, "attack").reward_N[0])
        press(env)
    assert paid == [2.0, 2.0, 0.0, 0.0]


def test_statistics_are_the_counters_of_the_rewarded_events():
    env = worlds(1)
    assert env.spec.statistics == (
        "kill_entity/cow", "kill_entity/sheep", "damage_dealt/cow", "mine_block/grass_block", "mine_block/dirt",
    )  # fmt: skip
    env = flat_env(a_task(rewards=HUNT["rewards"]))
    put_block(env, "dirt", up=1, ahead=2)
    step = press(env, "attack", decisions=15)
    assert step.statistics_NK.tolist() == [[0, 0, 0, 0, 1]]


def test_infos_are_fresh_and_have_what_minestudios_have():
    env = flat_env(mobs=1, tool="iron_sword")
    put_mob(env)
    before = env.infos(voxels=(-1, 1) * 3, mobs=(-5, 5) * 3)[0]
    env.world.player[0]["pitch"] = 15.0
    press(env, "attack", "forward")
    after = env.infos(voxels=(-1, 1) * 3, mobs=(-5, 5) * 3)[0]
    assert before["damage_dealt"] == {}
    assert after["damage_dealt"] == {"cow": 6}
    assert before["player_pos"]["z"] == MIDDLE + 0.5 < after["player_pos"]["z"]
    assert after["use_item"] == {"iron_sword": 1}
    assert after["equipped_items"]["mainhand"] == {"type": "iron_sword", "damage": 1, "maxDamage": 250}
    assert list(after["inventory"]) == list(range(36))
    assert after["inventory"][35] == {"type": "none", "quantity": 0}
    assert after["is_gui_open"] is after["isGuiOpen"] is False
    assert (after["health"], after["food_level"]) == (20.0, 20)
    assert len(before["voxels"]) == 9
    assert before["voxels"][0] == {"type": "grass_block", "x": -1, "y": -1, "z": -1}
    assert before["mobs"] == [{"name": "cow", "x": 0.0, "y": 0.0, "z": 2.0, "health": 10.0}]
    assert "voxels" not in env.infos()[0]


def test_what_a_task_forbids_does_nothing_and_what_it_holds_is_done():
    env = flat_env(a_task(actions={"forbid": ["hotbar", "forward", "inventory"], "hold": ["jump"]}))
    press(env, "hotbar.5", "forward")
    press(env, "inventory")
    player = env.world.player[0]
    assert player["hotbar"] == 0
    assert player["z"] == MIDDLE + 0.5
    assert not player["gui_open"]
    assert player["y"] > 8


def test_the_hotbar_keys_choose_what_is_in_hand():
    env = flat_env()
    give(env, "iron_axe", slot=8)
    press(env, "hotbar.9")
    assert env.infos()[0]["equipped_items"]["mainhand"]["type"] == "iron_axe"


def test_the_starting_inventory_is_where_the_task_puts_it():
    env = worlds(1)
    env.reset(all_of(env))
    info = env.infos()[0]
    assert info["inventory"][0] == {"type": "iron_sword", "quantity": 1}
    assert info["equipped_items"]["offhand"]["type"] == "obsidian"
    assert env.world.slot[0, 40]["count"] == 64


def test_the_inventory_key_opens_a_screen_that_freezes_the_player():
    env = flat_env()
    press(env, "inventory")
    assert env.infos()[0]["isGuiOpen"]
    press(env, "forward", camera=0, decisions=5)
    assert env.world.player[0]["z"] == MIDDLE + 0.5
    assert env.world.player[0]["yaw"] == 0
    press(env, "inventory")
    press(env, "forward", decisions=5)
    assert env.world.player[0]["z"] > MIDDLE + 1


def test_rendering_changes_nothing_and_fits_any_size():
    env, reference = worlds(1), worlds(1)
    env.reset(all_of(env))
    reference.reset(all_of(reference))
    assert env.render(0, 96, 54).shape == (54, 96, 3)
    assert env.render(0, 96, 54).std() > 10
    action = next(random_actions(1, 1))
    np.testing.assert_array_equal(
        env.step(action, all_of(env)).observation["image"],
        reference.step(action, all_of(reference)).observation["image"],
    )


def test_who_watches_every_tick_sees_the_same_episode():
    env, watched = worlds(1), worlds(1)
    frames = []
    watched.on_tick = lambda: frames.append(watched.render(0, 32, 24))
    np.testing.assert_array_equal(play(env, 10)[0], play(watched, 10)[0])
    assert len(frames) == 40


def test_the_spec_is_known_before_anything_starts():
    spec = WorldEnv.spec_of(a_task(**HUNT), (64, 48))
    assert spec.observation == {"image": TensorSpec((48, 64, 3), "uint8")}
    assert spec.action == {"buttons": 8641, "camera": 121}


@pytest.mark.parametrize(("name", "wrong"), [("buttons", 8641), ("buttons", -1), ("camera", 121), ("camera", -1)])
def test_an_action_that_does_not_exist_is_refused(name, wrong):
    env = flat_env()
    action = {"buttons": np.array([buttons("forward")]), "camera": np.array([NO_CAMERA])} | {name: np.array([wrong])}
    with pytest.raises(ValueError, match=f"{name}.*{wrong}"):
        env.step(action, all_of(env))


def test_the_cache_goes_to_the_temporary_folder_where_the_users_cannot_be_written(tmp_path, monkeypatch):
    no_folder = tmp_path / "file"
    no_folder.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_folder))
    assert not str(jit._cache_folder()).startswith(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert str(jit._cache_folder()).startswith(str(tmp_path / "mineonline"))
