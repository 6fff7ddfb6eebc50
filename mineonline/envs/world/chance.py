"""The random numbers of one world (splitmix64); their state is one integer in the player's record."""

from __future__ import annotations

import math

import numpy as np

from mineonline.envs.world.jit import kernel
from mineonline.envs.world.state import Record

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_TO_UNIT = 1.0 / (1 << 53)


@kernel
def mix(number: np.uint64) -> np.uint64:
    """A number each of whose bits depends on every bit of the given one."""
    number = (number ^ (number >> np.uint64(30))) * _MIX_1
    number = (number ^ (number >> np.uint64(27))) * _MIX_2
    return number ^ (number >> np.uint64(31))


@kernel
def uniform(player: Record) -> float:
    """The world's next random number, in [0, 1)."""
    player.rng = np.uint64(player.rng) + _GOLDEN
    return float(mix(np.uint64(player.rng)) >> np.uint64(11)) * _TO_UNIT


@kernel
def below(player: Record, limit: int) -> int:
    """A random integer in 0 .. limit - 1."""
    return int(uniform(player) * limit)


@kernel
def gauss(player: Record) -> float:
    """A random number from the standard normal distribution."""
    return math.sqrt(-2.0 * math.log(1.0 - uniform(player))) * math.cos(2.0 * math.pi * uniform(player))


@kernel
def lattice(seed: np.uint64, x: int, z: int) -> float:
    """A number in [0, 1) that is fixed for a seed and a point of the plane."""
    key = np.uint64(seed) + np.uint64(x + 100_000) * _GOLDEN + np.uint64(z + 100_000) * _MIX_1
    return float(mix(key) >> np.uint64(11)) * _TO_UNIT
