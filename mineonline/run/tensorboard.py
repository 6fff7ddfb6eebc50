"""TensorBoard: scalars by iteration, learning curves by env steps too, hyperparameters, and videos as small GIFs."""

from __future__ import annotations

import functools
import io
import math
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

CURVES = "by_env_steps"
_COMPARED = ("episode/return", "episode/length")
"""Metrics that the table of hyperparameters shows."""
_GIF_WIDTH = 160
_GIF_FRAMES = 100


class RunTensorBoard(TensorBoardLogger):
    """Writes `tensorboard/`, and `tensorboard/by_env_steps/`, in the run folder.

    A file that could not be written, for example on a full disk, is given up: the next call begins another.
    """

    def __init__(self, run_dir: Path, *, resume_at: int, env_steps: int) -> None:
        """`resume_at`, `env_steps`: where the run continues from; TensorBoard then hides what was logged after that."""
        resumes = resume_at > 0
        super().__init__(run_dir, name="", version="tensorboard", purge_step=resume_at + 1 if resumes else None)
        self._resumes = resumes
        self._curves_purge = env_steps + 1 if resumes else None
        self._curves: SummaryWriter | None = None
        _silence_writers()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        known = {name: value for name, value in metrics.items() if not math.isnan(value)}
        try:
            for name, value in known.items():
                self.experiment.add_scalar(name, value, step)
            for name, value in curves(known).items():
                self._curve_writer.add_scalar(name, value, int(known["env_steps"]))
        except Exception:
            self._give_up_files()
            raise

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """`params`: names and plain values. A resumed run has them already."""
        if self._resumes:
            return
        writer = self.experiment._get_file_writer()  # Lightning's own way to name metrics without a value for them
        values = {
            name: value if isinstance(value, bool | int | float) else str(value) for name, value in params.items()
        }
        for summary in hparams(values, dict.fromkeys(_COMPARED)):  # type: ignore[no-untyped-call]
            writer.add_summary(summary)

    @rank_zero_only
    def log_video(self, key: str, videos: list[str], step: int) -> None:
        """Show the videos as GIFs among the images: TensorBoard has no place for films."""
        for video in videos:
            picture, (width, height) = small_gif(Path(video))
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=picture)
            self.experiment._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=key, image=image)]), step)

    @rank_zero_only
    def save(self) -> None:
        """Write to disk what was logged."""
        try:
            self.experiment.flush()
            self._curve_writer.flush()
        except Exception:
            self._give_up_files()
            raise

    @rank_zero_only
    def finalize(self, status: str) -> None:
        for writer in (self._experiment, self._curves):
            if writer is not None:
                writer.close()

    @property
    def _curve_writer(self) -> SummaryWriter:
        if self._curves is None:
            self._curves = SummaryWriter(f"{self.log_dir}/{CURVES}", purge_step=self._curves_purge)
        return self._curves

    def _give_up_files(self) -> None:
        # their threads have ended, and what they wrote last may be cut: nothing can follow it
        self._experiment = self._curves = None
        self._kwargs["purge_step"] = self._curves_purge = None


def curves(metrics: Mapping[str, float]) -> dict[str, float]:
    """What is learnt, under names of its own, for loggers that cannot choose another axis than the step."""
    if "env_steps" not in metrics:
        return {}
    return {f"{CURVES}/{name}": value for name, value in metrics.items() if name.startswith(("episode/", "task/"))}


def small_gif(video: Path) -> tuple[bytes, tuple[int, int]]:
    """A video as a GIF of at most 100 frames, 160 pixels wide, as long as the video; and its width and height."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        total = max(1, stream.frames)
        every = math.ceil(total / _GIF_FRAMES)
        pictures = list(_every(container.decode(stream), every))
        rate = float(stream.average_rate or 20)
    file = io.BytesIO()
    pictures[0].save(
        file, format="GIF", save_all=True, append_images=pictures[1:], duration=1000 * every / rate, loop=0
    )
    return file.getvalue(), pictures[0].size


def _every(frames: Iterator[av.VideoFrame], every: int) -> Iterator[Image.Image]:
    for number, frame in enumerate(frames):
        if number % every == 0:
            height = round(_GIF_WIDTH * frame.height / frame.width)
            yield frame.to_image(width=_GIF_WIDTH, height=height)  # type: ignore[no-untyped-call]


@functools.cache
def _silence_writers() -> None:
    """Let the threads of TensorBoard's writers end without a traceback: the writer raises their errors itself."""
    others = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            others(args)

    threading.excepthook = hook
