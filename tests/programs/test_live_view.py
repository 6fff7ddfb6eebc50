"""What a person sees of a run, in real terminals and without one."""

import re
import signal

import pytest

from mineonline.status import read_status
from tests.helpers.noisy import WritesEverywhere
from tests.helpers.programs import collector_of, leaves_nothing, rows
from tests.helpers.settings import QUICK, SMALL
from tests.helpers.terminal import TerminalProgram

ENDLESS = "iterations=100000"
NOBODY = "No collector is connected: start one with"


@pytest.fixture
def show(tmp_path):
    """Start trainings in terminals."""
    shown = []

    def begin(*arguments, settings=QUICK, **size):
        shown.append(TerminalProgram(*settings, *arguments, f"run_dir={tmp_path / 'run'}", cwd=tmp_path, **size))
        return shown[-1]

    yield begin
    for program in shown:
        program.__exit__()


@pytest.mark.parametrize(("columns", "height"), [(80, 24), pytest.param(140, 40, marks=pytest.mark.slow)])
def test_a_terminal_shows_the_run_in_a_panel_that_fits_and_leaves_a_line(show, tmp_path, columns, height):
    run = show(ENDLESS, columns=columns, rows=height)
    run.wait_for(lambda: "collector-0 playing last fragment" in run.screen.panel and "learner" in run.screen.panel)
    seen = run.screen.panel
    for word in ("bottleneck", "iteration", "return", "env steps/s, lag", "buffer", "environments", "inference"):
        assert word in seen
    assert seen.index("bottleneck") < seen.index("iteration")
    assert "..." not in seen
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.screen.text
    text = run.screen.text
    assert text.splitlines()[0].startswith("run folder: ")
    assert all(len(line) <= columns for line in text.splitlines())
    assert "╭" not in text
    assert text.index("/100000: return ") < text.index("stopped after")


def test_what_else_is_written_to_the_terminal_stands_above_the_panel_as_it_was(show, tmp_path):
    noisy = "callbacks=[{_target_: tests.helpers.noisy.WritesEverywhere}]"
    run = show("iterations=100", noisy, "trainer.profiler=simple")
    assert run.wait() == 0, run.screen.text
    lines = run.screen.text.splitlines()
    for name in ("print", "print to stderr", "the old stderr", "C code", "another process"):
        assert lines.count(WritesEverywhere.line(name)) == 1, run.screen.text
    assert lines.count(f"WARNING: {WritesEverywhere.line('a warning in the log')}") == 1
    assert "goes to the log file only" not in run.screen.text
    assert "FIT Profiler Report" in run.screen.text
    assert not any("╭" in line or "│" in line for line in lines)


def test_lightnings_own_progress_bar_is_drawn_beside_the_panel(show, tmp_path):
    run = show(ENDLESS, "callbacks=[{_target_: lightning.pytorch.callbacks.RichProgressBar}]")
    run.wait_for(lambda: "bottleneck" in run.screen.panel and any("Epoch 0" in line for line in run.screen.lines))
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.screen.text
    assert not any("╭" in line or "╰" in line for line in run.screen.text.splitlines())


def test_the_panel_is_redrawn_while_the_learner_is_busy(show, tmp_path):
    run = show(ENDLESS, "callbacks=[{_target_: tests.helpers.noisy.KeepsTheLearnerBusy, busy_s: 8}]")
    run.wait_for(lambda: "<<< free >>>" in run.written)
    meanwhile = run.written.partition("<<< busy >>>")[2].partition("<<< free >>>")[0]
    assert meanwhile.count("╭") >= 3


@pytest.mark.slow
def test_a_panel_follows_the_size_of_its_terminal(show, tmp_path):
    run = show(ENDLESS, columns=120, rows=30)
    run.wait_for(lambda: "bottleneck" in run.screen.panel)
    run.resize(70, 20)
    run.wait_for(lambda: "bottleneck" in run.screen.panel)
    assert max(len(line) for line in run.screen.lines) == 70


def test_ctrl_c_ends_the_panel_and_leaves_the_terminal_as_it_was(show, tmp_path):
    run = show(ENDLESS)
    run.wait_for(lambda: "bottleneck" in run.screen.panel)
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 128 + signal.SIGINT, run.screen.text
    assert run.screen.cursor_shown
    assert "╭" not in run.screen.text
    assert "continue with: python -m mineonline.train checkpoint=" in run.screen.text
    assert read_status(tmp_path / "run").phase == "stopped"
    assert leaves_nothing(tmp_path / "run")


