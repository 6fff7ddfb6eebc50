"""The arguments of every command except `train`: key=value words, one struct per command."""

from __future__ import annotations

from typing import Literal

import msgspec

COLLECT_USAGE = """usage: python -m mineonline.collect run=<run folder>
       python -m mineonline.collect run=tcp://<host>:<port> keys=<keys.json of the run folder>
           adds a collector to a run
       python -m mineonline.collect checkpoint=<file> record=<new folder> fragments=<number>
           plays with a checkpoint's policy, and writes the fragments to disk"""
RELAY_USAGE = """usage: python -m mineonline.relay run=<run folder>
           passes weights and fragments on for all collectors of this node, so that weights come to
           the node once; collectors of the run use it by themselves, now and later"""
EVALUATE_USAGE = """usage: python -m mineonline.evaluate checkpoint=<file, run folder or latest> [key=value ...]
           plays complete episodes and prints their scores"""
EXPORT_USAGE = """usage: python -m mineonline.export checkpoint=<file> model=<new .model> weights=<new .weights>
           writes a policy=vpt as the two files that MineStudio's load_vpt_policy reads"""
METRICS_USAGE = """usage: python -m mineonline.metrics [format=text or markdown]
           shows every number that a run logs: its name, unit and meaning"""
REPLAY_USAGE = """usage: python -m mineonline.replay file=<run folder>/bad_batch-<rank>.pt
           shows where the numbers went wrong in a run that ended because its gradients were not
           finite"""


class CollectArguments(msgspec.Struct, frozen=True):
    """Join a run."""

    run: str
    """Run folder, or the address of the trainer's join server (`tcp://<host>:<port>` or `ipc://<path>`)."""
    keys: str | None = None
    """Path of the run folder's `keys.json`; needed if `run` is a tcp address."""


class RelayArguments(msgspec.Struct, frozen=True):
    """Relay for the collectors of this node."""

    run: str
    """Run folder."""


class RecordArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Play with a checkpoint's policy, and write the fragments."""

    checkpoint: str
    """Checkpoint file, run folder, or `latest`. The run folder says what is played, and with how many workers and
    environments."""
    run_dir: str | None = None
    """The run that `checkpoint=latest` means. None: the one under `runs/` that saved last."""
    record: str
    """Folder for the fragments; created if needed, and must be empty."""
    fragments: int
    """How many to write at least; whole rollouts are written, a fragment of each environment."""
    seed: int | None = None
    """Decides episodes and sampled actions. None: the run's seed. Recordings with the same seed are identical."""
    device: str | None = None
    """Where the workers' policy runs. None: the run's `collector.device`."""


class EvaluateArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Score a checkpoint."""

    checkpoint: str
    """Checkpoint file, run folder, or `latest`. The run folder says what is played."""
    run_dir: str | None = None
    """The run that `checkpoint=latest` means. None: the one under `runs/` that saved last."""
    config: str | None = None
    """Settings in the format of a run's config.yaml. None: the config.yaml of the checkpoint's run folder."""
    tasks: str = ""
    """Names of tasks, `[a,b]`: those of the run, or files of `conf/task` or of the run's `--config-dir`. Empty: the
    run's."""
    episodes: int = 10
    """Complete episodes to play."""
    video: str | None = None
    """Where to write a video (mp4) of the first episode."""
    json: str | None = None
    """Where to write the scores."""
    seed: int | None = None
    """Decides episodes and sampled actions. None: the run's seed."""
    best: bool = False
    """Always take the most probable action; otherwise sample, as in training."""
    device: str = "cpu"
    """Where the policy runs, for example `cuda`."""


class ExportArguments(msgspec.Struct, frozen=True):
    """Write MineStudio's files."""

    checkpoint: str
    """Checkpoint file, run folder, or `latest`."""
    model: str
    """File for the network's arguments; overwritten if it exists."""
    weights: str
    """File for the weights; overwritten if it exists."""


class MetricsArguments(msgspec.Struct, frozen=True):
    """Show the table of metrics."""

    format: Literal["text", "markdown"] = "text"
    """How it is printed: for a terminal, or as the page docs/metrics.md."""


class ReplayArguments(msgspec.Struct, frozen=True):
    """Look at fragments that broke learning."""

    file: str
    """A run's `bad_batch-<rank>.pt`."""
