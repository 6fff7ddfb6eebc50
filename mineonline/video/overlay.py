"""What is drawn on the frames of a video.

A frame is an RGB array `[H, W, 3]` uint8. Lengths are in pixels of a 640 x 360 picture.
"""

from __future__ import annotations

import math
from collections import deque
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Frame = NDArray[np.uint8]
_Colour = tuple[int, ...]

_PANEL: _Colour = (0, 0, 0, 130)
_KEY_UP: _Colour = (255, 255, 255, 70)
_LIT: _Colour = (255, 208, 64)
_TEXT: _Colour = (255, 255, 255)
_FAINT: _Colour = (200, 200, 200)
_GOOD: _Colour = (96, 224, 96)
_BAD: _Colour = (255, 96, 96)
_GRAPH_S = 10.0
_FLASH_S = 1.0
_SMALLEST_SCALE = 0.75
_FULL_CAMERA_DEGREES = 10.0
_CAMERA_RADIUS = 23.0

# name of the button, its letter, then left, top and width of the key
_KEYS = (
    ("forward", "W", 34, 8, 20),
    ("left", "A", 12, 30, 20),
    ("back", "S", 34, 30, 20),
    ("right", "D", 56, 30, 20),
    ("sneak", "sneak", 82, 8, 40),
    ("sprint", "sprint", 82, 30, 40),
    ("jump", "jump", 12, 52, 64),
    ("drop", "Q", 82, 52, 19),
    ("inventory", "E", 103, 52, 19),
)


class Controls(NamedTuple):
    """Keyboard and mouse in Minecraft's terms."""

    pressed: frozenset[str]
    """Names of `mineonline.envs.actions.BUTTON_NAMES`."""
    down_degrees: float
    """Movement of the camera; negative looks up."""
    right_degrees: float
    """Movement of the camera; negative turns left."""


class Caption(NamedTuple):
    """What is drawn on one frame."""

    time_s: float
    """Since the episode started."""
    value: float | None
    """The policy's prediction before the action that led to this frame; None if no policy looks on."""
    reward: float
    """Reward that arrives with this frame."""
    controls: Controls | str
    """What is pressed; a text for environments without keyboard and mouse."""


class Overlay:
    """Draws the captions of one episode, frame by frame, at `fps` frames per second."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._return = self._earlier_reward = 0.0
        self._value: deque[float] = deque(maxlen=int(_GRAPH_S * fps))
        self._paid: deque[float] = deque(maxlen=int(_GRAPH_S * fps))
        self._least = self._most = 0.0
        self._flash_reward = 0.0
        self._flash = 0.0

    def draw(self, frame: Frame, caption: Caption) -> Frame:
        """A copy with the caption on it, enlarged by a whole-number factor if text would be illegible.

        Width and height are even, as H.264 requires. Call it once per frame, in order.
        """
        self._take(caption)
        picture = even(_enlarged(frame))
        canvas = _Canvas(picture)
        if caption.value is not None:
            self._draw_value(canvas, caption.value)
        self._draw_return(canvas, caption.time_s)
        if isinstance(caption.controls, Controls):
            _draw_keyboard(canvas, caption.controls.pressed)
            _draw_mouse(canvas, caption.controls)
        else:
            canvas.panel(6, canvas.height - 28, 12 + 8 * len(caption.controls), 22)
            canvas.text(12, canvas.height - 17, caption.controls, 12, _LIT, "lm")
        return canvas.pixels()

    def _take(self, caption: Caption) -> None:
        self._return += caption.reward
        # a reward on every frame is not worth showing
        news = caption.reward if caption.reward and not self._earlier_reward else 0.0
        self._earlier_reward = caption.reward
        if caption.value is not None:
            self._value.append(caption.value)
            self._paid.append(news)
            self._least, self._most = min(self._least, caption.value), max(self._most, caption.value)
        self._flash = max(0.0, self._flash - 1 / (_FLASH_S * self._fps))
        if news:
            # rewards that come close together are shown as one
            self._flash_reward = news + (self._flash_reward if self._flash > 0.5 else 0.0)
            self._flash = 1.0

    def _draw_value(self, canvas: _Canvas, value: float) -> None:
        left, top, width, height = 6.0, 6.0, 152.0, 60.0
        canvas.panel(left, top, width, height)
        canvas.text(left + 7, top + 10, "value", 11, _FAINT, "lm")
        canvas.text(left + width - 7, top + 10, f"{value:.2f}", 14, _TEXT, "rm")
        low, high = top + height - 6, top + 24
        span = max(self._most - self._least, 1e-6)
        step = (width - 14) / (_GRAPH_S * self._fps - 1)
        points = [
            (left + 7 + i * step, low - (v - self._least) / span * (low - high)) for i, v in enumerate(self._value)
        ]
        for (x, _), paid in zip(points, self._paid, strict=True):
            if paid:
                canvas.line([(x, high), (x, low)], 1, (*(_GOOD if paid > 0 else _BAD), 150))
        canvas.line([*points, points[-1]], 1.5, _LIT)
        canvas.dot(*points[-1], 2.5, _LIT)

    def _draw_return(self, canvas: _Canvas, time_s: float) -> None:
        width = 116.0
        left = canvas.width - width - 6
        colour = _GOOD if self._flash_reward > 0 else _BAD
        canvas.panel(left, 6, width, 40)
        if self._flash:
            canvas.panel(left, 6, width, 40, (*colour, int(150 * self._flash)))
        canvas.text(left + 7, 16, "reward", 11, _FAINT, "lm")
        canvas.text(left + width - 7, 16, f"{self._return:.2f}", 14, _TEXT, "rm")
        canvas.text(left + 7, 35, "time", 11, _FAINT, "lm")
        canvas.text(left + width - 7, 35, f"{time_s:.1f} s", 12, _TEXT, "rm")
        if self._flash:
            strength = min(1.0, 2 * self._flash)
            canvas.panel(left - 68, 6, 64, 26, (0, 0, 0, int(150 * strength)))
            canvas.text(left - 36, 19, f"{self._flash_reward:+.2f}", 17, (*colour, int(255 * strength)), "mm")


class _Canvas:
    """A picture of any size, drawn on in lengths of a 640 x 360 picture. Colours may have an alpha."""

    def __init__(self, frame: Frame) -> None:
        height, width = frame.shape[:2]
        self._image = Image.fromarray(frame)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        self._scale = _scale_of(frame)
        self.width, self.height = width / self._scale, height / self._scale

    def panel(self, left: float, top: float, width: float, height: float, colour: _Colour = _PANEL) -> None:
        box = [round(x * self._scale) for x in (left, top, left + width, top + height)]
        self._draw.rounded_rectangle(box, round(4 * self._scale), fill=colour)

    def line(self, points: list[tuple[float, float]], width: float, colour: _Colour) -> None:
        scaled = [(x * self._scale, y * self._scale) for x, y in points]
        self._draw.line(scaled, fill=colour, width=max(1, round(width * self._scale)), joint="curve")

    def polygon(self, points: list[tuple[float, float]], colour: _Colour) -> None:
        self._draw.polygon([(x * self._scale, y * self._scale) for x, y in points], fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: _Colour) -> None:
        self._draw.ellipse([v * self._scale for v in (x - radius, y - radius, x + radius, y + radius)], fill=colour)

    def text(self, x: float, y: float, text: str, size: float, colour: _Colour, anchor: str) -> None:
        """`anchor` as PIL's: l, m or r for x, then m for the middle in y."""
        self._draw.text((x * self._scale, y * self._scale), text, colour, font(round(size * self._scale)), anchor)

    def pixels(self) -> Frame:
        return np.asarray(self._image)


