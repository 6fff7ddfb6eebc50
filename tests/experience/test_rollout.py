"""What a worker writes, row by row, against the environment's own record; and torchrl's view of an environment."""

from functools import partial

import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs

from mineonline.envs.build import build_env, env_spec
from mineonline.envs.contract import EnvSpec, Step, TensorSpec
from mineonline.experience.collector import Workers
from mineonline.experience.rollout import RolloutSettings
from mineonline.experience.worker import FragmentCollector, TorchrlEnv
from mineonline.fragment import Fragments
from mineonline.policies.actor import Actor
from mineonline.policies.build import build_actor
from mineonline.policies.mlp import MlpPolicy
from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import CARTPOLE, config_of


class CountingEnv:
    """Its observation is (episode, step). Episodes of environment i end after 3 + i steps, in turn by a death and by a
    time limit. The reward is the step's number. An episode starts `delay` steps of the others after its reset."""

    spec = EnvSpec(observation={"state": TensorSpec((2,), "float32")}, action={"action": 2}, statistics=("steps",))

    def __init__(self, num_envs, first_index=0, delay=0):
        self.num_envs = num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self.delay = delay
        self.left_N = np.zeros(num_envs, np.int64)
        self.state = np.zeros((num_envs, 2), np.float32)
        self.lengths = 3 + first_index + np.arange(num_envs)

    def reset(self, which_N):
        self.left_N[which_N] = self.delay
        self.waiting_N |= which_N
        self.begin(which_N)
        return {"state": self.state}

    def begin(self, waiting_N):
        ready_N = waiting_N & (self.left_N == 0)
        self.state[ready_N] = self.state[ready_N] * [1, 0] + [1, 0]
        self.waiting_N &= ~ready_N

    def step(self, action, active_N):
        assert not (active_N & self.waiting_N).any()
        self.left_N -= self.left_N > 0
        self.begin(self.waiting_N.copy())
        self.state[active_N, 1] += 1
        ended_N = active_N & (self.state[:, 1] >= self.lengths)
        dies_N = self.state[:, 0] % 2 == 1
        return Step(
            observation={"state": self.state},
            reward_N=np.where(active_N, self.state[:, 1], 0).astype(np.float32),
            terminated_N=ended_N & dies_N, truncated_N=ended_N & ~dies_N,
            crashed_N=np.zeros(self.num_envs, np.bool_), statistics_NK=self.state[:, 1:].copy(),
        )  # fmt: skip

    def close(self):
        pass


N, T = 3, 11
LIMITS = {"start_timeout_s": LIMIT_S, "batch_timeout_s": LIMIT_S}


def settings(spec, length=T, envs=N):
    return RolloutSettings(
        env_spec=spec, length=length, envs_per_worker=envs, first_env=0, seed=0, device="cpu", precision="32-true",
        torch_threads=1, collector_log=None,
    )  # fmt: skip


def collected(env, actor, length=T):
    chosen = settings(env.spec, length, env.num_envs)
    collector = FragmentCollector(
        TorchrlEnv(env), policy=actor, settings=chosen, frames_per_batch=length * env.num_envs, worker_idx=0,
        trust_policy=True, use_buffers=True, auto_register_policy_transforms=False,
        storing_device="cpu", policy_device="cpu", env_device="cpu",
    )  # fmt: skip
    for batch in collector:
        names = [field.name for field in chosen.schema(actor)]
        yield Fragments.from_named_tensors({name: batch[name].clone() for name in names})


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_rows_follow_one_another_over_deaths_time_limits_waits_and_fragments(delay):
    actor = Actor(MlpPolicy(CountingEnv.spec, [4], zero_initial_value=False), None)
    batches = collected(CountingEnv(N, delay=delay), actor)
    parts = [next(batches) for _ in range(3)]
    for number, part in enumerate(parts):
        assert part.sequence_B.tolist() == [number] * N
        assert part.env_B.tolist() == list(range(N))
    for n in range(N):
        state = torch.cat([part.observation["state"][n, :-1] for part in parts])
        column = {
            name: torch.cat([getattr(part, name)[n] for part in parts])
            for name in ("reward_BT", "terminated_BT", "truncated_BT", "idle_BT")
        }
        first = torch.cat([part.first_BU[n, :-1] for part in parts])
        expected = [(0, 0, 0.0, False, False, True, False)] * delay
        episode = 1
        while len(expected) < 3 * T:
            length = 3 + n
            idle = (episode, length, 0.0, False, False, True, False)
            for step in range(length):
                last, deadly = step == length - 1, episode % 2 == 1
                expected.append((episode, step, step + 1.0, last and deadly, last and not deadly, False, step == 0))
            if episode % 2 == 0:  # truncated: the last observation has its own row
                expected.append(idle)
            expected += [idle] * delay
            episode += 1
        for row, (episode, step, reward, dies, cut, final, begins) in enumerate(expected[: 3 * T]):
            assert state[row].tolist() == [episode, step], (n, row)
            assert float(column["reward_BT"][row]) == reward
            assert bool(column["terminated_BT"][row]) == dies
            assert bool(column["truncated_BT"][row]) == cut
            assert bool(column["idle_BT"][row]) == final
            assert bool(first[row]) == begins


