"""Scores and videos of checkpoints, from the real program and in real files."""

import json
import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from mineonline.envs.build import env_spec
from mineonline.envs.contract import TensorSpec
from mineonline.envs.gym import GymEnv
from mineonline.errors import CheckpointError, ConfigError, MineonlineError
from mineonline.evaluate import parse_arguments
from mineonline.policies.build import build_policy
from mineonline.policies.heads import CategoricalHead
from mineonline.policies.policy import Policy, PolicyOutput
from mineonline.run.checkpoint import read_policy_state
from mineonline.run.evaluation import evaluate, play
from mineonline.run.scores import scores_of
from mineonline.video.file import VideoFile
from mineonline.video.overlay import Caption, Controls, Overlay
from tests.helpers.settings import CARTPOLE, ROOT, checkpoint_of, config_of

DRAWN = ["env=gym", "env.id=tests.helpers.drawn_env:Drawn-v0", "policy=mlp"]
SHORT_WORLD = ["task.time_limit_ticks=42", "env.video_size=[320,180]"]
YELLOW = np.array([255, 208, 64])


@pytest.fixture(autouse=True)
def _tests_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


def frames_of(video):
    with av.open(str(video)) as container:
        rate = container.streams.video[0].average_rate
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], rate


def yellow_pixels(picture):
    return int((np.abs(picture.astype(int) - YELLOW).max(-1) < 40).sum())


def uneven_episodes(num_envs, first_index=0):
    return GymEnv(
        config_of(*CARTPOLE, "env.id=tests.helpers.drawn_env:Drawn-v0").env,
        num_envs=num_envs,
        seed=5,
        first_index=first_index,
    )


class Counting(Policy):
    """Its value is the number of rows since the episode started, kept in memory."""

    def __init__(self):
        super().__init__({"rows": TensorSpec((1,), "float32")})
        self.head = CategoricalHead(1, {"action": 3})

    def forward(self, observation, first_BT, memory):
        rows_BT = torch.where(first_BT, 0.0, memory["rows"])
        return PolicyOutput(self.head(rows_BT.unsqueeze(-1)), rows_BT, {"rows": rows_BT + 1})


def test_scores_are_printed_and_written_and_a_seed_repeats_them(start, tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", *CARTPOLE)
    words = [f"checkpoint={checkpoint}", "episodes=5", "seed=3"]
    runs = [start(*words, f"json={tmp_path}/{i}.json", module="mineonline.evaluate") for i in range(2)]
    for run in runs:
        assert run.wait() == 0, run.output
    results = [json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2)]
    assert results[0] == results[1]
    score = results[0]["scores"]["return"]
    assert score == results[0]["scores"]["length"]  # CartPole pays 1 per step
    assert 8 <= score["min"] < score["mean"] < score["max"]
    assert score["spread"] > 0
    line = next(line for line in runs[0].output.splitlines() if line.startswith("return"))
    numbers = [f"{score[name]:.2f}" for name in ("mean", "spread", "min", "max", "low", "high")]
    assert line.split()[1:] == [*numbers[:5], "to", numbers[5]]
    assert score["low"] < score["mean"] < score["high"]
    assert "iteration 0, 5 episodes, sampled actions, seed 3" in runs[0].output


def test_short_episodes_are_not_favoured():
    policy = Counting()
    together = play(uneven_episodes(4), policy, 10, best=True)
    apart = [
        episode
        for n, count in enumerate([3, 3, 2, 2])
        for episode in play(uneven_episodes(1, first_index=n), policy, count, best=True)
    ]
    assert sorted(e.length for e in together) == sorted(e.length for e in apart)
    assert len({e.length for e in together}) > 3
    assert all(e.episode_return == e.length for e in together)


def test_memory_goes_on_through_an_episode_and_begins_anew_with_the_next():
    values = []
    episodes = play(
        uneven_episodes(1), Counting(), 3, best=True, watch=lambda value_N, action, step: values.append(value_N[0])
    )
    assert values == [row for episode in episodes for row in range(episode.length)]


