import pytest
import torch

from mineonline.learning.staging import one_ahead, staged
from tests.helpers.learning_set import learn, recorded


def test_the_next_part_is_on_its_way_before_this_one_is_given_out():
    events = []

    def begin(part):
        events.append(f"begin {part}")
        return lambda: part

    for part in one_ahead(iter("abc"), begin):
        events.append(f"use {part}")
    assert events == ["begin a", "begin b", "use a", "begin c", "use b", "use c"]
    assert list(one_ahead(iter(""), begin)) == []


def test_on_the_cpu_parts_are_not_copied_and_not_made_before_they_are_needed():
    made = []

    def parts():
        for number in range(3):
            made.append(recorded(number).fragments)
            yield made[-1]

    for number, part in enumerate(staged(parts(), torch.device("cpu"))):
        assert len(made) == number + 1
        assert part.reward_BT.data_ptr() == made[-1].reward_BT.data_ptr()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_parts_arrive_whole():
    device = torch.device("cuda")
    numbers = [recorded(number).fragments for number in range(8)]
    for given, part in zip(numbers, staged(numbers, device), strict=True):
        for (name, before), (_, after) in zip(given.named_tensors(), part.named_tensors(), strict=True):
            assert after.is_cuda
            assert torch.equal(before, after.cpu()), name


@pytest.mark.slow
def test_a_compiled_policy_learns_the_same_and_keeps_the_names_of_its_weights(tmp_path):
    plain = learn(tmp_path / "plain", 2, "policy.memory=none").policy.state_dict()
    compiled = learn(tmp_path / "compiled", 2, "policy.memory=none", "optimizer.compile=true").policy.state_dict()
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