def test_a_terminal_says_how_to_start_a_collector_when_there_is_none_and_when_the_last_has_left(start, show, tmp_path):
    run_dir = tmp_path / "run"
    run = show(ENDLESS, "collector.count=0")
    run.wait_for(lambda: NOBODY in run.screen.panel)
    assert f"python -m mineonline.collect run={run_dir}" in run.screen.text.replace("\n", "")
    collector = start(f"run={run_dir}", module="mineonline.collect")
    run.wait_for(lambda: f":{collector.process.pid} playing" in run.screen.panel)
    collector.process.kill()
    run.wait_for(lambda: NOBODY in run.screen.panel and f":{collector.process.pid} left" in run.screen.panel)


def test_a_terminal_says_why_a_collector_has_died(show, tmp_path):
    run = show(ENDLESS)
    run.wait_for(lambda: "collector-0 playing" in run.screen.panel)
    collector_of(tmp_path / "run").kill()
    run.wait_for(lambda: re.search("collector-0 .*was killed [(]SIGKILL[)]", run.screen.panel))
    before = rows(tmp_path / "run")
    run.wait_for(lambda: rows(tmp_path / "run") > before + 5 and "collector-0 playing" in run.screen.panel)


def test_a_terminal_says_why_collectors_cannot_start(show, tmp_path):
    run = show(ENDLESS, "env.id=tests.helpers.odd_envs:FailsInTheSecondWorker-v0", "collector.workers=2")
    run.wait_for(lambda: "no sword left for the second worker" in run.screen.panel)


@pytest.mark.slow
def test_a_terminal_says_why_workers_have_died_while_they_played(show, tmp_path):
    own = ["env=own", "env._target_=tests.helpers.odd_envs.Falls", "policy=mlp", "video.every=0", *SMALL]
    run = show(ENDLESS, settings=own)
    run.wait_for(lambda: re.search("collector-0 .*ValueError: the floor is gone", run.screen.panel))


def test_a_terminal_shows_what_collectors_do_until_the_first_fragments_come(show, tmp_path):
    run = show("env.id=tests.helpers.odd_envs:StartsSlowly-v0", "iterations=2")
    run.wait_for(lambda: "(collector-0: starting 8 environments)" in run.screen.panel)
    assert run.wait() == 0, run.screen.text


@pytest.mark.slow
def test_a_resumed_run_is_shown_too(start, show, tmp_path):
    run_dir = tmp_path / "run"
    assert start(*QUICK, "iterations=3", f"run_dir={run_dir}").wait() == 0
    run = show(f"checkpoint={run_dir}", ENDLESS, settings=[])
    run.wait_for(lambda: "collector-0 playing last fragment" in run.screen.panel)
    run.wait_for(lambda: read_status(run_dir).iteration > 3)


def test_without_a_terminal_there_are_plain_lines(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=5", f"run_dir={run_dir}")
    assert run.wait() == 0, run.output
    lines = run.output.splitlines()
    assert lines[0] == f"run folder: {run_dir}"
    assert "\x1b" not in run.output
    progress = [line for line in lines if line.startswith("iteration ")]
    assert re.fullmatch(r"iteration 5/5: return [\d.]+, \d+ steps/s, lag [\d.]+\. Finished", progress[-1])
    status = read_status(run_dir)
    assert (status.phase, status.iteration, status.scores[0].name) == ("finished", 5, "return")
    assert not (run_dir / "logs" / "terminal.log").exists()


@pytest.mark.slow
def test_a_status_that_cannot_be_written_costs_the_run_nothing(start, tmp_path):
    run_dir = tmp_path / "run"
    (run_dir / "status.json").mkdir(parents=True)  # nothing can be renamed to it
    run = start(*QUICK, "iterations=3", f"run_dir={run_dir}")
    assert run.wait() == 0, run.output
    assert not list(run_dir.glob(".status*"))


def test_a_terminal_that_is_closed_does_not_end_the_run(show, tmp_path):
    run = show(ENDLESS)
    run.wait_for(lambda: "bottleneck" in run.screen.panel)
    run.close()
    before = rows(tmp_path / "run")
    run.wait_for(lambda: rows(tmp_path / "run") > before + 20)
    assert read_status(tmp_path / "run").iteration >= before
