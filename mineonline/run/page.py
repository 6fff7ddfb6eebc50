"""Pictures of runs: a PNG, and a page that needs no other file, with curves, numbers and videos."""

from __future__ import annotations

import base64
import html
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mineonline.atomic import written_whole
from mineonline.errors import ConfigError
from mineonline.run.curves import Group, Run, choose_metrics, draw, find_runs, group, save, title_of
from mineonline.run.intervals import MANY_SEEDS, Interval, interquartile_mean, mean_interval
from mineonline.settings.arguments import PlotArguments

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
svg { width: 100%; height: auto } table { border-collapse: collapse }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd } .name { text-align: left }
.scroll { overflow-x: auto } .videos { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0 } video { width: 24rem; max-width: 100% } figcaption { font-size: 13px; overflow-wrap: anywhere }
.note { color: #666; font-size: 13px }
"""


def plot(arguments: PlotArguments) -> None:
    """Draw the runs and write the files. ConfigError for what cannot be found or written."""
    runs = find_runs(arguments.run)
    groups = group(runs)
    metrics = choose_metrics(runs, arguments.metrics)
    out = Path(arguments.out)
    files = [out] if out.suffix in (".png", ".html") else [Path(f"{out}.png"), Path(f"{out}.html")]
    title = title_of(runs[0]) if len(runs) == 1 else f"{len(runs)} runs"
    figure = draw(groups, metrics, arguments.x, title)
    for file in files:
        try:
            file.absolute().parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".png":
                save(figure, file, "png")
            else:
                with tempfile.TemporaryDirectory() as folder:
                    save(figure, Path(folder) / "curves.svg", "svg")
                    curves = (Path(folder) / "curves.svg").read_text()
                text = _page(title, curves[curves.index("<svg") :], groups, metrics, file, arguments.video_mb * 1e6)
                with written_whole(file) as partial:
                    partial.write_text(text)
        except OSError as error:
            raise ConfigError(f"out={arguments.out}: {file} cannot be written ({error.strerror}).") from None
        print(file)


def _page(
    title: str, curves: str, groups: Sequence[Group], metrics: Sequence[str], file: Path, video_bytes: float
) -> str:
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
{curves}
<h2>Where they are now</h2>
{_scores(groups, metrics)}
<h2>Runs</h2>
{_runs(groups)}
{_videos(groups, file, video_bytes)}
</body></html>
"""


def _scores(groups: Sequence[Group], metrics: Sequence[str]) -> str:
    """The newest value of each metric: over seeds its mean and interval, over many their interquartile mean too."""
    many = any(len(each.runs) >= MANY_SEEDS for each in groups)
    rows = []
    for each in groups:
        cells = []
        for metric in metrics:
            values = [value for run in each.runs if not math.isnan(value := run.last(metric))]
            cells.append(_number(mean_interval(values)) if values else "")
            if many:
                enough = len(values) >= MANY_SEEDS
                cells.append(_number(interquartile_mean([[value] for value in values])) if enough else "")
        rows.append([html.escape(each.name), str(len(each.runs)), *cells])
    heads = [head for metric in metrics for head in [html.escape(metric), *(["interquartile mean"] if many else [])]]
    note = "In brackets: 95 % interval of the mean over seeds (Student's t)."
    if many:
        note += (
            " Interquartile mean: the middle half of the seeds, with a 95 % bootstrap interval (Agarwal et al. 2021)."
        )
    return _table(["", "seeds", *heads], rows) + f'<p class="note">{note}</p>'


def _runs(groups: Sequence[Group]) -> str:
    rows = [
        [
            html.escape(str(run.folder)), html.escape(each.name), str(run.settings["seed"]),
            f"{len(run.x('hours')):,}", f"{run.x('env_steps')[-1]:,.0f}", f"{run.x('hours')[-1]:.2f}",
        ]
        for each in groups for run in each.runs
    ]  # fmt: skip
    return _table(["run", "settings", "seed", "iterations", "decisions", "hours"], rows)


def _videos(groups: Sequence[Group], file: Path, room: float) -> str:
    """The newest video of each run, in the page as long as there is `room`, in bytes; links to the others."""
    shown, linked = [], []
    for each in groups:
        for run in each.runs:
            video = _newest_video(run)
            if video is None:
                continue
            caption = f"{html.escape(each.name)}, seed {run.settings['seed']}: {html.escape(str(video))}"
            room -= video.stat().st_size
            if room >= 0:
                data = base64.b64encode(video.read_bytes()).decode()
                source = f"data:video/mp4;base64,{data}"
                player = f'<video controls muted loop src="{source}"></video>'
                shown.append(f"<figure>{player}<figcaption>{caption}</figcaption></figure>")
            else:
                room += video.stat().st_size
                path = html.escape(os.path.relpath(video, file.absolute().parent))
                linked.append(f'<li><a href="{path}">{caption}</a></li>')
    if not shown and not linked:
        return ""
    parts = ["<h2>Newest videos</h2>", f'<div class="videos">{"".join(shown)}</div>']
    if linked:
        parts.append(f"<p>Not in this page, which video_mb limits:</p><ul>{''.join(linked)}</ul>")
    return "\n".join(parts)


def _newest_video(run: Run) -> Path | None:
    return max((run.folder / "videos").glob("*.mp4"), default=None)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(
            f'<{tag}{" class=name" if column == 0 else ""}>{cell}</{tag}>' for column, cell in enumerate(cells)
        ) + "</tr>"  # fmt: skip

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{line(heads, "th")}\n{body}</table></div>'


def _number(value: Interval) -> str:
    text = f"{value.mean:.2f}"
    return text if math.isnan(value.low) else f"{text} ({value.low:.2f} to {value.high:.2f})"
