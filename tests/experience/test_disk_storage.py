"""Fragments that wait on disk: they come back as they were, and nothing is left behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.errors import ConfigError
from mineonline.experience.buffer import MemoryStorage
from mineonline.experience.disk_storage import DiskStorage
from mineonline.fragment import concatenate, fragment_schema
from tests.experience.test_fragment_files import MEMORY, SPEC, equal, random_fragments
from tests.helpers.settings import ROOT

SCHEMA = fragment_schema(SPEC, MEMORY, {}, 7)
LARGE = fragment_schema(
    EnvSpec(observation={"image": TensorSpec((128, 128, 3), "uint8")}, action={"action": 2}), {}, {}, length=64
)


@pytest.fixture(params=["memory", "disk"])
def storage(request, tmp_path):
    return MemoryStorage() if request.param == "memory" else DiskStorage(tmp_path, SCHEMA, 4)


def test_what_is_kept_comes_back_as_it_was_and_its_slot_can_be_used_again(storage):
    parts = [random_fragments(1, seed) for seed in range(7)]
    slots = [storage.keep(part) for part in parts[:4]]
    assert len(storage) == 4
    assert equal(storage.gather([slots[2], slots[0]]), concatenate([parts[2], parts[0]]))
    batch = storage.gather(slots[:1])
    for slot in slots[:3]:
        storage.release(slot)
    assert len(storage) == 1
    later = [storage.keep(part) for part in parts[4:]]
    assert equal(storage.gather([*later, slots[3]]), concatenate([*parts[4:], parts[3]]))
    assert equal(batch, parts[0])  # a copy: what is kept later does not change it


def taken_mb(folder, pid="self"):
    """Disk space of the nameless files in a folder that a process holds open."""
    links = [link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]  # the listing's own is closed
    held = [link for link in links if os.readlink(link).startswith(str(folder))]
    return sum(link.stat().st_blocks * 512 for link in held) / 1e6


def test_the_file_takes_its_room_at_once_and_has_no_name(tmp_path):
    storage = DiskStorage(tmp_path, LARGE, 100)
    assert taken_mb(tmp_path) > 300
    assert list(tmp_path.iterdir()) == []
    del storage
    assert taken_mb(tmp_path) == 0


def test_a_killed_process_leaves_no_file(tmp_path):
    program = f"""
from pathlib import Path
from tests.helpers.settings import ROOT
from mineonline.experience.disk_storage import DiskStorage
from tests.experience.test_disk_storage import LARGE
storage = DiskStorage(Path({str(tmp_path)!r}), LARGE, 100)
print("ready", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert taken_mb(tmp_path, process.pid) > 300
        process.kill()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_enough_room_is_named_with_what_would_be_needed(tmp_path):
    fragment_bytes = sum(getattr(torch, field.dtype).itemsize * torch.Size(field.shape).numel() for field in SCHEMA)
    capacity = 2 * shutil.disk_usage(tmp_path).free // fragment_bytes
    with pytest.raises(ConfigError) as error:
        DiskStorage(tmp_path, SCHEMA, capacity)
    for part in ("buffer.storage=disk", f"{capacity} fragments take", str(tmp_path), "smaller buffer.capacity"):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []
