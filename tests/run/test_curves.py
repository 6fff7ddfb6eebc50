"""Runs side by side: which belong together, what is drawn of them, and the files that `plot` writes."""

import csv
import math
import re
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
import yaml
from PIL import Image

from mineonline.errors import ConfigError
from mineonline.run.curves import choose_metrics, draw, find_runs, group, read_run, title_of
from mineonline.run.intervals import mean_interval
from mineonline.run.page import plot
from mineonline.settings.arguments import PlotArguments
from tests.helpers.settings import CARTPOLE, config_of

SETTINGS = {}


def run_of(folder, *overrides, level=1.0, rows=20, every=100, video=None):
    """A run folder as training leaves it: the return rises to `level`, and a second event never happens."""
    key = overrides
    if key not in SETTINGS:
        SETTINGS[key] = msgspec.to_builtins(config_of(*overrides))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS[key]))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["iteration", "env_steps", "episode/return", "episode/length", "time/iteration_s", "loss/value"]
        )
        for row in range(rows):
            known = "nan" if row == 0 else f"{level * row / (rows - 1):.6g}"
            writer.writerow([row + 1, every * (row + 1), known, 10, 36, 0.5])
    if video is not None:
        (folder / "videos").mkdir()
        (folder / "videos" / "000020.mp4").write_bytes(video)
    return folder


def words(*runs, **settings):
    return PlotArguments(run=tuple(map(str, runs)), **settings)


def test_runs_that_differ_only_in_their_seed_are_one_group(tmp_path):
    for seed in range(3):
        run_of(tmp_path / f"slow-{seed}", *CARTPOLE, f"seed={seed}", "optimizer.learning_rate=1e-5")
        run_of(tmp_path / f"fast-{seed}", *CARTPOLE, f"seed={seed}", f"run_dir=/elsewhere/{seed}")
    run_of(tmp_path / "other", "env=gym", "env.id=Acrobot-v1", "policy=mlp")
    groups = group(find_runs([str(tmp_path)]))
    assert {each.name: sorted(run.folder.name for run in each.runs) for each in groups} == {
        "CartPole-v1, optimizer.learning_rate=0.0007": ["fast-0", "fast-1", "fast-2"],
        "CartPole-v1, optimizer.learning_rate=1e-05": ["slow-0", "slow-1", "slow-2"],
        "Acrobot-v1, optimizer.learning_rate=0.0007": ["other"],
    }


def test_runs_are_given_as_folders_as_folders_of_them_or_as_patterns(tmp_path):
    one, two = run_of(tmp_path / "a" / "one", *CARTPOLE), run_of(tmp_path / "a" / "two", *CARTPOLE)
    (tmp_path / "a" / "notes").mkdir()
    for given in ([one, two], [tmp_path / "a"], [tmp_path / "*" / "t*", one], [tmp_path / "a" / "*"], [one, two, one]):
        assert {run.folder for run in find_runs([str(each) for each in given])} == {one, two}
    for wrong in (tmp_path / "a" / "notes", tmp_path / "none", tmp_path / "x*"):
        with pytest.raises(ConfigError, match=re.escape(f"{wrong}: there is no run")):
            find_runs([str(wrong)])


def test_the_band_is_students_interval_over_the_seeds_where_all_have_points(tmp_path):
    levels, lengths = (1.0, 2.0, 6.0), (20, 20, 15)
    for seed, (level, rows) in enumerate(zip(levels, lengths, strict=True)):
        run_of(tmp_path / str(seed), *CARTPOLE, f"seed={seed}", level=level, rows=rows)
    (one,) = group(find_runs([str(tmp_path)]))
    panel = draw([one], ["episode/return"], "env_steps", "").axes[0]
    mean = panel.lines[-1]
    assert mean.get_label() == "CartPole-v1 (3 seeds)"
    x, y = mean.get_data()
    assert (x[0], x[-1]) == (200, 1500)  # the first point is unknown, and the shortest run ends at 1500
    at_end = [np.interp(1500, run.columns["env_steps"][1:], run.columns["episode/return"][1:]) for run in one.runs]
    expected = mean_interval(at_end)
    assert y[-1] == pytest.approx(expected.mean)
    band = panel.collections[0].get_paths()[0].vertices
    ends = band[np.isclose(band[:, 0], 1500), 1]
    assert (ends.min(), ends.max()) == pytest.approx((expected.low, expected.high))


def test_a_single_point_is_seen(tmp_path):
    run = read_run(run_of(tmp_path / "run", *CARTPOLE, rows=2))  # the first is unknown
    (line,) = draw(group([run]), ["episode/return"], "env_steps", "").axes[0].lines
    assert (len(line.get_xdata()), line.get_marker()) == (1, "o")


