"""Imports MineStudio's modules alongside a current numpy and torch, without the packages that they do not use.

Nothing of MineStudio is imported before a function here is called.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from mineonline.errors import EnvError

INSTALL = "Install it with  python -m mineonline.doctor --install"
_MODELS = "minestudio.models"


def import_vpt() -> ModuleType:
    """`minestudio.models.vpt.body`, which has `MinecraftPolicy` and `VPTPolicy`. EnvError says what is missing."""
    with light_models():
        return _import("minestudio.models.vpt.body")


def import_mine_policy() -> ModuleType:
    """`minestudio.models.base_policy`, which has `MinePolicy`. EnvError says what is missing."""
    with light_models():
        return _import("minestudio.models.base_policy")


@contextmanager
def light_models() -> Iterator[None]:
    """In this context, modules of `minestudio.models` are imported without the package itself.

    It imports every model of MineStudio, and with them torchvision, timm and transformers; it can still be imported as
    usual before or after. EnvError if there is no MineStudio.
    """
    skipped = _MODELS not in sys.modules
    if skipped:
        package = ModuleType(_MODELS)
        package.__path__ = [str(find_minestudio() / "models")]
        sys.modules[_MODELS] = package
    try:
        yield
    finally:
        if skipped:
            # a later import of the package itself must get all of it
            del sys.modules[_MODELS]


def find_minestudio() -> Path:
    """The folder of the installed package, found without importing it. EnvError if there is none."""
    found = importlib.util.find_spec("minestudio")
    if found is None or not found.submodule_search_locations:
        raise EnvError(f"MineStudio is missing. {INSTALL}")
    return Path(found.submodule_search_locations[0])


def restore_numpy_names() -> None:
    """Give numpy 2 back the names of numpy 1 that MineStudio's simulator uses."""
    for old, new in {"unicode_": np.str_, "string_": np.bytes_}.items():
        if not hasattr(np, old):
            setattr(np, old, new)


def _import(name: str) -> ModuleType:
    """A module of MineStudio. EnvError if a package that it needs is missing."""
    find_minestudio()
    _silence_gym()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise EnvError(f"MineStudio is incomplete: the package {package} is missing. {INSTALL}") from None


def _silence_gym() -> None:
    """gym prints upgrade advice in every process, but gym is MineStudio's choice, not our user's."""
    try:
        notices = importlib.import_module("gym_notices.notices")
    except ModuleNotFoundError:
        return
    notices.notices.clear()
