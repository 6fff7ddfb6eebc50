"""A person's keyboard and mouse as MineStudio's actions.

Axes: G groups of `actions.GROUPS`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.actions import (
    BUTTON_TABLE,
    CAMERA_BINS_DEGREES,
    GROUP_NAMES,
    GROUPS,
    NO_CAMERA,
    encode_buttons,
    encode_camera,
    masked_buttons,
)
from mineonline.envs.tasks import ActionMask
from mineonline.web.messages import Key

KEYS: dict[str, tuple[str, str]] = {
    "KeyW": ("W", "forward"), "KeyA": ("A", "left"), "KeyS": ("S", "back"), "KeyD": ("D", "right"),
    "Space": ("Space", "jump"),
    # not Minecraft's Ctrl: with W, it closes the browser's tab
    "ShiftLeft": ("Shift", "sprint"), "KeyC": ("C", "sneak"),
    "Mouse0": ("left button", "attack"), "Mouse2": ("right button", "use"),
    **{f"Digit{slot}": (str(slot), f"hotbar.{slot}") for slot in range(1, 10)},
    "KeyE": ("E", "inventory"),
}  # fmt: skip
"""What browsers call a key (`KeyboardEvent.code`) -> its label, and the button that it presses. No key drops items:
MineStudio's engine is never sent `drop`, and neither is the embedded world."""

_CAMERA, _INVENTORY = GROUP_NAMES.index("camera"), GROUP_NAMES.index("inventory")
_CLICKED = [GROUP_NAMES.index(name) for name in ("hotbar", "use", "attack", "jump", "inventory")]
"""Groups whose buttons act at once: pressed in any tick of a decision, they are part of it."""
_PLACE = {name: (g, k) for g, names in enumerate(GROUPS.values()) for k, name in enumerate(names) if k}


def keys_of(mask: ActionMask) -> list[Key]:
    """Every key, and whether the task lets it do something."""
    forbidden, held = set(mask.forbid), set(mask.hold)
    if held:  # the action that opens the inventory presses nothing else, so a task that holds a key leaves it no room
        forbidden.add("inventory")
    held_groups = {_PLACE[name][0] for name in held if name in _PLACE}
    found = []
    for code, (label, button) in KEYS.items():
        if button in held:
            found.append(Key(code, label, button, "held"))
        elif {button, button.partition(".")[0]} & forbidden or _PLACE[button][0] in held_groups:
            found.append(Key(code, label, button, "forbidden"))
        else:
            found.append(Key(code, label, button, "works"))
    return found


class Controls:
    """What a person presses, tick by tick, and the action of a whole decision that comes closest to it.

    A key that goes down and up between two ticks is pressed in one. The view turns by whole bins of the camera, at most
    10 degrees per axis and tick; what is left of the mouse's movement waits for the next tick.
    """

    def __init__(self, mask: ActionMask) -> None:
        self._masked = masked_buttons(mask.forbid, mask.hold)
        works = [key.button for key in keys_of(mask) if key.state == "works"]
        self._buttons = frozenset(works)
        self.turns = bool((self._masked[:, _CAMERA] == 1).any())
        self._down: dict[str, None] = {}
        """Buttons that are down, in the order of their pressing: of two that exclude each other, the newer counts."""
        self._tapped: dict[str, None] = {}
        """Buttons that went down since the last tick."""
        self._turn = np.zeros(2)
        """Degrees down and right that the mouse moved and the view has not turned yet."""
        self._ticks: list[NDArray[np.int64]] = []
        self._turned = np.zeros(2)
        """Ticks of this decision: choices, and the sum of their turns in degrees."""

    def press(self, button: str, down: bool) -> None:
        """A button goes down or up. One that the task does not allow is ignored."""
        if button not in self._buttons:
            return
        self._down.pop(button, None)
        if down:
            self._down[button] = self._tapped[button] = None

    def turn(self, down: float, right: float) -> None:
        """The mouse moves, in degrees."""
        if self.turns:
            self._turn += (down, right)

    def release(self) -> None:
        """Let go of everything."""
        self._down.clear()
        self._tapped.clear()
        self._turn[:] = 0.0

    def forget(self) -> None:
        """Let go of everything, in a decision that is not ended: its ticks belong to no action."""
        self.release()
        self._ticks = []
        self._turned = np.zeros(2)

    def tick(self) -> tuple[int, int]:
        """The classes of buttons and camera in the next tick."""
        pressed = [*self._down, *(name for name in self._tapped if name not in self._down)]
        self._tapped.clear()
        choice_G = np.zeros(len(GROUPS), np.int64)
        for name in pressed:
            group, k = _PLACE[name]
            choice_G[group] = k
        bins = nearest_bins(self._turn)
        turned = CAMERA_BINS_DEGREES[bins]
        # an open inventory excludes the camera
        if turned.any() and not choice_G[_INVENTORY]:
            choice_G[_CAMERA] = 1
            self._turn -= turned
            self._turned += turned
        self._ticks.append(choice_G)
        return int(encode_buttons(choice_G)), int(encode_camera(*bins)) if choice_G[_CAMERA] else NO_CAMERA

    def decision(self) -> dict[str, int]:
        """The action, among those of the task's mask, that comes closest to the ticks since the last call.

        With one tick it is that tick's. Otherwise a button that acts at once counts if it was pressed in any tick,
        another if it was in at least half of them, and the camera turns by the bins nearest to the sum of all turns.
        ValueError if there was no tick.
        """
        choice_TG, self._ticks = np.stack(self._ticks), []
        choice_G = np.zeros(len(GROUPS), np.int64)
        for g in range(len(GROUPS)):
            counts = np.bincount(choice_TG[:, g])
            counts[0] = 0
            if counts.max() >= (1 if g in _CLICKED else len(choice_TG) / 2):
                choice_G[g] = counts.argmax()
        bins = nearest_bins(self._turned)
        self._turned = np.zeros(2)
        choice_G[_CAMERA] = int(CAMERA_BINS_DEGREES[bins].any())
        allowed_G = self._masked[encode_buttons(choice_G)]
        camera = encode_camera(*bins) if allowed_G[_CAMERA] else NO_CAMERA
        return {"buttons": int(encode_buttons(allowed_G)), "camera": int(camera)}


def nearest_bins(degrees: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bins (0 to 10) whose turn comes closest to each of `degrees`."""
    return np.asarray(np.abs(CAMERA_BINS_DEGREES - degrees[:, None]).argmin(1))


def in_last_tick(buttons: int, mask: ActionMask) -> int:
    """What an agent's `buttons` become in the last tick of a decision: attack is released, unless the task holds it."""
    if "attack" in mask.hold:
        return buttons
    choice_G = BUTTON_TABLE[buttons].copy()
    choice_G[GROUP_NAMES.index("attack")] = 0
    return int(encode_buttons(choice_G))
