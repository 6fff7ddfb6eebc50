"""What people type by mistake: each is answered with one line that says what to type, whatever flags are there."""

import shlex
from itertools import cycle

import pytest

from mineonline.errors import MineonlineError
from mineonline.settings.command_line import CONF_DIR
from mineonline.settings.suggestions import suggest_key
from mineonline.train import check
from tests.helpers.settings import checkpoint_of

MISTAKES = [
    # keys of other projects, and misspelt ones
    ("optimizer.lr=1e-4", "optimizer.lr: there is no such key. Did you mean optimizer.learning_rate?"),
    ("lr=1e-4", "lr: there is no such key. Did you mean optimizer.learning_rate?"),
    ("+optimizer.lr=1e-4", "optimizer.lr: there is no such key. Did you mean optimizer.learning_rate?"),
    ("learning_rate=1e-4", "Did you mean optimizer.learning_rate?"),
    ("objective.gamma=0.99", "Did you mean objective.discount?"),
    ("gama=0.99", "Did you mean objective.discount?"),
    ("n_envs=8", "Did you mean collector.envs_per_worker (there are collector.count x workers x envs_per_worker"),
    ("total_timesteps=1e6", "Did you mean iterations (each learns from buffer.fragments_per_iteration fragments"),
    ("optimizer.batch_size=64", "Did you mean optimizer.minibatches (how many"),
    ("gpus=2", "Did you mean trainer.devices (trainer processes, one on each GPU)?"),
    ("max_iterations=5", "Did you mean iterations"),
    ("precision=bf16-mixed", "Did you mean trainer.precision?"),
    ("wandb_project=cows", "Did you mean wandb.project?"),
    ("every=5", "Did you mean auxiliary.every or video.every or checkpointing.every?"),
    ("colector.count=2", "colector.count: there is no such key. Did you mean collector.count?"),
    ("collector.worker=2", "Did you mean collector.workers?"),
    ("Iterations=5", "Did you mean iterations"),
    ("env.id=CartPole-v1", "env.id: there is no such key. It belongs to env=gym."),
    ("policy.hidden_sizes=[64]", "It belongs to policy=mlp."),
    ("task.spawn_near=oak_log", "Write +task.spawn_near=... to add it."),
    ("qwerty=1", "qwerty: there is no such key. `python -m mineonline.train --help` shows all keys."),
    # choices
    ("env=minecraft", "env=minecraft: there is no such env. Did you mean env=minestudio? There are: crafter, gym, "),
    ("env=CartPole-v1", "Did you mean env=gym env.id=CartPole-v1?"),
    ("task=hunt_cows", "Did you mean task=hunt_cow?"),
    ("policy=MlpPolicy", "Did you mean policy=mlp?"),
    ("experiment=cart_pole", "Did you mean experiment=cartpole?"),
    ("model=vpt", "model: there is no such key. Did you mean policy or policy.model?"),
    (
        "optimizer/learning_rate=1",
        "optimizer/learning_rate: there is no such key. Did you mean optimizer.",
    ),
    ("env=[world,crafter]", "For a run with each of them: -m env=world,crafter."),
    ("policy=null", "policy=null: a choice cannot be null. There are: mlp, nature, own, tiny, "),
    ("~seed", "seed: a value is missing."),
    ("env.size=[64,48]", "env.size: there is no such key. Did you mean env.image_size or env.video_size or env."),
    (
        "logger.wandb=true",
        "logger has no keys of its own: it takes a list of csv, tensorboard, wandb or {key: value, ...}.",
    ),
    ("env=gym policy=mlp", "env.id: a value is missing. Give env.id=<value>."),
    ("policy=mlp", "policy=mlp reads vectors, but env=world shows pictures. Use policy=tiny."),
    # words
    ("--seed=3", "--seed=3: settings have no dashes. Write seed=3."),
    ("--seed 3", "--seed: settings have no dashes. Write seed=3."),
    ("-seed=3", "Write seed=3."),
    ("--task hunt_cow", "Write task=hunt_cow."),
    ("--lr 1e-4", "--lr: there is no such flag, and settings have no dashes. Did you mean optimizer.learning_rate?"),
    ("seed = 3", "seed = 3: there must be no space beside the equals sign. Write seed=3."),
    ("seed= 3", "Write seed=3."),
    ("seed =3", "Write seed=3."),
    ("seed 3", "seed: settings are key=value. Write seed=3."),
    ("seed:3", "Write seed=3."),
    ("seed==3", "seed==3: one equals sign is enough. Write seed=3."),
    ("=3", "=3: the key is missing."),
    ("hunt_cow", "hunt_cow: settings are key=value. Write task=hunt_cow."),
    ("runs/a/checkpoints/last.ckpt", "To continue that run, write checkpoint=runs/a/checkpoints/last.ckpt."),
    ("my.yaml", "write --config-dir <folder> experiment=my."),
    ("--cfg=jobs", "--cfg jobs: there is no such choice. There are: job, hydra, all."),
    ("--config-dir", "--config-dir: a value is missing."),
    (
        "callbacks=[{_target_: nope.Call}]",
        "Quote it, or the shell splits it at spaces: 'callbacks=[{_target_: nope.Call}]",
    ),
    ("iterations=[1,2", "iterations=[1,2 is not complete. A closing bracket is missing."),
    # values
    ("env.image_size=64", "env.image_size=64: must be [whole number, whole number], in brackets."),
    ("env.image_size=64x48", "env.image_size=64x48: must be [whole number, whole number], in brackets."),
    ("collector.workers=two", "collector.workers=two: must be a whole number, at least 1."),
    ("collector.workers=1.5", "collector.workers=1.5: must be a whole number, at least 1."),
    ("collector.workers=-1", "collector.workers=-1: must be at least 1."),
    ("seed=-1", "seed=-1: must be 0 or more."),
    ("seed=null", "seed=null: must be a whole number, 0 or more."),
    ("seed=", "seed=: must be a whole number, 0 or more."),
    ("objective.discount=1.5", "objective.discount=1.5: must be between 0 and 1."),
    ("network.port=99999", "network.port=99999: must be 0 to 65535."),
    ("objective.normalize_value=maybe", "objective.normalize_value=maybe: must be true or false."),
    (
        "optimizer=adam",
        "optimizer=adam: optimizer is a section. Give one of its keys, such as optimizer.learning_rate=...",
    ),
    ("optimizer.learning_rate=1e-4x", "optimizer.learning_rate=1e-4x: must be a number, 0 or more."),
    ("logger=tensorbord", "Did you mean tensorboard?"),
    ("logger=mlflow", "'logger=[csv,{_target_: lightning.pytorch.loggers.MLFlowLogger, "),
    ("policy.memory=lstm", "policy.memory=lstm: there is no such choice. There are: none, gru."),
    ("task.rewards.0.event=kill_entty", "kill_entity"),
    ("task.rewards.9.event=kill_entity", "the list has no such element; the first is 0."),
    ("callbacks=[foo]", "Give 'callbacks=[{_target_: my_package.MyCallback}]', in quotes."),
    (
        "'callbacks=[{_target_: nope.Call}]'",
        "callbacks._target_=nope.Call: cannot be imported (No module named 'nope').",
    ),
    ("learner._target_=nope.Learner", "learner._target_=nope.Learner: cannot be imported (No module named 'nope')."),
    (
        "run_dir=/dev/null/run",
        "run_dir=/dev/null/run: /dev/null cannot be written (Not a directory). Give a folder that can.",
    ),
    ("run_dir=/proc/run", "run_dir=/proc/run: /proc cannot be written ("),
    ("run_dir=", "run_dir=: give a folder, or null for a new one under runs/."),
    ("checkpoint=absent.ckpt", "checkpoint=absent.ckpt: there is no such file"),
    ("checkpoint=", "checkpoint=: give a checkpoint file, a run folder, or latest."),
    # arguments of Lightning's Trainer
    ("trainer.max_epochs=10", "an online run has no epochs over a data set. Give iterations=<number>"),
    ("trainer.max_epochs=0", "an online run has no epochs over a data set. Give iterations=<number>"),
    ("trainer.enable_checkpointing=false", "checkpointing.every says how often the run is saved"),
    ("experimen=cartpole", "experimen: there is no such key. Did you mean experiment?"),
    ("trainer.max_time=10m", "trainer.max_time=10m: must be days:hours:minutes:seconds, for example 00:01:30:00"),
    ("trainer.accumulate_grad_batches=4", "minibatches are split by optimizer.accumulate. Set that."),
    ("trainer.fast_dev_run=true", "for a short run give iterations=1."),
    ("trainer.strategy=fsdp", "There are: auto, ddp,"),
    ("trainer.precision=64", "trainer.precision=64: the weights must stay in full precision"),
]
FLAGS = cycle((["-m"], ["--cfg", "job"], ["--multirun", "hydra.sweep.dir=x"], ["--config-dir", str(CONF_DIR)]))


