"""Which code a run was made with: commits and versions of packages."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent.parent
_GIT_TIMEOUT_S = 10.0
_DIRTY = "-dirty"


@functools.cache
def code_version() -> dict[str, Any]:
    """`mineonline` and `working_folder`: the commits of their checkouts, if they are in one, and whether tracked files
    were changed since (`dirty`); `python`; `packages`: the versions of what mineonline needs.
    """
    ours = _checkout(_PACKAGE, "__init__.py")
    here = _checkout(Path.cwd(), ".")
    return {
        "mineonline": {"version": importlib.metadata.version("mineonline"), **ours},
        **({"working_folder": here} if here and here != ours else {}),
        "python": platform.python_version(),
        "packages": _packages(),
    }


def _checkout(folder: Path, tracked: str) -> dict[str, Any]:
    """Commit and state of the checkout that `folder` is in; empty if there is none, or `tracked` is not part of it."""
    # a package that is installed may lie in the folder of somebody else's checkout
    if not _git(folder, "ls-files", tracked):
        return {}
    described = _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return {"commit": described.removesuffix(_DIRTY), "dirty": described.endswith(_DIRTY)} if described else {}


def _git(folder: Path, *words: str) -> str:
    """What git says; empty if it fails, is not there, or hangs on a slow file system."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _packages() -> dict[str, str]:
    needed = [line for line in importlib.metadata.requires("mineonline") or [] if "extra ==" not in line]
    names = [re.split(r"[^\w.-]", line)[0] for line in needed]
    return {name: importlib.metadata.version(name) for name in sorted({*names, *_installed("minestudio")})}


def _installed(name: str) -> list[str]:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return []
    return [name]
