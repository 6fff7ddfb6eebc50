"""The summary at the end of a run: a few lines and a learning curve."""

from __future__ import annotations

from pathlib import Path

from mineonline.atomic import written_whole
from mineonline.run.folder import METRICS_FILE, read_metrics

_PANELS_A_ROW = 4


def print_summary(run_dir: Path, iteration: int, wall_s: float, *, stopped: bool) -> None:
    """Print how the run went and where its files are, and draw `curve.png`."""
    file = run_dir / METRICS_FILE
    rows = read_metrics(file) if file.exists() else []
    print(
        f"\n{'stopped' if stopped else 'finished'} after {iteration} iterations; this session took {_duration(wall_s)}"
    )
    if rows:
        last = rows[-1]
        print(f"  {float(last['env_steps']):,.0f} decisions in {float(last['episodes']):,.0f} episodes")
        names = [column for column in last if column.startswith("episode/")]
        width = max(len(name) for name in names) - len("episode/")
        for name in names:
            known = [float(row[name]) for row in rows if row[name] not in ("", "nan")]
            if known:
                print(f"  {name.removeprefix('episode/'):<{width}} first {known[0]:8.2f}   last {known[-1]:8.2f}")
        if failures := int(float(last.get("env_failures") or 0)):  # files from earlier versions lack it
            print(f"  environments that failed and were replaced: {failures} (reasons: {run_dir / 'logs'})")
        draw_curve(rows, run_dir / "curve.png")
        print(f"  learning curve  {run_dir / 'curve.png'}")
    print(f"  metrics         {file}")
    print(f"  checkpoint      {run_dir / 'checkpoints' / 'last.ckpt'}")
    videos = sorted((run_dir / "videos").glob("*.mp4"))
    if videos:
        print(f"  newest video    {videos[-1]}")
    if stopped:
        print(f"continue with: python -m mineonline.train checkpoint={run_dir / 'checkpoints' / 'last.ckpt'}")


def draw_curve(rows: list[dict[str, str]], file: Path) -> None:
    """Return and throughput over the decisions of a run, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = [name for name in rows[-1] if name.startswith("episode/") and name != "episode/length"]
    wide = min(_PANELS_A_ROW, len(columns))
    high = -(-len(columns) // wide)
    figure, axes = pyplot.subplots(high, wide, figsize=(5 * wide, 3.5 * high), squeeze=False)
    for axis in axes.flat[len(columns) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, columns, strict=False):
        points = [(float(row["env_steps"]), float(row[name])) for row in rows if row[name] not in ("", "nan")]
        axis.plot([x for x, _ in points], [y for _, y in points])
        axis.set_xlabel("decisions")
        axis.set_title(f"{name.removeprefix('episode/')} per episode (mean of the last 100)", fontsize=9)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    with written_whole(file) as partial:
        figure.savefig(partial, dpi=110, format="png")
    pyplot.close(figure)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
