"""The examples, run with the commands in their first lines, for a few iterations."""

import re
import shlex

import pytest
import torch
import yaml

from mineonline.experience.fragment_files import RecordedFragments
from mineonline.run.metrics import read_metrics
from tests.helpers.programs import rows
from tests.helpers.settings import ROOT, checkpoint_of

FILES = {file.stem: file for file in [*(ROOT / "examples").glob("*.py"), *(ROOT / "examples").rglob("*.yaml")]}
SMALL = [
    "iterations=3", "video.every=0", "collector.workers=1", "collector.envs_per_worker=4", "collector.spare=false",
    "fragment.length=16", "buffer.fragments_per_iteration=4",
]  # fmt: skip


def command_of(name, run_dir):
    """The arguments of the example's command, for any working directory and a small run."""
    text = FILES[name].read_text()
    (command,) = re.findall(r"^(?:#  )?\s*python -m mineonline\.train (.+)$", text, re.MULTILINE)
    return (
        [word.replace("examples/", f"{ROOT}/examples/") for word in shlex.split(command)]
        + SMALL
        + [f"run_dir={run_dir}"]
    )


def test_every_example_is_short_and_tested_here():
    assert set(FILES) == {
        "dig", "minepolicy", "own_env", "own_learner", "own_pace", "own_policy", "rocket", "rocket_callbacks",
        "rocket_policy",
    }  # fmt: skip
    assert all(len(file.read_text().splitlines()) < 75 for file in FILES.values())


def test_a_task_of_ones_own_is_played_and_goes_on_after_a_stop(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*command_of("dig", run_dir))
    assert run.wait() == 0, run.output
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["task"]["name"] == "dig"
    again = start(f"checkpoint={run_dir}", "iterations=5")
    assert again.wait() == 0, again.output
    assert rows(run_dir) == 5
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["task"]["name"] == "dig"


def test_a_policy_of_ones_own_plays_learns_and_is_evaluated_and_recorded(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*command_of("own_policy", run_dir))
    assert run.wait() == 0, run.output
    assert rows(run_dir) == 3
    scores = start(f"checkpoint={run_dir}", "episodes=2", module="mineonline.evaluate")
    record = start(f"checkpoint={run_dir}", "record=set", "fragments=4", module="mineonline.collect")
    assert scores.wait() == 0, scores.output
    assert "2 episodes, sampled actions" in scores.output
    assert record.wait() == 0, record.output
    assert len(RecordedFragments(tmp_path / "set")) == 4


