"""MINESTUDIO.md's table of keys: complete, and true of MineStudio's shipped configurations and of our presets."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

from mineonline.envs.minestudio.package import find_minestudio
from mineonline.errors import ConfigError
from mineonline.settings.meanings import as_typed
from tests.helpers.settings import ROOT, config_of, config_of_experiment

ROW = re.compile(r"^\| `([^`]+)` \| (.*?) \| (?:`([^`]+)`|–) \| ?(.*?) ?\|", re.MULTILINE)
TABLE = (ROOT / "MINESTUDIO.md").read_text().partition("## Where every key")[2].partition("## What differs")[0]
ROWS = {theirs: (value, ours, our_value) for theirs, value, ours, our_value in ROW.findall(TABLE)}
ONLY_OF_THE_FILE = {"save_path", "name", "video_output_dir", "enable_ref_update"}
"""Keys in which the shipped configurations differ from one another."""


def shipped(name: str) -> dict[str, object]:
    """Every key of a configuration that MineStudio ships, with its path; read without running it."""
    tree = ast.parse((find_minestudio() / "online" / "run" / "config" / f"{name}.py").read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    (found,) = (node.value for node in assigned if node.targets[0].id == "online_dict")
    return dict(_flat(ast.literal_eval(found), ""))


def _flat(values, path):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield path + key, value


@pytest.mark.parametrize("name", ["gate_kl", "gate", "config_shoot"])
def test_the_table_has_every_key_with_the_value_that_minestudio_ships(name):
    found = shipped(name)
    assert set(found) == set(ROWS)
    for key, value in found.items():
        if name == "gate_kl" or key.rpartition(".")[2] not in ONLY_OF_THE_FILE:
            written = ROWS[key][0]
            assert str(value) == written or (written.endswith("…") and str(value).startswith(written[:-1])), key


@pytest.mark.parametrize("experiment", ["minestudio_gate", "minestudio_shoot", "minestudio_hunt_cow"])
def test_the_presets_have_the_values_of_the_table(experiment):
    config = msgspec.to_builtins(config_of_experiment(experiment))
    for theirs, (_, ours, written) in ROWS.items():
        if ours is None or ours == "":
            continue
        value = config
        for step in ours.split("."):
            value = value[step]
        expected = written
        if (experiment, ours) == ("minestudio_hunt_cow", "collector.envs_per_worker"):
            expected = "12"  # the documentation's quick start has fewer
        assert as_typed(value) == expected or float(value) == float(expected), theirs


def test_iterations_take_as_many_fragments_and_steps_as_minestudio():
    theirs, ours = shipped("gate_kl"), config_of_experiment("minestudio_gate")
    train = {key.removeprefix("train_config."): value for key, value in theirs.items()}
    fragments = train["batch_size_per_gpu"] * train["batches_per_iteration"] * train["num_workers"]
    assert ours.buffer.fragments_per_iteration == fragments
    assert ours.optimizer.minibatches == train["batches_per_iteration"] // train["gradient_accumulation"]
    rows = fragments // train["num_workers"] * ours.fragment.length
    assert rows // (ours.optimizer.minibatches * ours.optimizer.accumulate) == train["context_length"]
    chunks = train["batches_per_iteration"] * ours.fragment.length // train["context_length"]
    assert ours.objective.value_decay == pytest.approx(0.99999**chunks, abs=1e-3)


def test_the_tasks_are_minestudios_environments():
    for name, experiment in {"gate_kl": "minestudio_gate", "config_shoot": "minestudio_shoot"}.items():
        source = (find_minestudio() / "online" / "run" / "config" / f"{name}.py").read_text()
        task = config_of_experiment(experiment).task
        for command in task.commands:
            assert source.count(f"'{command}'") >= task.commands.count(command)
        assert f"JudgeResetCallback({task.time_limit_ticks})" in source
        (forbidden,) = task.actions.forbid
        assert re.search(rf"MaskActionsCallback\({forbidden} ?= ?0\)", source)
        assert ("GateRewardsCallback()," in source) == task.portal_reward


def test_a_preset_without_weights_says_what_to_type():
    with pytest.raises(ConfigError, match=r"policy\.weights: a value is missing\. Give policy\.weights=<value>"):
        config_of("experiment=minestudio_gate")


def test_the_pages_links_exist():
    page = (ROOT / "MINESTUDIO.md").read_text()
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert "://" in link or (Path(ROOT) / link.partition("#")[0]).exists(), link
