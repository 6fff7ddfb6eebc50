"""The panel, drawn on terminals of all sizes."""

import io
import time

import pytest
from rich.console import Console

from mineonline.callbacks.panel import StatusPanel, line, sparkline
from mineonline.status import Collector, Failure, Link, Score, Status

LONG = "RuntimeError: java: there is no such file; " * 3


def status(collectors=4, **changed):
    states, now = ("playing", "waiting", "starting", "playing"), time.time()
    facts = {
        "run_dir": "/shared/project/of/a/large/group/runs/hunt_cow/2026-11-30_05-00-00", "started_at": now,
        "written_at": now, "phase": "learning", "silent_s": 0.0, "add_collector": "python -m mineonline.collect run=x",
        "headline": "Environments are the bottleneck: the learner waits 62 % of the time; add collectors",
        "iteration": 120, "iterations": 1000, "ends_at": now + 5000, "episodes": 100, "env_steps": 12345,
        "scores": (
            Score("return", 3.25, tuple(float(i) for i in range(100))), Score("kill_entity/cow", 2.5, (0.0, 1.0)),
        ),
        "success_rate": 0.63, "env_steps_per_s": 1234.0, "lag_versions": 1.2, "lag_versions_max": 3.0,
        "buffer_fragments": 12, "buffer_wanted": 32, "buffer_capacity": 64, "learner_waits": 0.62,
        "links": (Link("environments", 0.61), Link("inference", 0.2), Link("sending", 0.03), Link("learner", 0.38)),
        "collectors": (
            *(Collector(f"collector-{i}", states[i % 4], "", now - 3.2) for i in range(collectors)),
            Collector("gpu-node-1:123456", "restarting", f"ended with exit code 1 ({LONG})"),
        ),
        "env_failures": 3, "failures": (Failure("ConnectionError: the engine has left", 3, 17, now),),
        "newest_video": "/shared/project/of/a/large/group/runs/hunt_cow/2026-11-30_05-00-00/videos/000100.mp4",
        "newest_video_at": now - 130.0,
    }  # fmt: skip
    return Status(**{**facts, **changed})


def drawn(shown, columns=80, rows=24, encoding="utf-8"):
    """The lines of a terminal, right after the panel was drawn on it."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=columns, height=rows, force_terminal=True, color_system=None)
    console.print(StatusPanel(shown))
    file.seek(0)
    return file.read().splitlines()


def words(lines):
    return " ".join(" ".join(line.strip("│ ") for line in lines).split())


@pytest.mark.parametrize("collectors", [0, 3, 40])
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (100, 30), (140, 40), (60, 15), (30, 8), (20, 5)])
def test_it_fits_every_terminal_with_what_matters_first(columns, rows, collectors):
    lines = drawn(status(collectors), columns, rows)
    assert len(lines) <= rows
    assert all(len(line) == columns for line in lines[:-1])
    assert not lines[-1]  # for the cursor
    assert words(lines[1:]).startswith("Environments are")


def test_at_80_columns_and_24_rows_nothing_is_missing():
    shown = words(drawn(status()))
    for part in (
        "the learner waits 62 % of the time", "iteration 120/1000", "83 min left", "return 3.25", "▁",
        "kill_entity/cow 2.50", "success 63 %", "speed 1,234 env steps/s, lag 1.2 versions (largest 3)",
        "buffer 12", "of 32", "environments 61 %", "inference 20 %", "sending 3 %", "learner 38 %",
        "gpu-node-1:123456 restarting ended with", "collector-3 playing last fragment 3.",
        "environment 17 failed (3x so far): ConnectionError: the engine has left",
        "newest video videos/000100.mp4, 2 min ago",
    ):  # fmt: skip
        assert part in shown


def test_collectors_in_trouble_come_first_and_those_that_do_not_fit_are_counted():
    shown = words(drawn(status(40)))
    assert shown.index("gpu-node-1:123456 restarting") < shown.index("collector-2 starting")
    assert " more (" in shown
    assert "20 playing" in shown or "19 playing" in shown


def test_a_terminal_without_unicode_gets_plain_characters():
    assert "iteration" in words(drawn(status(), encoding="ascii"))


def test_a_sparkline_shows_the_course_of_a_curve():
    assert sparkline([0.0, 1.0, 2.0, 3.0], 10) == "▁▃▆█"
    assert sparkline([float(i) for i in range(80)], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.0, 2.0], 10) == "▁▁"
    assert sparkline([], 10) == ""


def test_a_line_for_logs_says_the_same():
    assert line(status()) == (
        "iteration 120/1000, 83 min left: return 3.25, kill_entity/cow 2.50, success 63 %, 1234 steps/s, lag 1.2. "
        "Environments are the bottleneck: the learner waits 62 % of the time; add collectors"
    )
    assert "no episode has ended" in line(status(scores=(), success_rate=None))
