"""Files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial_file(file: Path, pid: int) -> Path:
    """Where process `pid` writes a file before it is complete."""
    return file.with_name(f".{file.name}.{pid}")


@contextmanager
def written_whole(file: Path, *, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path next to `file`: what is written there becomes `file` when the block ends.

    If anything fails, `file` stays as it was, and nothing is left behind. OSError if the disk does not take it all.
    `durable` False: without waiting for the disk, for what is soon written again.
    """
    partial = partial_file(file, os.getpid())
    try:
        yield partial
        if durable:
            # before the rename: after a power cut the new name could otherwise stand for a file without its content
            with partial.open("rb") as written:
                os.fsync(written.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def new_folder(wanted: Path) -> Path:
    """Make the folder `wanted`, or `wanted_2` and so on if it exists: two processes of the same second get two folders.

    OSError if it cannot be made.
    """
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError
