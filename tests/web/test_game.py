"""A world that a person and an agent play in turns, and what is recorded of it."""

import msgspec
import numpy as np
import pytest
import torch

from mineonline.envs.build import env_spec
from mineonline.envs.world import WorldEnv
from mineonline.experience.fragment_files import RecordedFragments
from mineonline.learning.cloning import Cloning
from mineonline.learning.objective import Rows
from mineonline.policies.build import build_policy
from mineonline.web.agent import Agent, scores_of_run
from mineonline.web.game import Game
from mineonline.web.recorder import FIRST_ENV, Recorder
from mineonline.web.words import in_words
from tests.helpers.settings import checkpoint_of, config_of

SHORT = ["fragment.length=8"]


def game_of(tmp_path, *overrides, seed=0, agent=False, limit=None):
    config = config_of(*SHORT, *overrides)
    task = config.task if limit is None else msgspec.structs.replace(config.task, time_limit_ticks=limit)
    spec = env_spec(config.env, task)
    recorder = Recorder(tmp_path / "set", spec, length=config.fragment.length, env=task.name)
    player = None
    if agent:
        player = Agent(config, checkpoint_of(tmp_path / "run", *SHORT, *overrides, version=5), "cpu")
    torch.manual_seed(seed)
    game = Game(config.env, task, seed=seed, agent=player, recorder=recorder)
    game.paused = False
    return config, game


@pytest.mark.parametrize("task", ["hunt_cow", "chop_tree", "gate"])
def test_an_agent_that_has_the_controls_plays_exactly_as_in_training(tmp_path, task):
    config, game = game_of(tmp_path, f"task={task}", agent=True, seed=3)
    game.wanted = "agent"
    agent = game.agent
    env = WorldEnv(config.task, num_envs=1, image_size=config.env.image_size, seed=3, first_index=FIRST_ENV)
    observation = env.reset(np.ones(1, np.bool_))
    seen, rewards = [], []
    look = agent.look

    def spy(observation, first):
        value, action = look(observation, first)
        seen.append((observation["image"].copy(), action))
        return value, action

    agent.look = spy
    for _ in range(20):
        for _ in range(config.task.action_repeat):
            game.tick()
        rewards.append(game.situation().scores[-1].now)
    total = 0.0
    for (image, action), so_far in zip(seen, rewards, strict=True):
        np.testing.assert_array_equal(image, observation["image"])
        step = env.step({name: np.array([chosen]) for name, chosen in action.items()}, np.ones(1, np.bool_))
        observation = step.observation
        total += float(step.reward_N[0])
        assert so_far == pytest.approx(total, abs=1e-5)


def test_what_a_person_plays_can_be_cloned_by_the_policy_of_its_task(tmp_path):
    config, game = game_of(tmp_path, "task=hunt_cow", limit=60)
    rng = np.random.default_rng(0)
    for tick in range(150):
        if tick % 5 == 0:
            game.controls.press(str(rng.choice(["forward", "left", "attack", "jump"])), bool(rng.integers(2)))
            game.controls.turn(*rng.normal(0, 4, 2))
        game.tick()
        if game.situation().over:
            game.restart()
    game.close()
    found = RecordedFragments(tmp_path / "set")
    spec = env_spec(config.env, config.task)
    found.check_fits(spec)
    assert found.envs == ("hunt_cow",)
    fragments = found[torch.arange(len(found))]
    # two episodes of 15 decisions, each with the row of its last observation, and what was played of the third
    assert int((~fragments.idle_BT).sum()) == 15 + 15 + 7
    assert int(fragments.first_BU[:, :-1].sum()) == 3
    policy = build_policy(config, spec)
    cloning = Cloning(found, coef=1.0, fragments=2)
    loss = cloning.loss(policy, fragments, Rows(~fragments.idle_BT, (~fragments.idle_BT).sum()))
    assert torch.isfinite(loss)


def test_a_recorded_decision_shows_what_the_one_before_it_led_to(tmp_path):
    _, game = game_of(tmp_path, "task=hunt_cow", limit=24)
    game.controls.press("forward", True)
    for _ in range(24):
        game.tick()
    assert game.situation().over == "time is up"
    game.close()
    fragments = RecordedFragments(tmp_path / "set")[torch.tensor([0])]
    assert fragments.idle_BT[0].tolist() == [False] * 6 + [True] * 2
    assert fragments.truncated_BT[0].tolist() == [False] * 5 + [True] + [False] * 2
    assert fragments.first_BU[0].tolist() == [True] + [False] * 8
    images = fragments.observation["image"][0]
    assert not torch.equal(images[5], images[6])  # the last observation has a row of its own
    assert torch.equal(images[6], images[7])


