"""What a user types, and what the program answers: one error that says what to type, before anything starts."""

from pathlib import Path

import msgspec
import pytest
from lightning.pytorch.strategies import StrategyRegistry

from mineonline.errors import ConfigError
from mineonline.settings.command_line import CONF_DIR, compose_settings, merge_overrides, parse_words, with_config_dirs
from mineonline.settings.devices import check_device
from mineonline.settings.parsing import parse_config
from tests.helpers.settings import CARTPOLE, config_of, config_of_experiment

GROUPS = {
    group.name: sorted(file.stem for file in group.glob("*.yaml")) for group in CONF_DIR.iterdir() if group.is_dir()
}


def complaint(*overrides):
    with pytest.raises(ConfigError) as error:
        parse_config(compose_settings(list(overrides)))
    return str(error.value)


@pytest.mark.parametrize("task", GROUPS["task"])
@pytest.mark.parametrize("policy", ["policy=tiny", "policy.memory=gru", "policy.head=joint"])
def test_every_task_composes_and_converts(task, policy):
    assert config_of(f"task={task}", policy).task.name == task


@pytest.mark.parametrize("experiment", GROUPS.get("experiment", []))
def test_every_experiment_composes_and_converts(experiment):
    config_of_experiment(experiment)


def test_gym_composes_and_brings_no_task():
    config = config_of(*CARTPOLE)
    assert config.env.id == "CartPole-v1"
    assert config.task is None


def test_a_horizon_in_seconds_gives_each_pace_its_discount():
    assert config_of().objective.discount == pytest.approx(0.98)  # 10 s, an action lasts 4 ticks of 0.05 s
    assert config_of("task.action_repeat=1").objective.discount == pytest.approx(0.995)
    assert config_of("objective.horizon_s=50", "task.action_repeat=1").objective.discount == pytest.approx(0.999)
    assert config_of("objective.discount=0.9").objective.discount == 0.9
    assert config_of(*CARTPOLE).objective.discount == 0.98


def test_published_weights_are_not_played_at_another_pace_unless_told():
    weights = ["policy=vpt", "policy.weights=2x.weights", "env.image_size=[128,128]"]
    assert "task.action_repeat=4 makes each action last 4 ticks. Set task.action_repeat=1" in complaint(*weights)
    config_of(*weights, "task.action_repeat=1")
    config_of(*weights, "policy.any_pace=true")


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_learning_rates_of_patterns_need_no_plus(plus):
    config = config_of(f"{plus}optimizer.learning_rates={{net.*: 1e-5, *.bias: 1e-4}}")
    assert config.optimizer.learning_rates == {"net.*": 1e-5, "*.bias": 1e-4}


def test_logger_takes_one_name_or_several():
    assert config_of("logger=tensorboard").logger == ["tensorboard"]
    assert config_of("logger=[csv,wandb]").logger == ["csv", "wandb"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["colector.count=2"], "colector.count: there is no such key. Did you mean collector.count?"),
        (["collector.worker=2"], "collector.worker: there is no such key. Did you mean collector.workers?"),
        (["+collector.worker=2"], "collector.worker: there is no such key. Did you mean collector.workers?"),
        (["collector.workers=two"], "collector.workers=two: must be a whole number"),
        (["collector.workers=0"], "collector.workers=0: must be at least 1."),
        (["objective.discount=1.5"], "objective.discount=1.5: must be between 0 and 1."),
        (["objective.horizon_s=0.1"], "objective.horizon_s=0.1: must be at least the 0.2 s between two decisions."),
        ([*CARTPOLE, "objective.discount=null"], "objective.discount=null: this environment has no clock."),
        (["seed=-1"], "seed=-1: must be 0 or more."),
        (["policy.hidden_size=0"], "hidden sizes are [0]"),
        (["buffer.silence_s=-5"], "must be more than 0 seconds"),
        (["network.ranks_timeout_s=0"], "must be more than 0 seconds"),
        (["policy.memory=lstm"], "policy.memory=lstm: there is no such choice. There are: none, gru."),
        (["logger=tensorbord"], "logger"),
        (["task=hunt_cat"], "hunt_cow"),
        (["env=gym", "policy=mlp"], "env.id: a value is missing. Give env.id=<value>."),
        (["policy=mlp"], "Use policy=tiny."),
        (["task.rewards.0.event=kill_entty"], "kill_entity"),
        (["+task.spawn_near=oak_logg"], "oak_log"),
        (["task.spawn_near=oak_log"], "Write +task.spawn_near=..."),
        (["iterations=[1,2"], "iterations"),
    ],
)
def test_bad_values_are_named_with_what_may_stand_there(overrides, expected):
    assert expected in complaint(*overrides)


WHOLE_POLICY = ["auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"]


def test_strategies_that_keep_the_whole_policy_on_each_rank_are_taken():
    for strategy in WHOLE_POLICY:
        assert config_of(f"trainer.strategy={strategy}").trainer["strategy"] == strategy


