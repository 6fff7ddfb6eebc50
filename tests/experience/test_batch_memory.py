"""A batch's memory is used again once nothing refers to it, and not before."""

import threading

import pytest
import torch

from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.experience.batch_memory import BatchMemory
from mineonline.experience.buffer import FragmentBuffer, MemoryStorage
from mineonline.experience.datamodule import Iterations
from mineonline.experience.disk_storage import DiskStorage
from mineonline.fragment import Fragments, Report, Timing, fragment_schema

SPEC = EnvSpec(observation={"image": TensorSpec((128, 128, 3), "uint8")}, action={"action": 2})
SCHEMA = fragment_schema(SPEC, {}, {}, length=32)
LARGE = (64, 128, 128, 3)


def test_the_memory_of_a_freed_tensor_is_given_out_again_even_as_another_dtype():
    memory = BatchMemory()
    tensor = memory.empty("image", LARGE, torch.uint8)
    where = tensor.data_ptr()
    del tensor
    again = memory.empty("image", LARGE, torch.uint8)
    assert again.data_ptr() == where
    del again
    wide = memory.empty("image", (64, 64, 64, 3), torch.float32)
    assert wide.data_ptr() == where
    assert wide.shape == (64, 64, 64, 3)
    assert wide.dtype == torch.float32


def test_what_is_still_in_use_is_never_written_over():
    memory = BatchMemory()
    for keep in (lambda tensor: tensor, lambda tensor: tensor[3, 5], lambda tensor: tensor.numpy()[1:], iter):
        tensor = memory.empty("image", LARGE, torch.uint8).fill_(7)
        where = tensor.data_ptr()
        kept = keep(tensor)
        del tensor
        other = memory.empty("image", LARGE, torch.uint8)
        assert other.data_ptr() != where
        other.fill_(9)
        values = next(kept) if keep is iter else kept
        assert (values == 7).all()
        del kept, values, other


def test_memory_of_another_size_is_not_used():
    memory = BatchMemory()
    memory.empty("image", LARGE, torch.uint8)
    half = memory.empty("image", (32, *LARGE[1:]), torch.uint8)
    assert half.untyped_storage().nbytes() == half.nbytes


@pytest.mark.parametrize("disk", [False, True])
def test_a_run_of_the_learner_uses_one_memory_for_all_batches(tmp_path, disk):
    storage = DiskStorage(tmp_path, SCHEMA, 2) if disk else MemoryStorage()
    buffer = FragmentBuffer(capacity=2, max_staleness=1, max_reuse=2, seed=0, storage=storage)
    tensors = {field.name: torch.zeros(1, *field.shape, dtype=getattr(torch, field.dtype)) for field in SCHEMA}
    for _ in range(2):
        report = Report(0, (), 0, Timing(0.0, 0.0, 0.0, 0.0))
        buffer.put(Fragments.from_named_tensors(tensors), report, threading.Event())
    batches = iter(Iterations(lambda: buffer.take(2, 0, lambda: False), lambda stop: stop, 2))
    where = [next(batches).fragments.observation["image"].data_ptr() for _ in range(2)]
    assert where[0] == where[1]
