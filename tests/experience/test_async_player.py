"""Environments that play at their own pace: the same rows, whichever of them answers first."""

import threading
from collections import defaultdict
from functools import partial
from itertools import pairwise

import msgspec
import numpy as np
import pytest
import torch

from mineonline.envs.build import build_env, env_spec
from mineonline.envs.contract import TensorSpec
from mineonline.experience.async_player import AsyncPlayer
from mineonline.experience.collector import Workers
from mineonline.fragment import Fragments
from mineonline.policies.actor import Actor
from mineonline.policies.build import build_actor
from mineonline.policies.mlp import MlpPolicy
from tests.experience.test_rollout import LIMITS, CountingEnv, settings
from tests.helpers.own_pace import OwnPace
from tests.helpers.programs import wait_until
from tests.helpers.settings import CARTPOLE, config_of

N, T = 5, 7


@pytest.fixture
def player_of():
    made = []

    def build(env, actor, length=T):
        first = env.reset(np.ones(env.num_envs, np.bool_))
        made.append(AsyncPlayer(env, first, actor, settings(env.spec, length), first_env=0))
        return made[-1]

    yield build
    for player in made:
        player.close()
        assert not player._thread.is_alive()


def fragments_of(player, actor, env, length=T):
    player.play()
    names = [field.name for field in settings(env.spec, length).schema(actor)]
    played_N = ~player.tensors["idle_BT"].all(1)
    return Fragments.from_named_tensors({name: player.tensors[name][played_N].clone() for name in names})


