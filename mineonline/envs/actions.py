"""MineStudio's agent actions: `buttons` (8641 classes) and `camera` (121 classes), and what each class means.

A button class is one choice in each of nine groups, numbered in product order (the last group varies fastest), or
class 8640, which opens the inventory and excludes everything else. The camera class has an effect only where the choice
in the last group is `camera`. Axes: G groups, K classes.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike, NDArray

GROUPS: dict[str, tuple[str, ...]] = {
    "hotbar": ("none", *(f"hotbar.{slot}" for slot in range(1, 10))),
    "fore_back": ("none", "forward", "back"),
    "left_right": ("none", "left", "right"),
    "sprint_sneak": ("none", "sprint", "sneak"),
    "use": ("none", "use"),
    "drop": ("none", "drop"),
    "attack": ("none", "attack"),
    "jump": ("none", "jump"),
    "camera": ("none", "camera"),
    "inventory": ("none", "inventory"),
}
"""Group -> its choices in MineStudio's order. `inventory` is outside the product: it excludes all others."""

GROUP_NAMES = tuple(GROUPS)
GROUP_SIZES = tuple(len(choices) for choices in GROUPS.values())
BUTTON_NAMES = ("hotbar", *(choice for choices in GROUPS.values() for choice in choices if choice != "none"))
"""What a task may forbid or hold; `hotbar` means all nine hotbar keys."""

NUM_BUTTONS = 8641
NUM_CAMERA = 121
NUM_CLASSES = {"buttons": NUM_BUTTONS, "camera": NUM_CAMERA}
"""Of each action, as in an `EnvSpec`."""
INVENTORY = 8640
NO_BUTTONS = 0
NO_CAMERA = 60

_PRODUCT_SIZES = GROUP_SIZES[:-1]
_STRIDES = np.array([int(np.prod(_PRODUCT_SIZES[g + 1 :], dtype=np.int64)) for g in range(len(_PRODUCT_SIZES))])


def _button_table() -> NDArray[np.int64]:
    table_KG = np.zeros((NUM_BUTTONS, len(GROUPS)), np.int64)
    table_KG[:INVENTORY, :-1] = np.arange(INVENTORY)[:, None] // _STRIDES % np.array(_PRODUCT_SIZES)
    table_KG[INVENTORY, -1] = 1
    return table_KG


BUTTON_TABLE = _button_table()
"""`[8641, G]`: the choice that a class makes in each group of `GROUPS`."""


def _camera_bins(bins: int = 11, largest_degrees: float = 10.0, mu: float = 10.0) -> NDArray[np.float64]:
    """Centres of the bins in degrees: evenly spaced after mu-law companding, dense around 0."""
    companded = np.linspace(-1.0, 1.0, bins)
    return largest_degrees * np.sign(companded) * ((1.0 + mu) ** np.abs(companded) - 1.0) / mu


CAMERA_BINS_DEGREES = _camera_bins()
"""`[11]`, from -10 to 10 degrees per tick."""

CAMERA_DEGREES = np.stack([np.repeat(CAMERA_BINS_DEGREES, 11), np.tile(CAMERA_BINS_DEGREES, 11)], axis=1)
"""`[121, 2]`: pitch (positive looks down) and yaw (positive turns right) of each camera class, in degrees per tick."""


def encode_buttons(choice_G: ArrayLike) -> NDArray[np.int64]:
    """Classes of group choices `[..., G]`, over any leading axes; the inverse of `BUTTON_TABLE[class]`.

    The last group (`inventory`) may be left out; where it is 1, it overrides all others. ValueError if a choice is
    outside its group.
    """
    choice = np.asarray(choice_G, np.int64)
    groups = choice.shape[-1]
    if groups not in (len(GROUPS) - 1, len(GROUPS)):
        raise ValueError(f"choices were given for {groups} groups, but there are {len(GROUPS)}: {', '.join(GROUPS)}")
    if (choice < 0).any() or (choice >= np.array(GROUP_SIZES[:groups])).any():
        raise ValueError(f"a choice is outside its group; the groups have {GROUP_SIZES[:groups]} choices")
    product_class = choice[..., : len(_STRIDES)] @ _STRIDES
    if groups == len(GROUPS):
        return np.where(choice[..., -1] == 1, INVENTORY, product_class)
    return np.asarray(product_class)


def encode_camera(pitch_bin: ArrayLike, yaw_bin: ArrayLike) -> NDArray[np.int64]:
    """Camera classes of pitch and yaw bins 0..10 (5 stands still), of any shape."""
    return 11 * np.asarray(pitch_bin, np.int64) + np.asarray(yaw_bin, np.int64)


def checked_classes(classes: ArrayLike, limit: int, name: str) -> NDArray[np.int64]:
    """The classes of the action `name`. ValueError if one is not 0 to `limit` - 1.

    Without this check, numpy would look up a negative class from the end of a table.
    """
    found = np.asarray(classes)
    if found.size and (found.min() < 0 or found.max() >= limit):
        raise ValueError(f"action {name!r} must be 0 to {limit - 1}, but it ranges from {found.min()} to {found.max()}")
    return found


def masked_buttons(forbidden: Collection[str], held: Collection[str] = ()) -> NDArray[np.int64]:
    """`BUTTON_TABLE` after a task's mask: forbidden buttons are never pressed, held ones always.

    Like MineStudio's MaskActionsCallback, which overwrites the keys of an action. Names are those of `BUTTON_NAMES`;
    KeyError for any other.
    """
    table_KG = BUTTON_TABLE.copy()
    for name in forbidden:
        group, choices = _choices_of(name)
        table_KG[np.isin(table_KG[:, group], choices), group] = 0
    for name in held:
        group, choices = _choices_of(name)
        table_KG[:, group] = choices[0]
    return table_KG


def legal_buttons(forbidden: Collection[str], held: Collection[str] = ()) -> NDArray[np.bool_]:
    """`[8641]`: the classes that a task's mask leaves unchanged; every other class acts like one of them."""
    return np.asarray((masked_buttons(forbidden, held) == BUTTON_TABLE).all(axis=1))


def group_of(name: str) -> str:
    """The group of a button, one of `BUTTON_NAMES`."""
    return GROUP_NAMES[_choices_of(name)[0]]


def _choices_of(name: str) -> tuple[int, list[int]]:
    if name == "hotbar":
        return 0, list(range(1, GROUP_SIZES[0]))
    for group, choices in enumerate(GROUPS.values()):
        if name in choices[1:]:
            return group, [choices.index(name)]
    raise KeyError(f"no button is called {name!r}; the buttons are {', '.join(BUTTON_NAMES)}")
