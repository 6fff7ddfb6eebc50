"""`python -m mineonline.settings.configuration_page > docs/configuration.md` writes the page about every key."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from mineonline.settings.command_line import CONF_DIR, compose_settings
from mineonline.settings.meanings import Setting, all_settings, as_typed, section_meanings, value_at

_HEAD = """# Configuration

Every key of `python -m mineonline.train`. `key=value` on the command line sets it, and `group=choice` chooses a file of
[`conf/`](../conf). `python -m mineonline.train --help <section>` shows a part of this page with the values of a command
line, and `--cfg job` prints these as YAML.

The default is that of `conf/config.yaml`, or of the choice's own file; another environment or experiment may bring
others. In keys of lists, `0` is the first element. *needed*: there is no default.

This page is made from the docstrings of the typed settings:
`python -m mineonline.settings.configuration_page > docs/configuration.md`.
"""
_TABLE = ["| key | default | values | meaning |", "|---|---|---|---|"]


def page() -> str:
    """The page, in Markdown."""
    settings = all_settings()
    lines = [_HEAD, "## Groups", "", "| group | choices |", "|---|---|"]
    for group in sorted(each for each in CONF_DIR.iterdir() if each.is_dir()):
        names = ", ".join(f"`{file.stem}`" for file in sorted(group.glob("*.yaml")))
        lines.append(f"| `{group.name}` | {names} |")
    lines += ["", "## The run", "", *_table([each for each in settings if "." not in each.key])]
    titles = dict.fromkeys((each.choice or each.key.partition(".")[0]) for each in settings if "." in each.key)
    for title in titles:
        section = title.partition("=")[0]
        of_title = [each for each in settings if each.key.startswith(f"{section}.") and each.choice in ("", title)]
        lines += ["", f"## {title}", "", section_meanings().get(title, ""), "", *_table(of_title)]
    return "\n".join(lines) + "\n"


def _table(settings: Sequence[Setting]) -> list[str]:
    return [*_TABLE, *_rows(settings)]


def _rows(settings: Sequence[Setting]) -> Iterator[str]:
    defaults = _composed(settings[0].choice)
    for each in settings:
        of_task = each.key.startswith("task.")
        default = each.default if of_task else as_typed(value_at(defaults, each.key))
        shown = f"`{default}`" if default not in ("", "???") else "*needed*"
        if each.key == "trainer":
            shown = "see `conf/config.yaml`"
        cells = (f"`{each.key}`", shown, each.values, each.meaning)
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


@functools.cache
def _composed(choice: str) -> dict[str, Any]:
    return compose_settings([choice] if choice else [], complete=False)


if __name__ == "__main__":
    print(page(), end="")
