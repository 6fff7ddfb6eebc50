"""The names used in tasks and infos: Minecraft 1.16's, without the `minecraft:` prefix, as MineStudio reports them.

Pure data without numba, so that a task can be checked before anything is compiled. The position of a name is its id
in the embedded world.
"""

from __future__ import annotations

BIOMES = ("plains", "forest", "birch_forest", "taiga", "snowy_taiga", "savanna", "desert", "mountains")

_WOODS = ("oak", "birch", "spruce", "acacia")

BLOCKS = (
    "air",
    "water",
    "bedrock",
    "stone",
    "cobblestone",
    "dirt",
    "grass_block",
    "sand",
    "sandstone",
    "gravel",
    "snow_block",
    "cactus",
    "coal_ore",
    "iron_ore",
    "gold_ore",
    "diamond_ore",
    "obsidian",
    "crafting_table",
    "furnace",
    "white_wool",
    *(f"{wood}_log" for wood in _WOODS),
    *(f"{wood}_leaves" for wood in _WOODS),
    *(f"{wood}_planks" for wood in _WOODS),
)

MATERIALS = ("wooden", "stone", "iron", "golden", "diamond")
TOOL_KINDS = ("sword", "pickaxe", "axe", "shovel")
TOOLS = tuple(f"{material}_{kind}" for kind in TOOL_KINDS for material in MATERIALS)

FOODS = ("apple", "bread", "beef", "porkchop", "mutton")

ARMOUR = tuple(
    f"{material}_{part}" for material in ("iron", "diamond") for part in ("helmet", "chestplate", "leggings", "boots")
)

ITEMS = (
    "none",
    *(name for name in BLOCKS if name not in ("air", "water", "bedrock")),
    *TOOLS,
    *FOODS,
    *ARMOUR,
    "stick",
    "coal",
    "diamond",
    "iron_ingot",
    "gold_ingot",
    "leather",
    "feather",
    "string",
    "flint",
    "snowball",
    "bow",
    "arrow",
    "flint_and_steel",
)
"""`none` is an empty slot, as in MineStudio's inventory."""

MOBS = ("cow", "pig", "sheep")

CUSTOM = ("jump", "walk_one_cm", "damage_dealt", "damage_taken", "mob_kills", "deaths", "drop")
"""The Minecraft statistics that the embedded world keeps; the two kinds of damage are in tenths of 1 hp, as there."""

EVENTS: dict[str, tuple[str, ...]] = {
    "mine_block": BLOCKS[1:],
    "kill_entity": MOBS,
    "damage_dealt": MOBS,
    "pickup": ITEMS[1:],
    "craft_item": ITEMS[1:],
    "use_item": ITEMS[1:],
    "break_item": (*TOOLS, "bow"),
    "custom": CUSTOM,
}
"""Event -> the objects that it can happen to. `damage_dealt` counts hp, all others count occurrences."""
