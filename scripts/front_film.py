"""Makes the film at the front of the README: an untrained policy beside a trained one.

python scripts/front_film.py checkpoint=demo file=docs/hunt_cow.webp
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import av
import msgspec
from PIL import Image, ImageDraw

from mineonline.atomic import written_whole
from mineonline.errors import ConfigError
from mineonline.run.evaluation import evaluate
from mineonline.settings.arguments import EvaluateArguments
from mineonline.settings.command_line import parse_words, report_errors
from mineonline.video.overlay import font

_TITLE_HEIGHT = 34


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """What is filmed."""

    checkpoint: str = "demo"
    file: str
    """A .webp, or a .gif."""
    title: str = "left: untrained      right: the same agent, learnt on two CPU cores"
    width: int = 800
    """Of the film, in pixels."""
    fps: int = 10
    seconds: float = 15.0
    """How much of the episodes is shown, from their start."""
    speed: float = 1.0
    seed: int = 0
    quality: int = 45
    """Of a .webp, 0 to 100."""
    megabytes: float = 3.0
    """More is an error."""


def main() -> None:
    """Play, and write the film."""
    arguments = parse_words(sys.argv[1:], Arguments, __doc__ or "")
    file = Path(arguments.file)
    if file.suffix not in (".webp", ".gif"):
        raise ConfigError(f"file={file}: must end in .webp or .gif.")
    with tempfile.TemporaryDirectory() as folder:
        video = str(Path(folder) / "both.mp4")
        both = ("untrained", arguments.checkpoint)
        evaluate(EvaluateArguments(checkpoint=both, episodes=1, video=video, seed=arguments.seed))
        frames = [_titled(frame, arguments) for frame in _frames(video, arguments)]
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".gif":
        frames = [frame.quantize(64, dither=Image.Dither.NONE) for frame in frames]
    with written_whole(file) as partial:
        frames[0].save(
            partial, file.suffix[1:], save_all=True, append_images=frames[1:], duration=round(1000 / arguments.fps),
            loop=0, quality=arguments.quality,
        )  # fmt: skip
    size = file.stat().st_size / 1e6
    print(f"{file}: {len(frames)} pictures, {size:.2f} MB")
    if size > arguments.megabytes:
        raise ConfigError(f"{file} has {size:.2f} MB. Lower width, fps, seconds or quality.")


def _frames(video: str, arguments: Arguments) -> list[Image.Image]:
    """The pictures that are shown, `fps` for each second of the film."""
    with av.open(video) as container:
        rate = container.streams.video[0].average_rate
        assert rate is not None
        wanted = [
            int(number / arguments.fps * arguments.speed * float(rate))
            for number in range(int(arguments.seconds * arguments.fps))
        ]
        return [frame.to_image() for number, frame in enumerate(container.decode(video=0)) if number in wanted]


def _titled(frame: Image.Image, arguments: Arguments) -> Image.Image:
    height = round(frame.height * arguments.width / frame.width)
    whole = Image.new("RGB", (arguments.width, height + _TITLE_HEIGHT), (24, 24, 24))
    draw = ImageDraw.Draw(whole)
    draw.text((arguments.width / 2, _TITLE_HEIGHT / 2), arguments.title, (255, 208, 64), font(17), "mm")
    whole.paste(frame.resize((arguments.width, height), Image.Resampling.LANCZOS), (0, _TITLE_HEIGHT))
    return whole


if __name__ == "__main__":
    report_errors(main)
