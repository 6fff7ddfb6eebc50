"""The learner and the callbacks that users bring along."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from mineonline.errors import ConfigError
from mineonline.imports import arguments_of, import_target, make, target_of

Base = TypeVar("Base")


def check_targets(settings: Mapping[str, Any]) -> None:
    """ConfigError if a class of the user's is in a package that is not there. Imports nothing yet: it may take long."""
    named = [("learner", settings["learner"]), *(("callbacks", each) for each in settings["callbacks"])]
    for key, setting in named:
        if isinstance(setting, Mapping):
            target = target_of(key, setting)
            if importlib.util.find_spec(target.partition(".")[0]) is None:
                import_target(key, target)


def user_class(key: str, setting: Mapping[str, Any], base: type[Base]) -> Callable[..., Base]:
    """The class that `setting` names, with the arguments in it. ConfigError if it is no subclass of `base`."""
    target = target_of(key, setting)
    named, arguments = import_target(key, target), arguments_of(key, setting)
    if not (isinstance(named, type) and issubclass(named, base)):
        raise ConfigError(f"{key}._target_={target}: must be a subclass of {_public_name(base)}.")
    taken = inspect.signature(named).parameters
    unknown = [name for name in arguments if name not in taken]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        raise ConfigError(f"{key}.{unknown[0]}: {target} takes no such argument.")
    return partial(named, **arguments)


def user_objects(key: str, settings: Sequence[Mapping[str, Any]], base: type[Base]) -> list[Base]:
    """The objects that `settings` name. ConfigError if one is no `base`."""
    objects = [make(key, setting) for setting in settings]
    for made, setting in zip(objects, settings, strict=True):
        if not isinstance(made, base):
            raise ConfigError(f"{key}: {setting['_target_']} is no {_public_name(base)}.")
    return objects


def _public_name(base: type) -> str:
    return f"{base.__module__.partition('.')[0]}.{base.__qualname__}"
