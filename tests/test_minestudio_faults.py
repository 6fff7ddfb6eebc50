"""The thirteen faults of MineStudio's online module (1.1.6), each with a test that fails if we had it too."""

import os
from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from mineonline.callbacks.checkpoints import SaveCheckpoints
from mineonline.callbacks.statistics import Statistics
from mineonline.envs.build import build_env, env_spec
from mineonline.experience.buffer import FragmentBuffer
from mineonline.experience.rollout import Player, RolloutSettings
from mineonline.fragment import Episode, Fragments, Report, Timing
from mineonline.learning.cloning import Cloning
from mineonline.learning.objective import advantages
from mineonline.learning.sequences import first_pass
from mineonline.policies.build import build_actor, build_policy
from mineonline.settings.command_line import CONF_DIR
from tests.callbacks.test_videos import in_videos, make_run_dir
from tests.helpers.learning_set import SETTINGS, SPEC, B, T, learn, recorded
from tests.helpers.settings import CARTPOLE, ROOT, config_of, config_of_experiment
from tests.helpers.video_trainer import train

POLICY = build_policy(config_of(*SETTINGS), SPEC)


class Watch(lightning.Callback):
    """Keeps what each iteration gave."""

    def __init__(self):
        self.coefs, self.rates, self.losses = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.losses.append(outputs["losses"])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.coefs.append(pl_module.reference_coef)


def test_fault_1_what_was_before_an_episode_does_not_leak_into_its_memory():
    fragments = recorded(0).fragments
    fragments.first_BU[:, 5] = True
    other = recorded(1).fragments
    image = torch.cat([other.observation["image"][:, :5], fragments.observation["image"][:, 5:]], 1)
    changed = replace(fragments, observation={"image": image}, memory=other.memory)
    one, two = first_pass(POLICY, fragments, T), first_pass(POLICY, changed, T)
    assert not torch.allclose(one.value_BU[:, :5], two.value_BU[:, :5])
    torch.testing.assert_close(one.value_BU[:, 5:], two.value_BU[:, 5:], rtol=0, atol=1e-6)
    torch.testing.assert_close(one.log_prob_BT[:, 5:], two.log_prob_BT[:, 5:], rtol=0, atol=1e-6)


def test_fault_2_the_ratio_of_stale_fragments_is_against_the_policy_that_acted(tmp_path):
    """They were three times as probable when they were made: the first ratio is 1/3, where it would have been 1."""

    def stale(batch):
        f = batch.fragments
        log_prob_BT = first_pass(POLICY, f, T).log_prob_BT + np.log(3)
        return replace(batch, fragments=replace(f, log_prob_BT=log_prob_BT))

    watch = Watch()
    learn(tmp_path, 1, change=stale, callbacks=[watch])
    first = watch.losses[0][0]
    assert float(first.clip_fraction) == 1
    assert float(first.approximate_kl) == pytest.approx(1 / 3 - 1 + np.log(3), abs=1e-4)


def test_fault_3_a_time_limit_and_a_crash_bootstrap_but_a_death_does_not():
    config = config_of(*CARTPOLE, "+env.kwargs.max_episode_steps=5")
    env = build_env(config.env, config.task, seed=config.seed, num_envs=1, first_index=0)
    env.reset(np.ones(1, np.bool_))
    for _ in range(5):
        step = env.step({"action": np.zeros(1, np.int64)}, np.ones(1, np.bool_))
    assert step.truncated_N.all()
    assert not step.terminated_N.any()
    base = recorded(0).fragments
    none = torch.zeros(B, T, dtype=torch.bool)
    value_BU = torch.full((B, T + 1), 10.0)
    cut, dead = none.clone(), none.clone()
    cut[:, -1] = dead[:, -1] = True
    fragments = replace(base, reward_BT=torch.zeros(B, T), truncated_BT=cut, terminated_BT=none)
    kept = advantages(fragments, value_BU, discount=0.9, trace=0.95)
    lost = advantages(replace(fragments, truncated_BT=none, terminated_BT=dead), value_BU, discount=0.9, trace=0.95)
    assert kept[:, -1].tolist() == pytest.approx([-1.0] * B)
    assert lost[:, -1].tolist() == pytest.approx([-10.0] * B)


def test_fault_4_the_trace_does_not_cross_a_fragment_that_was_dropped():
    """Three fragments in a row; the buffer drops the middle one, which is stale."""
    buffer = FragmentBuffer(capacity=8, max_staleness=1, max_reuse=1, seed=0)
    parts = [recorded(number).fragments[:1] for number in range(3)]
    parts[1].version_B.fill_(-5)
    for part in parts:
        buffer.put(part, Report(0, (), 0, Timing(0, 0, 0, 0)), None)
    batch = buffer.take(2, 0, lambda: False)
    assert batch.fragments.sequence_B.tolist() == [0, 2]
    assert batch.arrivals.dropped["stale"] == 1
    value_BU = torch.randn(2, T + 1)
    together = advantages(batch.fragments, value_BU, discount=0.9, trace=0.95)
    alone = torch.cat(
        [advantages(batch.fragments[i : i + 1], value_BU[i : i + 1], discount=0.9, trace=0.95) for i in range(2)]
    )
    assert torch.equal(together, alone)


def test_fault_5_many_fragments_at_once_give_what_each_gives_alone():
    fragments = recorded(0).fragments
    together = first_pass(POLICY, fragments, T)
    for b in range(B):
        alone = first_pass(POLICY, fragments[b : b + 1], T)
        torch.testing.assert_close(together.value_BU[b : b + 1], alone.value_BU, rtol=0, atol=1e-5)
        torch.testing.assert_close(together.log_prob_BT[b : b + 1], alone.log_prob_BT, rtol=0, atol=1e-5)


