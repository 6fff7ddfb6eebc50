"""Sets of fragments on disk: what is read is what was written, and what does not fit is named."""

import itertools
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mineonline.envs.contract import ContinuousAction, EnvSpec, TensorSpec
from mineonline.errors import ConfigError
from mineonline.experience.fragment_files import FORMAT_VERSION, RecordedFragments, write
from mineonline.fragment import Fragments, concatenate, fragment_schema

SPEC = EnvSpec(observation={"image": TensorSpec((4, 6, 3), "uint8")}, action={"buttons": 8641, "camera": 121})
MEMORY = {"state": TensorSpec((5,), "float32")}


def random_fragments(count, seed, spec=SPEC, length=7):
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for field in fragment_schema(spec, MEMORY, {}, length):
        dtype = getattr(torch, field.dtype)
        tensors[field.name] = torch.randint(0, 2, (count, *field.shape), generator=generator).to(dtype)
        if dtype == torch.float32:
            tensors[field.name] = torch.rand((count, *field.shape), generator=generator)
    return Fragments.from_named_tensors(tensors)


def recorded(folder, *sizes, spec=SPEC, first=0):
    folder.mkdir(exist_ok=True)
    parts = [random_fragments(size, first + number, spec) for number, size in enumerate(sizes)]
    for number, part in enumerate(parts):
        write(folder, first + number, part, env="hunt_cow", actions=spec.action)
    return concatenate(parts)


def equal(left, right):
    right = dict(right.named_tensors())
    return all(torch.equal(t, right[name]) and t.dtype == right[name].dtype for name, t in left.named_tensors())


def complaint(call, *arguments):
    with pytest.raises(ConfigError) as error:
        call(*arguments)
    return str(error.value)


def test_fragments_come_back_as_they_were_in_any_order_over_files(tmp_path):
    everything = recorded(tmp_path / "set", 3, 1, 4)
    found = RecordedFragments(tmp_path / "set")
    assert len(found) == 8
    assert found.schema == fragment_schema(SPEC, MEMORY, {}, 7)
    assert found.envs == ("hunt_cow",)
    assert equal(found[torch.arange(8)], everything)
    some = torch.tensor([7, 0, 3, 3, 2, 5])
    assert equal(found[some], everything[some])
    for outside in ([], [8], [-1]):
        with pytest.raises(IndexError, match="0 to 7"):
            found[torch.tensor(outside, dtype=torch.int64)]


def test_only_what_is_asked_for_is_read(tmp_path):
    spec = EnvSpec(observation={"image": TensorSpec((128, 128, 3), "uint8")}, action={"action": 2})
    (tmp_path / "set").mkdir()
    fragments = random_fragments(1, 0, spec).map(lambda tensor: tensor.expand(200, *tensor.shape[1:]))
    file = write(tmp_path / "set", 0, fragments, env="big", actions=spec.action)
    assert file.stat().st_size > 75e6
    found = RecordedFragments(tmp_path / "set")
    before = resident_mb()
    kept = found[torch.tensor([190, 3])]
    assert len(kept) == 2
    assert resident_mb() - before < 10


def resident_mb():
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1000


def test_a_file_that_was_not_finished_is_no_part_of_the_set(tmp_path):
    recorded(tmp_path, 2)
    (tmp_path / f".000001.safetensors.{os.getpid()}").write_bytes(b"half a fi")
    assert len(RecordedFragments(tmp_path)) == 2


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "000000.safetensors").mkdir()
    with pytest.raises(ConfigError, match=r"000000.safetensors: cannot be written \(Is a directory\)"):
        write(tmp_path, 0, random_fragments(1, 0), env="hunt_cow", actions={})
    assert [file.name for file in tmp_path.iterdir()] == ["000000.safetensors"]


def test_a_folder_that_is_absent_or_empty_is_named(tmp_path):
    assert f"{tmp_path}/no: there is no such folder" in complaint(RecordedFragments, tmp_path / "no")
    message = complaint(RecordedFragments, tmp_path)
    assert f"{tmp_path} holds no recorded fragments" in message
    assert "mineonline.collect checkpoint=<file> record=" in message


@pytest.mark.parametrize(
    "spoil", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: os.urandom(500), lambda b: b[:40]]
)
def test_a_broken_file_is_named(tmp_path, spoil):
    recorded(tmp_path, 2, 2)
    broken = tmp_path / "000001.safetensors"
    broken.write_bytes(spoil(broken.read_bytes()))
    assert f"{broken} is broken" in complaint(RecordedFragments, tmp_path)


