"""The use button: it places blocks from either hand and draws the bow."""

from __future__ import annotations

from mineonline.envs.world.blocks import AIR, BOW, ITEM_BLOCK
from mineonline.envs.world.bow import find_arrow, shoot
from mineonline.envs.world.combat import REACH as MOB_REACH
from mineonline.envs.world.combat import look_at_mob
from mineonline.envs.world.inventory import USE, take_one
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.mining import NOTHING, look_at_block
from mineonline.envs.world.mining import REACH as BLOCK_REACH
from mineonline.envs.world.mobs import BODY
from mineonline.envs.world.physics import PLAYER_HALF_WIDTH, PLAYER_HEIGHT, Blocks
from mineonline.envs.world.state import OFF_HAND, STRIDE_X, STRIDE_Z, Counter, Record, Records
from mineonline.envs.world.terrain import measure_column

_DELAY_TICKS = 4
_SWING_TICKS = 6
_TOUCH = 1e-7


@kernel
def _fills(body: Record, half_width: float, height: float, x: int, y: int, z: int) -> bool:
    """Whether a body is in a cell; touching its side does not count."""
    return bool(
        x - half_width + _TOUCH < body.x < x + 1 + half_width - _TOUCH
        and y - height + _TOUCH < body.y < y + 1 - _TOUCH
        and z - half_width + _TOUCH < body.z < z + 1 + half_width - _TOUCH
    )


@kernel
def _has_room(mobs: Records, player: Record, cell: int) -> bool:
    x, z, y = cell // STRIDE_X, cell % STRIDE_X // STRIDE_Z, cell % STRIDE_Z
    if _fills(player, PLAYER_HALF_WIDTH, PLAYER_HEIGHT, x, y, z):
        return False
    for m in range(mobs.shape[0]):
        kind = mobs[m].kind
        if kind >= 0 and _fills(mobs[m], BODY[kind, 0], BODY[kind, 1], x, y, z):
            return False
    return True


@kernel
def _use_hands(
    block: Blocks, roof: Blocks, tile_roof: Blocks, mobs: Records, slot: Records, player: Record, counter: Counter
) -> None:
    """Use the main hand or, if that does nothing, the off hand.

    A block goes in front of the face that the player looks at. If there is no room for it, nothing happens and the off
    hand is not used either, as in Minecraft. The cell in front of a face is never solid: it holds air or water.
    """
    looked_at, distance, before = look_at_block(block, player, BLOCK_REACH)
    sees_face = looked_at != NOTHING and look_at_mob(mobs, player, min(distance, MOB_REACH)) == NOTHING
    for attempt in range(2):
        hand = player.hotbar if attempt == 0 else OFF_HAND
        item = slot[hand].item
        if ITEM_BLOCK[item] != AIR and sees_face:
            if before != NOTHING and _has_room(mobs, player, before):
                block[before] = ITEM_BLOCK[item]
                measure_column(block, roof, tile_roof, player, before // STRIDE_X, before % STRIDE_X // STRIDE_Z)
                counter[USE + item - 1] += 1
                take_one(slot[hand])
                player.swing = _SWING_TICKS
            return
        if item == BOW and find_arrow(slot) != NOTHING:
            player.draw_slot, player.draw_ticks = hand, 0
            return


@kernel
def use(
    block: Blocks, roof: Blocks, tile_roof: Blocks, mobs: Records, arrow: Records, slot: Records, player: Record,
    counter: Counter, held_down: bool,
) -> None:  # fmt: skip
    """One tick of the use button: it acts when pressed down and every fourth tick after that, but not while mining."""
    fresh = held_down and not player.use_down
    player.use_down = held_down
    player.use_delay = max(0, player.use_delay - 1)
    in_hand = player.draw_slot == player.hotbar or player.draw_slot == OFF_HAND
    if player.draw_slot != NOTHING and not (in_hand and slot[player.draw_slot].item == BOW):
        player.draw_slot, player.draw_ticks = NOTHING, 0
    if player.draw_slot != NOTHING and not held_down:
        shoot(arrow, slot, player, counter)
    elif player.draw_slot == NOTHING and player.target == NOTHING and (fresh or (held_down and player.use_delay == 0)):
        player.use_delay = _DELAY_TICKS
        _use_hands(block, roof, tile_roof, mobs, slot, player, counter)
    if player.draw_slot != NOTHING:
        player.draw_ticks += 1
