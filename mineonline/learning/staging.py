"""Parts of a batch on their way to the learner's device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class Movable(Protocol):
    """What holds tensors: `Fragments`, `Sequences`."""

    def map(self: Part, function: Callable[[Tensor], Tensor]) -> Part:
        """Apply `function` to every tensor."""


Part = TypeVar("Part", bound=Movable)


def staged(parts: Iterable[Part], device: torch.device) -> Iterator[Part]:
    """The parts on `device`, in order. A GPU copies the next one, from pinned memory, while it computes with this one.

    The CPU runs ahead by so little that the GPU holds three of them at most. On the CPU nothing is copied.
    """
    if device.type != "cuda":
        return (part.map(lambda tensor: tensor.to(device)) for part in parts)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    asked = torch.cuda.current_stream(device).record_event()

    def begin(part: Part) -> Callable[[], Part]:
        nonlocal asked
        before, asked = asked, torch.cuda.current_stream(device).record_event()
        before.synchronize()  # the part before the last has been computed with
        with torch.cuda.stream(stream):
            copy = part.map(lambda t: t if t.is_cuda else t.pin_memory().to(device, non_blocking=True))
            copied = stream.record_event()

        def arrived() -> Part:
            current = torch.cuda.current_stream(device)
            current.wait_event(copied)  # not for the stream, which copies the next part already
            copy.map(lambda tensor: _used_by(tensor, current))
            return copy

        return arrived

    return one_ahead(parts, begin)


def one_ahead(parts: Iterable[Part], begin: Callable[[Part], Callable[[], Part]]) -> Iterator[Part]:
    """What `begin(part)()` returns for each part; the next one has begun before this one is given out."""
    arriving: Callable[[], Part] | None = None
    for part in parts:
        following = begin(part)
        if arriving is not None:
            yield arriving()
        arriving = following
    if arriving is not None:
        yield arriving()


def _used_by(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    tensor.record_stream(stream)  # or its memory could be given away while the stream still reads it
    return tensor
