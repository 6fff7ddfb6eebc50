"""Chat commands on one world: Minecraft 1.16's syntax for what this world has.

A command is either refused before anything happens (`CommandError`: an unknown word, a wrong number), or it is run.
What it then cannot do (a place outside the world, no room for another mob or item) is skipped, as in Minecraft, which
only reports it in the chat.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from mineonline.envs.names import BIOMES, BLOCKS, MOBS
from mineonline.envs.opening import inventory_commands, mixed
from mineonline.envs.tasks import Task
from mineonline.envs.world.blocks import AIR, NO_ITEM
from mineonline.envs.world.command_words import (
    PLAYERS,
    CommandError,
    Place,
    cell_of,
    item_named,
    name_player,
    named,
    place_of,
    slot_named,
    stack_of,
    whole,
)
from mineonline.envs.world.inventory import add
from mineonline.envs.world.spawn import (
    arrive,
    be_reborn,
    empty_slots,
    remove_arrows,
    remove_drops,
    remove_mobs,
    summon,
)
from mineonline.envs.world.state import COUNTERS, FULL_HEALTH, HEIGHT, SIZE, STRIDE_X, STRIDE_Z, World
from mineonline.envs.world.terrain import survey
from mineonline.errors import ConfigError

Effect = Callable[[World, int], None]
"""What a command does to the world with a given index."""
_DEATHS, _SUFFERED = COUNTERS["custom", "deaths"], COUNTERS["custom", "damage_taken"]
_MOST_BLOCKS = 32768
_INSTANT_HEALTH_HP, _INSTANT_DAMAGE_HP = 4.0, 6.0
# accepted, but this world has nothing that they change: no hunger, no night
_IDLE_EFFECTS = ("saturation", "night_vision")
_IDLE_RULES = (
    "announceAdvancements", "commandBlockOutput", "doDaylightCycle", "doFireTick", "doImmediateRespawn",
    "doInsomnia", "doMobSpawning", "doPatrolSpawning", "doTraderSpawning", "doWeatherCycle", "logAdminCommands",
    "mobGriefing", "randomTickSpeed", "sendCommandFeedback", "showDeathMessages", "spawnRadius",
)  # fmt: skip
_TIMES = ("day", "noon", "night", "midnight")


def run_command(world: World, n: int, text: str) -> None:
    """Run a chat command in world n, between two ticks. CommandError, before anything happens, if it is not known."""
    parse_command(text)(world, n)


def parse_command(text: str) -> Effect:
    """The effect of a chat command, not run yet. CommandError says which word is not known, and which words are."""
    name, *words = text.removeprefix("/").split() or [""]
    if not text.startswith("/") or name not in _COMMANDS:
        raise CommandError(f"{text!r} is not a command of the embedded world, which knows: {', '.join(USAGE)}.")
    try:
        return _COMMANDS[name](words)
    except CommandError as error:
        raise CommandError(f"{text!r}: {error} Usage: {_USAGE_OF[name]}") from None


def refuse_unknown(task: Task) -> None:
    """ConfigError if a task needs what only the real engine has: other commands, larger stacks, callbacks."""
    for i, callback in enumerate(task.callbacks):
        raise ConfigError(
            f"task.callbacks[{i}] is {callback['_target_']}, but MineStudio's callbacks run only on "
            f"its simulator: set env=minestudio, or leave task.callbacks empty."
        )
    given = zip((f"inventory[{i}]" for i in range(len(task.inventory))), inventory_commands(task), strict=True)
    said = ((f"commands[{i}]", command) for i, command in enumerate(task.commands))
    for path, command in (*given, *said):
        try:
            parse_command(command)
        except CommandError as error:
            raise ConfigError(f"task.{path}: {error}") from None


def put_into_slot(world: World, n: int, slot: int, item: str, count: int) -> None:
    """Replace what is in a slot, 0 to 40. CommandError (a ValueError) if there is no such item, slot or stack."""
    if not 0 <= slot < world.slot.shape[1]:
        raise CommandError(f"there is no slot {slot}; the slots are 0 to {world.slot.shape[1] - 1}.")
    stack, item_id = world.slot[n, slot], item_named(item)
    stack["item"], stack["count"], stack["wear"] = item_id, stack_of(item_id, count), 0


def _give(words: list[str]) -> Effect:
    if len(words) not in (2, 3):
        raise CommandError("expected two or three words.")
    name_player(words[0])
    item, count = item_named(words[1]), whole(words[2], 1, 6400) if len(words) == 3 else 1

    def effect(world: World, n: int) -> None:
        add(world.slot[n], item, count, 0)

    return effect


def _replaceitem(words: list[str]) -> Effect:
    if len(words) not in (4, 5) or words[0] != "entity":
        raise CommandError("expected 'entity' and three or four words.")
    name_player(words[1])
    slot, item = slot_named(words[2]), words[3]
    count = stack_of(item_named(item), whole(words[4], 1, 64) if len(words) == 5 else 1)
    return lambda world, n: put_into_slot(world, n, slot(world, n), item, count)


def _execute(words: list[str]) -> Effect:
    while len(words) > 1 and words[0] in ("as", "at"):
        name_player(words[1])
        words = words[2:]
    if len(words) < 2 or words[0] != "run":
        raise CommandError("expected 'run' and a command after 'as' and 'at'.")
    return parse_command("/" + " ".join(words[1:]))


def _summon(words: list[str]) -> Effect:
    if len(words) not in (1, 4, 5) or (len(words) == 5 and words[4] not in ("{Age:0}", "{}")):
        raise CommandError("expected a mob, its place, and optionally {Age:0}.")
    kind = named(words[0], MOBS, "mob")
    place = place_of(words[1:4] if len(words) > 1 else ("~", "~", "~"), of_blocks=False)
    return lambda world, n: summon(world, n, kind, *place(world, n))


def _fill_box(world: World, n: int, a: Place, b: Place, block: int, keep: bool) -> None:
    first, second = cell_of(a), cell_of(b)
    if first is None or second is None:
        return
    (x0, x1), (y0, y1), (z0, z1) = (sorted(ends) for ends in zip(first, second, strict=True))
    cells = world.block[n].reshape(SIZE, STRIDE_X // STRIDE_Z, HEIGHT)[x0 : x1 + 1, z0 : z1 + 1, y0 : y1 + 1]
    if cells.size <= _MOST_BLOCKS:
        cells[...] = np.where(cells == AIR, block, cells) if keep else block
        survey(world.block[n], world.roof[n], world.tile_roof[n], world.player[n])


def _fill(words: list[str], corners: int = 2) -> Effect:
    """/fill between two corners, or /setblock at one."""
    block, *mode = words[3 * corners :] or [""]
    if len(words) < 3 * corners + 1 or mode not in ([], ["replace"], ["keep"]):
        raise CommandError(f"expected {3 * corners} numbers, a block, and optionally 'replace' or 'keep'.")
    kind, keep = named(block, BLOCKS, "block"), mode == ["keep"]
    first, last = place_of(words[:3], of_blocks=True), place_of(words[3 * corners - 3 : 3 * corners], of_blocks=True)
    return lambda world, n: _fill_box(world, n, first(world, n), last(world, n), kind, keep)


def _kill(words: list[str]) -> Effect:
    """The player dies and respawns at once, with nothing; other entities vanish and leave nothing."""
    chosen = words[0] if words else "@s"
    of_type = re.fullmatch(r"@e(?:\[type=(!?)(?:minecraft:)?(\w+)\])?", chosen)
    if len(words) > 1 or (of_type is None and chosen not in PLAYERS):
        raise CommandError(
            f"{' '.join(words)!r} is not a target; write {', '.join(PLAYERS)}, or @e[type=...] with "
            f"!player, item, arrow or a mob."
        )
    if of_type is None:
        return _kill_player
    negated, kind = of_type[1], of_type[2]
    types = ("player", "item", "arrow", *MOBS)
    killed: tuple[str, ...] = types if kind is None else (types[named(kind, types, "type of entity")],)
    if negated:
        killed = tuple(one for one in types if one not in killed)

    def effect(world: World, n: int) -> None:
        for one in killed:
            if one == "item":
                remove_drops(world.drop[n])
            elif one == "arrow":
                remove_arrows(world.arrow[n])
            elif one in MOBS:
                remove_mobs(world.mob[n], MOBS.index(one))
            else:
                _kill_player(world, n)

    return effect


def _kill_player(world: World, n: int) -> None:
    world.counter[n, _DEATHS] += 1
    be_reborn(world, n)


def _time(words: list[str]) -> Effect:
    if len(words) != 2 or words[0] not in ("set", "add"):
        raise CommandError("expected 'set' or 'add', and a time.")
    if words[1] not in _TIMES or words[0] == "add":
        whole(words[1], 0, 2**31 - 1)
    return _nothing


def _weather(words: list[str]) -> Effect:
    if len(words) not in (1, 2) or words[0] not in ("clear", "rain", "thunder"):
        raise CommandError("expected clear, rain or thunder, and optionally a duration.")
    if len(words) == 2:
        whole(words[1], 0, 1_000_000)
    return _nothing


def _gamerule(words: list[str]) -> Effect:
    if len(words) != 2 or not re.fullmatch(r"true|false|\d+", words[1]):
        raise CommandError("expected a rule and its value.")
    named(words[0], _IDLE_RULES, "rule (this world accepts only rules that would change nothing in it)")
    return _nothing


def _nothing(world: World, n: int) -> None:
    """This world does not have what the command sets."""


def _teleport_biome(words: list[str]) -> Effect:
    if len(words) != 5 or words[3] != "~0":
        raise CommandError("expected the player, a biome, X, ~0 and Z.")
    name_player(words[0])
    biome = named(words[1], BIOMES, "biome")
    x, z = (whole(word, -30_000_000, 30_000_000) for word in (words[2], words[4]))

    def effect(world: World, n: int) -> None:
        arrive(world, n, np.uint64(mixed(int(world.player[n]["mission"]), biome, x, z)), biome)

    return effect


def _teleport(words: list[str]) -> Effect:
    if words and words[0] in PLAYERS:
        words = words[1:]
    if len(words) not in (3, 5):
        raise CommandError("expected a place, and optionally yaw and pitch.")
    place = place_of(words[:3], of_blocks=False)
    view = [float(whole(word, -180, 180)) for word in words[3:]]

    def effect(world: World, n: int) -> None:
        to, player = place(world, n), world.player[n]
        if cell_of(to) is not None:
            player["x"], player["y"], player["z"] = to
            player["vx"] = player["vy"] = player["vz"] = player["fall"] = 0.0
            if view:
                player["yaw"], player["pitch"] = view[0], min(90.0, max(-90.0, view[1]))

    return effect


def _effect(words: list[str]) -> Effect:
    if len(words) in (1, 2) and words[0] == "clear":
        return _nothing
    if not 3 <= len(words) <= 6 or words[0] != "give" or words[5:] not in ([], ["true"], ["false"]):
        raise CommandError("expected 'give', the player, an effect, and optionally seconds, a strength and 'true'.")
    name_player(words[1])
    known = ("instant_health", "instant_damage", *_IDLE_EFFECTS)
    kind = known[named(words[2], known, "effect")]
    strength = whole(words[4], 0, 255) if len(words) > 4 else 0
    if len(words) > 3:
        whole(words[3], 1, 1_000_000)

    def effect(world: World, n: int) -> None:
        player, counter = world.player[n], world.counter[n]
        if kind == "instant_health" and player["health"] > 0:
            player["health"] = min(FULL_HEALTH, player["health"] + _INSTANT_HEALTH_HP * 2.0**strength)
        elif kind == "instant_damage" and player["health"] > 0:
            hp = _INSTANT_DAMAGE_HP * 2.0**strength
            player["health"] = max(0.0, player["health"] - hp)
            counter[_SUFFERED] += 10.0 * hp
            counter[_DEATHS] += player["health"] == 0

    return effect


def _clear(words: list[str]) -> Effect:
    if len(words) > 2:
        raise CommandError("expected at most the player and an item.")
    for word in words[:1]:
        name_player(word)
    item = item_named(words[1]) if len(words) == 2 else NO_ITEM

    def effect(world: World, n: int) -> None:
        if item == NO_ITEM:
            empty_slots(world.slot[n])
        for slot in world.slot[n]:
            if slot["item"] == item:
                slot["item"], slot["count"], slot["wear"] = NO_ITEM, 0, 0

    return effect


_TABLE: tuple[tuple[str, Callable[[list[str]], Effect], str], ...] = (
    ("clear", _clear, "/clear [@p [ITEM]]"),
    ("effect", _effect, "/effect give @p EFFECT [SECONDS [STRENGTH]]"),
    ("execute", _execute, "/execute as @p at @p run COMMAND"),
    ("fill", _fill, "/fill X Y Z X Y Z BLOCK [replace|keep]"),
    ("gamerule", _gamerule, "/gamerule RULE VALUE"),
    ("give", _give, "/give @p ITEM [COUNT]"),
    ("kill", _kill, "/kill [@p|@e[type=TYPE]]"),
    ("replaceitem", _replaceitem, "/replaceitem entity @p SLOT ITEM [COUNT]"),
    ("setblock", lambda words: _fill(words, corners=1), "/setblock X Y Z BLOCK [replace|keep]"),
    ("summon", _summon, "/summon MOB [X Y Z [{Age:0}]]"),
    ("teleportbiome", _teleport_biome, "/teleportbiome @a BIOME X ~0 Z"),
    ("time", _time, "/time set TIME"),
    ("tp", _teleport, "/tp [@p] X Y Z [YAW PITCH]"),
    ("weather", _weather, "/weather clear|rain|thunder [SECONDS]"),
)
_COMMANDS = {name: parse for name, parse, _ in _TABLE}
_USAGE_OF = {name: usage for name, _, usage in _TABLE}
USAGE = tuple(_USAGE_OF.values())
"""The usage line of each command."""
