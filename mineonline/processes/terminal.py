"""The terminal of a process that draws on it, while others write there too: other ranks, libraries in C, old handlers.

A display that is redrawn in place is spoilt by whoever writes past it. Python's own streams can be replaced, and rich
does that. What goes straight to file descriptors 1 and 2, from this process or from those that it starts, is sent to a
file here, and comes to the terminal through `sys.stdout`, line by line. A file and not a pipe: nobody ever waits for
this process to read, and the last words of one that crashes are kept.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO


class Terminal:
    """While it is open, only `sys.stdout` and `sys.stderr` write to the terminal; descriptors 1 and 2 lead to `file`.

    A stream that is no terminal (`2> errors.txt`) is left alone. An empty file is removed at the end.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._log = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._seen = os.fstat(self._log).st_size
        self._theirs: dict[str, TextIO] = {n: s for n in ("stdout", "stderr") if (s := getattr(sys, n)).isatty()}
        self._ours: dict[str, TextIO] = {}

    def __enter__(self) -> Terminal:
        for name, stream in self._theirs.items():
            stream.flush()
            self._ours[name] = os.fdopen(os.dup(stream.fileno()), "w", 1, encoding=stream.encoding, errors="replace")
            setattr(sys, name, self._ours[name])
            os.dup2(self._log, stream.fileno())
        return self

    def show(self, *, unfinished: bool = False) -> None:
        """Write the lines that have come to the file since the last call to the terminal; also an `unfinished` one.

        Of a line that is rewritten in place, as progress bars are, only the last state.
        """
        new = os.pread(self._log, os.fstat(self._log).st_size - self._seen, self._seen)
        if not unfinished:
            new = new[: new.rfind(b"\n") + 1]
        if not new:
            return
        self._seen += len(new)
        lines = new.decode(errors="replace").removesuffix("\n").split("\n")
        sys.stdout.write("".join(f"{line.rstrip().rpartition(chr(13))[2]}\n" for line in lines))
        sys.stdout.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, stream in self._theirs.items():
            stream.flush()  # what those have written who kept it
            os.dup2(self._ours[name].fileno(), stream.fileno())
        with suppress(OSError):  # the terminal is gone
            self.show(unfinished=True)
        for name, stream in self._theirs.items():
            setattr(sys, name, stream)  # ours stay open: whoever has kept them may still write
        if os.fstat(self._log).st_size == 0:
            self._file.unlink(missing_ok=True)
        os.close(self._log)
