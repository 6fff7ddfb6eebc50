"""Runs of several tasks, as a user starts, resumes, films and scores them."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from mineonline.envs.build import build_env, env_spec
from mineonline.errors import ConfigError
from mineonline.experience.fragment_files import RecordedFragments
from mineonline.experience.rollout import Player, RolloutSettings
from mineonline.fragment import Fragments
from mineonline.policies.build import build_actor
from mineonline.run.learner import build_learner
from mineonline.run.metrics import read_metrics
from tests.helpers.settings import checkpoint_of, config_of
from tests.helpers.two_tasks import DECISIONS

BOTH = "tasks={hunt_cow: 2, chop_tree: 1}"
SMALL = [
    BOTH, "env.image_size=[40,36]", "env.video_size=[64,48]", "task.time_limit_ticks=40", "collector.workers=2",
    "collector.envs_per_worker=3", "collector.spare=false", "fragment.length=16", "buffer.fragments_per_iteration=12",
    "seed=3",
]  # fmt: skip


def test_a_run_of_two_tasks_counts_each_films_each_in_turn_and_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*SMALL, "iterations=4", "video.every=2", f"run_dir={run_dir}")
    assert run.wait() == 0, run.output
    first = read_metrics(run_dir / "metrics.csv")
    last = first[-1]
    assert float(last["task/hunt_cow/share"]) + float(last["task/chop_tree/share"]) == pytest.approx(1, abs=1e-5)
    assert float(last["task/hunt_cow/episodes"]) + float(last["task/chop_tree/episodes"]) == float(last["episodes"])
    assert float(last["task/hunt_cow/length"]) == float(last["task/chop_tree/length"]) == 10
    assert "task/hunt_cow/kill_entity/cow" in last
    assert "task/chop_tree/kill_entity/cow" not in last
    mean = (float(last["task/hunt_cow/return"]) + float(last["task/chop_tree/return"])) / 2
    assert float(last["tasks/return"]) == pytest.approx(mean, abs=1e-4)
    films = {file.name.partition("_")[2] for file in (run_dir / "videos").glob("*.mp4")}
    assert films == {"hunt_cow.mp4", "chop_tree.mp4"}, run.output
    more = start(f"checkpoint={run_dir}", "iterations=5", "video.every=0")
    assert more.wait() == 0, more.output
    rows = read_metrics(run_dir / "metrics.csv")
    assert rows[:4] == first
    assert float(rows[4]["task/hunt_cow/episodes"]) > float(last["task/hunt_cow/episodes"])


def test_a_checkpoint_is_scored_on_each_of_its_tasks_and_on_others(start, tmp_path):
    checkpoint_of(tmp_path / "run", *SMALL)
    checkpoint, scores = f"checkpoint={tmp_path / 'run'}", tmp_path / "scores.json"
    scored = start(checkpoint, "episodes=2", f"json={scores}", module="mineonline.evaluate")
    assert scored.wait() == 0, scored.output
    found = {each["task"]: each["scores"] for each in json.loads(scores.read_text())["results"]}
    assert list(found["hunt_cow"])[:4] == ["return", "length", "kill_entity/cow", "damage_dealt/cow"]
    assert list(found["chop_tree"])[:4] == ["return", "length", "mine_block/oak_log", "mine_block/birch_log"]
    elsewhere = start(checkpoint, "tasks=[shoot]", "episodes=1", module="mineonline.evaluate")
    assert elsewhere.wait() == 0, elsewhere.output
    assert "kill_entity/sheep" in elsewhere.output
    assert "kill_entity/cow" not in elsewhere.output


def test_recorded_fragments_say_which_task_was_played_and_fit_runs_of_the_same_tasks(start, tmp_path):
    checkpoint_of(tmp_path / "run", *SMALL)
    folder = tmp_path / "set"
    record = start(f"checkpoint={tmp_path / 'run'}", f"record={folder}", "fragments=12", module="mineonline.collect")
    assert record.wait() == 0, record.output
    task_BU = RecordedFragments(folder)[torch.arange(12)].observation["task"]
    assert Counter(task_BU[:, 0].tolist()) == {0: 4, 1: 8}
    assert (task_BU == task_BU[:, :1]).all()

    def learner(tasks):
        config = config_of(*SMALL[1:], tasks, "++task.action_repeat=4", f"offline.folder={folder}")
        return build_learner(config, env_spec(config.env, config.played), bad_batch_file=tmp_path / "bad.pt")

    assert learner(BOTH).cloning is not None
    with pytest.raises(ConfigError, match=r"recorded on chop_tree\+hunt_cow, but this run plays gate\+hunt_cow: an"):
        learner("tasks=[hunt_cow,gate]")


def test_without_lag_the_ratio_is_exact_for_tasks_with_different_masks(tmp_path):
    config = config_of(*SMALL, "policy.memory=gru", "policy.task_embedding=4", "task_lasts=episode")
    spec = env_spec(config.env, config.played)
    actor = build_actor(config, spec)
    assert actor.policy.head.by_task
    settings = RolloutSettings(
        env_spec=spec, length=32, envs_per_worker=6, first_env=0, seed=0, device="cpu", precision="32-true",
        torch_threads=1, collector_log=None,
    )  # fmt: skip
    env = build_env(config.env, config.played, seed=3, num_envs=6, first_index=0)
    player = Player(env, env.reset(np.ones(6, np.bool_)), actor, settings, first_env=0)
    player.play()
    tensors = {name: tensor for name, tensor in player.tensors.items() if not name.startswith("report.")}
    played = Fragments.from_named_tensors(tensors)
    assert set(played.observation["task"].unique().tolist()) == {0, 1}
    with torch.no_grad():
        output = actor.policy(played.observation, played.first_BU, played.memory)
        again = actor.policy.head.log_prob(output.logits[:, :-1], played.action)
    decided = ~played.idle_BT
    torch.testing.assert_close(again[decided], played.log_prob_BT[decided], rtol=0, atol=1e-5)
    # with the tasks exchanged, it would not be: the masks do differ
    swapped = {**played.observation, "task": 1 - played.observation["task"]}
    with torch.no_grad():
        wrong = actor.policy(swapped, played.first_BU, played.memory).logits[:, :-1]
    assert (actor.policy.head.log_prob(wrong, played.action) - again)[decided].abs().max() > 1


LEARNS = [
    "env=own", "env._target_=tests.helpers.two_tasks.TwoTasks", "policy=tiny", "policy.hidden_size=32",
    "policy.channels=[4,4,4]", "collector.mode=lockstep", "collector.workers=1", "collector.envs_per_worker=16",
    "fragment.length=16", "buffer.fragments_per_iteration=16", "iterations=25", "objective.discount=0",
    "optimizer.learning_rate=3e-3", "optimizer.epochs=4", "objective.entropy_coef=0", "video.every=0",
]  # fmt: skip


@pytest.mark.parametrize("told", [True, False])
def test_only_a_policy_that_is_told_its_task_learns_both(told, start, tmp_path):
    run = start(*LEARNS, f"policy.task_embedding={8 if told else 0}", f"run_dir={tmp_path / 'run'}")
    assert run.wait() == 0, run.output
    last = read_metrics(tmp_path / "run" / "metrics.csv")[-1]
    returns = [float(last[f"task/{task}/return"]) for task in ("zero", "one")]
    if told:
        assert min(returns) > 0.9 * DECISIONS
    else:  # whatever it does, what is right in one task is wrong in the other
        assert sum(returns) == pytest.approx(DECISIONS, abs=1.5)
    assert float(last["tasks/return"]) == pytest.approx(sum(returns) / 2, abs=1e-4)
    assert float(last["task/zero/share"]) == 0.5
    assert float(last["task/zero/zeros"]) == pytest.approx(returns[0], abs=1e-4)
