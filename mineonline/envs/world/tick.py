"""One tick of a world, and one decision in N worlds: what a call of `WorldEnv.step` computes before it draws.

Axes: N worlds, G groups of buttons, R reward rules, C counters of a rule, K counters.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.actions import GROUP_NAMES
from mineonline.envs.world.bow import move_arrows
from mineonline.envs.world.combat import REACH as MOB_REACH
from mineonline.envs.world.combat import look_at_mob, strike
from mineonline.envs.world.inventory import move_drops, throw_held
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.mining import NOTHING, look_at_block, mine
from mineonline.envs.world.mining import REACH as BLOCK_REACH
from mineonline.envs.world.mobs import move_mobs
from mineonline.envs.world.physics import Blocks, eye_height, is_water, move_player
from mineonline.envs.world.portal import portal_score
from mineonline.envs.world.state import COUNTERS, FULL_AIR_TICKS, FULL_HEALTH, Counter, Record, Records, World
from mineonline.envs.world.use import use

_HOTBAR, _FORE_BACK, _LEFT_RIGHT, _SPRINT_SNEAK, _USE, _DROP, _ATTACK, _JUMP, _CAMERA, _INVENTORY = (
    GROUP_NAMES.index(name)
    for name in (
        "hotbar", "fore_back", "left_right", "sprint_sneak", "use", "drop", "attack", "jump", "camera", "inventory",
    )
)  # fmt: skip

_JUMPED = COUNTERS["custom", "jump"]
_WALKED = COUNTERS["custom", "walk_one_cm"]
_SUFFERED = COUNTERS["custom", "damage_taken"]
_DEATHS = COUNTERS["custom", "deaths"]
_SAFE_FALL = 3.0
_HEAL_TICKS = 80
_DRAWING_PACE = 0.2
_DROWN_TICKS = 20
_DROWN_HP = 2.0


class Rules(NamedTuple):
    """A task's rewards as arrays."""

    column: NDArray[np.int64]
    """[R, C] columns of `World.counter`, padded with -1"""
    reward: NDArray[np.float64]
    """[R]"""
    most: NDArray[np.float64]
    """[R] most payments, or units, in an episode"""
    per_unit: NDArray[np.bool_]
    """[R]"""
    portal: bool
    """Whether the portal score pays as well."""


class Scores(NamedTuple):
    """Results of the current episodes so far; the first three fields are of the last decision only."""

    reward: NDArray[np.float32]
    """[N]"""
    terminated: NDArray[np.bool_]
    """[N]"""
    truncated: NDArray[np.bool_]
    """[N]"""
    seen: NDArray[np.float64]
    """[N, R, C] the counters at the last tick"""
    paid: NDArray[np.float64]
    """[N, R] payments, or units, in the episode so far"""
    portal: NDArray[np.float64]
    """[N] the portal score at the last tick"""


@kernel
def _steer(player: Record, choice: NDArray[np.int64]) -> None:
    """Hotbar keys, sneaking and sprinting."""
    if choice[_HOTBAR] > 0 and choice[_HOTBAR] - 1 != player.hotbar:
        player.hotbar = choice[_HOTBAR] - 1
        player.since_blow = 0
    forward = choice[_FORE_BACK] == 1
    player.sneaking = choice[_SPRINT_SNEAK] == 2
    wants_sprint = choice[_SPRINT_SNEAK] == 1 or player.sprinting
    free = not player.sneaking and not player.bumped and player.draw_slot == NOTHING
    player.sprinting = wants_sprint and forward and free


@kernel
def turn_camera(player: Record, pitch_degrees: float, yaw_degrees: float) -> None:
    """Move the view; it stops straight up and straight down."""
    player.pitch = max(-90.0, min(90.0, player.pitch + pitch_degrees))
    player.yaw = (player.yaw + yaw_degrees + 540.0) % 360.0 - 180.0


@kernel
def _suffer(player: Record, counter: Counter, hp: float) -> None:
    player.health = max(0.0, player.health - hp)
    player.hurt = 10
    counter[_SUFFERED] += math.floor(10.0 * hp + 0.5)
    if player.health <= 0:
        counter[_DEATHS] += 1


@kernel
def _survive(block: Blocks, player: Record, counter: Counter) -> None:
    """Apply damage from falls and drowning, and healing over time."""
    if player.on_ground or player.in_water:
        if player.fall > _SAFE_FALL:
            _suffer(player, counter, math.ceil(player.fall - _SAFE_FALL))
        player.fall = 0.0
    if is_water(block, player.x, player.y + eye_height(player), player.z):
        player.air -= 1
        if player.air <= -_DROWN_TICKS:
            player.air = 0
            _suffer(player, counter, _DROWN_HP)
    else:
        player.air = min(FULL_AIR_TICKS, player.air + 4)
    player.mending = player.mending + 1 if 0 < player.health < FULL_HEALTH else 0
    if player.mending >= _HEAL_TICKS:
        player.health, player.mending = min(FULL_HEALTH, player.health + 1.0), 0


@kernel
def _press_keys(slot: Records, drop: Records, player: Record, counter: Counter, choice: NDArray[np.int64]) -> None:
    """The keys that act only when they are pressed down: inventory and drop."""
    if choice[_INVENTORY] == 1 and not player.inventory_down:
        player.gui_open = 1 - player.gui_open
    if choice[_DROP] == 1 and not player.drop_down and not player.gui_open:
        throw_held(slot, drop, player, counter)
    player.inventory_down, player.drop_down = choice[_INVENTORY], choice[_DROP]


