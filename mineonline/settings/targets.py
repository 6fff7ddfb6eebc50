"""Classes of the user's own, named in the settings by `_target_`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import hydra

from mineonline.errors import ConfigError

Base = TypeVar("Base")


def user_class(key: str, setting: Mapping[str, Any], base: type[Base]) -> Callable[..., Base]:
    """The class that `setting` names, with its arguments bound. ConfigError if it is not a subclass of `base`."""
    made = _instantiate(key, setting, _partial_=True)
    if not (isinstance(made.func, type) and issubclass(made.func, base)):
        raise ConfigError(f"{key}._target_={setting['_target_']}: must be a subclass of {_public_name(base)}.")
    return made  # type: ignore[no-any-return]


def user_objects(key: str, settings: Sequence[Mapping[str, Any]], base: type[Base]) -> list[Base]:
    """The objects that `settings` name. ConfigError if one is not a `base`."""
    objects = [_instantiate(key, setting) for setting in settings]
    for made, setting in zip(objects, settings, strict=True):
        if not isinstance(made, base):
            raise ConfigError(f"{key}: {setting['_target_']} is not a {_public_name(base)}.")
    return objects


def _public_name(base: type) -> str:
    return f"{base.__module__.partition('.')[0]}.{base.__qualname__}"


def _instantiate(key: str, setting: Mapping[str, Any], **options: Any) -> Any:
    try:
        return hydra.utils.instantiate(setting, **options)
    except hydra.errors.InstantiationException as error:
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}. Is its package installed?") from None