def test_an_environment_of_ones_own_is_learnt_evaluated_filmed_and_recorded(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(
        *command_of("own_env", run_dir), "iterations=60", "fragment.length=64", "buffer.fragments_per_iteration=16"
    )
    assert run.wait() == 0, run.output
    assert "own_env.Walk" in (run_dir / "config.yaml").read_text()
    returns = [float(row["episode/return"]) for row in read_metrics(run_dir / "metrics.csv") if row["episode/return"]]
    assert returns[0] < 0.6
    assert returns[-1] > 0.9
    scores = start(f"checkpoint={run_dir}", "episodes=3", "video=walk.mp4", module="mineonline.evaluate")
    record = start(f"checkpoint={run_dir}", "record=set", "fragments=4", module="mineonline.collect")
    assert scores.wait() == 0, scores.output
    assert "3 episodes, sampled actions" in scores.output
    assert (tmp_path / "walk.mp4").stat().st_size > 1000
    assert record.wait() == 0, record.output
    found = RecordedFragments(tmp_path / "set")
    assert found.envs == ("examples.own_env.Walk",)
    assert found[torch.arange(4)].observation["state"].shape == (4, 65, 4)


@pytest.mark.slow
def test_an_environment_whose_games_play_at_their_own_pace_is_learnt_and_evaluated(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*command_of("own_pace", run_dir))
    assert run.wait() == 0, run.output
    metrics = read_metrics(run_dir / "metrics.csv")
    assert len(metrics) == 3
    assert float(metrics[-1]["episodes"]) > 0
    scored = start(str(run_dir), "episodes=4", module="mineonline.evaluate")
    assert scored.wait() == 0, scored.output


def test_a_policy_with_a_goal_and_its_last_action_plays_learns_and_imitates_its_recorded_play(start, tmp_path):
    assert command_of("rocket", tmp_path / "run") == command_of("rocket_policy", tmp_path / "run")
    small = [*command_of("rocket", tmp_path / "run"), "collector.envs_per_worker=2"]
    run = start(*small)
    assert run.wait() == 0, run.output
    assert rows(tmp_path / "run") == 3
    record = start(f"checkpoint={tmp_path / 'run'}", "record=set", "fragments=4", module="mineonline.collect")
    scores = start(f"checkpoint={tmp_path / 'run'}", "episodes=1", "video=hunt.mp4", module="mineonline.evaluate")
    assert record.wait() == 0, record.output
    assert scores.wait() == 0, scores.output
    assert "1 episodes, sampled actions" in scores.output
    found = RecordedFragments(tmp_path / "set")
    seen = found[torch.arange(len(found))].observation
    assert {name: (tensor.dtype, tensor.shape[2:]) for name, tensor in seen.items()} == {
        "image": (torch.uint8, (48, 64, 3)), "mask": (torch.bool, (48, 64)), "previous": (torch.float32, (11,))
    }  # fmt: skip
    assert seen["previous"][..., :9].unique().tolist() == [0, 1]
    assert seen["mask"].any()
    assert not seen["mask"].all()
    imitates = start(*small, f"run_dir={tmp_path / 'again'}", "offline.folder=set", "offline.fragments=2")
    assert imitates.wait() == 0, imitates.output
    assert all(float(row["loss/cloning"]) > 0 for row in read_metrics(tmp_path / "again" / "metrics.csv"))


@pytest.mark.slow
def test_a_policy_written_for_minestudio_plays_learns_and_is_evaluated(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*command_of("minepolicy", run_dir), "collector.envs_per_worker=2")
    assert run.wait() == 0, run.output
    assert rows(run_dir) == 3
    scores = start(f"checkpoint={run_dir}", "episodes=1", module="mineonline.evaluate")
    assert scores.wait() == 0, scores.output
    assert "1 episodes, sampled actions" in scores.output


def test_an_environment_without_pictures_says_so(start, tmp_path):
    (tmp_path / "blind.py").write_text("from examples.own_env import Walk\n\nclass Blind(Walk):\n    render = None\n")
    checkpoint = checkpoint_of(tmp_path / "run", "env=own", "env._target_=examples.own_env.Walk", "policy=mlp")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("examples.own_env.Walk", "blind.Blind"))
    run = start(f"checkpoint={checkpoint}", "episodes=1", "video=a.mp4", module="mineonline.evaluate", paths=[tmp_path])
    assert run.wait() == 1
    assert "error: env._target_=blind.Blind: has no render(n), which gives the pictures of videos: add it" in run.output


def test_an_objective_and_a_callback_of_ones_own_are_used(start, tmp_path):
    command = [word.replace("every: 10", "every: 2") for word in command_of("own_learner", tmp_path / "run")]
    run = start(*command)
    assert run.wait() == 0, run.output
    assert re.findall(r"iteration (\d): mean return to go", run.output) == ["2"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["policy._target_=examples.absent.Policy"], "policy._target_=examples.absent.Policy: cannot be imported ("),
        (["policy._target_=pathlib.Path"], "policy._target_=pathlib.Path: must be a subclass of mineonline.Policy."),
        (
            ["policy._target_=examples.own_policy.CoarsePolicy", "+policy.kwargs.widht=3"],
            "does not take them (got an unexpected keyword argument 'widht')",
        ),
        ([], "policy._target_: a value is missing."),
    ],
    ids=["absent", "no policy", "wrong argument", "none"],
)
def test_a_policy_of_ones_own_that_cannot_be_used_is_named(start, words, expected):
    run = start("policy=own", *words)
    assert run.wait() == 1
    assert expected in run.output
    assert "Traceback" not in run.output
