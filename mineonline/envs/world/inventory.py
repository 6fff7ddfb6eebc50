"""What the player carries, and the dropped items on the ground."""

from __future__ import annotations

import numpy as np

from mineonline.envs.names import ITEMS
from mineonline.envs.world.blocks import NO_ITEM, STACK_SIZE, TOOL_KIND, TOOL_USES
from mineonline.envs.world.chance import uniform
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.physics import Blocks, fall_and_slow, is_water, move_body, view_direction
from mineonline.envs.world.state import COUNTERS, MAX_DROPS, Counter, Record, Records, first_column

PICKUP = first_column("pickup")
USE = first_column("use_item")
_THROWN = COUNTERS["custom", "drop"]
_BREAK = np.array([COUNTERS.get(("break_item", item), -1) for item in ITEMS])

_MAIN_SLOTS = 36
_DROP_HALF_WIDTH = 0.125
_DROP_HEIGHT = 0.25
_DESPAWN_TICKS = 6000
_DELAY_TICKS = 10
_THROWN_DELAY_TICKS = 40


@kernel
def held_item(slot: Records, player: Record) -> int:
    """The item in the main hand, NO_ITEM for none."""
    return int(slot[player.hotbar].item)


@kernel
def add(slot: Records, item: int, count: int, wear: int) -> int:
    """Put items into the first 36 slots, onto stacks of their kind first; returns how many did not fit."""
    limit = STACK_SIZE[item]
    for s in range(_MAIN_SLOTS):
        if slot[s].item == item and slot[s].count < limit:
            moved = min(count, limit - slot[s].count)
            slot[s].count += moved
            count -= moved
    for s in range(_MAIN_SLOTS):
        if count > 0 and slot[s].item == NO_ITEM:
            moved = min(count, limit)
            slot[s].item, slot[s].count, slot[s].wear = item, moved, wear
            count -= moved
    return count


@kernel
def take_one(slot: Record) -> None:
    """Remove one item from a slot."""
    slot.count -= 1
    if slot.count <= 0:
        slot.item, slot.count, slot.wear = NO_ITEM, 0, 0


@kernel
def wear_out(slot: Record, wear: int, counter: Counter) -> None:
    """Count one use of an item and add to its wear; after its last use it breaks."""
    item = slot.item
    counter[USE + item - 1] += 1
    slot.wear += wear
    if slot.wear >= TOOL_USES[item]:
        counter[_BREAK[item]] += 1
        take_one(slot)


@kernel
def use_tool(slot: Record, wear: int, counter: Counter) -> None:
    """`wear_out` for a blow or a broken block, which wear only tools and swords."""
    if TOOL_KIND[slot.item] > 0:
        wear_out(slot, wear, counter)


@kernel
def lay_down(drop: Records, x: float, y: float, z: float, item: int, count: int, player: Record) -> int:
    """Drop a stack on the ground, with a little hop; returns its index in `drop`. If that is full, the oldest goes."""
    index = 0
    for d in range(MAX_DROPS):
        if drop[d].item == NO_ITEM:
            index = d
            break
        if drop[d].age > drop[index].age:
            index = d
    stack = drop[index]
    stack.x, stack.y, stack.z = x, y, z
    stack.vx, stack.vy, stack.vz = 0.2 * uniform(player) - 0.1, 0.2, 0.2 * uniform(player) - 0.1
    stack.item, stack.count, stack.wear = item, count, 0
    stack.age, stack.delay, stack.on_ground, stack.bumped = 0, _DELAY_TICKS, 0, 0
    return index


@kernel
def throw_held(slot: Records, drop: Records, player: Record, counter: Counter) -> None:
    """The drop key: throw one item from the hand ahead."""
    hand = slot[player.hotbar]
    if hand.item == NO_ITEM:
        return
    stack = drop[lay_down(drop, player.x, player.y + 1.3, player.z, hand.item, 1, player)]
    dx, dy, dz = view_direction(player)
    stack.vx, stack.vy, stack.vz = 0.3 * dx, 0.3 * dy + 0.1, 0.3 * dz
    stack.wear, stack.delay = hand.wear, _THROWN_DELAY_TICKS
    counter[_THROWN] += 1
    take_one(hand)


@kernel
def within_reach(player: Record, thing: Record) -> bool:
    """Whether a thing touches the player's box, extended by 1 block sideways and half a block up and down."""
    aside = max(abs(thing.x - player.x), abs(thing.z - player.z))
    return bool(aside <= 1.425 and -0.75 <= thing.y - player.y <= 2.3)


@kernel
def move_drops(block: Blocks, drop: Records, slot: Records, player: Record, counter: Counter) -> None:
    """One tick of the dropped items: they fall, are picked up, or vanish after five minutes."""
    for d in range(MAX_DROPS):
        stack = drop[d]
        if stack.item == NO_ITEM:
            continue
        stack.age += 1
        stack.delay = max(0, stack.delay - 1)
        stood = stack.on_ground
        stack.in_water = is_water(block, stack.x, stack.y, stack.z)
        move_body(block, stack, _DROP_HALF_WIDTH, _DROP_HEIGHT)
        fall_and_slow(stack, stood)
        if stack.delay == 0 and within_reach(player, stack):
            left = add(slot, stack.item, stack.count, stack.wear)
            counter[PICKUP + stack.item - 1] += stack.count - left
            stack.count = left
        if stack.count <= 0 or stack.age > _DESPAWN_TICKS:
            stack.item = NO_ITEM
