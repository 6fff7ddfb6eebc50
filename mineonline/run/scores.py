"""Scores of played episodes: as a table for people, as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from mineonline.fragment import Episode
from mineonline.run.intervals import MANY_SEEDS, Interval, interquartile_mean, mean_interval, rate_interval
from mineonline.run.matches import Match
from mineonline.run.seeds import groups_of_seeds

SUCCESS = "success"
"""The statistic that is 1 in an episode that succeeded, where a task says what that is."""


class Score(NamedTuple):
    """One statistic, over all episodes."""

    mean: float
    spread: float
    """Standard deviation over episodes (n - 1 in the denominator); 0 for a single episode."""
    min: float
    max: float
    low: float
    """Of the 95 % interval of the mean (Student's t; of the success rate, Wilson's); NaN for a single episode."""
    high: float


class Result(NamedTuple):
    """A match and the episodes that were played."""

    match: Match
    episodes: list[Episode]


def scores_of(episodes: Sequence[Episode]) -> dict[str, Score]:
    """Return, length and each statistic, over the episodes (at least one)."""
    columns = {
        "return": [episode.episode_return for episode in episodes],
        "length": [float(episode.length) for episode in episodes],
        **{name: [episode.statistics[name] for episode in episodes] for name in episodes[0].statistics},
    }
    return {name: _score(name, column) for name, column in columns.items()}


def report(results: Sequence[Result], *, best: bool) -> str:
    """The scores as text: all statistics of a single match, or a line for each of several."""
    actions = "the most probable actions" if best else "sampled actions"
    first = results[0]
    if len(results) == 1:
        return _of_one(first, actions)
    lines = [f"{len(first.episodes)} episodes each, {actions}, seed {first.match.config.seed}"]
    lines += [_crashes(result) for result in results if _crashed(result)]
    scored = [scores_of(result.episodes) for result in results]
    rates = any(SUCCESS in scores for scores in scored)
    headlines = [next((name for name in scores if name not in ("return", "length", SUCCESS)), "") for scores in scored]
    rows = [["checkpoint", "task", "env", "return", "95 % interval", *(["success"] if rates else []), "", ""]]
    for result, scores, headline in zip(results, scored, headlines, strict=True):
        match, score = result.match, scores["return"]
        success = f"{100 * scores[SUCCESS].mean:.0f} %" if SUCCESS in scores else ""
        event = [f"{scores[headline].mean:.2f}", headline] if headline else ["", ""]
        rows.append(
            [match.name, match.task, match.env, f"{score.mean:.2f}", _range(score.low, score.high),
             *([success] if rates else []), *event]
        )  # fmt: skip
    lines += _aligned(rows, left=(0, 1, 2, len(rows[0]) - 1))
    lines.append("95 % interval of the mean over episodes: Student's t")
    groups = groups_of(results)
    if groups:
        lines += ["", "over seeds, whose settings are otherwise the same:"]
        many = any("interquartile_mean" in each for each in groups)
        heads = ["settings", "task", "env", "seeds", "return", "95 % interval"]
        rows = [[*heads, *(["interquartile", "95 % interval"] if many else [])]]
        for each in groups:
            typical = each.get("interquartile_mean")
            rows.append(
                [each["name"], each["task"], each["env"], str(each["seeds"]), *_interval(each["return"]),
                 *((_interval(typical) if typical else ["", ""]) if many else [])]
            )  # fmt: skip
        lines += _aligned(rows, left=(0, 1, 2))
    return "\n".join(lines)


def groups_of(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The return of checkpoints that are seeds of one another, over these seeds, for each task and environment.

    They have the same number of iterations; of those with the same seed, the first counts. From `MANY_SEEDS` on, the
    interquartile mean too.
    """
    trained = [result for result in results if result.match.checkpoint is not None]
    named = groups_of_seeds(
        [{**msgspec.to_builtins(result.match.config), "iteration": result.match.iteration} for result in trained]
    )
    groups = []
    for name, members in named.items():
        # checkpoints of one seed are one sample
        seeds = {trained[index].match.trained_seed: trained[index] for index in reversed(members)}
        means = [scores_of(result.episodes)["return"].mean for result in seeds.values()]
        if len(means) < 2:
            continue
        match = trained[members[0]].match
        found = {
            "name": name, "task": match.task, "env": match.env, "seeds": len(means),
            "return": mean_interval(means)._asdict(),
        }  # fmt: skip
        if len(means) >= MANY_SEEDS:
            found["interquartile_mean"] = interquartile_mean([[mean] for mean in means])._asdict()
        groups.append(found)
    return groups


def to_dict(result: Result, *, best: bool) -> dict[str, Any]:
    """A match and its scores, for JSON."""
    match = result.match
    return {
        "checkpoint": None if match.checkpoint is None else str(match.checkpoint),
        "name": match.name,
        "iteration": match.iteration,
        "task": match.task,
        "env": match.env,
        "seed": match.config.seed,
        "best": best,
        "episodes": len(result.episodes),
        "crashed": _crashed(result),
        "scores": {name: score._asdict() for name, score in scores_of(result.episodes).items()},
    }


def write_json(results: Sequence[Result], file: Path, *, best: bool) -> None:
    """The scores of a single match, or a list of them as `results` and their groups of seeds as `groups`."""
    found = [to_dict(result, best=best) for result in results]
    data = found[0] if len(found) == 1 else {"results": found, "groups": groups_of(results)}
    file.write_text(json.dumps(_finite(data), indent=2) + "\n")


def _score(name: str, column: list[float]) -> Score:
    spread = float(np.std(column, ddof=1)) if len(column) > 1 else 0.0
    interval = rate_interval(round(sum(column)), len(column)) if name == SUCCESS else mean_interval(column)
    return Score(float(np.mean(column)), spread, min(column), max(column), interval.low, interval.high)


def _of_one(result: Result, actions: str) -> str:
    match = result.match
    played = f"{len(result.episodes)} episodes, {actions}, seed {match.config.seed}"
    lines = [f"{match.checkpoint or match.name}: iteration {match.iteration}, {played}"]
    if _crashed(result):
        lines.append(_crashes(result))
    scores = scores_of(result.episodes)
    rows = [["", *Score._fields[:4], "95 % interval"]]
    rows += [
        [name, *(f"{number:.2f}" for number in score[:4]), _range(score.low, score.high)]
        for name, score in scores.items()
    ]
    return "\n".join([*lines, *_aligned(rows, left=(0,))])


def _crashed(result: Result) -> int:
    return sum(episode.crashed for episode in result.episodes)


def _crashes(result: Result) -> str:
    return f"{result.match.name}: {_crashed(result)} of them were truncated because their environment failed"


def _range(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{low:.2f} to {high:.2f}"


def _interval(found: dict[str, float]) -> list[str]:
    interval = Interval(**found)
    return [f"{interval.mean:.2f}", _range(interval.low, interval.high)]


def _aligned(rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> list[str]:
    """Rows of a table as lines. `left`: the columns that are aligned on the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _finite(value: Any) -> Any:
    """JSON has no NaN: null in its place."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
