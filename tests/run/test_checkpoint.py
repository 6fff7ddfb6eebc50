"""Which file `checkpoint=...` means, and what the error says of files that are not checkpoints."""

import itertools
import os
import time
import zipfile

import pytest
import torch

from mineonline import collect
from mineonline.envs.build import env_spec
from mineonline.errors import CheckpointError
from mineonline.evaluate import parse_arguments
from mineonline.policies.build import build_policy
from mineonline.run.checkpoint import find_checkpoint, read_iteration, read_policy_state
from mineonline.run.evaluation import evaluate
from mineonline.run.record_play import record
from tests.helpers.settings import QUICK, checkpoint_of, config_of


@pytest.fixture(autouse=True)
def _start_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_folder(run_dir, *, saved_s_ago=0.0, **files):
    """A run folder with checkpoints; `files`: name -> iteration."""
    last = checkpoint_of(run_dir, *QUICK)
    state = torch.load(last, weights_only=True)
    last.unlink()
    for name, iteration in files.items():
        state["iteration"] = iteration
        file = last.with_name(f"{name.strip('_')}.ckpt")
        torch.save(state, file)
        os.utime(file, (time.time() - saved_s_ago,) * 2)
    return run_dir


def truncate(file):
    modified = file.stat().st_mtime
    os.truncate(file, file.stat().st_size // 2)
    os.utime(file, (modified, modified))
    return file


def test_the_newest_of_a_run_is_the_one_of_most_iterations(tmp_path):
    run_folder(tmp_path / "a", last=12, _000010=10, _000005=5)
    run_folder(tmp_path / "b", last=12, _000014=14)
    run_folder(tmp_path / "c", last=10, _000010=10)
    for folder, name in {"a": "last", "b": "000014", "c": "last"}.items():
        expected = tmp_path / folder / "checkpoints" / f"{name}.ckpt"
        assert find_checkpoint("latest", run_dir=str(tmp_path / folder)) == expected
        assert find_checkpoint(str(tmp_path / folder), run_dir=None) == expected
        assert find_checkpoint(str(tmp_path / folder), run_dir="elsewhere") == expected


def test_without_a_folder_the_run_that_saved_last_is_taken(tmp_path):
    run_folder(tmp_path / "runs" / "chop_tree" / "one", saved_s_ago=50, last=100)
    run_folder(tmp_path / "runs" / "hunt_cow" / "two", saved_s_ago=10, last=3)
    run_folder(tmp_path / "runs" / "ALE" / "Pong-v5" / "three", saved_s_ago=30, last=7)
    (tmp_path / "runs" / "hunt_cow" / "four" / "checkpoints").mkdir(parents=True)
    assert find_checkpoint("latest", None).absolute() == tmp_path / "runs/hunt_cow/two/checkpoints/last.ckpt"
    (tmp_path / "runs/hunt_cow/two/checkpoints/last.ckpt").unlink()
    assert find_checkpoint("latest", None).absolute() == tmp_path / "runs/ALE/Pong-v5/three/checkpoints/last.ckpt"


def test_a_truncated_newest_file_is_passed_over_with_a_warning_that_names_it(tmp_path, caplog):
    older = run_folder(tmp_path / "runs" / "hunt_cow" / "one", saved_s_ago=50, last=100) / "checkpoints"
    newer = run_folder(tmp_path / "runs" / "hunt_cow" / "two", last=30, _000020=20, _000010=10) / "checkpoints"
    broken = truncate(newer / "last.ckpt")
    assert find_checkpoint("latest", None).absolute() == newer / "000020.ckpt"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(broken.relative_to(tmp_path)) in caplog.text
    truncate(newer / "000020.ckpt")
    truncate(newer / "000010.ckpt")
    assert find_checkpoint("latest", None).absolute() == older / "last.ckpt"


def flip(file, byte, bit=2):
    """Change one bit of a file; `byte` counts from the end if it is negative."""
    content = bytearray(file.read_bytes())
    content[byte] ^= 1 << bit
    file.write_bytes(content)
    return file


@pytest.mark.filterwarnings("ignore")  # torch's, about changed pickles
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 13])
def test_one_changed_bit_is_noticed_wherever_it_would_change_what_is_loaded(tmp_path, every):
    """Every bit in turn of a file with all that a checkpoint has: tensors, counters, nested lists."""
    tensors = {"policy.version": torch.tensor(3), "policy.w": torch.randn(5, 3)}
    whole = {"state_dict": tensors, "iteration": 12, "callbacks": {"Statistics": {"window": [{"episodes": 2.0}]}}}
    file = tmp_path / "whole.ckpt"
    torch.save(whole, file)
    content = bytearray(file.read_bytes())
    noticed = 0
    for byte, bit in list(itertools.product(range(len(content)), range(8)))[::every]:
        content[byte] ^= 1 << bit
        changed = tmp_path / f"{byte}-{bit}.ckpt"
        changed.write_bytes(content)
        content[byte] ^= 1 << bit
        try:
            read_iteration(changed)
        except CheckpointError:
            noticed += 1
        else:
            for mapped in (True, False):  # Lightning does not map what it loads
                assert equal(torch.load(changed, weights_only=True, mmap=mapped), whole), (byte, bit)
        changed.unlink()
    assert noticed > 4 * len(content) / every  # the rest are bits that nothing reads: dates, padding


