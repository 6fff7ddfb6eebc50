"""gymnasium's spaces in the terms of the contract: an observation is named arrays, an action is made of named ones.

Axes: N environments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mineonline.envs.contract import Action, ActionSpec, ContinuousAction, TensorSpec
from mineonline.errors import ConfigError

Space = gymnasium.Space[Any]
_CHANNELS = (1, 3, 4)


class Unfit(ValueError):
    """An environment returned something that it does not promise. The text says what, for the user."""


class Leaf(NamedTuple):
    """One named array of an observation."""

    name: str
    spec: TensorSpec
    read: Callable[[Any], Any]
    """Takes the whole observation, and returns what broadcasts to `spec.shape`. Unfit if it cannot."""


def observation_leaves(space: Space, env_id: str) -> list[Leaf]:
    """The arrays that observations of `space` consist of; parts of Dict and Tuple are named by their path.

    Box stays as it is, as float32; uint8 with three axes is a picture, turned to channels last. Discrete, MultiDiscrete
    and MultiBinary become the vector that `gymnasium.spaces.flatten` makes of them. ConfigError for any other space.
    """
    leaves = [_leaf(path, part, env_id) for path, part in _parts(space)]
    _refuse_clashes([leaf.name for leaf in leaves], f"env.id={env_id}: observation")
    return leaves


class ActionReader(NamedTuple):
    """How the contract's actions become gymnasium's."""

    specs: dict[str, ActionSpec]
    of: Callable[[Action], list[Any]]
    """The action of each of the N environments. Continuous ones are clipped to their bounds."""


def action_reader(space: Space, env_id: str) -> ActionReader:
    """ConfigError if a policy cannot choose the actions of `space`."""
    specs: list[tuple[str, ActionSpec]] = []
    read = _action(space, (), specs, env_id)
    if not specs:
        raise ConfigError(f"env.id={env_id}: its action space {space} leaves nothing to choose.")
    _refuse_clashes([name for name, _ in specs], f"env.id={env_id}: action")
    return ActionReader(dict(specs), read)


def _parts(space: Space, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Space]]:
    """The spaces below Dict and Tuple, with the keys that lead to them."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _parts(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _parts(part, (*path, index))
    else:
        yield path, space


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _refuse_clashes(names: list[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{what} {name!r} is the name of two parts. Rename a key of its Dict space.")


def _leaf(path: tuple[Any, ...], space: Space, env_id: str) -> Leaf:
    name = _name(path)
    if isinstance(space, spaces.Box):
        picture = space.dtype == np.uint8 and len(space.shape) == 3
        turned = picture and space.shape[0] in _CHANNELS and space.shape[2] not in _CHANNELS
        channels, *rest = space.shape or (1,)
        spec = TensorSpec((*rest, channels) if turned else (channels, *rest), "uint8" if picture else "float32")
        name = name or ("image" if picture else "state")
        return Leaf(name, spec, _at(path, _box_reader(space, name, picture=picture, turned=turned)))
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        name = name or "state"
        return Leaf(name, TensorSpec((spaces.flatdim(space),), "float32"), _at(path, _class_reader(space, name)))
    raise ConfigError(
        f"env.id={env_id}: the observation {name or 'space'!r} is {space}, which no policy here can read: leave it out "
        "with gymnasium.wrappers.FilterObservation, or make it a Box with gymnasium.wrappers.TransformObservation, and "
        "register the wrapped environment."
    )


def _at(path: tuple[Any, ...], read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`read`, of the part of an observation that `path` leads to."""
    if not path:
        return read

    def read_part(observation: Any) -> Any:
        for key in path:
            try:
                observation = observation[key]
            except (KeyError, IndexError, TypeError):
                raise Unfit(f"the observation has no {_name(path)!r}") from None
        return read(observation)

    return read_part


def _box_reader(space: spaces.Box, name: str, *, picture: bool, turned: bool) -> Callable[[Any], Any]:
    shape, dtype = space.shape, space.dtype
    kinds = "bui" if picture else "buif"

    def read(value: Any) -> Any:
        if type(value) is not np.ndarray:
            value = np.asarray(value)
        if value.shape != shape:
            raise Unfit(f"the observation {name!r} has shape {value.shape}, but its space {shape}")
        # identity first: it is the usual case, and comparing dtypes takes longer
        if value.dtype is not dtype and value.dtype != dtype:
            fits = value.dtype.kind in kinds and not (picture and value.size and (value.min() < 0 or value.max() > 255))
            if not fits:
                raise Unfit(f"the observation {name!r} holds {value.dtype}, but its space {dtype}")
        return value.transpose(1, 2, 0) if turned else value

    return read


def _class_reader(space: Space, name: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not space.contains(value):
            raise Unfit(f"the observation {name!r} is {value!r}, which is not in its space {space}")
        return spaces.flatten(space, value)

    return read


def _action(
    space: Space, path: tuple[Any, ...], specs: list[tuple[str, ActionSpec]], env_id: str
) -> Callable[[Action], list[Any]]:
    """Adds what `space` needs to `specs`; returns how it is read from an action."""
    if isinstance(space, spaces.Dict | spaces.Tuple) and path and not space.spaces:
        raise ConfigError(
            f"env.id={env_id}: the action {_name(path)!r} is {space}, which holds nothing to choose: leave it out with "
            "gymnasium.wrappers.TransformAction, and register the wrapped environment."
        )
    if isinstance(space, spaces.Dict):
        parts = {key: _action(part, (*path, key), specs, env_id) for key, part in space.spaces.items()}
        return lambda action: [
            dict(zip(parts, each, strict=True)) for each in zip(*(read(action) for read in parts.values()), strict=True)
        ]
    if isinstance(space, spaces.Tuple):
        members = [_action(part, (*path, index), specs, env_id) for index, part in enumerate(space.spaces)]
        return lambda action: list(zip(*(read(action) for read in members), strict=True))
    name = _name(path) or "action"
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        specs.append((name, int(space.n)))
        return lambda action: (action[name] + start).tolist()
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        if isinstance(space, spaces.MultiDiscrete):
            sizes, start_of_each = space.nvec.flatten().tolist(), space.start
        else:
            sizes, start_of_each = [2] * math.prod(space.shape), np.zeros(space.shape, np.int64)
        names = [f"{name}.{i}" if path else f"{name}{i}" for i in range(len(sizes))]
        specs.extend(zip(names, sizes, strict=True))

        def read_classes(action: Action) -> list[Any]:
            chosen = np.stack([action[each] for each in names], -1).reshape(-1, *space.shape)
            return list((chosen + start_of_each).astype(space.dtype))

        return read_classes
    if isinstance(space, spaces.Box):
        specs.append((name, _continuous(space)))
        whole = np.issubdtype(space.dtype, np.integer)

        def read_numbers(action: Action) -> list[Any]:
            clipped: NDArray[Any] = np.clip(action[name], space.low, space.high)
            return list((np.rint(clipped) if whole else clipped).astype(space.dtype))

        return read_numbers
    raise ConfigError(
        f"env.id={env_id}: the action {name!r} is {space}, which no policy here can choose: make it a Box, Discrete, "
        "MultiDiscrete, MultiBinary, or a Dict or Tuple of these with gymnasium.wrappers.TransformAction, and register "
        "the wrapped environment."
    )


def _continuous(space: spaces.Box) -> ContinuousAction:
    low, high = (
        tuple(float(bound) if np.isfinite(bound) else None for bound in bounds.flatten())
        for bounds in (space.low, space.high)
    )
    return ContinuousAction(tuple(space.shape), low, high)
