"""Finds mistakes in the words of a command line of `train`, before Hydra reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mineonline.errors import ConfigError
from mineonline.settings.command_line import CONF_DIR
from mineonline.settings.meanings import all_settings
from mineonline.settings.suggestions import suggest_key

_FLAGS = (
    "--help", "-h", "--hydra-help", "--version", "--run", "-r", "--multirun", "-m", "--shell-completion", "-sc",
    "--resolve",
)  # fmt: skip
_FLAGS_WITH_VALUE = (
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
    "--info", "-i", "--experimental-rerun",
)  # fmt: skip
_OF_HYDRA = (
    "--hydra-help", "--version", "--shell-completion", "-sc", "--experimental-rerun", "--config-path", "-cp",
    "--config-name", "-cn",
)  # fmt: skip
_SHOWN_BY_CFG = ("job", "hydra", "all")


def check_words(words: Sequence[str]) -> None:
    """ConfigError if a word is neither a flag of Hydra's nor key=value, or is only a part of one."""
    value_of = ""
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        if value_of:
            _check_value_of(value_of, word)
            value_of = ""
        elif word.startswith("-"):
            value_of = _check_flag(word, following)
        else:
            _check_setting(word, following, words[index:])
    if value_of and value_of not in ("--info", "-i"):
        raise ConfigError(f"{value_of}: a value is missing.")


def help_topics(words: Sequence[str]) -> list[str]:
    """What `--help` is asked about: the words that are no settings and no flags."""
    return [word for word in words if "=" not in word and not word.startswith("-")]


def asks_hydra(words: Sequence[str]) -> bool:
    """Whether only Hydra can tell what the words mean: they are for its completion or help, or name another `conf/`."""
    return bool({word.partition("=")[0] for word in words} & {*_OF_HYDRA})


def _check_flag(word: str, following: str) -> str:
    """The flag, if the next word is its value."""
    flag, equals, value = word.partition("=")
    if flag in _FLAGS:
        return ""
    if flag in _FLAGS_WITH_VALUE:
        if equals:
            _check_value_of(flag, value)
        return "" if equals else flag
    key = flag.lstrip("-")
    if key.replace("-", "_") in _keys():
        key = key.replace("-", "_")
    if not equals:
        value = following if following and "=" not in following and not following.startswith("-") else "<value>"
    if key in _keys():
        raise ConfigError(f"{word}: settings have no dashes. Write {key}={value}.")
    raise ConfigError(f"{word}: there is no such flag, and settings have no dashes. {suggest_key(key)}")


def _check_value_of(flag: str, value: str) -> None:
    if flag in ("--cfg", "-c") and value not in _SHOWN_BY_CFG:
        raise ConfigError(f"{flag} {value}: there is no such choice. There are: {', '.join(_SHOWN_BY_CFG)}.")


def _check_setting(word: str, following: str, rest: Sequence[str]) -> None:
    key, equals, value = word.partition("=")
    bare = key.lstrip("+~")
    if not equals and word.startswith("~"):
        return
    split = following.startswith("=") or (equals and following and _is_part(following))
    if split and not value:
        joined = f"{bare}={(value + following).lstrip('=') or (rest[2] if len(rest) > 2 else '')}"
        typed = " ".join(rest[: 3 if following == "=" else 2])
        raise ConfigError(f"{typed}: there must be no space beside the equals sign. Write {joined}.")
    if not equals:
        raise ConfigError(f"{word}: settings are key=value.{_meant_by(word, following)}")
    if not bare:
        raise ConfigError(f"{word}: the key is missing. Write key={value}.")
    if value.startswith("="):
        raise ConfigError(f"{word}: one equals sign is enough. Write {key}={value.lstrip('=')}.")
    if _open_brackets(value) > 0:
        raise ConfigError(f"{word} is not complete. {_completed(rest)}")
    if bare in groups() and value in ("null", "None") and not word.startswith("~"):
        raise ConfigError(f"{word}: a choice cannot be null. There are: {', '.join(groups()[bare])}.")
    if bare in ("env", "policy") and re.fullmatch(r"\[.*,.*\]", value):
        each = value.strip("[]").replace(" ", "")
        raise ConfigError(
            f"{word}: one {bare} at a time, since their files would be mixed into one. "
            f"For a run with each of them: -m {bare}={each}."
        )


def _completed(words: Sequence[str]) -> str:
    """What to do about the first of `words`, in which a bracket is open."""
    for count in range(2, len(words) + 1):
        whole = " ".join(words[:count])
        if _open_brackets(whole) <= 0:
            return f"Quote it, or the shell splits it at spaces: '{whole}'."
    return "A closing bracket is missing."


def _is_part(word: str) -> bool:
    return "=" not in word and not word.startswith("-")


def _open_brackets(value: str) -> int:
    """How many brackets are open at the end, outside quotes."""
    plain = re.sub(r"\\.|'[^']*'|\"[^\"]*\"", "", value)
    return sum(plain.count(bracket) for bracket in "[{(") - sum(plain.count(bracket) for bracket in "]})")


def _meant_by(word: str, following: str) -> str:
    """What a word without an equals sign may stand for."""
    for group, choices in groups().items():
        if word in choices:
            return f" Write {group}={word}."
    if word.endswith((".ckpt", ".pt")) or (Path(word) / "checkpoints").is_dir():
        return f" To continue that run, write checkpoint={word}."
    key, colon, value = word.partition(":")
    if key in _keys() or (not colon and word in groups()):
        value = value or (following if _is_part(following) else "") or "<value>"
        return f" Write {key}={value}."
    if word.endswith((".yaml", ".yml")):
        return f" Put the file into <folder>/experiment/, and write --config-dir <folder> experiment={Path(word).stem}."
    return f" {suggest_key(word)}" if re.fullmatch(r"[\w.]+", word) else " `--help` shows what can be set."


def _keys() -> set[str]:
    return {setting.key for setting in all_settings()} | {*groups()}


def groups() -> dict[str, list[str]]:
    """Group -> the choices that come with the package, in order."""
    return {
        group.name: sorted(file.stem for file in group.glob("*.yaml"))
        for group in sorted(CONF_DIR.iterdir())
        if group.is_dir()
    }