def equal(left, right):
    if isinstance(right, torch.Tensor):
        return torch.equal(left, right) and left.dtype == right.dtype
    if isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in right)
    if isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


@pytest.mark.parametrize("place", ["tensor", "counters", "header"])
def test_a_changed_bit_in_a_checkpoint_is_refused_and_the_folder_stands_for_the_one_before(tmp_path, caplog, place):
    folder = run_folder(tmp_path / "run", last=30, _000020=20, _000010=10) / "checkpoints"
    last = folder / "last.ckpt"
    with zipfile.ZipFile(last) as archive:
        entries = {entry.filename.split("/", 1)[1]: entry for entry in archive.infolist()}
        largest = max(entries.values(), key=lambda entry: entry.file_size)
        directory = archive.start_dir
    # 46 bytes before its name, an entry of the directory begins; 16 bytes later is the checksum
    at = {"tensor": largest.header_offset + 200, "counters": entries["data.pkl"].header_offset + 300,
          "header": directory + 16}  # fmt: skip
    flip(last, at[place])
    config = config_of(*QUICK)
    policy = build_policy(config, env_spec(config.env, config.task))
    with pytest.raises(CheckpointError) as error:
        read_policy_state(last, policy)
    assert f"checkpoint={last}" in str(error.value)
    assert "damaged" in str(error.value)
    assert "\n" not in str(error.value)
    assert find_checkpoint(str(tmp_path / "run"), None) == folder / "000020.ckpt"
    assert f"skipped: {error.value}" in caplog.text
    flip(folder / "000020.ckpt", at["tensor"])
    assert find_checkpoint("latest", str(tmp_path / "run")) == folder / "000010.ckpt"
    read_policy_state(folder / "000010.ckpt", policy)


def test_where_there_is_none_the_error_says_where_it_was_looked_for(tmp_path):
    (tmp_path / "empty").mkdir()
    for given, run_dir, where in [
        ("latest", None, f"{tmp_path}/runs/*/*/checkpoints"),
        ("latest", f"{tmp_path}/empty", f"{tmp_path}/empty/checkpoints"),
        ("latest", "absent", "absent/checkpoints"),
        (f"{tmp_path}/empty", None, f"{tmp_path}/empty/checkpoints"),
    ]:
        with pytest.raises(CheckpointError) as error:
            find_checkpoint(given, run_dir)
        assert f"checkpoint={given}: there is no checkpoint that can be read in {where}. Give" in str(error.value)
    truncate(run_folder(tmp_path / "broken", last=5) / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match="there is no checkpoint that can be read"):
        find_checkpoint(f"{tmp_path}/broken", None)


def test_a_file_that_is_given_is_not_looked_for(tmp_path):
    assert str(find_checkpoint("somewhere/else.ckpt", "runs")) == "somewhere/else.ckpt"


def spoilt(tmp_path, case):
    file = tmp_path / f"{case}.ckpt"
    contents = {"of another program": {"model": torch.zeros(3)}, "a list": [1, 2], "of objects": torch.nn.Linear(1, 1)}
    if case == "truncated":
        return truncate(run_folder(tmp_path / "run", last=5) / "checkpoints" / "last.ckpt")
    elif case in contents:
        torch.save(contents[case], file)
    elif case != "absent":
        file.write_bytes({"random": os.urandom(5000), "empty": b"", "text": b"not a checkpoint"}[case])
    return file


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("absent", "there is no such file"),
        ("truncated", "bytes are a truncated or damaged checkpoint"),
        ("random", "5000 bytes are a truncated or damaged checkpoint, or not one of mineonline's"),
        ("empty", "0 bytes"),
        ("text", "cannot be read"),
        ("of objects", "cannot be read"),
        ("of another program", "mineonline did not write it"),
        ("a list", "mineonline did not write it"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named_with_the_reason(tmp_path, case, expected):
    file = spoilt(tmp_path, case)
    config = config_of(*QUICK)
    with pytest.raises(CheckpointError) as error:
        read_policy_state(file, build_policy(config, env_spec(config.env, config.task)))
    assert f"checkpoint={file}: " in str(error.value)
    assert expected in str(error.value)
    assert "weights_only" not in str(error.value)


def test_the_latest_is_known_to_evaluation_and_recording_too(tmp_path, capsys):
    evaluating, recording = ["checkpoint=latest", "episodes=1"], ["checkpoint=latest", "record=set", "fragments=1"]
    for begin in (
        lambda: evaluate(parse_arguments(evaluating)),
        lambda: record(collect.parse_arguments(recording)),
    ):
        with pytest.raises(CheckpointError, match="there is no checkpoint that can be read"):
            begin()
    run_folder(tmp_path / "runs" / "CartPole-v1" / "one", last=41)
    evaluate(parse_arguments(evaluating))
    assert "runs/CartPole-v1/one/checkpoints/last.ckpt: iteration 41, 1 episodes" in capsys.readouterr().out
