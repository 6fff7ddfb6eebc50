"""Compiles the world's kernels once per machine, with numba's cache in a folder that belongs to exactly these sources.

numba's cache checks only the file of the compiled function, so a kernel would keep calling the old version of a kernel
in another file. Here the folder's name contains a hash of all the sources, so any change gives a new folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.core.config

Function = TypeVar("Function", bound=Callable[..., object])

_STALE_AFTER_S = 7 * 24 * 3600


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
    settings: Any = numba.core.config
    before = settings.CACHE_DIR
    # numba reads this setting of the whole process while a function is decorated: restore it
    settings.CACHE_DIR = _FOLDER
    try:
        # inlined code goes without numba's runtime (nrt), which would count array references, atomically, per pixel;
        # numpy's error model: a division by zero gives infinity and needs no branch
        compiled = njit(nogil=True, cache=True, error_model="numpy", forceinline=inline, _nrt=not inline)(function)
    finally:
        settings.CACHE_DIR = before
    return cast(Function, compiled)
