"""A resumed run plays the same as before, or is refused with what differs."""

from pathlib import Path

import msgspec
import pytest
import yaml

from mineonline.errors import CheckpointError, ConfigError
from mineonline.run.resume import check_same_kind, check_same_play, with_saved_settings
from mineonline.settings.command_line import compose_settings
from tests.helpers.settings import CARTPOLE, checkpoint_of, config_of

TASKS = ["tasks={hunt_cow: 2, chop_tree: 1}"]
MINESTUDIO = ["env=minestudio", "env.engine=world"]


def saved(tmp_path: Path, *overrides: str) -> Path:
    """A checkpoint in the folder of a run with these settings, whose policy does not matter."""
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    file.touch()
    config = msgspec.to_builtins(config_of(*overrides))
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "run" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    return file


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (CARTPOLE, [*CARTPOLE, "env.id=Acrobot-v1"], "env.id was CartPole-v1, and is now Acrobot-v1"),
        (CARTPOLE, [*CARTPOLE, "+env.kwargs.a=1"], "env.kwargs.a was not set, and is now 1"),
        ([*CARTPOLE, "+env.kwargs.a=1"], CARTPOLE, "env.kwargs.a was 1, and is now not set"),
        (CARTPOLE, ["task=hunt_cow"], "env.kind was gym, and is now world."),
        (["task=hunt_cow"], ["task=chop_tree"], "as before: task.name was hunt_cow, and is now chop_tree"),
        ([], ["task.action_repeat=5"], "task.action_repeat was 4, and is now 5"),
        ([], ["task.actions.forbid=[use]"], "task.actions.forbid was ['hotbar', 'use', 'drop', 'inventory'], and is"),
        (["env.image_size=[64,36]"], ["env.image_size=[80,45]"], "env.image_size was [64, 36], and is now [80, 45]"),
        (MINESTUDIO, ["env=minestudio", "env.engine=minecraft"], "env.engine was world, and is now minecraft"),
        (TASKS, ["tasks={hunt_cow: 1, chop_tree: 1}"], "tasks.hunt_cow.weight was 2, and is now 1"),
        (TASKS, [*TASKS, "task_lasts=episode"], "tasks.chop_tree.lasts was run, and is now episode"),
        (TASKS, [*TASKS, "task.time_limit_ticks=50"], "tasks.chop_tree.time_limit_ticks was 600, and is now 50"),
        (TASKS, ["task=hunt_cow"], "task.name was not set, and is now hunt_cow"),
        (["task=hunt_cow"], TASKS, "task.name was hunt_cow, and is now not set"),
        (TASKS, ["tasks={hunt_cow: 2, gate: 1}", "++task.action_repeat=4"], "tasks.chop_tree.name was chop_tree, and"),
        (TASKS, ["tasks={hunt_cow: 2, chop_tree: 1, gate: 1}", "++task.action_repeat=4"],
         "tasks.gate.name was not set, and is now gate"),
        (["env=crafter"], ["env=crafter", "env.time_limit_steps=5"], "env.time_limit_steps was 10000, and is now 5"),
    ],
)  # fmt: skip
def test_another_task_or_environment_is_refused_by_name(tmp_path, before, now, expected):
    checkpoint = saved(tmp_path, *before)
    with pytest.raises(CheckpointError) as error:
        check_same_play(checkpoint, config_of(*now))
    assert expected in str(error.value)
    other = expected.startswith(("env.id", "env.kind"))
    anew = "a new run, without checkpoint." if other else f"from its policy: init_from={checkpoint} instead of checkpoi"
    assert anew in str(error.value)
    assert "\n" not in str(error.value)


def test_another_kind_of_environment_is_said_before_a_policy_that_does_not_fit_it(tmp_path):
    checkpoint = saved(tmp_path, *CARTPOLE)
    settings = compose_settings(with_saved_settings([f"checkpoint={checkpoint}", "env=world"]))
    with pytest.raises(CheckpointError, match=r"env\.kind was gym, and is now world\. .* new run, without checkpoint"):
        check_same_kind(settings)
    check_same_kind(compose_settings(with_saved_settings([f"checkpoint={checkpoint}"])))


