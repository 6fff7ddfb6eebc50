"""Published policies: complete folders that are read back without unpickling anything."""

import json
import pickle
import zlib

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mineonline.envs.build import env_spec
from mineonline.errors import CheckpointError, ConfigError
from mineonline.policies.build import build_policy
from mineonline.publish import parse_arguments
from mineonline.run import safetensors_files
from mineonline.run.checkpoint import find_checkpoint, read_iteration, read_policy_state
from mineonline.run.folder import DEMO, read_config
from mineonline.run.learner import build_learner
from mineonline.run.publication import publish
from mineonline.run.resume import with_saved_settings
from tests.helpers.settings import CARTPOLE, checkpoint_of, config_of
from tests.run.test_curves import run_of


@pytest.fixture
def checkpoint(tmp_path):
    """Of a run with metrics, after 7 iterations."""
    file = checkpoint_of(tmp_path / "run", *CARTPOLE, "run_dir=/home/me/run", version=7)
    metrics = run_of(tmp_path / "metrics", *CARTPOLE) / "metrics.csv"
    metrics.rename(tmp_path / "run" / "metrics.csv")
    return file


def published(checkpoint, folder, *words):
    publish(parse_arguments([f"checkpoint={checkpoint}", f"folder={folder}", "episodes=3", *words]))
    return folder


def test_a_published_folder_is_complete_and_plays_as_its_checkpoint(checkpoint, tmp_path, capsys):
    folder = published(checkpoint, tmp_path / "agent", "license=mit", "name=walker")
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "config.yaml", "curve.png", "model.safetensors", "replay.mp4", "scores.json",
    ]  # fmt: skip
    found = find_checkpoint(str(folder), None)
    assert read_iteration(found) == 7
    config = read_config(found)
    assert (config.env.id, config.run_dir) == ("CartPole-v1", None)
    policy = build_policy(config, env_spec(config.env, config.task))
    ours, theirs = read_policy_state(found, policy), read_policy_state(checkpoint, policy)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert set(load_file(found)) == set(theirs)  # as any other program reads it
    scores = json.loads((folder / "scores.json").read_text())
    assert (scores["iteration"], scores["episodes"], scores["checkpoint"]) == (7, 3, "model.safetensors")
    _, facts, text = (folder / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(facts)
    assert (card["library_name"], card["license"]) == ("mineonline", "mit")
    (result,) = card["model-index"][0]["results"]
    assert result["dataset"]["name"] == "CartPole-v1"
    assert result["metrics"][0]["value"].startswith(f"{scores['scores']['return']['mean']:.2f} +/- ")
    assert "init_from=walker" in text
    assert "[replay.mp4](replay.mp4)" in text
    assert f"python -m mineonline.evaluate {folder}" in capsys.readouterr().out


def test_a_run_of_several_tasks_is_published_with_a_table_for_each_and_without_the_keys_of_loggers(tmp_path, capsys):
    comet = "{_target_: lightning.pytorch.loggers.CometLogger, api_key: hush}"
    short = ["tasks=[hunt_cow,chop_tree]", "task.time_limit_ticks=12", "env.video_size=[320,180]"]
    checkpoint = checkpoint_of(tmp_path / "run", *short, f"logger=[csv,{comet}]")
    folder = published(checkpoint, tmp_path / "agent", "film=false", "episodes=2")
    card = (folder / "README.md").read_text()
    assert "2 episodes of each task, sampled actions" in card
    assert card.count("| return |") == 2
    assert card.index("`chop_tree`\n\n| per episode") < card.index("`hunt_cow`\n\n| per episode")
    facts = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]
    assert [fact["dataset"]["name"] for fact in facts] == ["chop_tree", "hunt_cow"]
    assert "hush" not in (folder / "config.yaml").read_text()
    again = published(checkpoint, tmp_path / "again", "film=false", f"scores={folder / 'scores.json'}")
    assert json.loads((again / "scores.json").read_text())["results"][1]["name"] == "again"


