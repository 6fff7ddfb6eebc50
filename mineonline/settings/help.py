"""What `--help` prints, from the docstrings of the typed settings and arguments."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mineonline.errors import ConfigError
from mineonline.settings.meanings import (
    Setting,
    all_settings,
    as_typed,
    default_of,
    docstrings,
    section_meanings,
    value_at,
    words_for,
)
from mineonline.settings.suggestions import suggest_key

_INTRODUCTION = """usage: python -m mineonline.train [key=value ...]
Trains a Minecraft agent online with PPO. Without words it learns to hunt cows.

  task=chop_tree iterations=300 seed=1    another task, shorter, another seed
  env=gym env.id=CartPole-v1 policy=mlp   any gymnasium environment
  env=minestudio policy=vpt               Minecraft, with MineStudio's VPT
  trainer.devices=2                       two trainer processes (DDP)
  logger=[csv,wandb] video.every=0        more loggers, no videos
  checkpoint=<run>/checkpoints/last.ckpt  continue a run where it stopped
  checkpoint=latest                       continue the newest run
  -m seed=0,1,2                           a run with each value
  --config-dir <folder> task=<yours>      choices of your own
  --cfg job                               show the settings as YAML, run nothing
  --help optimizer                        all about a section, group or key"""

_WIDEST = 100
_LONGEST_VALUE = 14
_FIRST_SENTENCE = re.compile(r"(?<!al\.)(?<!\.\.)(?<=\.) (?=[A-Z`0-9γλε]|null:)")


def train_help(settings: Mapping[str, Any], choices: Mapping[str, Sequence[str]], topics: Sequence[str]) -> str:
    """All settings with their values in `settings`; those of `topics`, which are sections or keys, in full.

    `choices`: group -> what may be chosen. ConfigError if there is no such topic.
    """
    chosen = [each for each in all_settings() if each.choice in ("", *_chosen(settings))]
    if topics:
        return "\n\n".join(_topic(topic, settings, choices, chosen) for topic in topics)
    general = [each for each in chosen if "." not in each.key]
    sections = dict.fromkeys(each.key.partition(".")[0] for each in chosen if "." in each.key)
    parts = [
        _INTRODUCTION,
        "\n".join(["Choices (group=choice):", *_choice_lines(choices)]),
        "\n".join(["Settings (key=value). --help <section> says more.", "", *_lines(general, settings, full=False)]),
        *(_section(name, settings, chosen, full=False) for name in sections),
        _trainer(settings),
    ]
    return "\n\n".join(parts)


def describe_arguments(struct: type[msgspec.Struct]) -> str:
    """The keys of a command other than `train`, with defaults and meanings."""
    meanings = docstrings(struct)
    rows = []
    for field in msgspec.structs.fields(struct):
        default = "(needed)" if field.required else as_typed(default_of(field))
        rows.append((field.encode_name, default, f"{meanings.get(field.name, '')} ({words_for(field.type)})"))
    return "\n".join(_rows(rows))


def _chosen(settings: Mapping[str, Any]) -> list[str]:
    return [f"{group}={settings[group]['kind']}" for group in ("env", "policy")]


def _topic(
    topic: str, settings: Mapping[str, Any], choices: Mapping[str, Sequence[str]], chosen: Sequence[Setting]
) -> str:
    if topic == "trainer":
        return _trainer(settings)
    exact = [each for each in chosen if each.key == topic]
    if exact:
        return "\n".join(_lines(exact, settings, full=True))
    if not any(each.key.startswith(f"{topic}.") for each in chosen):
        raise ConfigError(f"--help {topic}: there is no such section or key. {suggest_key(topic)}")
    listed = [*_choice_lines({topic: choices[topic]}), ""] if topic in choices else []
    return "\n".join([*listed, _section(topic, settings, chosen, full=True)])


def _section(name: str, settings: Mapping[str, Any], chosen: Sequence[Setting], *, full: bool) -> str:
    meanings = section_meanings()
    title = next((each for each in (*_chosen(settings), name) if each in meanings and each.startswith(name)), name)
    within = [each for each in chosen if each.key.startswith(f"{name}.")]
    return "\n".join([*_wrapped(f"{title}: {meanings.get(title, '')}"), *_lines(within, settings, full=full)])


def _trainer(settings: Mapping[str, Any]) -> str:
    (meaning,) = (each.meaning for each in all_settings() if each.key == "trainer")
    values = [(f"trainer.{name}", as_typed(value), "") for name, value in settings["trainer"].items()]
    text = f"trainer: {meaning} See https://lightning.ai/docs/pytorch/stable/common/trainer.html"
    return "\n".join([*_wrapped(text), *_rows(values)])


def _choice_lines(choices: Mapping[str, Sequence[str]]) -> list[str]:
    return _rows((f"{group}=", "", ", ".join(names)) for group, names in choices.items())


def _lines(chosen: Iterable[Setting], settings: Mapping[str, Any], *, full: bool) -> list[str]:
    rows = []
    for each in chosen:
        if each.key == "trainer":
            continue
        value = value_at(settings, each.key)
        of_task = each.key.startswith("task.") and "null" not in each.values
        shown = each.default if value is None and of_task else as_typed(value)
        meaning = f"{each.meaning} ({each.values})" if full else _FIRST_SENTENCE.split(each.meaning)[0]
        rows.append((each.key, shown, meaning))
    return _rows(rows)


def _rows(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """(key, value, meaning) in three columns, none wider than the terminal; a long value has its own line."""
    rows = list(rows)
    keys = max((len(key) for key, _, _ in rows), default=0)
    values = max((len(value) for _, value, _ in rows if len(value) <= _LONGEST_VALUE), default=0)
    margin = " " * (4 + keys + values + (2 if values else 0))
    lines = []
    for key, value, meaning in rows:
        text = _wrapped(meaning, margin)
        start = f"  {key:<{keys}}  {value:<{values}}"
        if len(value) <= values and text:
            text[0] = f"{start:<{len(margin)}}{text[0].lstrip()}"
            lines += text
        else:
            lines += [textwrap.shorten(start, _width()) if len(start) > _width() else start.rstrip(), *text]
    return lines


def _wrapped(text: str, margin: str = "") -> list[str]:
    return textwrap.wrap(text, _width(), initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def _width() -> int:
    return max(60, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))
