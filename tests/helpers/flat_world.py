"""A flat world for tests: grass up to height 8 everywhere, the player in the middle, looking along +z."""

import numpy as np

from mineonline.envs.actions import GROUPS, INVENTORY, encode_buttons
from mineonline.envs.names import MOBS
from mineonline.envs.tasks import parse_task
from mineonline.envs.world import WorldEnv
from mineonline.envs.world.blocks import BLOCK_ID, ITEM_ID
from mineonline.envs.world.mobs import BODY
from mineonline.envs.world.state import HEIGHT, SIZE
from mineonline.envs.world.terrain import survey

GROUND = 8
MIDDLE = SIZE // 2


def a_task(**changes):
    """A task without mobs, tools or masks, with one tick per decision."""
    data = {
        "name": "test",
        "text": "",
        "biome": "plains",
        "rewards": [{"event": "kill_entity", "objects": ["cow"], "reward": 1.0, "max_reward_times": 100}],
        "time_limit_ticks": 10_000,
    }
    return parse_task(data | changes)


def flat_env(task=None, *, num_envs=1, mobs=0, tool=None, seed=0):
    """An environment whose worlds are flat, with room for `mobs` mobs, which `put_mob` places."""
    changes = {"mobs": [{"name": "cow", "number": mobs}]} if mobs else {}
    if tool:
        changes["inventory"] = [{"slot": 0, "item": tool}]
    env = WorldEnv(task or a_task(**changes), num_envs=num_envs, image_size=(16, 12), seed=seed)
    env.reset(np.ones(num_envs, np.bool_))
    for n in range(num_envs):
        cells(env, n)[:] = BLOCK_ID["air"]
        cells(env, n)[:, :, :GROUND] = BLOCK_ID["grass_block"]
        player = env.world.player[n]
        player["x"], player["y"], player["z"] = MIDDLE + 0.5, GROUND, MIDDLE + 0.5
        player["yaw"], player["pitch"], player["on_ground"] = 0.0, 0.0, 1
        env.world.mob[n]["kind"] = -1
        survey_all(env)
    return env


def cells(env, n=0):
    """The blocks of a world by x, z, y."""
    return env.world.block[n].reshape(SIZE, SIZE, HEIGHT)


def survey_all(env):
    """Needed after a test changes blocks, so that the picture shows them."""
    for n in range(env.num_envs):
        survey(env.world.block[n], env.world.roof[n], env.world.tile_roof[n], env.world.player[n])


def put_block(env, name, *, right=0, up=0, ahead=0):
    """Put a block at an offset from the one that the player's feet are in."""
    # a player who looks along +z has -x on the right
    cells(env)[MIDDLE - right, MIDDLE + ahead, GROUND + up] = BLOCK_ID[name]
    survey_all(env)


def put_mob(env, name="cow", *, ahead=2.0, place=0):
    """Put a healthy mob, which stands still, ahead of the player."""
    mob = env.world.mob[0, place]
    kind = MOBS.index(name)
    mob["kind"], mob["health"] = kind, BODY[kind, 2]
    mob["x"], mob["y"], mob["z"] = MIDDLE + 0.5, GROUND, MIDDLE + 0.5 + ahead
    return mob


def give(env, item, count=1, slot=0):
    env.world.slot[0, slot]["item"], env.world.slot[0, slot]["count"] = ITEM_ID[item], count


def buttons(*names):
    """The class of the action that presses these buttons."""
    if names == ("inventory",):
        return INVENTORY
    choice = [0] * (len(GROUPS) - 1)
    for name in names:
        group = next(g for g, choices in enumerate(GROUPS.values()) if name in choices)
        choice[group] = list(GROUPS.values())[group].index(name)
    return encode_buttons(choice).item()


def press(env, *names, camera=60, decisions=1):
    """Take decisions in all worlds; returns the last step."""
    names = (*names, "camera") if camera != 60 else names
    action = {"buttons": np.full(env.num_envs, buttons(*names)), "camera": np.full(env.num_envs, camera)}
    for _ in range(decisions):
        step = env.step(action, np.ones(env.num_envs, np.bool_))
    return step
