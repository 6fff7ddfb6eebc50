"""`tasks=...`, from the command line to typed settings and back."""

import re
import shlex

import msgspec
import pytest
import yaml

from mineonline.envs.task_mix import TaskMix
from mineonline.errors import ConfigError
from mineonline.run.folder import label_of
from mineonline.run.tasks import on_each_task
from mineonline.settings.command_line import CONF_DIR, compose_settings, with_config_dirs
from mineonline.settings.config import Config, on_task
from mineonline.settings.parsing import parse_config
from tests.helpers.settings import CARTPOLE, ROOT, config_of

BOTH = "tasks={hunt_cow: 2, chop_tree: 1}"


def complaint(*overrides):
    with pytest.raises(ConfigError) as error:
        config_of(*overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_commands_of_the_page_about_tasks_are_right():
    page = (ROOT / "docs" / "tasks.md").read_text()
    commands = re.findall(r"^python -m mineonline.train (.*)$", page, re.MULTILINE)
    words = [shlex.split(command, comments=True) for command in commands if "my_" not in command]
    assert len(words) >= 4
    assert all(len(config_of(*each).all_tasks) == 2 for each in words)
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert (ROOT / "docs" / link).exists(), link


def test_names_stand_for_files_and_numbers_for_weights():
    config = config_of(BOTH)
    assert config.task is None
    assert {name: each.weight for name, each in config.tasks.items()} == {"hunt_cow": 2, "chop_tree": 1}
    assert config.tasks["hunt_cow"].task == config_of("task=hunt_cow").task
    assert config.tasks["chop_tree"].task == config_of("task=chop_tree").task
    assert config.played == TaskMix(config.all_tasks, (1, 2), "run")
    assert config.objective.discount == pytest.approx(0.98)
    assert config_of("tasks=[hunt_cow,chop_tree]", "task_lasts=episode").played.lasts == "episode"


def test_an_index_does_not_depend_on_the_order_in_which_tasks_are_typed():
    assert config_of(BOTH) == config_of("tasks={chop_tree: 1, hunt_cow: 2}")


def test_keys_of_the_task_change_all_of_them():
    config = config_of(BOTH, "task.time_limit_ticks=50", "task.action_repeat=2", "++task.biome=desert")
    assert [(task.time_limit_ticks, task.action_repeat, task.biome) for task in config.all_tasks] == [
        (50, 2, "desert")
    ] * 2
    assert config.objective.discount == pytest.approx(0.99)


def test_a_saved_configuration_holds_the_tasks_in_full():
    config = config_of(BOTH, "task.time_limit_ticks=50")
    saved = yaml.safe_load(yaml.safe_dump(msgspec.to_builtins(config)))
    assert saved["tasks"]["hunt_cow"]["task"]["mobs"][0]["name"] == "cow"
    assert parse_config(saved) == config
    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config
    assert label_of(saved) == label_of(compose_settings([BOTH])) == "chop_tree+hunt_cow"


def test_tasks_may_lie_in_a_folder_of_ones_own(tmp_path):
    (tmp_path / "task").mkdir()
    mine = yaml.safe_load((CONF_DIR / "task" / "hunt_cow.yaml").read_text()) | {"name": "mine", "time_limit_ticks": 77}
    (tmp_path / "task" / "my_own.yaml").write_text(yaml.safe_dump(mine))
    config = config_of(*with_config_dirs(["tasks={my_own: 1, chop_tree: 3}", f"--config-dir={tmp_path}"]))
    assert list(config.tasks) == ["chop_tree", "mine"]
    assert config.tasks["mine"].task.time_limit_ticks == 77


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["task=[hunt_cow,chop_tree]"], "task=[hunt_cow,chop_tree]: this would merge the files into one task. To train"
                                        " on several, write tasks=[hunt_cow,chop_tree], or with weights"),
        (["task=hunt_cow", BOTH], "task=hunt_cow and tasks={'hunt_cow': 2, 'chop_tree': 1} both say what is played."),
        (["tasks={hunt_cow: 2}"], "tasks: there is only hunt_cow. Give task=hunt_cow, or more tasks."),
        (["tasks=hunt_cow"], "tasks=hunt_cow: write tasks=[hunt_cow,chop_tree], or"),
        (["tasks=[hunt_cow,3]"], "tasks=['hunt_cow', 3]: write tasks=[hunt_cow,chop_tree], or"),
        (["tasks={hunt_cow: 0.5, chop_tree: 1}"], "tasks.hunt_cow=0.5: a weight is a whole number of at least 1"),
        (["tasks={hunt_cow: 0, chop_tree: 1}"], "tasks.hunt_cow=0: a weight is a whole number of at least 1"),
        (["tasks={hunt_cow: 9999, chop_tree: 9998}"], "the weights add up to 19997; at most 10000 work"),
        (["tasks=[hunt_cow,chop_tre]"], "tasks.chop_tre: task=chop_tre: there is no such task. Did you mean task="),
        ([BOTH, "task.biome=plains", "task.mobs.0.number=3"], "tasks.chop_tree: task.mobs"),
        ([BOTH, "++task.biome=plain"], "task.biome is 'plain', which is not a known biome"),
        (["tasks=[hunt_cow,shoot]"], "hunt_cow and shoot cannot be mixed, as their action_repeat are 4 and 1"),
        ([BOTH, "task.name=a/b"], "another of the tasks has its name, a/b. Change one of them."),
        ([BOTH, *CARTPOLE], "tasks: env=gym has a task of its own."),
        (["env=minestudio", BOTH, "task_lasts=episode"], "task_lasts=episode: a simulator of MineStudio is made for"),
        (["env=minestudio", BOTH, "+env.observations.task={shape: [], dtype: int64}"],
         "env.observations.task: with several tasks, this says which one is played."),
        (["tasks={hunt_cow: 40, chop_tree: 1}"], "it takes 41 environments until each task has one, but there are 32"),
        ([BOTH, "task_lasts=forever"], "task_lasts=forever: there is no such choice. There are: run, episode."),
        ([BOTH, "policy.task_embedding=-1"], "policy.task_embedding=-1: must be 0 or more."),
        (["++task.success=[{kill_entity/pigg: 1}]"], "success[0].kill_entity/pigg is 'pigg', which is not a known"),
        (["++task.success=[{cows: 1}]"], "task.success[0].cows is 'cows', which is not a known event."),
    ],
)  # fmt: skip
def test_what_cannot_be_mixed_is_said_in_one_line(overrides, expected):
    assert expected in complaint(*overrides)


