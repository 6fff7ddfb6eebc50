"""The summary at the end of a run: a few lines and a learning curve."""

from __future__ import annotations

import re
from pathlib import Path

from mineonline.run.curves import draw_curve
from mineonline.run.folder import CURVE_FILE, METRICS_FILE, read_metrics

_SHOWN = re.compile("episode/.+|task/.+/(return|success)")
"""Scores, and what the terminal shows of each of several tasks while they are learnt."""


def print_summary(run_dir: Path, iteration: int, wall_s: float, *, stopped: bool, limit: str | None = None) -> None:
    """Print how the run went and where its files are, and draw `curve.png`.

    `stopped`: on request. `limit`: the setting that has ended the run before its last iteration.
    """
    file = run_dir / METRICS_FILE
    rows = read_metrics(file) if file.exists() else []
    if rows:
        draw_curve(run_dir, run_dir / CURVE_FILE)  # first, in case nobody reads what is printed any more
    how = f"stopped at the limit {limit}," if limit else "stopped" if stopped else "finished"
    print(f"\n{how} after {iteration} iterations; this session took {_duration(wall_s)}")
    if rows:
        last = rows[-1]
        print(f"  {float(last['env_steps']):,.0f} decisions in {float(last['episodes']):,.0f} episodes")
        names = [column for column in last if _SHOWN.fullmatch(column)]
        shown = [name.removeprefix("episode/") for name in names]
        width = max(map(len, shown))
        for name, label in zip(names, shown, strict=True):
            known = [float(row[name]) for row in rows if row[name] not in ("", "nan")]
            if known:
                print(f"  {label:<{width}} first {known[0]:8.2f}   last {known[-1]:8.2f}")
        if failures := int(float(last.get("env_failures") or 0)):  # files from earlier versions lack it
            print(f"  environments that failed and were replaced: {failures} (reasons: {run_dir / 'logs'})")
        print(f"  learning curve  {run_dir / CURVE_FILE}")
    print(f"  metrics         {file}")
    print(f"  checkpoint      {run_dir / 'checkpoints' / 'last.ckpt'}")
    videos = sorted((run_dir / "videos").glob("*.mp4"))
    if videos:
        print(f"  newest video    {videos[-1]}")
    if stopped or limit:
        more = f" {limit}=<more>" if limit else ""
        print(f"continue with: python -m mineonline.train checkpoint={run_dir / 'checkpoints' / 'last.ckpt'}{more}")
    else:
        print(f"score and film it: python -m mineonline.evaluate {run_dir} video=film.mp4")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
