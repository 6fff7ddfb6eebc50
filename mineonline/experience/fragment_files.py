"""A recorded set: fragments on disk, for behaviour cloning and other learning without an environment.

A set is a folder of safetensors files, in the order of their names. Each holds the tensors of `Fragments.named_tensors`
for any number of fragments, the tensor `crc32` (int64, the CRC-32 of each fragment) and, as text metadata:

    format    version of this layout
    schema    JSON list of `TensorField`; equal in all files of a set
    actions   JSON object: classes of each action, for example {"buttons": 8641, "camera": 121}, or, for a continuous
              one, its shape and bounds; equal in all files
    env       the task, or the id of the gymnasium environment
    crc32     of the other metadata

Checksums are per fragment, so that a learner checks what it reads, not a whole set that may fill a disk. A file is
written under a temporary name and renamed when it is complete, so no set has half a file. Nothing is ever unpickled.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mineonline.atomic import written_whole
from mineonline.envs.contract import ActionSpec, EnvSpec
from mineonline.errors import DECODE_ERRORS, ConfigError
from mineonline.fragment import Fragments, TensorField, concatenate

FORMAT_VERSION = "3"
SUFFIX = ".safetensors"
_CHECKSUM = "crc32"

_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip
"""safetensors' name of a dtype -> torch's."""


class _Description(msgspec.Struct, frozen=True):
    """What a file says about its fragments."""

    schema: tuple[TensorField, ...]
    actions: dict[str, ActionSpec]
    env: str


def write(folder: Path, number: int, fragments: Fragments, *, env: str, actions: Mapping[str, ActionSpec]) -> Path:
    """Write file `number` (counted from 0) of the set in `folder`, which must exist. Returns the file.

    `env`: name of the task or environment. `actions`: those of its `EnvSpec`. ConfigError if it cannot be
    written; an error or an interrupt leaves no partial file behind.
    """
    tensors = {name: tensor.contiguous() for name, tensor in fragments.named_tensors()}
    schema = [TensorField(name, _dtype_name(tensor), tuple(tensor.shape[1:])) for name, tensor in tensors.items()]
    metadata = {
        "format": FORMAT_VERSION,
        "schema": msgspec.json.encode(schema).decode(),
        "actions": msgspec.json.encode(dict(actions)).decode(),
        "env": env,
    }
    content = save(
        {**tensors, _CHECKSUM: torch.tensor(_checksums(tensors))},
        {**metadata, _CHECKSUM: _checksum_of(metadata)},
    )
    file = folder / f"{number:06d}{SUFFIX}"
    try:
        with written_whole(file) as partial:
            partial.write_bytes(content)  # save_file makes files that only their owner may read
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror}).") from None
    return file


def check_unused(folder: Path) -> None:
    """ConfigError if a new set cannot be written to `folder`, which may be absent."""
    try:
        taken = folder.exists() and any(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"record={folder}: cannot be a folder ({error.strerror}).") from None
    if taken:
        raise ConfigError(f"record={folder} is not empty. Give a new folder; nothing is ever added to a recorded set.")


class RecordedFragments:
    """The fragments in a folder. Opening reads only the files' metadata; tensors are read when asked for.

    ConfigError if the folder is absent or empty, a file is broken or not part of a set, or files do not fit together.
    The fragments may differ in length from the run's.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self._folder = folder
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder of recorded fragments.")
        self._files = sorted(file for file in folder.glob(f"*{SUFFIX}") if not file.name.startswith("."))
        if not self._files:
            raise ConfigError(
                f"{folder} holds no recorded fragments (*{SUFFIX}). Record some with python -m mineonline.collect "
                "checkpoint=<file> record=<new folder> fragments=<number>."
            )
        opened = [_examine(file) for file in self._files]
        descriptions = [description for description, _ in opened]
        for file, description in zip(self._files, descriptions, strict=True):
            _check_agrees(self._files[0], descriptions[0], file, description)
        self.schema = descriptions[0].schema
        """Every tensor of a fragment, in the order of `Fragments.named_tensors`."""
        self.actions = descriptions[0].actions
        """Name -> number of classes, or what a continuous action looks like."""
        self.envs = tuple(dict.fromkeys(description.env for description in descriptions))
        """Names of the tasks or environments that were played."""
        self._ends = torch.tensor([count for _, count in opened]).cumsum(0)

    def __len__(self) -> int:
        """Number of fragments."""
        return int(self._ends[-1])

    def __getitem__(self, indices: Tensor) -> Fragments:
        """The fragments at `indices` (B, int64, each 0 to len - 1), in that order; reads only these.

        IndexError if there are none or one is out of range; ConfigError if one does not match its checksum, or a file
        was changed since the set was opened.
        """
        if len(indices) == 0 or int(indices.min()) < 0 or int(indices.max()) >= len(self):
            raise IndexError(f"{self._folder}: at least one index is needed, each from 0 to {len(self) - 1}")
        file_B = torch.searchsorted(self._ends, indices, right=True)
        parts, positions = [], []
        for number in sorted(set(file_B.tolist())):
            here = (file_B == number).nonzero()[:, 0]
            start = int(self._ends[number - 1]) if number else 0
            parts.append(self._read(self._files[number], (indices[here] - start).tolist()))
            positions.append(here)
        return concatenate(parts)[torch.cat(positions).argsort()]

    def check_fits(self, spec: EnvSpec) -> None:
        """ConfigError, naming the observation or action, if these fragments do not suit a policy for `spec`."""
        rows = [field for field in self.schema if field.name.startswith("observation.")]
        found = {field.name: f"{field.dtype} {list(field.shape[1:])}" for field in rows} | _in_words(self.actions)
        expected = {f"observation.{name}": f"{s.dtype} {list(s.shape)}" for name, s in spec.observation.items()}
        expected |= _in_words(spec.action)
        for name in {**expected, **found}:
            if found.get(name) != expected.get(name):
                raise ConfigError(
                    f"the fragments in {self._folder} (recorded in {', '.join(self.envs)}) do not fit this run's "
                    f"environment: {name} is {found.get(name, 'absent')} there, but {expected.get(name, 'absent')} "
                    "here. Give the env=... and task=... that they were recorded with, or record new ones."
                )

    def _read(self, file: Path, rows: list[int]) -> Fragments:
        try:
            with safe_open(file, "pt") as tensors:
                read = {field.name: tensors.get_slice(field.name)[rows] for field in self.schema}
                expected = tensors.get_slice(_CHECKSUM)[rows].tolist()
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{file} was changed while it was in use: {error}.") from None
        if _checksums(read) != expected:
            raise ConfigError(
                f"{file} is damaged: a fragment does not match its checksum. Delete it to use the rest of the set."
            )
        return Fragments.from_named_tensors(read)