@kernel
def _attack(
    block: Blocks, roof: Blocks, mobs: Records, drop: Records, slot: Records, player: Record, counter: Counter,
    held_down: bool,
) -> None:  # fmt: skip
    """The attack button: when pressed down, it strikes or starts mining; while held, it mines."""
    cell, distance, _ = look_at_block(block, player, BLOCK_REACH)
    victim = NOTHING
    if held_down and not player.attack_down:
        victim = look_at_mob(mobs, player, min(distance, MOB_REACH))
        strike(mobs, drop, slot, player, counter, victim, cell != NOTHING)
    mine(block, roof, slot, drop, player, counter, held_down and victim == NOTHING, cell)
    player.attack_down = held_down


@kernel
def _walk(block: Blocks, player: Record, counter: Counter, choice: NDArray[np.int64], free: bool) -> None:
    """The movement keys; they do nothing unless the player is `free`."""
    x, z, stood = player.x, player.z, player.on_ground
    pace = 0.0 if not free else 1.0 if player.draw_slot == NOTHING else _DRAWING_PACE
    forward = pace if choice[_FORE_BACK] == 1 else -pace if choice[_FORE_BACK] == 2 else 0.0
    left = pace if choice[_LEFT_RIGHT] == 1 else -pace if choice[_LEFT_RIGHT] == 2 else 0.0
    move_player(block, player, forward, left, free and choice[_JUMP] == 1)
    counter[_WALKED] += 100.0 * math.sqrt((player.x - x) ** 2 + (player.z - z) ** 2)
    if stood and player.jump_delay == 10:
        counter[_JUMPED] += 1


@kernel
def tick(world: World, n: int, choice: NDArray[np.int64], pitch_degrees: float, yaw_degrees: float) -> None:
    """Run one tick, a twentieth of a second, of world n. `choice` holds one choice per group of `actions.GROUPS`."""
    block, roof, tile_roof = world.block[n], world.roof[n], world.tile_roof[n]
    mobs, drop, arrow, slot = world.mob[n], world.drop[n], world.arrow[n], world.slot[n]
    player, counter = world.player[n], world.counter[n]
    player.tick += 1
    player.since_blow += 1
    player.swing = max(0, player.swing - 1)
    player.hurt = max(0, player.hurt - 1)
    _press_keys(slot, drop, player, counter, choice)
    free = not player.gui_open
    if free:
        turn_camera(player, pitch_degrees, yaw_degrees)
        _steer(player, choice)
    # a player who is drawing a bow cannot strike
    attack = free and choice[_ATTACK] == 1 and player.draw_slot == NOTHING
    _attack(block, roof, mobs, drop, slot, player, counter, attack)
    use(block, roof, tile_roof, mobs, arrow, slot, player, counter, free and choice[_USE] == 1)
    _walk(block, player, counter, choice, free)
    move_mobs(block, mobs, player)
    move_arrows(block, arrow, mobs, drop, slot, player, counter)
    move_drops(block, drop, slot, player, counter)
    _survive(block, player, counter)


@kernel
def live(world: World, n: int, choice: NDArray[np.int64], pitch_degrees: float, yaw_degrees: float, ticks: int) -> None:
    """Run `tick` this many times; the camera moves in each."""
    for _ in range(ticks):
        tick(world, n, choice, pitch_degrees, yaw_degrees)


@kernel
def _pay(rules: Rules, counter: Counter, seen: NDArray[np.float64], paid: NDArray[np.float64]) -> float:
    """The reward of a tick, as in MineStudio's RewardsCallback: a rule whose counters rose pays once, or per unit."""
    total = 0.0
    for r in range(rules.column.shape[0]):
        rise = 0.0
        for c in range(rules.column.shape[1]):
            column = rules.column[r, c]
            if column >= 0:
                rise += counter[column] - seen[r, c]
                seen[r, c] = counter[column]
        if rise > 0:
            units = min(rise if rules.per_unit[r] else 1.0, rules.most[r] - paid[r])
            paid[r] += units
            total += units * rules.reward[r]
    return total


@kernel
def advance(
    world: World, rules: Rules, scores: Scores, choice_NG: NDArray[np.int64], last_choice_NG: NDArray[np.int64],
    camera_N2: NDArray[np.float64], active_N: NDArray[np.bool_], first_tick: int, end_tick: int, repeat: int,
) -> None:  # fmt: skip
    """Run ticks `first_tick` to `end_tick` - 1 of a decision of `repeat` ticks, in every active world until it ends.

    The camera moves in a decision's first tick only; its last tick uses `last_choice_NG`.
    """
    for n in range(active_N.shape[0]):
        if first_tick == 0:
            scores.reward[n], scores.terminated[n], scores.truncated[n] = 0.0, False, False
        if not active_N[n]:
            continue
        player = world.player[n]
        for t in range(first_tick, end_tick):
            if scores.terminated[n] or scores.truncated[n]:
                break
            choice = last_choice_NG[n] if t == repeat - 1 else choice_NG[n]
            moves = 1.0 if t == 0 else 0.0
            tick(world, n, choice, moves * camera_N2[n, 0], moves * camera_N2[n, 1])
            earned = _pay(rules, world.counter[n], scores.seen[n], scores.paid[n])
            if rules.portal:
                score = portal_score(world.block[n], player)
                earned += score - scores.portal[n]
                scores.portal[n] = score
            scores.reward[n] += earned
            scores.terminated[n] = player.health <= 0
            scores.truncated[n] = player.tick >= player.time_limit and not scores.terminated[n]