def test_many_differences_are_counted(tmp_path):
    with pytest.raises(CheckpointError, match=r"task.name was hunt_cow.*; \d+ more differ\. Leave"):
        check_same_play(saved(tmp_path, "task=hunt_cow"), config_of("task=shoot"))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (CARTPOLE, [*CARTPOLE, "seed=9", "optimizer.learning_rate=1", "collector.workers=7", "fragment.length=32"]),
        ([], ["env.video_size=[320,180]", "buffer.max_staleness=2"]),
        (TASKS, ["tasks={chop_tree: 1, hunt_cow: 2}", "env.video_size=[320,180]"]),
        (
            MINESTUDIO,
            [*MINESTUDIO, "env.host_starts=7", "env.start_timeout_s=99", "env.step_timeout_s=9", "env.max_failures=77",
             "env.restart_interval_s=5", "env.max_fast_resets=4"],
        ),
    ],
)  # fmt: skip
def test_what_changes_neither_what_is_seen_nor_what_is_played_may_change(tmp_path, before, now):
    check_same_play(saved(tmp_path, *before), config_of(*now))


def test_settings_that_an_earlier_version_did_not_know_are_not_compared(tmp_path):
    checkpoint = saved(tmp_path, "task=hunt_cow")
    file = tmp_path / "run" / "config.yaml"
    old = yaml.safe_load(file.read_text())
    assert old["task"].pop("random_tp_range") != 5
    file.write_text(yaml.safe_dump(old))
    check_same_play(checkpoint, config_of("task=hunt_cow", "+task.random_tp_range=5"))


def test_a_checkpoint_without_its_runs_settings_is_not_compared_and_that_is_said(tmp_path, caplog):
    checkpoint = saved(tmp_path, *CARTPOLE)
    (tmp_path / "run" / "config.yaml").unlink()
    check_same_play(checkpoint, config_of("task=shoot"))
    assert "no config.yaml says what this run has played" in caplog.text


def test_another_choice_does_not_take_over_the_keys_of_the_one_before(tmp_path):
    checkpoint = saved(tmp_path, *CARTPOLE, "+env.kwargs.a=1", "seed=3")
    kept = {"env.id=CartPole-v1", "+env.kwargs.a=1", "seed=3"}
    assert kept <= set(with_saved_settings([f"checkpoint={checkpoint}", "env=gym"]))
    words = with_saved_settings([f"checkpoint={checkpoint}", "env=world", "policy=tiny"])
    assert sorted(words) == sorted(["env=world", "policy=tiny", f"checkpoint={checkpoint}", "seed=3", "video.every=0"])


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("overrides.yaml", "- a=1\n- [", "overrides.yaml: cannot be read (line 2"),
        ("overrides.yaml", "a: 1", "overrides.yaml: must be a list of key=value words."),
        ("overrides.yaml", "- 1", "overrides.yaml: must be a list of key=value words."),
        ("config.yaml", "env: [1,\n: 2", "config.yaml: cannot be read (line "),
        ("config.yaml", "- 1", "config.yaml: holds no settings."),
        ("config.yaml", b"\xff\xfe", "config.yaml: cannot be read (it is not text in UTF-8)."),
    ],
)
def test_a_broken_file_of_settings_is_named_with_its_line(tmp_path, file, content, expected):
    checkpoint = saved(tmp_path, *CARTPOLE)
    (tmp_path / "run" / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    def resume():
        with_saved_settings([f"checkpoint={checkpoint}"])
        check_same_play(checkpoint, config_of(*CARTPOLE))

    with pytest.raises(ConfigError) as error:
        resume()
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.program
def test_a_saved_word_that_this_version_does_not_know_is_blamed_on_its_file(start, tmp_path):
    checkpoint = saved(tmp_path, *CARTPOLE)
    file = tmp_path / "run" / "overrides.yaml"
    for word, expected in (("optimizer.old=1", "optimizer.old: there is no such key."),
                           ("iterations=-1", "iterations=-1: must be at least 1.")):  # fmt: skip
        file.write_text(yaml.safe_dump([*CARTPOLE, word]))
        run = start(f"checkpoint={checkpoint}")
        assert run.wait() == 1
        assert f"error: {file}: {expected}" in run.output
        assert "It was saved with the run, perhaps by another version of mineonline. Change the file." in run.output
    run = start(f"checkpoint={checkpoint}", "iterations=-2")
    assert run.wait() == 1
    assert "error: iterations=-2: must be at least 1." in run.output


@pytest.mark.program
def test_a_refused_resume_changes_no_file(start, tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", *CARTPOLE)
    (tmp_path / "run" / "overrides.yaml").write_text(yaml.safe_dump(CARTPOLE))
    (tmp_path / "run" / "metrics.csv").write_text("iteration\n1\n")

    def state():
        return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in (tmp_path / "run").rglob("*.*")}

    before = state()
    run = start(f"checkpoint={checkpoint}", "env.id=Acrobot-v1", "iterations=9")
    assert run.wait() == 1
    assert run.output.count("\n") == 1, run.output
    assert "env.id was CartPole-v1, and is now Acrobot-v1" in run.output
    assert state() == before
