"""What each setting means, and what it may be: read from the docstrings of the typed settings, the only place for both.

`--help`, `docs/configuration.md` and the errors are made from this.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from mineonline.settings.checks import range_of
from mineonline.settings.config import Config


class Setting(NamedTuple):
    """One key."""

    key: str
    """As it is typed, for example `optimizer.learning_rate`; `0` stands for any place in a list."""
    values: str
    """What may stand there, for example `number, 0 or more`."""
    meaning: str
    choice: str
    """The choice of its group that has this key, for example `env=gym`; empty if all have it."""
    default: str
    """What holds if `conf/` does not set it; empty if it must."""


@functools.cache
def all_settings() -> tuple[Setting, ...]:
    """Every key of a run, in the order of the typed settings; those of each environment and policy too."""
    return tuple(_settings_in(Config, "", ""))


@functools.cache
def section_meanings() -> dict[str, str]:
    """Section, or a choice such as `env=gym` -> what it is."""
    found = {}
    for field in msgspec.structs.fields(Config):
        for struct in _structs_in(field.type):
            tag = struct.__struct_config__.tag
            name = f"{field.encode_name}={tag}" if tag else field.encode_name
            found[name] = " ".join(inspect.getdoc(struct).split("\n\n")[0].split())  # type: ignore[union-attr]
    return found


@functools.cache
def docstrings(struct: type) -> dict[str, str]:
    """Field -> the docstring under it, in one line, for the fields of a class that have one."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            plain = " ".join(str(text.value.value).split())
            found[field.target.id] = re.sub(r"\bNone\b", "null", plain)  # as it is typed
    return found


_PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "anything"}


def first_key(section: str) -> str:
    """The first key of a section."""
    return next(setting.key for setting in all_settings() if setting.key.startswith(f"{section}."))


def values_of(key: str) -> str:
    """What may stand at `key`, in words; empty if there is no such key."""
    return " or ".join(dict.fromkeys(setting.values for setting in all_settings() if setting.key == key))


def as_typed(value: Any) -> str:
    """A value about as it is typed."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_typed, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {as_typed(each)}' for key, each in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """The value of `key` in nested mappings; None if there is none."""
    found: Any = values
    for part in key.split("."):
        if isinstance(found, list) and part.isdigit():
            found = found[int(part)] if int(part) < len(found) else None
        else:
            found = found.get(part) if isinstance(found, Mapping) else None
    return found


def with_article(values: str) -> str:
    """What may stand somewhere, as a part of a sentence."""
    return f"a {values}" if values.startswith(("whole", "number", "list")) else values


def words_for(hint: Any, key: str = "") -> str:
    """The values of a type, in words."""
    if typing.get_origin(hint) is Annotated:
        return words_for(typing.get_args(hint)[0], key)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(words_for(part, key) for part in parts))
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"[{', '.join(words_for(part) for part in parts)}]"
    if origin in (list, tuple):
        return f"list of {words_for(parts[0])}"
    if origin is dict or _structs_in(hint):
        return "{key: value, ...}"
    limit = range_of(key) if hint in (int, float) else ""
    return ", ".join(part for part in (_PLAIN[hint], limit) if part)


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """The default of a field that is not required, as plain data."""
    made = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return msgspec.to_builtins(made)


def _settings_in(struct: type, prefix: str, choice: str) -> Iterator[Setting]:
    meanings = docstrings(struct)
    for field in msgspec.structs.fields(struct):
        key = f"{prefix}{field.encode_name}"
        structs = _structs_in(field.type)
        for below in structs:
            tag = below.__struct_config__.tag
            inside = f"{key}.0." if typing.get_origin(field.type) is tuple else f"{key}."
            yield from _settings_in(below, inside, f"{key}={tag}" if tag else choice)
        if not structs:
            default = "" if field.required else as_typed(default_of(field)) or "''"
            yield Setting(key, words_for(field.type, key), meanings.get(field.name, ""), choice, default)


def _structs_in(hint: Any) -> list[Any]:
    """The structs in a type: itself, those of a union, or that of a tuple's elements."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple):
        return [struct for part in typing.get_args(hint) for struct in _structs_in(part)]
    return []