def _draw_keyboard(canvas: _Canvas, pressed: frozenset[str]) -> None:
    left, top = 6.0, canvas.height - 86
    canvas.panel(left, top, 128, 80)
    for name, letter, x, y, width in _KEYS:
        down = name in pressed
        canvas.panel(left + x - 6, top + y, width, 20, _LIT if down else _KEY_UP)
        size = 13 if len(letter) == 1 else 11
        canvas.text(left + x - 6 + width / 2, top + y + 10, letter, size, (0, 0, 0) if down else _TEXT, "mm")


def _draw_mouse(canvas: _Canvas, controls: Controls) -> None:
    left, top = canvas.width - 134, canvas.height - 86
    canvas.panel(left, top, 128, 80)
    for name, x, width in (("attack", 6.0, 38.0), ("use", 46.0, 26.0)):
        down = name in controls.pressed
        canvas.panel(left + x, top + 8, width, 26, _LIT if down else _KEY_UP)
        canvas.text(left + x + width / 2, top + 21, name, 11, (0, 0, 0) if down else _TEXT, "mm")
    canvas.panel(left + 6, top + 36, 66, 36, _KEY_UP)
    hotbar = next((name.removeprefix("hotbar.") for name in controls.pressed if name.startswith("hotbar.")), "")
    if hotbar:
        canvas.panel(left + 29, top + 44, 20, 20, _LIT)
        canvas.text(left + 39, top + 54, hotbar, 13, (0, 0, 0), "mm")
    _draw_camera(canvas, left + 100, top + 40, controls)


def _draw_camera(canvas: _Canvas, x: float, y: float, controls: Controls) -> None:
    """An arrow from (x, y) to where the camera turns; its length grows with the square root of the angle."""
    canvas.dot(x, y, _CAMERA_RADIUS, _KEY_UP)
    move = np.array([controls.right_degrees, controls.down_degrees])
    angle = float(np.hypot(*move))
    if not angle:
        canvas.dot(x, y, 2, _TEXT)
        return
    along = move / angle
    across = np.array([-along[1], along[0]])
    tip = np.array([x, y]) + along * _CAMERA_RADIUS * min(1.0, angle / _FULL_CAMERA_DEGREES) ** 0.5
    neck = tip - along * 7
    canvas.line([(x, y), (neck[0], neck[1])], 3, _LIT)
    canvas.polygon([(p[0], p[1]) for p in (tip, neck + 5 * across, neck - 5 * across)], _LIT)


@cache
def font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """PIL's own font, which needs no file on the machine."""
    return ImageFont.load_default(pixels)


def _scale_of(frame: Frame) -> float:
    height, width = frame.shape[:2]
    return float(min(height / 360, width / 640))


def _enlarged(frame: Frame) -> Frame:
    factor = math.ceil(_SMALLEST_SCALE / _scale_of(frame))
    return frame if factor <= 1 else frame.repeat(factor, 0).repeat(factor, 1)


def even(frame: Frame) -> Frame:
    """With a row or a column repeated at the edge where their number is odd, which H.264 does not take."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge") if height % 2 or width % 2 else frame
