"""What a user brings along: classes that settings name by `_target_`. Used by the entry points alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hydra
import lightning

from mineonline.errors import ConfigError
from mineonline.learning.module import PPO


def learner_kind(setting: Mapping[str, Any]) -> Callable[..., PPO]:
    """What makes the learner. ConfigError if `setting` names no subclass of PPO."""
    kind = _instantiate("learner", setting, _partial_=True)
    if not (isinstance(kind.func, type) and issubclass(kind.func, PPO)):
        raise ConfigError(
            f"learner._target_={setting['_target_']}: must be a subclass of {PPO.__module__}.{PPO.__qualname__}."
        )
    return kind  # type: ignore[no-any-return]


def own_callbacks(settings: Sequence[Mapping[str, Any]]) -> list[lightning.Callback]:
    """The callbacks that `settings` name. ConfigError if one is none."""
    callbacks = [_instantiate("callbacks", setting) for setting in settings]
    for callback, setting in zip(callbacks, settings, strict=True):
        if not isinstance(callback, lightning.Callback):
            raise ConfigError(f"callbacks: {setting['_target_']} is no lightning.Callback.")
    return callbacks


def _instantiate(key: str, setting: Mapping[str, Any], **options: Any) -> Any:
    try:
        return hydra.utils.instantiate(setting, **options)
    except hydra.errors.InstantiationException as error:
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}. Is its package installed?") from None