def answer(words):
    with pytest.raises(MineonlineError) as error:
        check(words)
    return str(error.value)


@pytest.mark.parametrize(("line", "expected"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_answered_with_one_line_that_lets_a_person_go_on(line, expected):
    message = answer(shlex.split(line, comments=False))
    assert expected in message
    assert "\n" not in message
    assert len(message) < 500


WITH_FLAGS = list(zip(MISTAKES, FLAGS, strict=False))


@pytest.mark.parametrize(("mistake", "flags"), WITH_FLAGS, ids=[line for line, _ in MISTAKES])
def test_a_flag_changes_no_answer(mistake, flags):
    line, expected = mistake
    assert expected in answer([*flags, *shlex.split(line)])


def test_a_list_without_brackets_is_no_sweep_unless_asked_for():
    message = answer(["env.image_size=64,48"])
    assert message == (
        "env.image_size=64,48: write env.image_size=[64,48] for a list, or add -m for a run with each of these values."
    )
    assert (
        answer(["-m", "env.image_size=64,48"])
        == "env.image_size=64: must be [whole number, whole number], in brackets."
    )
    assert answer(["seed=range(1,3)"]) == "seed=range(1,3): add -m for a run with each of these values."


def test_every_value_of_a_sweep_is_checked_before_its_first_job():
    check(["-m", "seed=0,1,2", "task=hunt_cow,chop_tree"])
    assert answer(["-m", "seed=0,1,-2", "task=hunt_cow,chop_tree"]) == "seed=-2: must be 0 or more."
    assert "Did you mean task=chop_tree?" in answer(["-m", "seed=0", "task=hunt_cow,chop_trees"])


def test_a_launcher_that_is_not_installed_is_named_with_what_brings_it():
    assert answer(["-m", "hydra/sweeper=optuna"]) == (
        "hydra/sweeper=optuna: not installed. Type  pip install 'mineonline[sweeps]'."
    )


def test_a_second_run_in_one_folder_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "metrics.csv").write_text("precious")
    assert "already holds a run. Give another run_dir, or delete it." in answer([f"run_dir={tmp_path}"])


@pytest.mark.parametrize("flags", [[], ["--cfg", "job"], ["-m"]])
def test_a_checkpoint_of_another_environment_is_refused_whatever_the_flags(tmp_path, flags):
    file = checkpoint_of(tmp_path, "env=gym", "env.id=CartPole-v1", "policy=mlp")
    assert "env.kind was gym, and is now world" in answer([f"checkpoint={file}", "env=world", *flags])


@pytest.mark.parametrize("flags", [[], ["-m"], ["--cfg", "job"]])
def test_a_broken_file_is_named_with_its_line_whatever_the_flags(tmp_path, flags):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "broken.yaml").write_text("name: x\n  bad: [1,\n")
    message = answer([*flags, "--config-dir", str(tmp_path), "task=broken"])
    assert f"{tmp_path}/task/broken.yaml: cannot be read (line 2: " in message


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("ent_coef", "objective.entropy_coef"), ("vf_coef", "objective.value_coef"), ("gae_lambda", "objective.trace"),
        ("clip_range", "objective.clip"), ("n_steps", "fragment.length"), ("n_epochs", "optimizer.epochs"),
        ("max_grad_norm", "optimizer.max_grad_norm"), ("target_kl", "optimizer.target_kl"),
        ("num_workers", "collector.workers"), ("device", "collector.device"), ("num_envs", "collector.envs_per_worker"),
        ("train_config.kl_divergence_coef_rho", "reference.kl_coef"), ("max_iterations", "iterations"),
        ("rollout_config.num_rollout_workers", "collector.count"), ("resume_from_checkpoint", "checkpoint"),
        ("save_interval", "checkpointing.every"), ("max_episode_steps", "task.time_limit_ticks"),
    ],
)  # fmt: skip
def test_the_words_of_other_projects_lead_to_ours(key, meant):
    assert f"Did you mean {meant}" in suggest_key(key)