def test_the_spread_is_the_standard_deviation_over_episodes():
    score = scores_of(play(uneven_episodes(1), Counting(), 4, best=True))["length"]
    lengths = [e.length for e in play(uneven_episodes(1), Counting(), 4, best=True)]
    assert score.spread == pytest.approx(np.std(lengths, ddof=1))
    assert (score.mean, score.min, score.max) == (np.mean(lengths), min(lengths), max(lengths))


def test_a_video_of_the_world_shows_every_tick_of_the_first_episode(start, tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", *SHORT_WORLD)
    video = tmp_path / "new" / "hunt.mp4"
    run = start(f"checkpoint={checkpoint}", "episodes=3", f"video={video}", module="mineonline.evaluate")
    assert run.wait() == 0, run.output
    frames, rate = frames_of(video)
    # decisions last 4 ticks, but the episode still ends at its time limit of 42
    assert (len(frames), rate) == (42, 20)
    assert frames[0].shape == (360, 640, 3)  # 320 x 180 is enlarged, so that its text can be read
    assert yellow_pixels(frames[-1][:70, :165]) > 40  # the graph of the value
    assert yellow_pixels(frames[-1][70:250]) == 0
    assert [file.name for file in video.parent.iterdir()] == ["hunt.mp4"]
    assert "kill_entity/cow" in run.output


@pytest.mark.program
def test_an_evaluation_that_is_stopped_leaves_no_film(start, tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run")
    temporary = Path(tempfile.gettempdir())
    before = set(temporary.glob("mineonline-films-*"))
    run = start(str(checkpoint), "episodes=500", "video=film.mp4", module="mineonline.evaluate")

    def films():
        return [file for each in set(temporary.glob("mineonline-films-*")) - before for file in each.iterdir()]

    run.wait_for(films)
    run.send(signal.SIGINT)
    assert run.wait() == 128 + signal.SIGINT, run.output
    assert not films()
    assert not list(tmp_path.glob("*film.mp4*"))
    assert not list(tmp_path.glob(".*film.mp4*"))


def test_a_video_of_a_gymnasium_environment_shows_every_step(tmp_path, capsys):
    checkpoint = checkpoint_of(tmp_path / "run", *DRAWN, "+env.kwargs.length=25")
    video = tmp_path / "gym.mp4"
    evaluate(parse_arguments([f"checkpoint={checkpoint}", "episodes=2", f"video={video}"]))
    frames, rate = frames_of(video)
    assert (len(frames), rate) == (25, 30)
    assert frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0
    assert yellow_pixels(frames[-1]) > 10
    assert "return" in capsys.readouterr().out


def test_a_video_of_crafter_shows_every_step_at_the_size_of_videos(tmp_path, capsys):
    checkpoint = checkpoint_of(tmp_path / "run", "env=crafter", "env.time_limit_steps=12")
    video = tmp_path / "crafter.mp4"
    evaluate(parse_arguments([f"checkpoint={checkpoint}", "episodes=2", f"video={video}"]))
    frames, rate = frames_of(video)
    assert (len(frames), rate) == (12, 10)
    assert frames[0].shape[1] == 576
    assert yellow_pixels(frames[-1]) > 10
    assert "achievement/collect_wood" in capsys.readouterr().out


def test_the_overlay_leaves_the_middle_of_the_picture_alone():
    frame = np.full((360, 640, 3), 90, np.uint8)
    overlay = Overlay(20)
    idle = overlay.draw(frame, Caption(0.05, 1.0, 0.0, Controls(frozenset(), 0.0, 0.0)))
    busy = overlay.draw(frame, Caption(0.1, 1.0, 2.0, Controls(frozenset({"forward", "attack", "camera"}), -3.0, 10.0)))
    assert (frame == 90).all()
    for picture in (idle, busy):
        assert (picture[80:260] == 90).all()
        assert (picture[:, 170:440] == 90).all()
    keyboard, mouse, reward = np.s_[260:, :140], np.s_[260:, 500:], np.s_[:60, 440:]
    for corner in (keyboard, mouse, reward):
        assert (idle[corner] != busy[corner]).any()


def test_a_video_is_whole_or_absent(tmp_path):
    with pytest.raises(ValueError, match="no frame"), VideoFile(tmp_path / "empty.mp4", 20):
        pass
    with suppress(KeyboardInterrupt), VideoFile(tmp_path / "broken.mp4", 20) as video:
        while not any(tmp_path.iterdir()):  # the encoder buffers some frames before it writes
            video.write(np.zeros((360, 640, 3), np.uint8))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_1(start, tmp_path):
    run = start("chekpoint=last.ckpt", module="mineonline.evaluate")
    assert run.wait() == 1
    assert run.output == "error: chekpoint: there is no such key. Did you mean checkpoint?\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "checkpoint: a value is missing"),
        (["demo", "filmed=0"], "filmed=0: must be at least 1, or all"),
        (["demo", "filmed=most"], "filmed=most: "),
        (["demo", "processes=0"], "processes=0: must be at least 1"),
        (["demo", "task=chop_tree"], "task: there is no such key. Did you mean tasks?"),
        (["checkpoint=x", "episodes=ten"], "episodes=ten: must be a whole number."),
        (["checkpoint=x", "episodes=0"], "episodes=0: must be at least 1"),
        (["checkpoint=x", "best=maybe"], "best=maybe: must be true or false."),
        (["checkpoint=x", "video=a.avi"], "video=a.avi: must end in .mp4"),
    ],
)
def test_a_wrong_argument_is_named(words, message):
    with pytest.raises(ConfigError) as error:
        parse_arguments(words)
    assert message in str(error.value)


