"""The arguments of every command except `train`: key=value words, one struct per command."""

from __future__ import annotations

import msgspec

COLLECT_USAGE = """usage: python -m mineonline.collect run=<run folder>
       python -m mineonline.collect run=tcp://<host>:<port> keys=<keys.json of the run folder>
           adds a collector to a run
       python -m mineonline.collect checkpoint=<file> record=<new folder> fragments=<number> [seed=...] [device=...]
           plays with a checkpoint's policy, and writes the fragments to disk"""
RELAY_USAGE = """usage: python -m mineonline.relay run=<run folder>
           passes weights and fragments on for all collectors of this node, so that weights come to the node once;
           collectors of the run use it by themselves, now and later"""
EVALUATE_USAGE = """usage: python -m mineonline.evaluate checkpoint=<file, run folder or latest> [key=value ...]
           plays complete episodes and prints their scores
       episodes=10       how many
       video=<file>.mp4  film the first one
       json=<file>       write the scores to this file
       seed=<number>     play other episodes, with other actions
       best=true         always take the most probable action
       device=cuda       where the policy runs
       run_dir=<folder>  the run that checkpoint=latest means
       config=<file>     settings to use instead of the run's config.yaml"""
PLAY_USAGE = """usage: python -m mineonline.play [task=<task>] [key=value ...]
       python -m mineonline.play checkpoint=<file, run folder or latest> [key=value ...]
       python -m mineonline.play run=<run folder> [key=value ...]
           serves a page on which you play the embedded world with keyboard and mouse; `checkpoint` plays too, when you
           hand it the controls; `run` shows the run as it goes, and its newest checkpoint plays
       record=<folder>   where your play is written, for offline.folder (played/<time>; none: nowhere)
       seed=<number>     play these episodes (otherwise new ones each time)
       port=8765         where to listen; 0: any port that is free
       host=<address>    listen beyond this machine, unencrypted: ssh -L <port>:127.0.0.1:<port> <machine> is safer
       device=cuda       where the agent runs
       With task=..., all keys of task.* and env.*, fragment.length and --config-dir as for mineonline.train."""
EXPORT_USAGE = """usage: python -m mineonline.export checkpoint=<file> model=<new .model> weights=<new .weights>
           writes a policy=vpt as the two files that MineStudio's load_vpt_policy reads"""
REPLAY_USAGE = """usage: python -m mineonline.replay file=<run folder>/bad_batch-<rank>.pt
           shows where the numbers went wrong in a run that ended because its gradients were not finite"""


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


class ReplayArguments(msgspec.Struct, frozen=True):
    """Look at fragments that broke learning."""

    file: str
    """A run's `bad_batch-<rank>.pt`."""
