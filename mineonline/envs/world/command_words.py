"""The words of chat commands: items, slots, numbers, places. Each is refused with what may stand there."""

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
    """A chat command that this world does not know, or with arguments that it does not know."""


def named(word: str, known: Sequence[str], kind: str) -> int:
    """The place of a name, with or without `minecraft:`, among those that are known. `kind` is for the error."""
    name = word.removeprefix("minecraft:")
    if name not in known:
        raise CommandError(f"{word!r} is no {kind} of this world; there are: {', '.join(known)}.")
    return known.index(name)


def item_named(word: str) -> int:
    """The id of an item."""
    return 1 + named(word, ITEMS[1:], "item")


def stack_of(item: int, count: int) -> int:
    """The count, refused if no stack of the item is so large."""
    if not 1 <= count <= STACK_SIZE[item]:
        raise CommandError(f"a stack of {ITEMS[item]} is 1 to {STACK_SIZE[item]}, not {count}.")
    return count


def whole(word: str, least: int, most: int) -> int:
    """A whole number."""
    if not re.fullmatch(r"[+-]?\d+", word) or not least <= int(word) <= most:
        raise CommandError(f"{word!r} is no whole number from {least} to {most}.")
    return int(word)


def name_player(word: str) -> None:
    """Refuse a target that is not the world's only player."""
    if word not in PLAYERS:
        raise CommandError(f"{word!r} does not name the player; {', '.join(PLAYERS)} do.")


def slot_named(word: str) -> Callable[[World, int], int]:
    """The number of a slot in a world; that of the main hand depends on the hotbar."""
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
            f"{word!r} is no slot; there are weapon.mainhand, {', '.join(fixed)}, hotbar.0 to 8, "
            f"inventory.0 to 26 and container.0 to 35."
        )
    return lambda world, n: first + int(number)


def place_of(words: Sequence[str], *, of_blocks: bool) -> Callable[[World, int], Place]:
    """A place from three words: absolute, or with ~ from the player. `of_blocks` takes whole numbers only."""
    parsed = []
    for axis, word in zip("xyz", words, strict=True):
        number = word.removeprefix("~")
        relative = number != word
        if not re.fullmatch(
            r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?" if relative or not of_blocks else r"[+-]?\d+",
            number or ("0" if relative else ""),
        ):
            raise CommandError(f"{word!r} is no {axis}; write a number, or ~ and a number from where the player is.")
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
