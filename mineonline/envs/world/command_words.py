"""Parses the words of chat commands: items, slots, numbers, places. An error says what would be accepted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from mineonline.envs.names import ITEMS
from mineonline.envs.world.blocks import STACK_SIZE
from mineonline.envs.world.state import HEIGHT, OFF_HAND, SIZE, World

Place = tuple[float, float, float]
PLAYERS = ("@p", "@s", "@a")


class CommandError(ValueError):
    """A chat command that this world does not know, or whose arguments it does not know."""


def named(word: str, known: Sequence[str], kind: str) -> int:
    """The index in `known` of a name, with or without `minecraft:`. `kind` is for the error."""
    name = word.removeprefix("minecraft:")
    if name not in known:
        raise CommandError(f"{word!r} is not a known {kind}; this world knows: {', '.join(known)}.")
    return known.index(name)


def item_named(word: str) -> int:
    """The id of an item."""
    return 1 + named(word, ITEMS[1:], "item")


def stack_of(item: int, count: int) -> int:
    """The count; CommandError if a stack of the item cannot have it."""
    if not 1 <= count <= STACK_SIZE[item]:
        raise CommandError(f"a stack of {ITEMS[item]} is 1 to {STACK_SIZE[item]}, not {count}.")
    return count


def whole(word: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if not re.fullmatch(r"[+-]?\d+", word) or not least <= int(word) <= most:
        raise CommandError(f"{word!r} is not a whole number from {least} to {most}.")
    return int(word)


def name_player(word: str) -> None:
    """Refuse a target that is not the world's only player."""
    if word not in PLAYERS:
        raise CommandError(f"{word!r} does not name the player; {', '.join(PLAYERS)} do.")


def slot_named(word: str) -> Callable[[World, int], int]:
    """A function that gives the number of a slot in a world: the main hand depends on the hotbar."""
    if word in ("weapon", "weapon.mainhand"):
        return lambda world, n: int(world.player[n]["hotbar"])
    fixed = {"weapon.offhand": OFF_HAND}
    fixed |= {f"armor.{part}": 36 + i for i, part in enumerate(("feet", "legs", "chest", "head"))}
    kind, _, number = word.partition(".")
    first, size = {"hotbar": (0, 9), "inventory": (9, 27), "container": (0, 36)}.get(kind, (0, 0))
    if word in fixed:
        return lambda world, n: fixed[word]
    if not number.isdecimal() or int(number) >= size:
        raise CommandError(
            f"{word!r} is not a slot; the slots are weapon.mainhand, {', '.join(fixed)}, hotbar.0 to 8, "
            f"inventory.0 to 26 and container.0 to 35."
        )
    return lambda world, n: first + int(number)


def place_of(words: Sequence[str], *, of_blocks: bool) -> Callable[[World, int], Place]:
    """A place from three words: absolute, or relative to the player with ~. `of_blocks`: absolute ones are whole."""
    parsed = []
    for axis, word in zip("xyz", words, strict=True):
        number = word.removeprefix("~")
        relative = number != word
        if not re.fullmatch(
            r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?" if relative or not of_blocks else r"[+-]?\d+",
            number or ("0" if relative else ""),
        ):
            raise CommandError(f"{word!r} is not a valid {axis}; write a number, or ~ and an offset from the player.")
        # a whole number along x or z means the middle of the block
        middle = 0.5 if not relative and not of_blocks and axis != "y" and re.fullmatch(r"[+-]?\d+", number) else 0.0
        parsed.append((axis, relative, float(number or 0) + middle))

    def place(world: World, n: int) -> Place:
        player = world.player[n]
        x, y, z = (value + (float(player[axis]) if relative else 0.0) for axis, relative, value in parsed)
        return x, y, z

    return place


def cell_of(place: Place) -> tuple[int, int, int] | None:
    """The cell of a place, None outside the world."""
    x, y, z = (math.floor(along) for along in place)
    return (x, y, z) if 0 <= x < SIZE and 0 <= y < HEIGHT and 0 <= z < SIZE else None
