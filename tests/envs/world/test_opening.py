"""An episode opens with the commands of MineStudio's callbacks, and a session of raw keys is the same as WorldEnv."""

import importlib
import random
from types import SimpleNamespace

import numpy as np
import pytest

from mineonline.envs.actions import CAMERA_DEGREES, GROUPS, legal_buttons, masked_buttons
from mineonline.envs.names import BIOMES
from mineonline.envs.opening import SETTLE_TICKS, episode_seed, first_time_limit, mission_seed, opening
from mineonline.envs.world import WorldEnv
from mineonline.envs.world.commands import CommandError
from mineonline.envs.world.session import MOST_MOBS, Session
from tests.helpers.flat_world import a_task
from tests.helpers.shipped_tasks import shipped

NO_KEYS = np.zeros(len(GROUPS), np.int64)
ATTACK, DROP, CAMERA = (list(GROUPS).index(name) for name in ("attack", "drop", "camera"))
MOBS = [{"name": "cow", "number": 3, "range_x": [-5, 5], "range_z": [2, 7]},
        {"name": "sheep", "number": 2, "range_x": [-15, 15], "range_z": [-1, 0]}]  # fmt: skip


@pytest.fixture(scope="module")
def callbacks():
    """MineStudio's own callbacks."""
    np.unicode_ = np.str_  # its simulator was written for numpy 1
    return importlib.import_module("minestudio.simulator.callbacks")


def a_simulator(s):
    """What callbacks see of a simulator that was reset before and seeded with s, and the commands that they send it."""
    said = []
    random.seed(s)
    np.random.seed(s & 0xFFFFFFFF)

    def execute_cmd(command):
        said.append(command)
        return {}, 0.0, False, {}

    sim = SimpleNamespace(already_reset=True, np_random=np.random.default_rng(s), env=SimpleNamespace(
        execute_cmd=execute_cmd), _wrap_obs_info=lambda obs, info: (obs, info))  # fmt: skip
    return sim, said


# ---- the commands that are sent


@pytest.mark.parametrize("s", [0, 1, 2**32 + 5, 2**63 - 1])
@pytest.mark.parametrize(("biome", "reach"), [("plains", 1000), (None, 1000), ("taiga", 7)])
def test_the_commands_and_draws_are_those_of_minestudios_callbacks(callbacks, s, biome, reach):
    commands = ["/give @p minecraft:bow 1", "/weather clear"]
    task = a_task(biome=biome, random_tp_range=reach, mobs=MOBS, commands=commands)
    sim, said = a_simulator(s)
    biomes = [biome] if biome else list(BIOMES)
    assert callbacks.FastResetCallback(biomes, task.random_tp_range).before_reset(sim, True) is False
    assert tuple(said) == opening(task, s).fast_reset_commands
    said.clear()
    callbacks.SummonMobsCallback(MOBS).after_reset(sim, {}, {})
    callbacks.CommandsCallback(list(task.commands)).after_reset(sim, {}, {})
    assert tuple(said) == opening(task, s).commands


def test_the_inventory_is_put_where_minestudio_puts_it(callbacks):
    from minestudio.simulator.minerl.utils.inventory import map_slot_number_to_cmd_slot

    slots = [*range(36), "feet", "legs", "chest", "head", "offhand"]
    said = opening(a_task(inventory=[{"slot": slot, "item": "dirt", "count": 9} for slot in slots]), 0).commands
    expected = [f"/replaceitem entity @p {map_slot_number_to_cmd_slot(n)} minecraft:dirt 9" for n in range(41)]
    assert list(said) == expected


def test_seeds_are_functions_of_seed_index_and_episode_and_fit_where_they_go():
    numbers = [(seed, index, episode) for seed in (0, 1) for index in (0, 1, 7) for episode in (0, 1, 2)]
    missions, episodes = {mission_seed(*n) for n in numbers}, {episode_seed(*n) for n in numbers}
    assert len(missions) == len(episodes) == len(numbers)
    assert all(0 <= seed < 2**31 for seed in missions)
    assert all(0 <= seed < 2**63 for seed in episodes)
    limits = [first_time_limit(0, index, 50) for index in range(200)]
    assert (min(limits), max(limits)) == (1, 50)


# ---- the session


def opened(session, task, seed, episode):
    """Send a session what an episode of environment 0, the first or a later one, starts with."""
    said = opening(task, episode_seed(seed, 0, episode))
    if episode == 0:
        session.begin(mission_seed=mission_seed(seed, 0), biome=task.biome)
    else:
        for command in said.fast_reset_commands:
            session.tick(NO_KEYS, 0.0, 0.0, command)
    for _ in range(SETTLE_TICKS):
        session.tick(NO_KEYS, 0.0, 0.0)
    for command in said.commands:
        session.tick(NO_KEYS, 0.0, 0.0, command)


