"""Writes the frames of a video to a file."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from mineonline.atomic import partial_file
from mineonline.video.overlay import Frame


class VideoFile:
    """An H.264 mp4, complete or absent: written to a temporary file, renamed when the context exits without an error.

    ValueError on exit if no frame was written. All frames have the size of the first.
    """

    def __init__(self, file: Path, fps: int) -> None:
        self._file = file
        self._partial = partial_file(file, os.getpid())
        self._fps = fps
        self._container: Any = None
        self._stream: Any = None
        self.frames = 0

    def write(self, frame: Frame) -> None:
        """Append a frame; width and height must be even."""
        if self._container is None:
            self._open(width=frame.shape[1], height=frame.shape[0])
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._container is not None:
                if kind is None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
            if kind is None:
                if not self.frames:
                    raise ValueError(f"{self._file}: no frame was written")
                self._partial.replace(self._file)
        finally:
            self._partial.unlink(missing_ok=True)

    def _open(self, *, width: int, height: int) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream("libx264", rate=Fraction(self._fps))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "23"}
        # a recording made during a training run must not take all its cores
        self._stream.codec_context.thread_count = 1