def test_the_row_after_a_fragment_is_the_first_row_of_the_next():
    batches = collected(CountingEnv(N), Actor(MlpPolicy(CountingEnv.spec, [4], zero_initial_value=False), None))
    one, two = next(batches), next(batches)
    assert torch.equal(one.observation["state"][:, -1], two.observation["state"][:, 0])
    assert torch.equal(one.first_BU[:, -1], two.first_BU[:, 0])


def test_the_learner_finds_the_log_probabilities_and_values_that_the_worker_noted():
    config = config_of("policy.memory=gru", "env.image_size=[40,36]", "task.time_limit_ticks=40")
    spec = env_spec(config.env, config.task)
    actor = build_actor(config, spec)
    policy = actor.policy
    env = build_env(config.env, config.task, seed=config.seed, num_envs=2, first_index=0)
    batches = collected(env, actor, length=14)
    for _ in range(2):
        part = next(batches)
        assert part.truncated_BT.any()
        with torch.no_grad():
            output = policy(part.observation, part.first_BU, part.memory)
            found = policy.head.log_prob(output.logits[:, :-1], part.action)
        torch.testing.assert_close(found, part.log_prob_BT, rtol=0, atol=1e-5)
        torch.testing.assert_close(output.value_BT[:, :-1], part.value_BT, rtol=0, atol=1e-5)
    env.close()


@pytest.mark.parametrize(
    "overrides",
    [
        CARTPOLE,
        ["env=gym", "env.id=tests.helpers.space_envs:Mixed-v0"],
        ["env.image_size=[40,36]"],
        ["env=crafter"],
        ["env=synthetic"],
    ],
    ids=["gym", "gym with all kinds of spaces", "world", "crafter", "synthetic"],
)
def test_torchrl_accepts_every_environment(overrides):
    config = config_of(*overrides)
    env = TorchrlEnv(build_env(config.env, config.task, seed=config.seed, num_envs=2, first_index=0))
    check_env_specs(env)
    rollout = env.rollout(5)
    assert rollout.batch_size[0] == 2
    env.close()


def test_fragments_are_stamped_with_the_weights_that_made_them_and_never_mix_two():
    """The critic's bias is set to the version, so that every value tells which weights computed it."""
    config = config_of(*CARTPOLE)
    spec = env_spec(config.env, config.task)
    actor = build_actor(config, spec)
    chosen = settings(spec, length=16, envs=2)
    with Workers(
        partial(build_env, config.env, config.task, seed=config.seed), actor, chosen, workers=2, **LIMITS
    ) as workers:
        seen = []
        for number, batch in enumerate(workers):
            assert len(batch["env_B"]) == 4
            version = batch["version_B"]
            assert len(set(version.tolist())) == 1
            seen.append(int(version[0]))
            if number:
                torch.testing.assert_close(batch["value_BT"], torch.full((4, 16), float(seen[-1])))
            if number == 5:
                break
            state = {name: tensor.clone() for name, tensor in build_actor(config, spec).state_dict().items()}
            state["policy.value.linear.weight"].zero_()
            state["policy.value.linear.bias"].fill_(float(number + 1))
            state["policy.version"].fill_(number + 1)
            workers.update_weights(state)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_workers_of_one_collector_play_different_episodes():
    config = config_of(*CARTPOLE)
    spec = env_spec(config.env, config.task)
    build = partial(build_env, config.env, config.task, seed=config.seed)
    with Workers(build, build_actor(config, spec), settings(spec, 4, 2), workers=2, **LIMITS) as workers:
        batch = next(iter(workers))
    starts = batch["observation.state"][:, 0]
    assert batch["env_B"].tolist() == [0, 1, 2, 3]
    assert len({tuple(row.tolist()) for row in starts}) == 4