def _examine(file: Path) -> tuple[_Description, int]:
    """What a file says about its fragments, checked against its tensors, and how many it holds."""
    try:
        with safe_open(file, "pt") as tensors:
            metadata = tensors.metadata() or {}
            found = {name: _field(name, tensors.get_slice(name)) for name in tensors.keys()}  # noqa: SIM118 no mapping
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{file} is broken ({error}). Delete it to use the rest of the set.") from None
    if metadata.get("format") != FORMAT_VERSION:
        raise ConfigError(
            f"{file} is not a file of recorded fragments that this version can read: its format is "
            f"{metadata.get('format', 'not given')}, but {FORMAT_VERSION} is expected."
        )
    try:
        description = _Description(
            schema=msgspec.json.decode(metadata.get("schema", ""), type=tuple[TensorField, ...]),
            actions=msgspec.json.decode(metadata.get("actions", ""), type=dict[str, ActionSpec]),
            env=metadata.get("env", ""),
        )
    except DECODE_ERRORS as error:
        raise ConfigError(f"{file} does not say what its fragments are ({error}).") from None
    promised = {field.name: field for field in (*description.schema, TensorField(_CHECKSUM, "int64", ()))}
    counts = {count for _, count in found.values()}
    if {name: tensor for name, (tensor, _) in found.items()} != promised or len(counts) != 1 or 0 in counts:
        raise ConfigError(f"{file} is broken: its tensors are not those that its schema names.")
    if metadata.get(_CHECKSUM) != _checksum_of({name: metadata[name] for name in metadata if name != _CHECKSUM}):
        raise ConfigError(
            f"{file} is damaged: its metadata do not match their checksum. Delete it to use the rest of the set."
        )
    return description, counts.pop()


def _field(name: str, tensor: Any) -> tuple[TensorField, int]:
    """The field of a tensor in a file, and its number of fragments."""
    count, *shape = tensor.get_shape() or [0]
    return TensorField(name, _DTYPES.get(tensor.get_dtype(), "unknown"), tuple(shape)), count


def _check_agrees(one: Path, first: _Description, other: Path, description: _Description) -> None:
    left, right = (
        {field.name: f"{field.dtype} {list(field.shape)}" for field in each.schema} | _in_words(each.actions)
        for each in (first, description)
    )
    for name in {**left, **right}:
        if left.get(name) != right.get(name):
            raise ConfigError(
                f"{one.name} and {other.name} in {one.parent} do not belong to the same set: {name} is "
                f"{left.get(name, 'absent')} in the first, but {right.get(name, 'absent')} in the other. "
                "Keep each set in its own folder."
            )


def _checksums(tensors: Mapping[str, Tensor]) -> list[int]:
    """Of each fragment, over its part of all tensors, in the order of their names."""
    count = len(next(iter(tensors.values())))
    sums = [0] * count
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        rows_BN = tensor.view(torch.uint8).reshape(count, tensor.nbytes // count).numpy()  # N bytes
        sums = [zlib.crc32(row, before) for row, before in zip(rows_BN, sums, strict=True)]
    return sums


def _checksum_of(metadata: Mapping[str, str]) -> str:
    return f"{zlib.crc32(msgspec.json.encode(sorted(metadata.items()))):08x}"


def _in_words(actions: Mapping[str, ActionSpec]) -> dict[str, str]:
    return {
        f"action.{name}": f"one of {action} classes"
        if isinstance(action, int)
        else f"real numbers {list(action.shape)}"
        for name, action in actions.items()
    }


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