def test_vectors_must_be_of_one_length(tmp_path):
    (tmp_path / "task").mkdir()
    mine = yaml.safe_load((CONF_DIR / "task" / "hunt_cow.yaml").read_text()) | {"name": "mine", "vector": [1.0, 2.0]}
    (tmp_path / "task" / "mine.yaml").write_text(yaml.safe_dump(mine))
    words = with_config_dirs([f"--config-dir={tmp_path}", "tasks=[mine,chop_tree]"])
    assert "chop_tree and mine cannot be mixed, as their numbers in vector are 0 and 2" in complaint(*words)
    assert config_of(*words, "++task.vector=[0.0,1.0]").tasks["chop_tree"].task.vector == (0.0, 1.0)


def test_a_name_must_fit_into_metrics_and_file_names(tmp_path):
    (tmp_path / "task").mkdir()
    mine = yaml.safe_load((CONF_DIR / "task" / "hunt_cow.yaml").read_text()) | {"name": "my/own"}
    (tmp_path / "task" / "mine.yaml").write_text(yaml.safe_dump(mine))
    words = with_config_dirs([f"--config-dir={tmp_path}", "tasks=[mine,chop_tree]"])
    assert "the name 'my/own' would be part of metrics and of file names." in complaint(*words)


def test_two_files_cannot_have_one_name(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "copy.yaml").write_text((CONF_DIR / "task" / "hunt_cow.yaml").read_text())
    words = with_config_dirs([f"--config-dir={tmp_path}", "tasks=[hunt_cow,copy]"])
    assert "tasks.copy: another of the tasks has its name, hunt_cow. Change one of them." in complaint(*words)


def test_a_run_can_be_scored_on_each_of_its_tasks_and_on_others():
    config = config_of(BOTH)
    each = on_each_task(config, [])
    assert list(each) == ["chop_tree", "hunt_cow"]
    assert [config.played.turns for config in each.values()] == [(0,), (1,)]
    other = on_each_task(config, ["shoot"])["shoot"]
    assert other.played.turns == (2,)
    assert [task.name for task in other.all_tasks] == ["chop_tree", "hunt_cow", "shoot"]
    alone = on_each_task(config_of("task=hunt_cow"), ["chop_tree"])
    assert alone["chop_tree"].task == config.tasks["chop_tree"].task
    with pytest.raises(ConfigError, match="there is no such task"):
        on_each_task(config, ["nope"])
    with pytest.raises(ConfigError, match=r"tasks=\[hunt_cow\]: this environment has a task of its own"):
        on_each_task(config_of(*CARTPOLE), ["hunt_cow"])


def test_a_policy_with_numbers_for_its_tasks_cannot_be_scored_on_others():
    config = config_of(BOTH, "policy.task_embedding=8")
    assert on_task(config, config.tasks["hunt_cow"].task).played.turns == (1,)
    with pytest.raises(ConfigError, match=r"has none for shoot. It knows: chop_tree, hunt_cow\."):
        on_task(config, config_of("task=shoot").task)
    config = config_of(BOTH, "++task.vector=[1.0,2.0]")
    with pytest.raises(ConfigError, match="reads a vector of 2 numbers for each task, but that of shoot has 0"):
        on_task(config, config_of("task=shoot").task)
    assert on_task(config, config_of("task=shoot", "++task.vector=[3.0,4.0]").task).played.turns == (2,)