def test_all_other_strategies_of_lightning_are_refused_with_those_there_are():
    settings = compose_settings([])
    others = [name for name in StrategyRegistry.available_strategies() if name not in WHOLE_POLICY]
    assert {"fsdp", "deepspeed", "ddp_spawn", "ddp_fork"} <= set(others)
    for name in others:
        with pytest.raises(ConfigError) as error:
            parse_config({**settings, "trainer": {**settings["trainer"], "strategy": name}})
        message = str(error.value)
        assert message.startswith(f"trainer.strategy={name}: every rank")
        assert f"There are: {', '.join(WHOLE_POLICY)}." in message
        assert "optimizer.accumulate=<more>" in message


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("null", "null:"),
        ("model_parallel", "model_parallel:"),
        ("[ddp]", "['ddp']:"),
        ("{_target_: lightning.pytorch.strategies.FSDPStrategy}", "{'_target_': 'lightning.pytorch.strategies.FSDP"),
    ],
)
def test_a_strategy_can_only_be_one_of_the_names(typed, said):
    assert complaint(f"trainer.strategy={typed}").startswith(f"trainer.strategy={said}")


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cuda:99", "collector.device=cuda:99: this machine has "),
        ("gpu", "collector.device=gpu: there is no such kind of device. Give cpu, or for example cuda:0."),
        ("meta", "collector.device=meta: there is no such kind of device."),
    ],
)
def test_a_device_that_is_not_there_is_named(device, expected):
    check_device("collector.device", "cpu")
    with pytest.raises(ConfigError) as error:
        check_device("collector.device", device)
    assert expected in str(error.value)


def test_what_is_typed_again_replaces_what_was_typed_before():
    assert merge_overrides(["a=1", "b=2", "+c=3"], ["b=4"]) == ["a=1", "+c=3", "b=4"]


def test_the_packaged_settings_are_the_ones_in_conf():
    assert Path(CONF_DIR, "config.yaml").is_file()


def test_a_folder_with_settings_of_ones_own_is_kept_as_an_override(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text((CONF_DIR / "task" / "hunt_cow.yaml").read_text())
    words = with_config_dirs(["task=mine", "--config-dir", str(tmp_path), "seed=1"])
    assert words == [f"hydra.searchpath=['file://{tmp_path}']", "task=mine", "seed=1"]
    assert with_config_dirs(["--help", f"--config-dir={tmp_path}", "seed=1"]) == ["--help", words[0], "seed=1"]
    assert config_of(*words).task.name == "hunt_cow"
    odd = tmp_path / "a, b (it's c)"
    odd.mkdir()
    (tmp_path / "task").rename(odd / "task")
    assert config_of(*with_config_dirs(["task=mine", "--config-dir", str(odd)])).task.name == "hunt_cow"
    with pytest.raises(ConfigError, match="--config-dir nowhere: there is no such folder"):
        with_config_dirs(["--config-dir", "nowhere"])


def test_an_experiment_that_lacks_its_first_line_is_told_so(tmp_path):
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    words = with_config_dirs(["--config-dir", str(tmp_path), "experiment=mine"])
    for lines in ("iterations: 7\n", "defaults:\n  - override /task: chop_tree\niterations: 7\n"):
        file.write_text(lines)
        with pytest.raises(ConfigError, match="must begin with the line  # @package _global_"):
            config_of(*words)
        file.write_text(f"# @package _global_\n{lines}")
        assert config_of(*words).iterations == 7


class Given(msgspec.Struct):
    file: str
    count: int = 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--file=a"], "--file=a: write it without dashes: file=a."),
        (["file=a", "cuont=2"], "cuont: there is no such key. Did you mean count?"),
        (["file=a", "count=two"], "count=two: must be a whole number."),
        (["count=2"], "file: a value is missing. Give file=<value>; --help shows all arguments."),
        (["a.txt"], "a.txt: arguments are key=value. There are: file, count."),
    ],
)
def test_words_that_cannot_be_used_are_named(words, expected):
    assert parse_words(["file=a", "count=2"], Given, "usage: give a file") == Given("a", 2)
    with pytest.raises(ConfigError) as error:
        parse_words(words, Given, "usage: give a file")
    assert str(error.value) == expected


class Several(msgspec.Struct):
    file: tuple[str, ...]
    env: tuple[str, ...] = ()
    env_settings: tuple[str, ...] = msgspec.field(name="env.", default=())


def test_a_tuple_takes_lists_repeated_keys_and_plain_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=1").mkdir()
    words = ["a", "file=[b, c]", "seed=1", "file=d", "env=[x,y]", "env.size=[1,2]", "env.kwargs.length=3"]
    assert parse_words(words, Several, "", plain="file") == Several(
        ("a", "b", "c", "seed=1", "d"), ("x", "y"), ("env.size=[1,2]", "env.kwargs.length=3")
    )
    with pytest.raises(ConfigError, match="file: a value is missing"):
        parse_words(["file=[]"], Several, "", plain="file")
    with pytest.raises(ConfigError, match="seed: there is no such key"):
        parse_words(["a", "seed=2"], Several, "", plain="file")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"name: x\n  bad: [1,\n", "broken.yaml: cannot be read (line 2: "), (b"\xff\xfe", "it is not text in UTF-8")],
)
def test_a_broken_file_in_a_folder_of_ones_own_is_named_with_its_line(tmp_path, content, expected):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "broken.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        compose_settings(with_config_dirs(["--config-dir", str(tmp_path), "task=broken"]))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
