"""Exported files: whole or absent, and refused when they are damaged."""

import os
import pickle

import msgspec
import pytest
import torch

from mineonline.envs.minestudio.package import import_vpt
from mineonline.errors import CheckpointError, ConfigError
from mineonline.policies.build import read_policy_files
from mineonline.run.export import check_exported, export
from mineonline.settings.arguments import ExportArguments
from tests.helpers.settings import checkpoint_of, config_of
from tests.policies.test_vpt import SMALL_VPT


@pytest.fixture
def exported(tmp_path):
    """The two files of a small policy, and the arguments that wrote them."""
    checkpoint = checkpoint_of(tmp_path / "run", *SMALL_VPT)
    arguments = ExportArguments(
        checkpoint=str(checkpoint), model=f"{tmp_path}/a.model", weights=f"{tmp_path}/a.weights"
    )
    export(arguments)
    return tmp_path / "a.model", tmp_path / "a.weights", arguments


PLAYS_VPT = config_of("policy=vpt", "env.image_size=[128,128]")


def settings_with(model, weights):
    policy = msgspec.structs.replace(PLAYS_VPT.policy, model=str(model), weights=str(weights))
    return msgspec.structs.replace(PLAYS_VPT, policy=policy)


def policy_of(model, weights):
    return settings_with(model, weights).policy


def changed(file, byte, bit):
    content = bytearray(file.read_bytes())
    content[byte] ^= 1 << bit
    spoilt = file.with_name(f"{byte}-{bit}-{file.name}")
    spoilt.write_bytes(content)
    return spoilt


def test_exported_files_pass_and_minestudio_reads_them(exported):
    model, weights, _ = exported
    check_exported(policy_of(model, weights))
    import_vpt().load_vpt_policy(str(model), str(weights))
    torch.load(weights, weights_only=True)


def test_any_changed_bit_of_a_model_file_is_refused(exported):
    model, weights, _ = exported
    size = model.stat().st_size
    trailer = len(b"crc32 01234567\n")
    for byte in range(0, size - trailer, 3):
        spoilt = changed(model, byte, byte % 8)
        with pytest.raises(CheckpointError) as error:
            check_exported(policy_of(spoilt, weights))
        assert str(error.value).startswith(
            f"policy.model={spoilt} is damaged: its content does not match its checksum."
        )
    whole = read_policy_files(settings_with(model, weights))
    for byte in range(size - trailer, size):  # pickle reads nothing of it: refused, or the same
        spoilt = changed(model, byte, 0)
        try:
            check_exported(policy_of(spoilt, weights))
        except CheckpointError:
            continue
        found = read_policy_files(settings_with(spoilt, weights))
        assert found.policy == whole.policy


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_changed_bit_of_a_weights_file_is_refused(exported, place):
    model, weights, _ = exported
    spoilt = changed(weights, int(place * weights.stat().st_size), 5)
    with pytest.raises(CheckpointError) as error:
        check_exported(policy_of(model, spoilt))
    assert str(error.value).startswith(f"policy.weights={spoilt} is damaged: its content does not match its checksums.")


def test_files_without_a_checksum_pass(exported, tmp_path):
    model, weights, _ = exported
    plain, old = tmp_path / "plain.model", tmp_path / "old.weights"
    plain.write_bytes(pickle.dumps(pickle.loads(model.read_bytes())))
    torch.save(torch.load(weights, weights_only=True), old, _use_new_zipfile_serialization=False)
    check_exported(policy_of(plain, old))


def test_a_file_that_cannot_be_written_is_named_and_what_was_there_stays(exported, tmp_path):
    model, weights, arguments = exported
    before = {file: file.read_bytes() for file in (model, weights)}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.weights").mkdir()
    with pytest.raises(ConfigError, match=r"b/a.weights: cannot be written \(.*irectory.*\)"):
        export(ExportArguments(arguments.checkpoint, arguments.model, f"{tmp_path}/b/a.weights"))
    assert os.listdir(tmp_path / "b") == ["a.weights"]
    assert {file: file.read_bytes() for file in (model, weights)} == before
