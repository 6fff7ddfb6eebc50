"""The curve of a run that goes on: it is drawn beside training, and leaves nothing behind."""

import logging

import psutil
import pytest
from PIL import Image

from mineonline.callbacks.curve import DrawCurve
from tests.helpers.programs import processes_of, wait_until
from tests.helpers.settings import CARTPOLE
from tests.helpers.video_trainer import fit
from tests.run.test_curves import run_of

pytestmark = pytest.mark.program


@pytest.fixture
def run_dir(tmp_path):
    """A run folder with some iterations."""
    folder = run_of(tmp_path / "run", *CARTPOLE)
    (folder / "logs").mkdir()
    return folder


def test_the_curve_is_drawn_while_the_run_goes(run_dir):
    seen = []

    def on_iteration(iteration):
        if iteration == 2:
            (process,) = processes_of(run_dir)
            seen.append(process.nice())
            wait_until((run_dir / "curve.png").exists)

    fit(run_dir, DrawCurve(run_dir, run_dir / "curve.png", every_s=0.0), iterations=2, on_iteration=on_iteration)
    assert seen == [psutil.Process().nice() + 10]
    assert Image.open(run_dir / "curve.png").size[0] > 300
    assert processes_of(run_dir) == []
    assert not list(run_dir.glob(".curve*"))


def test_training_that_ends_or_fails_does_not_wait_for_it(run_dir):
    def on_iteration(iteration):
        if iteration == 2:
            assert len(processes_of(run_dir)) == 1
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fit(run_dir, DrawCurve(run_dir, run_dir / "curve.png", every_s=0.0), iterations=2, on_iteration=on_iteration)
    assert processes_of(run_dir) == []
    assert not list(run_dir.glob(".curve*"))


def test_it_is_not_drawn_before_it_is_due(run_dir):
    fit(run_dir, DrawCurve(run_dir, run_dir / "curve.png"), iterations=3, on_iteration=lambda _: None)
    assert not (run_dir / "logs" / "curve.log").exists()


def test_a_failure_is_reported_once_with_its_reason(run_dir, caplog):
    (run_dir / "metrics.csv").unlink()

    def on_iteration(iteration):
        wait_until(lambda: not processes_of(run_dir))

    with caplog.at_level(logging.WARNING):
        fit(run_dir, DrawCurve(run_dir, run_dir / "curve.png", every_s=0.0), iterations=6, on_iteration=on_iteration)
    warnings = [record.getMessage() for record in caplog.records if record.name == "mineonline.callbacks.curve"]
    assert len(warnings) == 1
    assert "there is no run" in warnings[0]