def decide(session, task, button, camera):
    """Play a decision as ticks of raw keys; yields the info after each."""
    choice = masked_buttons(task.actions.forbid, task.actions.hold)[button]
    choice[DROP] = 0
    view = CAMERA_DEGREES[camera] if choice[CAMERA] else (0.0, 0.0)
    for t in range(task.action_repeat):
        last = task.action_repeat > 1 and t == task.action_repeat - 1
        keys = choice.copy()
        if last and "attack" not in task.actions.hold:
            keys[ATTACK] = 0
        session.tick(keys, *(view if t == 0 else (0.0, 0.0)))
        yield session.info(voxels=(-7, 7, -7, 7, -7, 7) if task.portal_reward else None)


def minestudios_callback(callbacks, task):
    if task.portal_reward:
        return callbacks.GateRewardsCallback()
    rule = task.rewards[0]
    return callbacks.RewardsCallback(
        [
            {
                "event": rule.event,
                "objects": list(rule.objects),
                "reward": rule.reward,
                "identity": rule.identity,
                "max_reward_times": rule.max_reward_times,
            }
        ]
    )


def assert_same_world(env, session):
    player, other = env.world.player[0].copy(), session.world.player[0].copy()
    # a session does not know when an episode starts
    player["tick"] = player["time_limit"] = other["tick"] = other["time_limit"] = 0
    assert player == other
    np.testing.assert_array_equal(env.world.slot[0], session.world.slot[0])
    np.testing.assert_array_equal(env.world.arrow[0], session.world.arrow[0])
    most = env.world.mob.shape[1]
    living = [world.mob[0, :most]["kind"] >= 0 for world in (env.world, session.world)]
    np.testing.assert_array_equal(*living)
    if env._task.mobs:
        np.testing.assert_array_equal(env.world.mob[0][living[0]], session.world.mob[0, :most][living[1]])


@pytest.mark.parametrize("name", ["hunt_cow", "shoot", "gate"])
def test_a_session_and_worldenv_are_the_same_world_and_pay_the_same_episode_after_episode(callbacks, name):
    task, dice = shipped(name), np.random.default_rng(0)
    env, session = WorldEnv(task, num_envs=1, image_size=(32, 24), seed=5), Session()
    legal = np.flatnonzero(legal_buttons(task.actions.forbid, task.actions.hold))
    on, paid = np.ones(1, np.bool_), 0.0
    for episode in range(3):
        env.reset(on)
        opened(session, task, 5, episode)
        assert_same_world(env, session)
        np.testing.assert_array_equal(env.world.block[0], session.world.block[0])
        callback = minestudios_callback(callbacks, task)
        callback.after_reset(None, {}, session.info())
        for _ in range(120):
            button, camera = int(dice.choice(legal)), int(dice.integers(121))
            step = env.step({"buttons": np.array([button]), "camera": np.array([camera])}, on)
            infos = list(decide(session, task, button, camera))
            assert_same_world(env, session)
            if name != "hunt_cow":  # MineStudio has no reward per hp
                reward = sum(callback.after_step(None, {}, 0.0, False, False, info)[1] for info in infos)
                assert step.reward_N[0] == pytest.approx(reward, abs=1e-6)
                paid += abs(reward)
        np.testing.assert_array_equal(env.world.block[0], session.world.block[0])
        np.testing.assert_array_equal(env.render(0, 64, 48), session.render(64, 48))
    assert name != "gate" or paid > 1


def test_a_session_begins_with_its_inventory_and_nothing_else():
    session = Session()
    session.begin(mission_seed=3, biome="desert", inventory=[(0, "bow", 1), (9, "arrow", 64), (40, "obsidian", 5)])
    info = session.info()
    assert info["inventory"][0] == {"type": "bow", "quantity": 1}
    assert info["inventory"][9] == {"type": "arrow", "quantity": 64}
    assert info["equipped_items"]["offhand"]["type"] == "obsidian"
    assert info["location_stats"]["biome_name"] == "desert"
    first = session.render(64, 48)
    assert first.shape == (48, 64, 3)
    session.tick(NO_KEYS, 20.0, 50.0, "/summon cow ~2 ~3 ~2")
    assert session.info(mobs=(-9, 9, -9, 9, -9, 9))["mobs"]
    session.begin(mission_seed=3, biome="desert")
    assert session.info(mobs=(-60, 60) * 3)["mobs"] == []
    assert session.info()["inventory"][0]["type"] == "none"
    session.begin(mission_seed=3, biome="desert", inventory=[(0, "bow", 1), (9, "arrow", 64), (40, "obsidian", 5)])
    np.testing.assert_array_equal(session.render(64, 48), first)


def test_a_session_has_room_for_many_mobs():
    session = Session()
    session.begin(mission_seed=1, biome="plains")
    for _ in range(MOST_MOBS):
        session.tick(NO_KEYS, 0.0, 0.0, "/summon sheep ~4 ~3 ~")
    assert len(session.info(mobs=(-99, 99) * 3)["mobs"]) == MOST_MOBS == 128


