"""Pictures of runs: a PNG, and a page that needs no other file, with curves, numbers and videos."""

from __future__ import annotations

import base64
import html
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mineonline.atomic import written_whole
from mineonline.errors import ConfigError
from mineonline.run.curves import Group, choose_metrics, draw, find_runs, group, save, title_of
from mineonline.run.intervals import MANY_SEEDS, Interval, interquartile_mean, mean_interval
from mineonline.settings.arguments import PlotArguments

if TYPE_CHECKING:  # takes a second to import
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222 }
h2 { font-size: 1.1rem; margin-top: 2rem }
svg { width: 100%; height: auto } table { border-collapse: collapse }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd } .name { text-align: left }
.scroll { overflow-x: auto } .videos { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0 } video { width: 24rem; max-width: 100% } figcaption { font-size: 13px; overflow-wrap: anywhere }
.note { color: #666; font-size: 13px }
"""


class _Video(NamedTuple):
    file: Path
    caption: str


def plot(arguments: PlotArguments) -> None:
    """Draw the runs and write the files. ConfigError for what cannot be found or written."""
    runs = find_runs(arguments.run)
    groups = group(runs)
    metrics = choose_metrics(runs, arguments.metrics)
    out = Path(arguments.out)
    files = [out] if out.suffix in (".png", ".html") else [Path(f"{out}.png"), Path(f"{out}.html")]
    title = title_of(runs)
    figure = draw(groups, metrics, arguments.x, title)
    for file in files:
        try:
            file.absolute().parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".png":
                save(figure, file, "png")
            else:
                _write_page(file, title, figure, groups, metrics, arguments.video_mb)
        except OSError as error:
            raise ConfigError(f"out={arguments.out}: {file} cannot be written ({error.strerror}).") from None
        print(file)


def _write_page(
    file: Path, title: str, figure: Figure, groups: Sequence[Group], metrics: Sequence[str], video_mb: float
) -> None:
    shown, linked = _choose_videos(groups, video_mb * 1e6)
    if linked:
        print(f"videos that the page only links: {len(linked)}; it holds {video_mb:g} MB of them (video_mb=<more>)")
    with tempfile.TemporaryDirectory() as folder:
        save(figure, Path(folder) / "curves.svg", "svg")
        curves = (Path(folder) / "curves.svg").read_text()
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
{curves[curves.index("<svg") :]}
<h2>Where they are now</h2>
{_scores(groups, metrics)}
<h2>Runs</h2>
{_runs(groups)}
{_videos(shown, linked, file)}
</body></html>
"""
    with written_whole(file) as partial:
        partial.write_text(page)


def _scores(groups: Sequence[Group], metrics: Sequence[str]) -> str:
    """The newest value of each metric: over seeds its mean and interval, over many their interquartile mean too."""
    many = any(len(each.runs) >= MANY_SEEDS for each in groups)
    rows = []
    for metric in metrics:
        for each in groups:
            values = [value for run in each.runs if not math.isnan(value := run.last(metric))]
            mean = _number(mean_interval(values)) if values else ""
            typical = _number(interquartile_mean([[v] for v in values])) if len(values) >= MANY_SEEDS else ""
            rows.append([html.escape(metric), html.escape(each.name), str(len(values)), mean, *([typical] * many)])
    heads = ["metric", "settings", "seeds", "mean", *(["interquartile mean"] * many)]
    note = "In brackets: 95 % interval of the mean over seeds (Student's t)."
    if many:
        note += " Interquartile mean: of the middle half of the seeds, with a bootstrap interval (Agarwal et al. 2021)."
    return _table(heads, rows) + f'<p class="note">{note}</p>'


def _runs(groups: Sequence[Group]) -> str:
    rows = [
        [
            html.escape(str(run.folder)), html.escape(each.name), str(run.settings["seed"]),
            f"{len(run.x('hours')):,}", f"{run.x('env_steps')[-1]:,.0f}", f"{run.x('hours')[-1]:.2f}",
        ]
        for each in groups for run in each.runs
    ]  # fmt: skip
    return _table(["run", "settings", "seed", "iterations", "decisions", "hours"], rows)


def _choose_videos(groups: Sequence[Group], room: float) -> tuple[list[_Video], list[_Video]]:
    """The newest video of each run: those that the page holds, as long as there is `room`, in bytes; and the others."""
    shown: list[_Video] = []
    linked: list[_Video] = []
    for each in groups:
        for run in each.runs:
            newest = max((run.folder / "videos").glob("*.mp4"), default=None)
            if newest is None:
                continue
            fits = newest.stat().st_size <= room
            room -= newest.stat().st_size if fits else 0
            chosen = shown if fits else linked
            chosen.append(_Video(newest, f"{each.name}, seed {run.settings['seed']}: {newest}"))
    return shown, linked


def _videos(shown: Sequence[_Video], linked: Sequence[_Video], file: Path) -> str:
    if not shown and not linked:
        return ""
    figures, links = [], []
    for video in shown:
        data = base64.b64encode(video.file.read_bytes()).decode()
        player = f'<video controls muted loop src="data:video/mp4;base64,{data}"></video>'
        figures.append(f"<figure>{player}<figcaption>{html.escape(video.caption)}</figcaption></figure>")
    for video in linked:
        path = html.escape(os.path.relpath(video.file, file.absolute().parent))
        links.append(f'<li><a href="{path}">{html.escape(video.caption)}</a></li>')
    parts = ["<h2>Newest videos</h2>", f'<div class="videos">{"".join(figures)}</div>']
    if links:
        parts.append(f"<p>Not in this page, which video_mb limits:</p><ul>{''.join(links)}</ul>")
    return "\n".join(parts)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(
            f'<{tag}{" class=name" if column < 2 else ""}>{cell}</{tag}>' for column, cell in enumerate(cells)
        ) + "</tr>"  # fmt: skip

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{line(heads, "th")}\n{body}</table></div>'


def _number(value: Interval) -> str:
    text = f"{value.mean:.2f}"
    return text if math.isnan(value.low) else f"{text} ({value.low:.2f} to {value.high:.2f})"
