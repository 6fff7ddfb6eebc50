"""The HUD over the view: hearts, hotbar, hand, crosshair, and the inventory when it is open.

It is laid out on a screen of 320x180 units, Minecraft's at 640x360 with GUI scale 2, and sampled at any picture size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.world.blocks import NO_ITEM
from mineonline.envs.world.bow import draw_power
from mineonline.envs.world.inventory import held_item
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.state import FULL_HEALTH, OFF_HAND, Record, Records
from mineonline.envs.world.view import Image

WIDTH, HEIGHT = 320.0, 180.0
_BAR_LEFT, _BAR_TOP, _SLOT = 69.0, 158.0, 20.0
_HEARTS_TOP, _HEART = 146.0, 8.0
_HAND_LEFT, _HAND_TOP, _HAND = 226.0, 106.0, 76.0
_OFF_HAND_LEFT, _OFF_HAND_TOP, _OFF_HAND = 8.0, 126.0, 52.0
_PANEL_LEFT, _PANEL_TOP = 69.0, 40.0
_SWING_TICKS = 6.0

_FRAME, _BACK, _CHOSEN = (150.0, 150.0, 150.0), (70.0, 70.0, 70.0), (255.0, 255.0, 255.0)
_HEART_FULL, _HEART_EMPTY = (220.0, 24.0, 24.0), (40.0, 12.0, 12.0)
_SKIN = (206.0, 158.0, 122.0)
_BLOOD, _DEEP = (180.0, 0.0, 0.0), (20.0, 50.0, 150.0)
_DARK = (16.0, 16.0, 16.0)

_HEART_SHAPE = np.array(
    [[int(letter) for letter in row] for row in ("0110110", "1111111", "1111111", "0111110", "0011100", "0001000")]
)


@kernel
def _blend(image: Image, row: int, column: int, colour: tuple[float, float, float], share: float) -> None:
    for c in range(3):
        image[row, column, c] = image[row, column, c] * (1.0 - share) + colour[c] * share


@kernel
def _blend_all(image: Image, colour: tuple[float, float, float], share: float) -> None:
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            _blend(image, row, column, colour, share)


@kernel
def _pixels(image: Image, left: float, top: float, width: float, height: float) -> tuple[int, int, int, int]:
    """Rows and columns (from, to) of the pixels whose middles are in a rectangle, given in units."""
    rows, columns = image.shape[0], image.shape[1]
    return (
        max(0, math.ceil(top * rows / HEIGHT - 0.5)), min(rows, math.ceil((top + height) * rows / HEIGHT - 0.5)),
        max(0, math.ceil(left * columns / WIDTH - 0.5)),
        min(columns, math.ceil((left + width) * columns / WIDTH - 0.5)),
    )  # fmt: skip


@kernel
def _draw_icon(image: Image, icon: NDArray[np.uint8], left: float, top: float, size: float, mirrored: bool) -> None:
    """Draw an icon, scaled to `size` units a side."""
    first_row, end_row, first_column, end_column = _pixels(image, left, top, size, size)
    for row in range(first_row, end_row):
        v = int(((row + 0.5) * HEIGHT / image.shape[0] - top) / size * 16)
        for column in range(first_column, end_column):
            u = int(((column + 0.5) * WIDTH / image.shape[1] - left) / size * 16)
            u, v = min(15, max(0, 15 - u if mirrored else u)), min(15, max(0, v))
            if icon[v, u, 3] > 0:
                for c in range(3):
                    image[row, column, c] = icon[v, u, c]


@kernel
def _draw_slots(
    image: Image, slot: Records, icons: NDArray[np.uint8], first: int, count: int, left: float, top: float, chosen: int
) -> None:
    """Draw a line of slots and their items; the chosen slot has a bright frame."""
    first_row, end_row, first_column, end_column = _pixels(image, left, top, 2.0 + _SLOT * count, _SLOT + 2.0)
    for row in range(first_row, end_row):
        y = (row + 0.5) * HEIGHT / image.shape[0] - top
        for column in range(first_column, end_column):
            x = (column + 0.5) * WIDTH / image.shape[1] - left
            inside = (x - 1.0) % _SLOT
            on_frame = y < 2.0 or y > _SLOT or inside < 1.0 or inside > _SLOT - 1.0
            is_chosen = int((x - 1.0) / _SLOT) == chosen
            if on_frame:
                _blend(image, row, column, _CHOSEN if is_chosen else _FRAME, 1.0 if is_chosen else 0.55)
            else:
                _blend(image, row, column, _BACK, 0.5)
    for s in range(count):
        if slot[first + s].item != NO_ITEM:
            _draw_icon(image, icons[slot[first + s].item], left + 3.0 + _SLOT * s, top + 3.0, 16.0, False)


@kernel
def _draw_hearts(image: Image, health: float) -> None:
    first_row, end_row, first_column, end_column = _pixels(image, _BAR_LEFT, _HEARTS_TOP, 10 * _HEART, _HEART)
    for row in range(first_row, end_row):
        v = int((row + 0.5) * HEIGHT / image.shape[0] - _HEARTS_TOP) - 1
        for column in range(first_column, end_column):
            x = (column + 0.5) * WIDTH / image.shape[1] - _BAR_LEFT
            u = int(x % _HEART)
            if 0 <= v < 6 and u < 7 and _HEART_SHAPE[v, u]:
                half_hearts = 2 * int(x / _HEART) + (1 if u < 4 else 2)
                _blend(image, row, column, _HEART_FULL if half_hearts <= health else _HEART_EMPTY, 1.0)


@kernel
def _draw_hand(image: Image, player: Record, item: int, icons: NDArray[np.uint8]) -> None:
    """Draw the held item, or the bare arm; both dip in a blow. A bow moves to the middle as it is drawn."""
    swing = math.sin(math.pi * player.swing / _SWING_TICKS)
    drawn = draw_power(player.draw_ticks)
    left, top = _HAND_LEFT - 34.0 * swing - 40.0 * drawn, _HAND_TOP + 14.0 * swing - 8.0 * drawn
    if item != NO_ITEM:
        _draw_icon(image, icons[item], left, top, _HAND, True)
        return
    first_row, end_row, first_column, end_column = _pixels(image, left, top, _HAND, _HAND)
    for row in range(first_row, end_row):
        y = (row + 0.5) * HEIGHT / image.shape[0] - top
        for column in range(first_column, end_column):
            x = (column + 0.5) * WIDTH / image.shape[1] - left - 0.35 * y
            if 14.0 < x < 40.0 and y > 12.0:
                _blend(image, row, column, _SKIN, 1.0 if x < 32.0 else 0.8)


@kernel
def _draw_crosshair(image: Image) -> None:
    """A plus in the middle, bright on dark and dark on bright."""
    rows, columns = image.shape[0], image.shape[1]
    thick = max(1, rows // 180)
    reach_y, reach_x = max(1, rows // 40), max(1, columns // 72)
    middle_y, middle_x = rows // 2, columns // 2
    for row in range(middle_y - reach_y, middle_y + reach_y + thick):
        for column in range(middle_x - reach_x, middle_x + reach_x + thick):
            if middle_y <= row < middle_y + thick or middle_x <= column < middle_x + thick:
                bright = int(image[row, column, 0]) + int(image[row, column, 1]) + int(image[row, column, 2]) > 384
                _blend(image, row, column, _DARK if bright else _CHOSEN, 0.8)


@kernel
def draw_hud(image: Image, player: Record, slot: Records, icons: NDArray[np.uint8], eyes_in_water: bool) -> None:
    """Draw the whole HUD over the view."""
    if eyes_in_water:
        _blend_all(image, _DEEP, 0.5)
    _draw_hand(image, player, held_item(slot, player), icons)
    if slot[OFF_HAND].item != NO_ITEM:
        _draw_icon(image, icons[slot[OFF_HAND].item], _OFF_HAND_LEFT, _OFF_HAND_TOP, _OFF_HAND, False)
    if player.hurt > 0:
        _blend_all(image, _BLOOD, 0.25)
    _draw_hearts(image, min(FULL_HEALTH, math.ceil(player.health)))
    _draw_slots(image, slot, icons, 0, 9, _BAR_LEFT, _BAR_TOP, player.hotbar)
    if player.gui_open:
        _blend_all(image, _DARK, 0.6)
        for line in range(3):
            _draw_slots(image, slot, icons, 9 + 9 * line, 9, _PANEL_LEFT, _PANEL_TOP + _SLOT * line, -1)
        _draw_slots(image, slot, icons, 0, 9, _PANEL_LEFT, _PANEL_TOP + 4.5 * _SLOT, player.hotbar)
    else:
        _draw_crosshair(image)