def test_a_group_is_named_by_what_it_has_and_others_have_not(tmp_path):
    run_of(tmp_path / "one", *CARTPOLE)
    run_of(tmp_path / "two", "tasks=[hunt_cow,chop_tree]")
    assert not [each.name for each in group(find_runs([str(tmp_path)])) if "None" in each.name]


def test_hours_are_those_of_training(tmp_path):
    run = read_run(run_of(tmp_path / "run", *CARTPOLE))
    assert run.x("hours")[-1] == pytest.approx(20 * 36 / 3600)
    panel = draw(group([run]), ["loss/value"], "hours", "").axes[0]
    assert panel.get_xlabel() == "hours of training"
    assert panel.lines[0].get_xdata()[-1] == pytest.approx(0.2)


def test_metrics_are_chosen_by_name_or_pattern(tmp_path):
    run = read_run(run_of(tmp_path / "run", *CARTPOLE))
    assert choose_metrics([run], ()) == ["episode/return"]
    assert choose_metrics([run], ("loss/*", "episode/length")) == ["loss/value", "episode/length"]
    with pytest.raises(ConfigError, match=r"metrics=loss/valeu: there is no such metric\. Did you mean loss/value\?"):
        choose_metrics([run], ("loss/valeu",))


def test_a_curve_names_its_run_task_and_seed(tmp_path):
    run = read_run(run_of(tmp_path / "2026-01-01", *CARTPOLE, "seed=7"))
    assert title_of([run]) == "CartPole-v1, seed 7, 2026-01-01"


def test_a_row_that_is_half_written_is_left_out(tmp_path):
    folder = run_of(tmp_path / "run", *CARTPOLE)
    with (folder / "metrics.csv").open("a") as file:
        file.write("21,2100")
    assert read_run(folder).columns["env_steps"][-1] == 2000


def test_a_run_without_an_iteration_says_so(tmp_path):
    with pytest.raises(ConfigError, match="no iteration has ended yet"):
        find_runs([str(run_of(tmp_path / "run", *CARTPOLE, rows=0))])


def test_the_page_holds_curves_numbers_and_as_many_videos_as_it_may(tmp_path, capsys):
    for seed in range(2):
        run_of(tmp_path / "runs" / str(seed), *CARTPOLE, f"seed={seed}", level=2.0 + seed, video=bytes(600_000))
    plot(words(tmp_path / "runs", out=str(tmp_path / "new" / "both"), video_mb=1.0))
    page, picture = tmp_path / "new" / "both.html", tmp_path / "new" / "both.png"
    said = capsys.readouterr().out.splitlines()
    assert said[0::2] == [str(picture), str(page)]
    assert said[1].startswith("videos that the page only links: 1; it holds 1 MB")
    assert Image.open(picture).size[0] > 500
    text = page.read_text()
    curves = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + len("</svg>")])
    assert any("return per episode" in "".join(node.itertext()) for node in curves.iter())
    low, high = mean_interval([2.0, 3.0])[1:]
    assert f"2.50 ({low:.2f} to {high:.2f})" in text
    assert text.count("data:video/mp4;base64,") == 1
    assert 'href="../runs/1/videos/000020.mp4"' in text
    assert 'src="http' not in text


def test_many_seeds_get_an_interquartile_mean(tmp_path):
    for seed in range(6):
        run_of(tmp_path / "runs" / str(seed), *CARTPOLE, f"seed={seed}", level=100.0 if seed == 5 else 2.0)
    plot(words(tmp_path / "runs", out=str(tmp_path / "many.html")))
    text = (tmp_path / "many.html").read_text()
    assert "interquartile mean" in text
    assert re.search(r"<td>2\.00 \(2\.00 to [\d.]+\)</td>", text)
    assert not (tmp_path / "many.png").exists()


def test_a_metric_that_one_run_lacks_is_drawn_for_the_others(tmp_path):
    run_of(tmp_path / "one", *CARTPOLE)
    other = run_of(tmp_path / "two", *CARTPOLE, "optimizer.epochs=3")
    content = (other / "metrics.csv").read_text().replace("loss/value", "loss/other")
    (other / "metrics.csv").write_text(content)
    groups = group(find_runs([str(tmp_path)]))
    panel = draw(groups, ["loss/value"], "env_steps", "").axes[0]
    assert [len(line.get_xdata()) for line in panel.lines] == [20, 0]
    assert math.isnan(groups[1].runs[0].last("loss/value"))
