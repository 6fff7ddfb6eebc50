"""Reads what loggers have written."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mineonline.metrics_table import find

_BLOCK = 32768


def unknown_metrics(file: Path) -> list[str]:
    """Columns of a run's metrics.csv that the table lacks; none if callbacks of the user's may have logged them."""
    settings = file.with_name("config.yaml")
    if not settings.exists() or yaml.safe_load(settings.read_text())["callbacks"]:
        return []
    with file.open(newline="") as source:
        return [name for name in next(csv.reader(source), []) if find(name) is None]


def events(folder: Path) -> EventAccumulator:
    """What TensorBoard shows of a folder."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a run-<id>.wandb: LevelDB's log format, with seven bytes of its own at the start."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # the whole of a record, or its end
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def wandb_rows(file: Path) -> list[dict[str, Any]]:
    """The rows that W&B's charts are drawn from."""
    return [
        {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
        for record in wandb_records(file)
        if record.HasField("history")
    ]


def wandb_config(file: Path) -> dict[str, Any]:
    """The run's configuration as W&B shows it."""
    config: dict[str, Any] = {}
    for record in wandb_records(file):
        for update in (*record.run.config.update, *record.config.update):
            config["/".join(update.nested_key) or update.key] = json.loads(update.value_json)
    return config
