"""Several videos side by side in one: a tile each, with a label above it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image, ImageDraw

from mineonline.video.file import VideoFile
from mineonline.video.overlay import Frame, font

MOST_TILES = 64
SMALLEST_WITH_OVERLAY = 480
"""Width of a picture, in pixels, below which what `overlay` draws cannot be read."""
_WIDEST = 1920
_LARGEST_TILE = 640
_LABEL_HEIGHT = 24
_MOST_COLUMNS_A_ROW = 3
"""At most so many times more columns than rows."""
_AFTER_END = 0.45
"""Brightness of the last picture of an episode that has ended."""


class Tile(NamedTuple):
    """A video, and what is written above it."""

    file: Path
    label: str


def layout(tiles: int, together: int = 1) -> tuple[int, int]:
    """Columns and rows for so many tiles: few places stay empty, and the picture is wide rather than high.

    `together`: tiles that belong together follow one another; if it can be, they fill whole rows, or parts of one.
    """
    choices = [
        (columns, rows)
        for rows in range(1, tiles + 1)
        for columns in [-(-tiles // rows)]
        if rows <= columns <= _MOST_COLUMNS_A_ROW * rows
    ]

    def drawbacks(choice: tuple[int, int]) -> tuple[int, bool, int]:
        columns, rows = choice
        return columns * rows - tiles, bool(together % columns and columns % together), columns - rows

    return min(choices, key=drawbacks)


def tile_width(tiles: int, together: int = 1) -> int:
    """Width in pixels of each of so many tiles."""
    return min(_LARGEST_TILE, _WIDEST // layout(tiles, together)[0] // 2 * 2)


def compose(tiles: Sequence[Tile], file: Path, together: int = 1) -> None:
    """Write one video of all tiles, as long as the longest. A video that has ended shows its last picture, darker.

    Tiles have the shape of the first video; others are scaled into it.
    """
    columns, rows = layout(len(tiles), together)
    width = tile_width(len(tiles), together)
    with ExitStack() as stack:
        films = [_Film(stack, tile.file) for tile in tiles]
        height = round(width * films[0].height / films[0].width / 2) * 2
        labels = [_label(tile.label, width) for tile in tiles]
        canvas = np.zeros((rows * (height + _LABEL_HEIGHT), columns * width, 3), np.uint8)
        fps = max(film.fps for film in films)
        video = stack.enter_context(VideoFile(file, fps))
        for number in range(max(math.ceil(film.frames / film.fps * fps) for film in films)):
            for place, (film, label) in enumerate(zip(films, labels, strict=True)):
                top, left = place // columns * (height + _LABEL_HEIGHT), place % columns * width
                canvas[top : top + _LABEL_HEIGHT, left : left + width] = label
                below = canvas[top + _LABEL_HEIGHT : top + _LABEL_HEIGHT + height, left : left + width]
                below[:] = _fitted(film.at(number / fps), width, height)
            video.write(canvas)


class _Film:
    """The pictures of a video, one after the other."""

    def __init__(self, stack: ExitStack, file: Path) -> None:
        container = stack.enter_context(av.open(str(file)))
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        self.fps = round(stream.average_rate)
        self.frames = stream.frames
        self.width, self.height = stream.width, stream.height
        self._pictures = container.decode(stream)
        self._taken = 0
        self._picture: Frame = np.zeros((self.height, self.width, 3), np.uint8)

    def at(self, time_s: float) -> Frame:
        """What it shows at `time_s`, which does not decrease from call to call."""
        wanted = int(time_s * self.fps + 1e-6) + 1
        while self._taken < min(wanted, self.frames):
            self._picture = np.asarray(next(self._pictures).to_ndarray(format="rgb24"), np.uint8)
            self._taken += 1
        if wanted > self.frames:
            return (self._picture * _AFTER_END).astype(np.uint8)
        return self._picture


def _fitted(picture: Frame, width: int, height: int) -> Frame:
    """The whole picture, as large as it fits, on black."""
    high, wide = picture.shape[:2]
    if (wide, high) == (width, height):
        return picture
    scale = min(width / wide, height / high)
    small = Image.fromarray(picture).resize((round(wide * scale), round(high * scale)), Image.Resampling.BILINEAR)
    fitted = Image.new("RGB", (width, height))
    fitted.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
    return np.asarray(fitted)


def _label(text: str, width: int) -> Frame:
    """A strip with the text; its end is cut off if it does not fit."""
    strip = Image.new("RGB", (width, _LABEL_HEIGHT), (24, 24, 24))
    draw = ImageDraw.Draw(strip)
    letters = font(13)
    while text and draw.textlength(text, letters) > width - 12:
        text = f"{text[:-2]}…" if len(text) > 2 else ""
    draw.text((6, _LABEL_HEIGHT / 2), text, (255, 255, 255), letters, "lm")
    return np.asarray(strip)