def read_all(folder):
    found = RecordedFragments(folder)
    found.check_fits(SPEC)
    return found[torch.arange(len(found))]


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 89])
def test_one_changed_bit_is_noticed_wherever_it_would_change_what_is_read(tmp_path, every):
    whole = recorded(tmp_path / "set", 2)
    file = tmp_path / "set" / "000000.safetensors"
    content = bytearray(file.read_bytes())
    bits = list(itertools.product(range(len(content)), range(8)))[::every]
    unnoticed = 0
    for byte, bit in bits:
        content[byte] ^= 1 << bit
        file.write_bytes(content)
        content[byte] ^= 1 << bit
        try:
            found = read_all(tmp_path / "set")
        except ConfigError as error:
            message = str(error)
            if str(file) not in message or "\n" in message:
                pytest.fail(f"byte {byte}, bit {bit}: {message}")
        else:
            assert equal(found, whole), (byte, bit)
            unnoticed += 1
    assert unnoticed < len(bits) / 10  # a true boolean has 7 bits that are not read


def test_a_damaged_fragment_is_noticed_when_it_is_read_and_the_others_are_still_good(tmp_path):
    whole = recorded(tmp_path / "set", 3, 2)
    file = tmp_path / "set" / "000000.safetensors"
    content = bytearray(file.read_bytes())
    begin = content.find(whole.observation["image"][2].numpy().tobytes())
    content[begin + 5] ^= 16
    file.write_bytes(content)
    found = RecordedFragments(tmp_path / "set")
    good = torch.tensor([0, 1, 3, 4])
    assert equal(found[good], whole[good])
    message = complaint(found.__getitem__, torch.tensor([0, 2]))
    assert (
        message == f"{file} is damaged: a fragment does not match its checksum. Delete it to use the rest of the set."
    )


def test_others_can_read_a_recorded_file(tmp_path):
    whole = recorded(tmp_path / "set", 3)
    theirs = load_file(tmp_path / "set" / "000000.safetensors")
    assert theirs.pop("crc32").shape == (3,)
    assert equal(Fragments.from_named_tensors(theirs), whole)


def test_a_file_of_another_program_is_named(tmp_path):
    recorded(tmp_path, 2)
    file = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(2)}, file)
    assert f"{file} is not a file of recorded fragments" in complaint(RecordedFragments, tmp_path)
    save_file({"weight": torch.zeros(2)}, file, metadata={"format": FORMAT_VERSION, "schema": "[", "actions": "{}"})
    assert f"{file} does not say what its fragments are" in complaint(RecordedFragments, tmp_path)
    save_file({"weight": torch.zeros(2)}, file, metadata={"format": FORMAT_VERSION, "schema": "[]", "actions": "{}"})
    assert f"{file} is broken: its tensors are not those" in complaint(RecordedFragments, tmp_path)


def test_files_that_do_not_belong_together_are_named_with_the_tensor(tmp_path):
    recorded(tmp_path, 2)
    larger = EnvSpec(observation={"image": TensorSpec((8, 6, 3), "uint8")}, action=SPEC.action)
    recorded(tmp_path, 2, spec=larger, first=1)
    message = complaint(RecordedFragments, tmp_path)
    assert "000000.safetensors and 000001.safetensors" in message
    assert "observation.image is uint8 [8, 4, 6, 3] in the first, but uint8 [8, 8, 6, 3] in the other" in message
    fewer = EnvSpec(observation=SPEC.observation, action={"buttons": 8641, "camera": 11})
    recorded(tmp_path, 2, spec=fewer, first=1)
    assert "action.camera is one of 121 classes in the first, but one of 11" in complaint(RecordedFragments, tmp_path)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (EnvSpec(observation={"image": TensorSpec((4, 8, 3), "uint8")}, action=SPEC.action),
         "observation.image is uint8 [4, 6, 3] there, but uint8 [4, 8, 3] here"),
        (EnvSpec(observation={"state": TensorSpec((4,), "float32")}, action=SPEC.action),
         "observation.state is absent there, but float32 [4] here"),
        (EnvSpec(observation=SPEC.observation, action={"buttons": 2304, "camera": 121}),
         "action.buttons is one of 8641 classes there, but one of 2304 classes here"),
        (EnvSpec(observation=SPEC.observation, action={"buttons": 8641}),
         "action.camera is one of 121 classes there, but absent here"),
    ],
)  # fmt: skip
def test_a_set_that_does_not_fit_the_environment_is_refused_with_what_was_found_and_expected(tmp_path, other, expected):
    recorded(tmp_path, 2)
    found = RecordedFragments(tmp_path)
    found.check_fits(SPEC)
    message = complaint(found.check_fits, other)
    assert expected in message
    assert "hunt_cow" in message


def test_continuous_actions_come_back_with_their_bounds_and_fit_no_others(tmp_path):
    arm = ContinuousAction((2,), (-1.0, None), (1.0, None))
    spec = EnvSpec(SPEC.observation, {"arm": arm, "buttons": 8641})
    everything = recorded(tmp_path / "set", 2, 1, spec=spec)
    found = RecordedFragments(tmp_path / "set")
    assert found.actions == spec.action
    assert equal(found[torch.arange(3)], everything)
    found.check_fits(spec)
    other = EnvSpec(SPEC.observation, {"arm": 3, "buttons": 8641})
    assert "action.arm is real numbers [2] there, but one of 3 classes here" in complaint(found.check_fits, other)