@pytest.mark.parametrize("delay", [0, 1, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rows_of_each_environment_follow_one_another_whatever_the_others_do(player_of, delay, seed):
    actor = Actor(MlpPolicy(CountingEnv.spec, [4], zero_initial_value=False), None)
    env = OwnPace(CountingEnv(N, delay=delay), seed)
    player = player_of(env, actor)
    found = defaultdict(list)
    while sum(map(len, found.values())) < 12 * N:
        part = fragments_of(player, actor, env)
        for i, n in enumerate(part.env_B.tolist()):
            found[n].append(part[torch.tensor([i])])
    assert env.most_stepping > 1
    for n, parts in found.items():
        assert [int(part.sequence_B) for part in parts] == list(range(len(parts)))
        state = torch.cat([part.observation["state"][0, :-1] for part in parts])
        columns = [
            torch.cat([getattr(part, name)[0] for part in parts]).tolist()
            for name in ("reward_BT", "terminated_BT", "truncated_BT", "idle_BT")
        ]
        first = torch.cat([part.first_BU[0, :-1] for part in parts]).tolist()
        expected, episode = [], 1
        while len(expected) < len(state):
            length, deadly = 3 + n, episode % 2 == 1
            for step in range(length):
                last = step == length - 1
                expected.append(([episode, step], step + 1.0, last and deadly, last and not deadly, False, step == 0))
            if not deadly:  # truncated: the last observation has its own row
                expected.append(([episode, length], 0.0, False, False, True, False))
            episode += 1
        rows = list(zip(state.tolist(), *columns, first, strict=True))
        assert rows == expected[: len(rows)]
        for one, two in pairwise(parts):
            if not one.terminated_BT[0, -1] and not one.idle_BT[0, -1]:
                assert torch.equal(one.observation["state"][0, -1], two.observation["state"][0, 0])


@pytest.mark.parametrize("more", [[], ["tasks=[hunt_cow,chop_tree]", "policy.task_embedding=4"]])
def test_the_learner_finds_the_log_probabilities_and_values_that_were_noted(player_of, more):
    """With the policy's memory carried from row to row, and from fragment to fragment."""
    config = config_of("policy.memory=gru", "env.image_size=[40,36]", "task.time_limit_ticks=40", *more)
    spec = env_spec(config.env, config.played)
    actor = build_actor(config, spec)
    env = OwnPace(build_env(config.env, config.played, seed=config.seed, num_envs=3, first_index=0))
    player = player_of(env, actor, length=14)
    newest = 0
    while newest < 2:
        part = fragments_of(player, actor, env, 14)
        if not len(part.env_B):
            continue
        newest = max(newest, int(part.sequence_B.max()))
        with torch.no_grad():
            output = actor.policy(part.observation, part.first_BU, part.memory)
            found = actor.policy.head.log_prob(output.logits[:, :-1], part.action)
        torch.testing.assert_close(found, part.log_prob_BT, rtol=0, atol=1e-5)
        torch.testing.assert_close(output.value_BT[:, :-1], part.value_BT, rtol=0, atol=1e-5)
    env.close()


class Counts(MlpPolicy):
    """Remembers how many decisions each environment has had, from one state for all of them, and in half precision."""

    def __init__(self, spec):
        super().__init__(spec, [4], zero_initial_value=False)
        self.memory_spec = {"count": TensorSpec((1,), "float32")}

    def initial_memory(self, count):
        self.shared = torch.zeros(1, 1)
        return {"count": self.shared.expand(count, 1)}

    def forward(self, observation, first_BT, memory):
        output = super().forward(observation, first_BT, memory)
        count = memory["count"] + first_BT.shape[1]
        return output._replace(
            value_BT=memory["count"].bfloat16().expand(first_BT.shape), memory={"count": count.bfloat16()}
        )


def test_environments_that_begin_with_the_same_state_remember_apart(player_of):
    actor = Actor(Counts(CountingEnv.spec), None)
    env = OwnPace(CountingEnv(N))
    player = player_of(env, actor)
    rows = defaultdict(list)
    while min(map(len, rows.values()), default=0) < 2 * T:
        part = fragments_of(player, actor, env)
        for n, values in zip(part.env_B.tolist(), part.value_BT.tolist(), strict=True):
            rows[n] += values
    assert all(values == list(range(len(values))) for values in rows.values())
    assert not actor.policy.shared.any()


def test_weights_of_another_trainer_with_the_same_version_are_taken_too(player_of):
    actor = Actor(MlpPolicy(CountingEnv.spec, [4], zero_initial_value=False), None)
    env = OwnPace(CountingEnv(N))
    player = player_of(env, actor)
    player.play()
    with torch.no_grad():
        actor.policy.value.linear.weight.zero_()
        actor.policy.value.linear.bias.fill_(7.0)
    for _ in range(4):  # what was begun before is handed over first
        part = fragments_of(player, actor, env)
    assert (part.value_BT == 7).all()


class Counted(OwnPace):
    """Counts what was decided."""

    decisions = 0

    def send(self, action, which_N):
        self.decisions += int(which_N.sum())
        super().send(action, which_N)


def test_environments_stand_still_a_quarter_of_a_rollout_after_the_last_if_nobody_asks_for_the_next(player_of):
    actor = Actor(MlpPolicy(CountingEnv.spec, [4], zero_initial_value=False), None)
    env, length = Counted(CountingEnv(N)), 40
    player = player_of(env, actor, length)
    for number in range(1, 4):
        played = fragments_of(player, actor, env, length)
        assert played.sequence_B.max() >= number - 1
        begun = env.decisions
        wait_until(lambda: player._due_N.all() and not player._goes_on())
        stood = env.decisions
        assert stood <= begun + length * N / 4 + N  # those that step when it is enough are not taken back
        threading.Event().wait(0.3)
        assert env.decisions == stood


def test_a_rollout_is_handed_over_in_time_even_if_nothing_was_played(player_of):
    actor = Actor(MlpPolicy(CountingEnv.spec, [4], zero_initial_value=False), None)
    env = OwnPace(CountingEnv(N, delay=10**9))
    player = player_of(env, actor)
    for _ in range(2):
        player.play()
        assert player.tensors["idle_BT"].all()
        for name in ("reward_BT", "terminated_BT", "truncated_BT", "report.crashed_BT", "report.failures"):
            assert not player.tensors[name].any()


class Crashes(CountingEnv):
    """Each truncation is a crash, for which it gives no reason."""

    def step(self, action, active_N):
        step = super().step(action, active_N)
        return msgspec.structs.replace(step, crashed_N=step.truncated_N)


def test_crashes_are_counted_whether_or_not_there_is_a_reason(player_of):
    actor = Actor(MlpPolicy(CountingEnv.spec, [4], zero_initial_value=False), None)
    player = player_of(OwnPace(Crashes(N)), actor)
    crashed = counted = 0
    for _ in range(6):
        player.play()
        crashed += int(player.tensors["report.crashed_BT"].sum())
        counted += int(player.tensors["report.failures"].sum())
    assert 0 < crashed <= counted  # those in fragments that are not complete yet are counted already


class Breaks(CountingEnv):
    """Raises in its hundredth step."""

    steps = 0

    def step(self, action, active_N):
        self.steps += 1
        if self.steps == 100:
            raise RuntimeError("out of order")
        return super().step(action, active_N)


def test_what_an_environment_raises_is_raised_where_rollouts_are_asked_for(player_of):
    actor = Actor(MlpPolicy(CountingEnv.spec, [4], zero_initial_value=False), None)
    player = player_of(OwnPace(Breaks(N)), actor)

    def play_on():
        for _ in range(100):
            player.play()

    with pytest.raises(RuntimeError, match="out of order"):
        play_on()


def test_weights_change_between_decisions_only_and_each_row_is_of_those_that_acted():
    """The critic's bias is set to the version, so that every value tells which weights computed it."""
    config = config_of(*CARTPOLE, "env.processes=true")
    spec = env_spec(config.env, config.task)
    actor = build_actor(config, spec)
    chosen = settings(spec, 16, 2)
    chosen = type(chosen)(**{**vars(chosen), "asynchronous": True})
    mixed = 0
    with Workers(
        partial(build_env, config.env, config.task, seed=config.seed), actor, chosen, workers=2, **LIMITS
    ) as workers:
        for number, batch in enumerate(workers):
            played_N = ~batch["idle_BT"].all(1)
            assert set(batch["env_B"].tolist()) <= {0, 1, 2, 3}
            parts = (batch[name][played_N].tolist() for name in ("version_B", "value_BT"))
            for version, values in zip(*parts, strict=True):
                if version:
                    assert values[0] == version
                    assert values == sorted(values)
                    assert all(value in range(version, number + 1) for value in values)
                    mixed += values[-1] > version
            if number > 5 and mixed:
                break
            assert number < 500, "no fragment straddled new weights"
            state = {name: tensor.clone() for name, tensor in build_actor(config, spec).state_dict().items()}
            state["policy.value.linear.weight"].zero_()
            state["policy.value.linear.bias"].fill_(float(number + 1))
            state["policy.version"].fill_(number + 1)
            workers.update_weights(state)
