"""What users bring along: classes that settings name by `_target_`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import hydra

from mineonline.errors import ConfigError

Base = TypeVar("Base")


def user_class(key: str, setting: Mapping[str, Any], base: type[Base]) -> Callable[..., Base]:
    """The class that `setting` names, with the arguments in it. ConfigError if it is no subclass of `base`."""
    made = _instantiate(key, setting, _partial_=True)
    named = f"{key}._target_={setting['_target_']}"
    if not (isinstance(made.func, type) and issubclass(made.func, base)):
        raise ConfigError(f"{named}: must be a subclass of {_public_name(base)}.")
    taken = inspect.signature(made.func).parameters
    unknown = [name for name in made.keywords if name not in taken]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        raise ConfigError(f"{key}.{unknown[0]}: {setting['_target_']} takes no such argument.")
    return made  # type: ignore[no-any-return]


def user_objects(key: str, settings: Sequence[Mapping[str, Any]], base: type[Base]) -> list[Base]:
    """The objects that `settings` name. ConfigError if one is no `base`."""
    objects = [_instantiate(key, setting) for setting in settings]
    for made, setting in zip(objects, settings, strict=True):
        if not isinstance(made, base):
            raise ConfigError(f"{key}: {setting['_target_']} is no {_public_name(base)}.")
    return objects


def _public_name(base: type) -> str:
    return f"{base.__module__.partition('.')[0]}.{base.__qualname__}"


def _instantiate(key: str, setting: Mapping[str, Any], **options: Any) -> Any:
    target = setting.get("_target_")
    if not target:
        raise ConfigError(f"{key}: {dict(setting)} names no class. Add _target_: my_package.MyClass.")
    try:
        return hydra.utils.instantiate(setting, **options)
    except hydra.errors.InstantiationException as error:
        cause = error.__cause__ or error  # Hydra's own text ends in advice about its stack traces
        hint = " Is its package installed?" if isinstance(cause, ImportError) else ""
        raise ConfigError(f"{key}: {target} cannot be used ({' '.join(str(cause).split())}).{hint}") from None
