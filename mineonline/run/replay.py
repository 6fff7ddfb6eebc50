"""Looks at the fragments of a run that ended because its gradients stayed non-finite.

Repeats the computation, one sequence at a time, and says where the numbers first go wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from mineonline.envs.build import env_spec
from mineonline.errors import CheckpointError
from mineonline.fragment import Fragments
from mineonline.learning.gradients import is_finite
from mineonline.learning.module import PPO
from mineonline.learning.objective import Rows
from mineonline.learning.sequences import Sequences
from mineonline.run.checkpoint import check_intact
from mineonline.run.folder import CONFIG_FILE, read_config
from mineonline.run.learner import build_learner
from mineonline.settings.targets import user_class


def replay(file: Path) -> None:
    """Print what is not finite: in the weights, in the fragments, and in what the learner computes from them."""
    saved = _load(file)
    config = read_config(file, file.parent / CONFIG_FILE)
    # `checkpoint` is set so that no other file is read; recorded fragments play no role in what failed
    offline = msgspec.structs.replace(config.offline, folder=None)
    config = msgspec.structs.replace(config, checkpoint=str(file), offline=offline)
    learner_class = user_class("learner", config.learner, PPO)
    learner = build_learner(
        config, env_spec(config.env, config.played), bad_batch_file=file, learner_class=learner_class
    )
    learner.load_state_dict(saved["state_dict"])
    learner.iteration = saved["iteration"]
    fragments = Fragments.from_named_tensors(saved["fragments"])
    print(f"{file}: {len(fragments)} fragments, iteration {learner.iteration}")
    bad = _print_not_finite("weights", saved["state_dict"].items())
    bad += _print_not_finite("fragments", fragments.named_tensors())
    with _name_modules(learner.policy):
        prepared = learner.prepare(fragments)
    bad += _print_not_finite("targets", [("value_BU", prepared.value_BU), ("return_BT", prepared.return_BT)])
    bad += _print_sequences(learner, prepared.sequences, fragments)
    if not bad:
        print("everything is finite here: later optimiser steps must have made the weights too large. "
              "Lower optimizer.learning_rate, or look at loss/gradient_norm in metrics.csv.")  # fmt: skip


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise CheckpointError(f"file={file}: there is no such file.")
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 torch raises many kinds of errors for a bad file
        raise CheckpointError(f"file={file}: cannot be read; give the bad_batch-<rank>.pt of a run.") from None
    if not isinstance(saved, dict) or set(saved) != {"fragments", "state_dict", "iteration"}:
        raise CheckpointError(f"file={file} holds something else; give the bad_batch-<rank>.pt of a run.")
    check_intact(file, f"file={file}")
    return saved


def _print_not_finite(what: str, tensors: Iterable[tuple[str, Tensor]]) -> int:
    """Print the tensors that are not finite; returns how many there are."""
    count = 0
    for name, tensor in tensors:
        wrong = ~tensor.isfinite()
        if wrong.any():
            count += 1
            where = tuple(wrong.nonzero()[0].tolist())
            print(f"  {what}: {name} has {int(wrong.sum())} of {tensor.numel()} not finite, the first at {where}")
    return count


def _print_sequences(learner: PPO, sequences: Sequences, fragments: Fragments) -> int:
    """Print the sequences whose losses or gradients, each alone, are not finite; returns how many there are."""
    per_fragment = len(sequences) // len(fragments)
    count = 0
    for s in range(len(sequences)):
        part = sequences[torch.tensor([s])].to(learner.device)
        learner.zero_grad()
        losses = learner.losses(part, Rows(part.decided_BT, part.decided_BT.sum()))
        losses.total.backward()  # type: ignore[no-untyped-call]
        names = [name for name, loss in losses._asdict().items() if not loss.isfinite()]
        gradients = [n for n, p in learner.policy.named_parameters() if not is_finite(p.grad)]
        if names or gradients:
            count += 1
            b, k = divmod(s, per_fragment)
            wrong = f"losses not finite: {', '.join(names) or 'none'}; gradients: {', '.join(gradients) or 'none'}"
            print(f"  fragment {b} (environment {int(fragments.env_B[b])}), sequence {k}: {wrong}")
    return count


@contextmanager
def _name_modules(policy: nn.Module) -> Iterator[None]:
    """Print the first module whose output is not finite although its inputs are."""
    named: list[str] = []

    def look(name: str, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        if isinstance(output, Tensor) and not named and not is_finite(output) and all(map(is_finite, tensors)):
            named.append(name)
            print(f"  policy: {name} turns finite numbers into numbers that are not finite")

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: look(name, inputs, output))
        for name, module in policy.named_modules()
        if name
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