def test_rows_that_the_agent_plays_are_idle_and_such_an_episode_counts_for_nobody(tmp_path):
    _, game = game_of(tmp_path, "task=hunt_cow", agent=True, limit=48)
    for _ in range(16):
        game.tick()
    game.wanted = "agent"
    for _ in range(16):
        game.tick()
    game.wanted = "person"
    for _ in range(16):
        game.tick()
    situation = game.situation()
    assert situation.over
    assert situation.shared
    assert situation.episodes == 0
    game.close()
    fragments = RecordedFragments(tmp_path / "set")
    idle = torch.cat([fragments[torch.tensor([i])].idle_BT[0] for i in range(len(fragments))])
    assert idle.tolist()[:12] == [False] * 4 + [True] * 4 + [False] * 4


def test_the_table_compares_the_persons_whole_episodes_with_the_agents_run(tmp_path):
    _, game = game_of(tmp_path, "task=hunt_cow", agent=True, limit=8)
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("iteration,episode/return,episode/kill_entity/cow\n4,nan,nan\n5,6.5,5.7\n6,9.0,8.0\n")
    assert scores_of_run(metrics, 5) == {"return": 6.5, "kill_entity/cow": 5.7}
    assert scores_of_run(metrics, 4) == {}
    assert scores_of_run(tmp_path / "absent.csv", 5) == {}
    game.agent.scores = scores_of_run(metrics, 5)
    assert game.situation().scores[0].best is None
    for _ in range(8):
        game.tick()
    first = game.situation().scores[0]
    assert (first.name, first.now, first.best, first.mean, first.agent) == ("cows killed", 0.0, 0.0, 0.0, 5.7)
    game.restart()
    assert game.situation().episode == 2
    assert game.situation().episodes == 1


def test_an_episode_that_is_given_up_is_cut_in_the_recording(tmp_path):
    _, game = game_of(tmp_path, "task=hunt_cow")
    for _ in range(8):
        game.tick()
    game.restart()
    for _ in range(4):
        game.tick()
    game.close()
    fragments = RecordedFragments(tmp_path / "set")[torch.tensor([0])]
    assert fragments.truncated_BT[0].tolist()[:4] == [False, True, False, True]
    assert fragments.first_BU[0].tolist()[:4] == [True, False, False, True]
    assert game.situation().episodes == 0


def test_ticks_of_a_decision_that_was_given_up_are_part_of_no_other(tmp_path):
    _, game = game_of(tmp_path, "task=hunt_cow")
    for _ in range(4):
        game.tick()
    game.controls.press("jump", True)
    game.controls.turn(0.0, 8.0)
    for _ in range(3):
        game.tick()
    game.restart()
    for _ in range(4):
        game.tick()
    game.close()
    fragments = RecordedFragments(tmp_path / "set")[torch.tensor([0])]
    nothing = {name: chosen[0, 0] for name, chosen in fragments.action.items()}
    assert fragments.idle_BT[0, :3].tolist() == [False, True, False]
    assert {name: chosen[0, 2] for name, chosen in fragments.action.items()} == nothing


def test_nothing_is_written_if_nobody_has_played(tmp_path):
    _, game = game_of(tmp_path, "task=hunt_cow")
    game.close()
    assert not (tmp_path / "set").exists()


def test_the_picture_has_the_size_of_the_videos(tmp_path):
    _, game = game_of(tmp_path, "task=hunt_cow", "env.video_size=[320,180]")
    game.tick()
    assert game.picture().shape == (360, 640, 3)  # enlarged until its text is legible


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [
        ("kill_entity/cow", "cows killed"), ("mine_block/oak_log", "oak log mined"), ("portal_score", "portal score"),
        ("damage_dealt/sheep", "damage to sheep"), ("return", "return"),
    ],
)  # fmt: skip
def test_statistics_are_shown_in_words(statistic, expected):
    assert in_words(statistic) == expected