def test_fault_6_the_reference_remembers_the_whole_episode_not_only_the_fragment():
    config = config_of(
        "policy.memory=gru", "policy.hidden_size=16", "env.image_size=[40,36]", "reference.kl_coef=1",
        "fragment.length=6",
    )  # fmt: skip
    spec = env_spec(config.env, config.task)
    actor = build_actor(config, spec)
    for tensor in actor.reference.parameters():
        tensor.data.mul_(1.5)  # another policy than the one that plays
    env = build_env(config.env, config.task, seed=config.seed, num_envs=2, first_index=0)
    settings = RolloutSettings(
        env_spec=spec,
        length=6,
        envs_per_worker=2,
        first_env=0,
        seed=0,
        device="cpu",
        precision="32-true",
        torch_threads=1,
        collector_log=None,
    )
    player = Player(env, env.reset(np.ones(2, np.bool_)), actor, settings, first_env=0)
    parts = []
    for _ in range(3):
        player.play()
        parts.append(
            Fragments.from_named_tensors(
                {k: v.clone() for k, v in player.tensors.items() if not k.startswith("report.")}
            )
        )
    memory = actor.reference.initial_memory(2)
    for part in parts:
        torch.testing.assert_close(part.reference_memory["gru"], memory["gru"], rtol=0, atol=1e-5)
        with torch.no_grad():
            rows = {name: tensor[:, :-1] for name, tensor in part.observation.items()}
            memory = actor.reference(rows, part.first_BU[:, :-1], memory).memory
    assert parts[2].reference_memory["gru"].abs().max() > 0.01
    assert not torch.allclose(parts[2].reference_memory["gru"], parts[2].memory["gru"])
    env.close()


def test_fault_7_checkpoints_are_kept_at_the_very_iterations_that_were_asked_for(tmp_path):
    learn(tmp_path, 6, callbacks=[SaveCheckpoints(tmp_path / "kept", every=100, keep_every=3)])
    kept = sorted(file.name for file in (tmp_path / "kept").glob("0*"))
    assert kept == ["000003.ckpt", "000006.ckpt"]


def test_fault_8_a_resumed_run_goes_on_with_iteration_rho_learning_rate_and_counters(tmp_path):
    options = ["reference.kl_coef=1", "reference.kl_decay=0.5"]
    whole, before, after = Watch(), Watch(), Watch()
    counters = [Statistics((), restarts=lambda: 0) for _ in range(2)]

    def with_arrivals(batch):
        batch.arrivals.env_steps = batch.arrivals.fragments = 100
        return batch

    learn(tmp_path / "whole", 4, *options, callbacks=[whole])
    learn(tmp_path / "half", 2, *options, callbacks=[before, counters[0]], change=with_arrivals)
    learner = learn(
        tmp_path / "half", 4, *options, callbacks=[after, counters[1]], change=with_arrivals,
        checkpoint=tmp_path / "half" / "last.ckpt",
    )  # fmt: skip
    assert learner.iteration == 4
    assert before.coefs + after.coefs == whole.coefs
    assert before.rates + after.rates == whole.rates
    assert len(set(whole.rates)) == 4
    assert counters[1].state_dict()["env_steps"] == 400


@pytest.mark.parametrize("experiment", [file.stem for file in (CONF_DIR / "experiment").glob("*.yaml")])
def test_fault_9_every_shipped_experiment_has_all_its_keys(experiment):
    assert config_of_experiment(experiment).iterations > 0


def test_fault_10_ppo_runs_with_behaviour_cloning_beside_it(tmp_path):
    watch = Watch()
    cloning = Cloning(recorded(50).fragments, coef=0.5, fragments=3)
    learner = learn(tmp_path, 2, cloning=cloning, callbacks=[watch])
    assert all(float(step.cloning) > 0 and step.total.isfinite() for steps in watch.losses for step in steps)
    assert learner.version == 2


def test_fault_11_the_reference_is_refreshed_when_that_is_asked_for(tmp_path):
    learner = learn(tmp_path, 4, "reference.kl_coef=0.1", "reference.refresh_every=4")
    assert torch.equal(learner.reference.head.linear.weight, learner.policy.head.linear.weight)
    learner = learn(tmp_path, 4, "reference.kl_coef=0.1")
    assert not torch.equal(learner.reference.head.linear.weight, learner.policy.head.linear.weight)


def test_fault_12_episodes_of_any_task_are_counted(tmp_path):
    statistics = Statistics(("kill_entity/cow",), restarts=lambda: 0)
    names = ["hunt_cow", "собирать дерево", ""]

    def with_episodes(batch):
        batch.arrivals.episodes = [Episode(2.0, 10, name, {"kill_entity/cow": 1.0}) for name in names]
        batch.arrivals.fragments = 1
        return batch

    learn(tmp_path, 1, callbacks=[statistics], change=with_episodes)
    assert statistics.state_dict()["episodes"] == 3


def test_fault_13_every_request_for_a_video_is_recorded_or_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    run_dir = make_run_dir(tmp_path / "run", 5)
    videos = train(run_dir, iterations=4, every=1, on_iteration=lambda iteration: None)
    assert len([name for name in in_videos(run_dir) if name.endswith(".mp4")]) + videos.skipped == 4
    assert videos.failures == 0
