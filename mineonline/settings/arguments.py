"""What the commands beside `train` are called with: key=value words, a struct each."""

from __future__ import annotations

import msgspec

COLLECT_USAGE = """usage: python -m mineonline.collect run=<run folder>
       python -m mineonline.collect run=tcp://<host>:<port> keys=<keys.json of the run folder>
           adds a collector to a run
       python -m mineonline.collect checkpoint=<file> record=<new folder> fragments=<number> [seed=...] [device=...]
           lets a checkpoint's policy play, and writes what it does to disk"""
EVALUATE_USAGE = """usage: python -m mineonline.evaluate checkpoint=<file, run folder or latest> [key=value ...]
           plays complete episodes and prints their scores
       episodes=10       how many
       video=<file>.mp4  film the first one
       json=<file>       write the scores
       seed=<number>     other episodes and actions
       best=true         always take the most probable action
       device=cuda       where the policy runs
       run_dir=<folder>  the run of checkpoint=latest
       config=<file>     other settings than the run's config.yaml"""
EXPORT_USAGE = """usage: python -m mineonline.export checkpoint=<file> model=<new .model> weights=<new .weights>
           writes a policy=vpt as the two files that MineStudio's load_vpt_policy reads"""
REPLAY_USAGE = """usage: python -m mineonline.replay file=<run folder>/bad_batch-<rank>.pt
           says where the numbers of a run went wrong that ended because its gradients were not finite"""


class CollectArguments(msgspec.Struct, frozen=True):
    """Join a run."""

    run: str
    """Run folder, or the address where a trainer lets collectors join (`tcp://<host>:<port>`, `ipc://<path>`)."""
    keys: str | None = None
    """`keys.json` of the run folder, if `run` is a tcp address."""


class RecordArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Let a checkpoint's policy play, and write fragments."""

    checkpoint: str
    """File with the weights, its run folder, or `latest`; the run folder says what is played, with how many workers and
    environments."""
    run_dir: str | None = None
    """The run of `checkpoint=latest`; None is the newest under `runs/`."""
    record: str
    """Folder for the fragments; it is made, and may exist if it is empty."""
    fragments: int
    """How many to write at least; whole rollouts are written, a fragment of each environment."""
    seed: int | None = None
    """Decides episodes and sampled actions; None is the run's. Two recordings with one seed are the same."""
    device: str | None = None
    """Where the workers' policy runs; None is the run's `collector.device`."""


class EvaluateArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Score a checkpoint."""

    checkpoint: str
    """File with the weights, its run folder, or `latest`; the run folder says what is played."""
    run_dir: str | None = None
    """The run of `checkpoint=latest`; None is the newest under `runs/`."""
    config: str | None = None
    """A file like a run's config.yaml; None is that of the checkpoint's run folder."""
    episodes: int = 10
    """Complete episodes to play."""
    video: str | None = None
    """An mp4 file for the first episode."""
    json: str | None = None
    """A file for the scores."""
    seed: int | None = None
    """Decides episodes and sampled actions; None is the run's."""
    best: bool = False
    """Always take the most probable action; otherwise sample, as in training."""
    device: str = "cpu"
    """Where the policy runs, for example `cuda`."""


class ExportArguments(msgspec.Struct, frozen=True):
    """Write MineStudio's files."""

    checkpoint: str
    """File with the weights, its run folder, or `latest`."""
    model: str
    """Where the network's arguments go; replaced if it exists."""
    weights: str
    """Where the weights go; replaced if it exists."""


class ReplayArguments(msgspec.Struct, frozen=True):
    """Look at fragments that broke learning."""

    file: str
    """The `bad_batch-<rank>.pt` of a run."""