def test_voxels_and_mobs_are_those_within_their_bounds():
    session = Session()
    session.begin(mission_seed=1, biome="plains")
    session.tick(NO_KEYS, 0.0, 0.0, "/fill ~-3 ~-2 ~-3 ~3 ~-1 ~3 stone")
    voxels = session.info(voxels=(-1, 2, -1, -1, 0, 3))["voxels"]
    assert {(v["x"], v["y"], v["z"]) for v in voxels} == {(x, -1, z) for x in range(-1, 3) for z in range(4)}
    assert {v["type"] for v in voxels} == {"stone"}
    session.tick(NO_KEYS, 0.0, 0.0, "/summon cow ~2 ~2 ~1")
    assert session.info(mobs=(0, 3, -1, 1, 0, 3))["mobs"][0]["name"] == "cow"
    assert session.info(mobs=(-3, 0, -1, 1, 0, 3))["mobs"] == []


def test_a_dead_player_has_no_health_for_a_tick_and_is_born_again_in_the_next_with_nothing():
    session = Session()
    session.begin(mission_seed=1, biome="plains", inventory=[(4, "dirt", 5)])
    session.tick(NO_KEYS, 0.0, 0.0, "/effect give @p instant_damage 1 3")
    assert session.dead
    assert session.info()["health"] == 0
    assert session.info()["custom"]["deaths"] == 1
    session.tick(NO_KEYS, 0.0, 0.0)
    assert not session.dead
    info = session.info()
    assert info["health"] == 20
    assert info["custom"]["deaths"] == 1
    assert info["inventory"][4]["type"] == "none"
    session.tick(NO_KEYS, 0.0, 0.0, "/kill")
    assert not session.dead
    assert session.info()["custom"]["deaths"] == 2


def test_a_session_refuses_what_it_does_not_know_and_no_time_passes():
    session = Session()
    with pytest.raises(ValueError, match=r"'nether'.*plains"):
        session.begin(mission_seed=1, biome="nether")
    with pytest.raises(ValueError, match=r"'bwo'.*bow"):
        session.begin(mission_seed=1, biome=None, inventory=[(0, "bwo", 1)])
    with pytest.raises(ValueError, match="no slot 41"):
        session.begin(mission_seed=1, biome=None, inventory=[(41, "bow", 1)])
    session.begin(mission_seed=1, biome="plains")
    before = session.world.player[0].copy()
    with pytest.raises(CommandError, match=r"/dance.*knows"):
        session.tick(NO_KEYS, 0.0, 0.0, "/dance")
    with pytest.raises(ValueError, match="hotbar"):
        session.tick(NO_KEYS + 3, 0.0, 0.0)
    with pytest.raises(ValueError, match="one choice in each"):
        session.tick(NO_KEYS[:-1], 0.0, 0.0)
    assert session.world.player[0] == before


# ---- whole tasks, played by scripts


def test_a_script_builds_a_part_of_a_gate_and_is_paid_for_it():
    env = WorldEnv(shipped("gate"), num_envs=4, image_size=(16, 12), seed=0)
    env.reset(np.ones(4, np.bool_))
    paid = np.zeros(4)
    down, left, camera, use = 115, 55, 1, 1
    group_strides = {"camera": 1, "use": 2 * 2 * 2 * 2}
    for button, class_ in [(camera, down)] * 4 + [(0, 60)] + [(use * group_strides["use"], 60), (camera, left)] * 12:
        action = {"buttons": np.full(4, button), "camera": np.full(4, class_)}
        paid += env.step(action, np.ones(4, np.bool_)).reward_N
    assert (paid >= 0.9 - 1e-6).all()
    assert paid.max() > 1.5
    assert all(info["use_item"]["obsidian"] >= 2 for info in env.infos())


def test_a_script_shoots_sheep_with_the_bow_and_is_paid_for_them():
    env = WorldEnv(shipped("shoot"), num_envs=1, image_size=(16, 12), seed=0)
    on, paid = np.ones(1, np.bool_), 0.0
    env.reset(on)
    player = env.world.player[0]
    for _ in range(300):
        sheep = min(
            (mob for mob in env.world.mob[0] if mob["kind"] >= 0 and mob["dying"] == 0),
            key=lambda mob: np.hypot(mob["x"] - player["x"], mob["z"] - player["z"]),
        )
        dx, dz = sheep["x"] - player["x"], sheep["z"] - player["z"]
        pitch = np.degrees(np.arctan2(player["y"] + 1.5 - (sheep["y"] + 0.9), np.hypot(dx, dz)))
        turn = (np.degrees(np.arctan2(-dx, dz)) - player["yaw"] + 180) % 360 - 180
        wanted = np.array([pitch - player["pitch"], turn])
        class_ = int(np.abs(CAMERA_DEGREES - np.clip(wanted, -10, 10)).sum(axis=1).argmin())
        ready = player["draw_ticks"] >= 20 and np.abs(wanted).max() < 2
        button = np.array([1 + (0 if ready else 16)])  # the camera, and the bow held until the aim is good
        paid += env.step({"buttons": button, "camera": np.array([class_])}, on).reward_N[0]
    kills = env.infos()[0]["kill_entity"].get("sheep", 0)
    assert kills >= 2
    assert paid == 5 * kills
