"""`python -m mineonline.metrics` shows every number that a run logs."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from mineonline.metrics_table import SECTIONS, Metric
from mineonline.settings.arguments import METRICS_USAGE, MetricsArguments
from mineonline.settings.command_line import parse_words, report_errors

_INDENT = " " * 4
_WIDTH = 80


def main() -> None:
    """Print the table."""
    arguments = parse_arguments(sys.argv[1:])
    print("\n".join(as_markdown() if arguments.format == "markdown" else as_text()))


def parse_arguments(words: list[str]) -> MetricsArguments:
    """The arguments in `words`. ConfigError says which word is wrong."""
    return parse_words(words, MetricsArguments, METRICS_USAGE)


def as_text() -> Iterator[str]:
    """Lines for a terminal."""
    for section in SECTIONS:
        yield f"{section.title}"
        for metric in section.metrics:
            unit = f" ({metric.unit})" if metric.unit else ""
            yield f"  {metric.name}{unit}"
            yield from textwrap.wrap(_meaning(metric), _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
        yield ""


def as_markdown() -> Iterator[str]:
    """Lines of `docs/metrics.md`."""
    yield "# Metrics"
    yield ""
    yield "What a run logs after each iteration: columns of `metrics.csv`, and the same names in all loggers. `<...>`"
    yield "stands for any name. Written by `python -m mineonline.metrics format=markdown > docs/metrics.md` from"
    yield "[`metrics_table.py`](../mineonline/metrics_table.py). How they reach loggers: [loggers.md](loggers.md)."
    for section in SECTIONS:
        yield ""
        yield f"## {section.title}"
        yield ""
        yield "| name | unit | meaning |"
        yield "|---|---|---|"
        for metric in section.metrics:
            yield f"| `{metric.name}` | {metric.unit} | {_meaning(metric)} |"


def _meaning(metric: Metric) -> str:
    return metric.meaning if metric.when == "always" else f"{metric.meaning} Only if {metric.when}."


if __name__ == "__main__":
    report_errors(main)