def test_files_that_cannot_be_used_are_named(tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", *CARTPOLE)

    def error_of(kind, *words):
        with pytest.raises(kind) as error:
            evaluate(parse_arguments(list(words)))
        return str(error.value)

    assert "there is no such file" in error_of(CheckpointError, f"checkpoint={tmp_path}/none.ckpt")
    assert "device=cuda:77" in error_of(ConfigError, f"checkpoint={checkpoint}", "device=cuda:77")
    bad = tmp_path / "bad.yaml"
    bad.write_text("[1, 2")
    assert str(bad) in error_of(ConfigError, f"checkpoint={checkpoint}", f"config={bad}")
    bad.write_text((tmp_path / "run" / "config.yaml").read_text().replace("seed:", "sead:"))
    message = error_of(ConfigError, f"checkpoint={checkpoint}", f"config={bad}")
    assert f"{bad}: " in message
    assert "Did you mean seed?" in message
    assert "Perhaps another version of mineonline has written it." in message
    other = checkpoint_of(tmp_path / "other", *CARTPOLE, "policy.hidden_sizes=[32]")
    config = tmp_path / "run" / "config.yaml"
    assert "is of another policy" in error_of(CheckpointError, f"checkpoint={other}", f"config={config}")
    (tmp_path / "other" / "config.yaml").unlink()
    assert "mineonline.evaluate also takes config=<file>" in error_of(ConfigError, f"checkpoint={other}")
    other.write_bytes(other.read_bytes()[:1000])
    assert "cannot be read" in error_of(CheckpointError, f"checkpoint={other}")
    assert "json=/proc/no/scores.json: its folder cannot be created" in error_of(
        ConfigError, f"checkpoint={checkpoint}", "json=/proc/no/scores.json"
    )
    (tmp_path / "taken.mp4").mkdir()
    assert f"video={tmp_path}/taken.mp4: cannot be written" in error_of(
        ConfigError, f"checkpoint={checkpoint}", f"video={tmp_path}/taken.mp4"
    )


def test_an_environment_without_pictures_says_so_and_leaves_no_file(tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", "env=gym", "env.id=tests.helpers.drawn_env:Blind-v0", "policy=mlp")
    with pytest.raises(MineonlineError, match="cannot be recorded"):
        evaluate(parse_arguments([f"checkpoint={checkpoint}", f"video={tmp_path}/v.mp4"]))
    assert list(tmp_path.glob("*.mp4*")) == []


def test_a_checkpoint_gives_the_very_weights(tmp_path):
    config = config_of(*CARTPOLE)
    policy = build_policy(config, env_spec(config.env, config.task))
    state = read_policy_state(checkpoint_of(tmp_path / "run", *CARTPOLE), policy)
    assert all(torch.equal(state[name], tensor) for name, tensor in policy.state_dict().items())


def json_of(file, *words):
    evaluate(parse_arguments([*words, f"json={file}"]))
    return json.loads(file.read_text())


def test_several_checkpoints_are_a_table_with_a_line_each(tmp_path, capsys):
    small = [checkpoint_of(tmp_path / f"small-{seed}", *CARTPOLE, f"seed={seed}") for seed in range(3)]
    wide = checkpoint_of(tmp_path / "wide", *CARTPOLE, "policy.hidden_sizes=[128]", version=7)
    found = json_of(tmp_path / "s.json", *map(str, small), f"checkpoint=[{wide},untrained]", "episodes=4", "seed=3")
    assert [(each["name"], each["iteration"]) for each in found["results"]] == [
        ("small-0", 0), ("small-1", 0), ("small-2", 0), ("wide", 7), ("untrained", 0),
    ]  # fmt: skip
    assert {each["seed"] for each in found["results"]} == {3}
    # the first checkpoint is as it was before any training
    assert found["results"][4]["scores"] == found["results"][0]["scores"]
    means = [each["scores"]["return"]["mean"] for each in found["results"]]
    (group,) = found["groups"]
    assert (group["seeds"], group["task"]) == (3, "CartPole-v1")
    assert group["return"]["mean"] == pytest.approx(np.mean(means[:3]))
    lines = capsys.readouterr().out.splitlines()
    for name, mean in zip(["small-0", "small-1", "small-2", "wide", "untrained"], means, strict=True):
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert line.split()[1:4] == ["CartPole-v1", "gym", f"{mean:.2f}"]
    assert any("Student's t" in line for line in lines)


def test_checkpoints_of_one_seed_are_one_sample(tmp_path):
    same = [checkpoint_of(tmp_path / name, *CARTPOLE, "seed=4") for name in ("a", "b")]
    assert json_of(tmp_path / "two.json", *map(str, same), "episodes=4")["groups"] == []
    other = checkpoint_of(tmp_path / "c", *CARTPOLE, "seed=5")
    (group,) = json_of(tmp_path / "three.json", *map(str, [*same, other]), "episodes=4")["groups"]
    assert group["seeds"] == 2


def test_scores_do_not_depend_on_how_many_processes_play(tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", *CARTPOLE)
    words = [str(checkpoint), "episodes=70"]
    assert json_of(tmp_path / "1.json", *words, "processes=1") == json_of(tmp_path / "3.json", *words, "processes=3")


def test_a_policy_is_scored_on_other_tasks_than_it_was_trained_on(tmp_path, capsys):
    checkpoint = checkpoint_of(tmp_path / "run", *SHORT_WORLD)
    own = tmp_path / "conf" / "task"
    own.mkdir(parents=True)
    for name, ticks in (("short", 24), ("shorter", 12)):
        task = (ROOT / "conf/task/chop_tree.yaml").read_text()
        task = task.replace("name: chop_tree", f"name: {name}").replace("ticks: 600", f"ticks: {ticks}")
        (own / f"{name}.yaml").write_text(task)
    words = [str(checkpoint), "tasks=[short,shorter]", "episodes=2", "--config-dir", str(own.parent)]
    found = json_of(tmp_path / "tasks.json", *words)["results"]
    assert [(each["task"], each["scores"]["length"]["mean"]) for each in found] == [("short", 6), ("shorter", 3)]
    assert "mine_block/oak_log" in found[0]["scores"]
    with pytest.raises(ConfigError, match=r"task=chop_tre: there is no such task\. Did you mean task=chop_tree\?"):
        evaluate(parse_arguments([str(checkpoint), "tasks=[chop_tre]"]))


def test_a_policy_of_the_world_plays_in_minestudios_simulator(tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", *SHORT_WORLD)
    found = json_of(tmp_path / "s.json", str(checkpoint), "env=[world,minestudio]", "env.engine=world", "episodes=1")[
        "results"
    ]
    assert [(each["env"], each["crashed"]) for each in found] == [("world", 0), ("minestudio", 0)]
    assert found[0]["scores"]["length"] == found[1]["scores"]["length"]


def test_settings_of_the_environment_are_changed_by_words(tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", *DRAWN, "+env.kwargs.length=25")
    found = json_of(tmp_path / "s.json", str(checkpoint), "env.kwargs.length=9", "episodes=2")
    assert found["scores"]["length"]["mean"] == 9
    with pytest.raises(ConfigError, match=r"env\.lenght: there is no such key"):
        evaluate(parse_arguments([str(checkpoint), "env.lenght=9"]))
    with pytest.raises(ConfigError, match=r"`id` has no parts with names. Give all of it: env\.id=<value>"):
        evaluate(parse_arguments([str(checkpoint), "env.id.name=9"]))


def test_all_episodes_are_filmed_side_by_side(tmp_path):
    one = checkpoint_of(tmp_path / "one", *DRAWN, "+env.kwargs.length=10")
    two = checkpoint_of(tmp_path / "two", *DRAWN, "+env.kwargs.length=25", "seed=1")
    video = tmp_path / "all.mp4"
    evaluate(parse_arguments([str(one), str(two), "episodes=3", "filmed=all", f"video={video}"]))
    frames, rate = frames_of(video)
    assert (len(frames), rate) == (25, 30)
    tile = frames[0].shape[1] // 3
    assert frames[0].shape[1] == 3 * tile
    rows = np.split(frames[-1], 2)
    # those of the first row have ended after 10 steps, and are darker
    assert rows[0][24:].mean() < 0.7 * rows[1][24:].mean()
    assert sorted(file.name for file in tmp_path.glob("*.mp4*")) == ["all.mp4"]


def test_untrained_alone_says_what_is_missing():
    with pytest.raises(ConfigError, match="Name one beside it"):
        evaluate(parse_arguments(["untrained"]))


def test_a_task_that_says_what_success_is_gets_a_success_rate(tmp_path, capsys):
    checkpoint = checkpoint_of(tmp_path / "run", *SHORT_WORLD, "task.success=[{damage_dealt/cow: 0}]")
    found = json_of(tmp_path / "s.json", str(checkpoint), "episodes=3")["scores"]["success"]
    assert (found["mean"], found["high"]) == (1.0, 1.0)
    assert 0.3 < found["low"] < 0.5  # Wilson's interval
    assert "success" in capsys.readouterr().out


def test_a_policy_of_several_tasks_is_scored_on_each(tmp_path):
    short = ["tasks=[hunt_cow,chop_tree]", "task.time_limit_ticks=12", "env.video_size=[320,180]"]
    checkpoint = checkpoint_of(tmp_path / "run", *short)
    found = json_of(tmp_path / "s.json", str(checkpoint), "episodes=2")["results"]
    assert [each["task"] for each in found] == ["chop_tree", "hunt_cow"]
    assert all(each["scores"]["length"]["mean"] == 3 for each in found)
    assert "kill_entity/cow" not in found[0]["scores"]
    one = json_of(tmp_path / "one.json", str(checkpoint), "episodes=2", "tasks=[hunt_cow]")
    assert one["scores"] == found[1]["scores"]
