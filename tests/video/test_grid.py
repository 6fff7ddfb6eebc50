"""Videos side by side."""

import av
import numpy as np
import pytest

from mineonline.video.file import VideoFile
from mineonline.video.grid import MOST_TILES, Tile, compose, layout, tile_width


def film(file, colour, *, frames, fps=10, size=(64, 48)):
    with VideoFile(file, fps) as video:
        for _ in range(frames):
            video.write(np.full((size[1], size[0], 3), colour, np.uint8))
    return file


@pytest.mark.parametrize("tiles", range(1, MOST_TILES + 1))
def test_a_layout_has_whole_rows_and_columns_with_room_for_all(tiles):
    columns, rows = layout(tiles)
    assert columns * rows >= tiles > columns * rows - columns
    assert columns * tile_width(tiles) <= 1920
    assert tile_width(tiles) % 2 == 0


@pytest.mark.parametrize(
    ("tiles", "together", "expected"),
    [(2, 1, (2, 1)), (4, 1, (2, 2)), (10, 5, (5, 2)), (12, 6, (6, 2)), (12, 4, (4, 3)), (7, 7, (4, 2))],
)
def test_a_layout_is_wide_and_keeps_tiles_that_belong_together_in_rows(tiles, together, expected):
    assert layout(tiles, together) == expected


def test_each_tile_shows_its_video_at_its_time_and_darkens_when_it_has_ended(tmp_path):
    long = film(tmp_path / "long.mp4", (200, 40, 40), frames=20)
    short = film(tmp_path / "short.mp4", (40, 200, 40), frames=20, fps=20, size=(48, 48))
    compose([Tile(long, "long"), Tile(short, "short")], tmp_path / "both.mp4")
    with av.open(str(tmp_path / "both.mp4")) as container:
        assert container.streams.video[0].average_rate == 20
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    # 2 s at 10 pictures a second, shown at 20
    assert len(frames) == 40
    height, width = frames[0].shape[:2]
    assert (width, height) == (1280, 24 + 480)
    middle = 24 + 240
    for number, brightness in ((5, 200), (35, 90)):
        red, green = frames[number][middle, 320], frames[number][middle, 960]
        assert red == pytest.approx([200, 40, 40], abs=12)
        assert green[1] == pytest.approx(brightness, abs=12)
        # the square video is whole, between black bars
        assert frames[number][middle, 650].max() < 20
    label = frames[0][:24]
    assert (label[:, :640] > 150).any()
    assert (label[:, 640:] > 150).any()


def test_a_label_that_is_too_long_is_cut(tmp_path):
    file = film(tmp_path / "one.mp4", (90, 90, 90), frames=1)
    compose([Tile(file, "a very long name " * 20)], tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert frame.shape[1] == 640
    assert (frame[:24, -4:] < 60).all()
