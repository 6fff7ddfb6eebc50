"""Compiles the world's kernels once per machine, with numba's cache in a folder that belongs to exactly these sources.

numba's own cache belongs to the path of a file, and checks only that file: a kernel would keep calling the old version
of a kernel in another file, and each checkout would compile anew. Here the folder's name is a hash of all the sources:
any change gives a new folder, and checkouts with the same sources share one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.core.caching
import numba.core.event

Function = TypeVar("Function", bound=Callable[..., object])

_STALE_AFTER_S = 7 * 24 * 3600
_SAY_EVERY_S = 2.0


def _source_hash() -> str:
    here = Path(__file__).parent
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    for source in (*sorted(here.glob("*.py")), here.parent / "names.py", here.parent / "actions.py"):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    """A writable folder of the user's, created if missing; in the temporary folder if the home is read-only."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for root in (home, Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"):
        folder = root / "mineonline" / f"world-{_source_hash()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            _remove_stale_siblings(folder)
            return folder
    raise OSError(f"neither {home} nor {tempfile.gettempdir()} is writable: set XDG_CACHE_HOME to a folder that is")


def _remove_stale_siblings(folder: Path) -> None:
    os.utime(folder)
    for sibling in folder.parent.glob("world-*"):
        # another process may remove it first
        if sibling != folder and sibling.exists() and time.time() - sibling.stat().st_mtime > _STALE_AFTER_S:
            shutil.rmtree(sibling, ignore_errors=True)


_FOLDER = str(_cache_folder())


def kernel(function: Function) -> Function:
    """Compile on first call, without the GIL. No fastmath: the same seed must give the same frames on every machine."""
    return _compiled(function, inline=False)


def inlined(function: Function) -> Function:
    """A kernel that is inlined into its callers, for code that runs per pixel. It must not create or return arrays."""
    return _compiled(function, inline=True)


def _compiled(function: Function, *, inline: bool) -> Function:
    # numba's annotations do not know the option _nrt
    njit: Any = numba.njit
    # inlined code goes without numba's runtime (nrt), which would count array references, atomically, per pixel;
    # numpy's error model: a division by zero gives infinity and needs no branch
    compiled = njit(nogil=True, error_model="numpy", forceinline=inline, _nrt=not inline)(function)
    cache: Any = _Cache
    compiled._cache = cache(function)  # what cache=True sets, but by path
    _kernels.append(compiled)
    return cast(Function, compiled)


_kernels: list[Any] = []


class _Locator(numba.core.caching._CacheLocator):
    """Where a kernel is cached, whatever the path of its file is."""

    def __init__(self, function: Callable[..., object], file: str) -> None:
        self._py_file = file  # numba names it in warnings
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return _FOLDER

    def get_source_stamp(self) -> str:
        """The folder belongs to its sources: what is in it is fresh."""
        return Path(_FOLDER).name

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., object], file: str) -> _Locator:
        return cls(function, file)


class _CacheFormat(numba.core.caching.CompileResultCacheImpl):
    _locator_classes: list[type[object]] = [_Locator]  # noqa: RUF012 as in its base


class _Cache(numba.core.caching.FunctionCache):
    _impl_class = _CacheFormat


@contextmanager
def progress(say: Callable[[str], None]) -> Iterator[None]:
    """While this lasts, `say` how far the compilation is, every 2 s at most; nothing if all comes from the cache."""
    with numba.core.event.install_listener("numba:compile", _Progress(say)):
        yield


class _Progress(numba.core.event.Listener):
    """Counts the kernels that are ready. A kernel compiles those that it calls first."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said_at = -_SAY_EVERY_S

    def on_start(self, event: Any) -> None:
        now = time.monotonic()
        if event.data["dispatcher"] in _kernels and now >= self._said_at + _SAY_EVERY_S:
            self._said_at = now
            ready = sum(1 for kernel in _kernels if kernel.overloads)
            self._say(f"compiling the world: {ready} of {len(_kernels)} functions, once for this version of mineonline")

    def on_end(self, event: Any) -> None:
        """The next start says it."""