def test_a_run_starts_from_a_published_policy_but_does_not_continue_it(checkpoint, tmp_path):
    folder = published(checkpoint, tmp_path / "agent", "film=false")
    config = config_of(*CARTPOLE, "seed=9", f"init_from={folder}")
    learner = build_learner(config, env_spec(config.env, config.task), bad_batch_file=tmp_path / "bad.pt")
    state = read_policy_state(checkpoint, learner.policy)
    assert all(torch.equal(value, state[name]) for name, value in learner.policy.named_parameters())
    with pytest.raises(CheckpointError, match=f"init_from={folder}"):
        with_saved_settings([f"checkpoint={folder}"])


def test_scores_may_come_from_an_evaluation_of_the_same_checkpoint(checkpoint, tmp_path, capsys):
    first = published(checkpoint, tmp_path / "first", "film=false")
    capsys.readouterr()
    words = ["film=false", f"scores={first}/scores.json"]
    again = published(checkpoint, tmp_path / "again", *words)
    assert "episodes" not in capsys.readouterr().out  # nothing was played
    assert (
        json.loads((again / "scores.json").read_text())["scores"]
        == json.loads((first / "scores.json").read_text())["scores"]
    )
    other = checkpoint_of(tmp_path / "other", *CARTPOLE, version=8)
    with pytest.raises(ConfigError, match="is of iteration 7, and the checkpoint of 8"):
        published(other, tmp_path / "wrong", *words)
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(ConfigError, match="must be what `evaluate json=<file>` has written"):
        published(checkpoint, tmp_path / "wrong", f"scores={tmp_path}/no.json")


def test_only_an_empty_or_a_published_folder_is_written_to(checkpoint, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match=f"folder={tmp_path}/mine is not empty"):
        published(checkpoint, tmp_path / "mine")
    folder = published(checkpoint, tmp_path / "agent")
    (folder / "notes.txt").write_text("kept")
    published(checkpoint_of(tmp_path / "newer", *CARTPOLE, version=9), folder, "film=false")
    assert read_iteration(find_checkpoint(str(folder), None)) == 9
    # there is no film of the new one, nor a curve
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "config.yaml", "model.safetensors", "notes.txt", "scores.json",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".agent*"))


@pytest.mark.parametrize("damage", ["a bit", "the end", "the header", "a pickle", "another program's"])
def test_a_damaged_file_is_refused(checkpoint, tmp_path, damage):
    file = find_checkpoint(str(published(checkpoint, tmp_path / "agent", "film=false")), None)
    content = file.read_bytes()
    if damage == "another program's":
        from safetensors.torch import save_file

        save_file(load_file(file), file)
    else:
        file.write_bytes(
            {
                "a bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
                "the end": content[:-100],
                "the header": b"\xff" * 8 + content[8:],
                "a pickle": pickle.dumps({"state_dict": {}, "iteration": 3}),
            }[damage]
        )
    with pytest.raises(CheckpointError, match="damaged"):
        read_iteration(file)


def test_the_checksum_is_that_of_the_tensors(tmp_path):
    tensors = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.ones(2, dtype=torch.int64)}
    safetensors_files.write(tmp_path / "x.safetensors", tensors, {"kind": "test"})
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o044  # others may read it
    found = safetensors_files.read(tmp_path / "x.safetensors")
    assert found.facts["kind"] == "test"
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())
    content = (tmp_path / "x.safetensors").read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    assert len(data) == 6 * 4 + 2 * 8
    assert found.facts["crc32"] == f"{zlib.crc32(data):08x}"


def test_without_the_hubs_package_the_error_says_what_to_type(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'mineonline\[hub\]'"):
        published(checkpoint, tmp_path / "agent", "repo=me/agent")
    assert not (tmp_path / "agent").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folder=x"], "checkpoint: a value is missing"),
        (["checkpoint=x", "folder=y", "episodes=0"], "episodes=0: must be at least 1"),
        (["checkpoint=x", "folder=y", "repo=agent"], "repo=agent: must be <user>/<name>"),
    ],
)
def test_a_wrong_argument_is_named(words, message):
    with pytest.raises(ConfigError) as error:
        parse_arguments(words)
    assert message in str(error.value)


def test_the_demo_comes_with_the_package_and_fits_it():
    file = find_checkpoint(DEMO, None)
    config = read_config(file)
    assert config.task.name == "hunt_cow"
    read_policy_state(file, build_policy(config, env_spec(config.env, config.task)))
    assert sum(each.stat().st_size for each in file.parent.iterdir()) < 2_000_000
