"""Blocks and items: Minecraft 1.16's numbers as arrays indexed by id. An id is the index of a name in `names`."""

from __future__ import annotations

import msgspec
import numpy as np

from mineonline.envs.names import BLOCKS, ITEMS, MATERIALS, TOOL_KINDS

BLOCK_ID = {name: number for number, name in enumerate(BLOCKS)}
ITEM_ID = {name: number for number, name in enumerate(ITEMS)}
AIR = BLOCK_ID["air"]
WATER = BLOCK_ID["water"]
NO_ITEM = ITEM_ID["none"]

UNBREAKABLE = np.float32(-1.0)
_PICKAXE, _AXE, _SHOVEL = (TOOL_KINDS.index(kind) + 1 for kind in ("pickaxe", "axe", "shovel"))


class Block(msgspec.Struct, frozen=True):
    """How a block breaks."""

    hardness: float
    tool: int = 0
    """The kind of tool that is fast on it: 1 + its index in TOOL_KINDS, 0 for none."""
    tier: int = 0
    """The lowest tier of that tool with which it drops: 0 hand, 1 wood, 2 stone, 3 iron, 4 diamond."""
    drop: str | None = None
    """What it drops: None for itself, "none" for nothing."""


_BREAKING: dict[str, Block] = {
    "air": Block(-1.0),
    "water": Block(-1.0),
    "bedrock": Block(-1.0),
    "stone": Block(1.5, _PICKAXE, 1, "cobblestone"),
    "cobblestone": Block(2.0, _PICKAXE, 1),
    "dirt": Block(0.5, _SHOVEL),
    "grass_block": Block(0.6, _SHOVEL, 0, "dirt"),
    "sand": Block(0.5, _SHOVEL),
    "sandstone": Block(0.8, _PICKAXE, 1),
    "gravel": Block(0.6, _SHOVEL),
    "snow_block": Block(0.2, _SHOVEL, 1, "snowball"),
    "cactus": Block(0.4),
    "coal_ore": Block(3.0, _PICKAXE, 1, "coal"),
    "iron_ore": Block(3.0, _PICKAXE, 2),
    "gold_ore": Block(3.0, _PICKAXE, 3),
    "diamond_ore": Block(3.0, _PICKAXE, 3, "diamond"),
    "obsidian": Block(50.0, _PICKAXE, 4),
    "crafting_table": Block(2.5, _AXE),
    "furnace": Block(3.5, _PICKAXE, 1),
    "white_wool": Block(0.8),
    **{name: Block(2.0, _AXE) for name in BLOCKS if name.endswith(("_log", "_planks"))},
    **{name: Block(0.2, 0, 0, "none") for name in BLOCKS if name.endswith("_leaves")},
}

HARDNESS = np.array([_BREAKING[name].hardness for name in BLOCKS], np.float32)
BLOCK_TOOL = np.array([_BREAKING[name].tool for name in BLOCKS], np.int64)
BLOCK_TIER = np.array([_BREAKING[name].tier for name in BLOCKS], np.int64)
BLOCK_DROP = np.array([ITEM_ID.get(_BREAKING[name].drop or name, NO_ITEM) for name in BLOCKS], np.int64)
SOLID = np.array([name not in ("air", "water") for name in BLOCKS])

ITEM_BLOCK = np.array([BLOCK_ID.get(name, AIR) for name in ITEMS], np.int64)
"""The block that an item places, AIR if none."""

_SPEED = {"wooden": 2.0, "stone": 4.0, "iron": 6.0, "golden": 12.0, "diamond": 8.0}
_TIER = {"wooden": 1, "stone": 2, "iron": 3, "golden": 1, "diamond": 4}
_USES = {"wooden": 59, "stone": 131, "iron": 250, "golden": 32, "diamond": 1561}
# (hp of a full blow, attacks per second), by material in the order of MATERIALS
_BLOWS = {
    "sword": ((4.0, 1.6), (5.0, 1.6), (6.0, 1.6), (4.0, 1.6), (7.0, 1.6)),
    "axe": ((7.0, 0.8), (9.0, 0.8), (9.0, 0.9), (7.0, 1.0), (9.0, 1.0)),
    "pickaxe": ((2.0, 1.2), (3.0, 1.2), (4.0, 1.2), (2.0, 1.2), (5.0, 1.2)),
    "shovel": ((2.5, 1.0), (3.5, 1.0), (4.5, 1.0), (2.5, 1.0), (5.5, 1.0)),
}
_FIST = (1.0, 4.0)
_TICKS_A_SECOND = 20.0

TOOL_SPEED = np.ones(len(ITEMS), np.float32)
TOOL_KIND = np.zeros(len(ITEMS), np.int64)
TOOL_TIER = np.zeros(len(ITEMS), np.int64)
TOOL_USES = np.zeros(len(ITEMS), np.int64)
"""How often an item can be used before it breaks; 0 if it does not wear."""
BLOW_HP = np.full(len(ITEMS), _FIST[0])
BLOW_TICKS = np.full(len(ITEMS), _TICKS_A_SECOND / _FIST[1])
"""Ticks until a blow has its full strength again."""
STACK_SIZE = np.full(len(ITEMS), 64, np.int64)

for _kind in TOOL_KINDS:
    for _index, _material in enumerate(MATERIALS):
        _item = ITEM_ID[f"{_material}_{_kind}"]
        TOOL_SPEED[_item] = 1.0 if _kind == "sword" else _SPEED[_material]
        TOOL_KIND[_item] = TOOL_KINDS.index(_kind) + 1
        TOOL_TIER[_item] = _TIER[_material]
        TOOL_USES[_item] = _USES[_material]
        BLOW_HP[_item] = _BLOWS[_kind][_index][0]
        BLOW_TICKS[_item] = _TICKS_A_SECOND / _BLOWS[_kind][_index][1]
        STACK_SIZE[_item] = 1
BOW, ARROW = ITEM_ID["bow"], ITEM_ID["arrow"]
TOOL_USES[BOW] = 384
_WORN = ("_helmet", "_chestplate", "_leggings", "_boots")
for _name in ("bow", "flint_and_steel", *(name for name in ITEMS if name.endswith(_WORN))):
    STACK_SIZE[ITEM_ID[_name]] = 1
STACK_SIZE[ITEM_ID["snowball"]] = 16
