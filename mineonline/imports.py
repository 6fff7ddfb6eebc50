"""What users bring along: imports and calls what settings name by `_target_`, with errors that name the setting."""

from __future__ import annotations

import difflib
import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mineonline.errors import ConfigError, MineonlineError


def import_target(key: str, target: str) -> Any:
    """What the import path `target` names. ConfigError says why it cannot be imported, as Python does."""
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{key}._target_={target}: must be an import path, for example my_package.MyClass.")
    found: Any = None
    for count, part in enumerate(parts, start=1):
        module = ".".join(parts[:count])
        if found is not None and hasattr(found, part):
            found = getattr(found, part)
            continue
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):  # a module that this one imports
                raise _not_importable(key, target, error) from None
            if found is None:
                raise ConfigError(
                    f"{key}._target_={target}: cannot be imported ({error}). Is its folder in PYTHONPATH?"
                ) from None
            inside = f"{'module' if inspect.ismodule(found) else 'class'} '{'.'.join(parts[: count - 1])}'"
            raise ConfigError(
                f"{key}._target_={target}: cannot be imported ({inside} has no attribute '{part}')."
                f"{_similar(part, found)}"
            ) from None
        except Exception as error:  # whatever it is, only the user can fix it
            raise _not_importable(key, target, error) from error
    return found


def _not_importable(key: str, target: str, error: Exception) -> ConfigError:
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
        where = f"{own[-1].filename}, line {own[-1].lineno}" if own else "Python's import"
    reason = error.msg if isinstance(error, SyntaxError) else error
    return ConfigError(f"{key}._target_={target}: cannot be imported ({type(error).__name__}: {reason}, in {where}).")


def _similar(name: str, module: Any) -> str:
    close = difflib.get_close_matches(name, [known for known in dir(module) if not known.startswith("_")], n=1)
    return f" Did you mean {close[0]}?" if close else ""


def check_arguments(key: str, target: str, called: Callable[..., Any], /, *given: Any, **kwargs: Any) -> None:
    """ConfigError if `called` does not take these arguments; `kwargs` are those that the user gave as `key`."""
    try:
        inspect.signature(called).bind(*given, **kwargs)
    except TypeError as error:
        raise ConfigError(f"{key}={kwargs}: {target} does not take them ({error}).") from None


def target_of(key: str, setting: Mapping[str, Any]) -> str:
    """The import path in `setting`. ConfigError if there is none."""
    target = setting.get("_target_") if isinstance(setting, Mapping) else None
    if not isinstance(target, str) or not target:
        raise ConfigError(f"{key}: {setting} names no class. Add _target_: my_package.MyClass.")
    return target


def arguments_of(key: str, setting: Mapping[str, Any]) -> dict[str, Any]:
    """The other entries of `setting`; those that name a `_target_` themselves are made. ConfigError as for `make`."""
    return {name: _made(f"{key}.{name}", value) for name, value in setting.items() if name != "_target_"}


def make(key: str, setting: Mapping[str, Any]) -> Any:
    """The object that `{_target_: package.Class, name: value}` describes, nested ones too. ConfigError names `key`."""
    target = target_of(key, setting)
    made, arguments = import_target(key, target), arguments_of(key, setting)
    try:
        return made(**arguments)
    except MineonlineError:
        raise
    except Exception as error:  # whatever it is, only the user can fix it
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if frame.filename == __file__ else f", in {frame.filename}, line {frame.lineno}"
        raise ConfigError(
            f"{key}._target_={target}: cannot be made ({type(error).__name__}: {error}{where})."
        ) from error


def _made(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return make(key, value) if "_target_" in value else arguments_of(key, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_made(f"{key}[{index}]", each) for index, each in enumerate(value)]
    return value
