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
EVALUATE_USAGE = """usage: python -m mineonline.evaluate <checkpoint> ... [key=value ...]
           plays complete episodes and prints their scores, of each checkpoint on each task in each
           environment
       <checkpoint>      a file, a run folder, a published folder, latest, demo (a trained agent that
                         comes with mineonline) or untrained (with the settings of the others)"""
PLOT_USAGE = """usage: python -m mineonline.plot <run> ... [key=value ...]
           draws the curves of runs; those that differ only in their seed as one, with a 95 % interval
       <run>             a run folder, a folder of run folders, or a pattern such as 'runs/hunt_cow/2026-*'"""
PUBLISH_USAGE = """usage: python -m mineonline.publish checkpoint=<file or run folder> folder=<folder> [key=value ...]
           writes weights (safetensors), settings, scores, film, curve and a model card"""
PLAY_USAGE = """usage: python -m mineonline.play [task=<task>] [key=value ...]
       python -m mineonline.play checkpoint=<file, run folder or latest> [key=value ...]
       python -m mineonline.play run=<run folder> [key=value ...]
           serves a page on which you play the embedded world with keyboard and mouse; `checkpoint`
           plays too, when you hand it the controls; `run` shows the run as it goes, and its newest
           checkpoint plays. With task=..., all keys of task.* and env.*, fragment.length and
           --config-dir as for mineonline.train. Beyond this machine nothing is encrypted: instead of
           host, use  ssh -L <port>:127.0.0.1:<port> <machine>"""
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
    """Score checkpoints."""

    checkpoint: tuple[str, ...]
    """Each a checkpoint file, run folder, published folder, `latest`, `demo` or `untrained`. Its folder says what is
    played."""
    run_dir: str | None = None
    """The run that `checkpoint=latest` means. None: the one under `runs/` that saved last."""
    config: str | None = None
    """Settings in the format of a run's config.yaml. None: the config.yaml of the checkpoint's run folder."""
    tasks: tuple[str, ...] = ()
    """Names of tasks, in `conf/task` or a folder of one's own. None: the run's."""
    env: tuple[str, ...] = ()
    """Names of environments in `conf/env`. None: the run's."""
    env_settings: tuple[str, ...] = msgspec.field(name="env.", default=())
    """Words `env.<key>=<value>`, for those environments that have the key."""
    hydra_settings: tuple[str, ...] = msgspec.field(name="hydra.", default=())
    """The word `hydra.searchpath=...` that `--config-dir` stands for."""
    episodes: int = 10
    """Complete episodes to play, of each checkpoint on each task in each environment."""
    video: str | None = None
    """Where to write a video (mp4) of the filmed episodes."""
    filmed: int | Literal["all"] = 1
    """How many of the episodes are filmed."""
    json: str | None = None
    """Where to write the scores."""
    seed: int | None = None
    """Decides episodes and sampled actions. None: the seed of the first run."""
    best: bool = False
    """Always take the most probable action; otherwise sample, as in training."""
    device: str = "cpu"
    """Where the policy runs, for example `cuda`."""
    processes: int | None = None
    """That play at the same time. None: one for each core, if there is work for them; but one with MineStudio's
    simulators, which have processes of their own, and on a GPU. The scores do not depend on it."""


class PlotArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Draw runs."""

    run: tuple[str, ...]
    """Run folders, folders of run folders, or patterns of them."""
    metrics: tuple[str, ...] = ()
    """Columns of `metrics.csv`, or patterns of them. None: return and events per episode."""
    x: Literal["env_steps", "hours"] = "env_steps"
    """Decisions, or hours of training without breaks."""
    out: str = "plot"
    """File to write, a .png or an .html; without either, both."""
    video_mb: float = 20.0
    """Megabytes of videos that the page may hold."""


class PublishArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Write a folder that others can use."""

    checkpoint: str
    """Checkpoint file, run folder, published folder, or `latest`."""
    folder: str
    """Where to write: a new or empty folder, or one that was published before."""
    episodes: int = 20
    """Complete episodes to play for the scores."""
    scores: str | None = None
    """JSON that `evaluate` has written for this checkpoint: nothing is played for the scores."""
    film: bool = True
    """Film one of the episodes."""
    name: str | None = None
    """None: the folder's."""
    license: str | None = None
    """Identifier of the hub's, for example `mit`. None: the card names none."""
    repo: str | None = None
    """Repository of the Hugging Face Hub to upload to; made if there is none. None: nothing is uploaded."""
    private: bool = False
    """Whether that repository is private when it is made."""


class PlayArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Play in the browser."""

    checkpoint: str | None = None
    """Checkpoint file, run folder, or `latest`: the agent. Its run folder says what is played."""
    run: str | None = None
    """Run folder to show; it says what is played, and its newest checkpoint is the agent."""
    record: str | None = None
    """Folder for the person's fragments; must be absent or empty. None: played/<time>; `none`: they are not kept."""
    seed: int | None = None
    """Decides episodes and the agent's sampled actions. None: others each time."""
    host: str | None = None
    """Address to listen on. None: loopback."""
    port: int = 8765
    """0: any that is free."""
    device: str = "cpu"
    """Where the agent runs, for example `cuda`."""


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
