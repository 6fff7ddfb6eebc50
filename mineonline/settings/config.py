"""Every setting of a run, typed. `conf/` holds the values; this file says what each one means.

Hydra's DictConfig ends at the command line: `parse_config` (parsing.py) turns it into these structs once, and everyone
else takes those. A key that is not a field here is an error that names its path. The sections `env` and `task` are
described in `envs/settings.py` and `envs/tasks.py`.
"""

from __future__ import annotations

import os
from typing import Any, Literal

import msgspec

from mineonline.envs.settings import EnvConfig, Section
from mineonline.envs.tasks import Task


class TinyPolicyConfig(Section, frozen=True, tag="tiny", tag_field="kind"):
    """A small convolutional network for pictures."""

    memory: Literal["none", "gru"]
    """`gru` carries a recurrent state through each episode."""
    head: Literal["factored", "joint"]
    """How MineStudio's 8641 x 121 actions are chosen: by independent groups, or as two flat categoricals."""
    hidden_size: int
    """Width of the last layer, and of the recurrent state."""
    zero_initial_value: bool
    """Begin with value 0 everywhere instead of small random values: for a policy that was trained before."""
    channels: list[int]
    """Channels of the three convolutions."""


class MlpPolicyConfig(Section, frozen=True, tag="mlp", tag_field="kind"):
    """A fully connected network for vectors of numbers."""

    hidden_sizes: list[int]
    """Width of each tanh layer; actor and critic have a tower each."""
    zero_initial_value: bool
    """Begin with value 0 everywhere."""


class VptPolicyConfig(Section, frozen=True, tag="vpt", tag_field="kind"):
    """MineStudio's VPT (Baker et al. 2022): 128x128 pictures, a memory of the last 128, 8641 x 121 actions."""

    size: Literal["mini", "1x", "2x", "3x"] | None
    """71, 249 or 533 million parameters, as published. `mini` is 1.2 million, for trying things out: nobody has
    weights for it. None: all arguments stand in `kwargs`."""
    model: str | None
    """MineStudio's `.model` file: the network's arguments, in place of `size`."""
    weights: str | None
    """MineStudio's `.weights` file, which the policy begins with; only the trainer needs it. None: random weights."""
    kwargs: dict[str, Any]
    """Arguments of MineStudio's `MinecraftPolicy` that differ from those of `size` or `model`."""
    temperature: float | None
    """What logits are divided by. None: as the `.model` file says, or 2."""
    zero_initial_value: bool
    """Begin with value 0 everywhere, whatever `weights` say."""


class OwnPolicyConfig(Section, frozen=True, tag="own", tag_field="kind"):
    """A policy class of your own."""

    target: str = msgspec.field(name="_target_")
    """Its path, for example `my_package.MyPolicy`: a subclass of `mineonline.Policy`. It is called with the
    environment's `EnvSpec`, and must be importable by trainer and collectors."""
    kwargs: dict[str, Any]
    """Its keyword arguments."""


PolicyConfig = TinyPolicyConfig | MlpPolicyConfig | VptPolicyConfig | OwnPolicyConfig


class CollectorConfig(Section, frozen=True):
    """Who plays."""

    count: int
    """Collector processes that the trainer starts and supervises. 0 waits for collectors that join by themselves."""
    workers: int
    """Processes of each collector that step environments, each with its own copy of the policy."""
    mode: Literal["async", "lockstep"]
    """`async`: collectors play on while the learner learns (lag 1 and more). `lockstep`: they wait for the weights that
    an iteration's fragments lead to (lag 0, half the speed); with one trainer process, a run is then a function of its
    seed."""
    envs_per_worker: int
    """Environments that one worker steps, and the batch size of its policy."""
    device: str
    """Where the workers' policy runs, for example `cpu` or `cuda:0`."""
    torch_threads: int
    """Threads of each worker's policy."""
    batch_timeout_s: float
    """A batch of fragments that takes longer is a hang: the collector is restarted. Several times what
    `fragment.length` steps of the slowest environment take."""
    start_timeout_s: float
    """The same for the first batch, for which environments must start."""
    max_failures: int
    """The run stops when a collector has failed so many times in a row without sending a fragment in between."""


class FragmentConfig(Section, frozen=True):
    """The unit of experience: consecutive steps of one environment."""

    length: int
    """Steps in a fragment (T)."""


class BufferConfig(Section, frozen=True):
    """What waits between collectors and learner, and what is too old to learn from."""

    fragments_per_iteration: int
    """Fragments that one PPO iteration learns from, over all ranks."""
    capacity: int
    """Fragments a rank may hold; when it is full, collectors wait. 0: as many as its share of an iteration."""
    storage: Literal["memory", "disk"]
    """Where they wait. `disk`: a file in the run folder that takes the room of `capacity` fragments and goes with the
    process, for buffers larger than memory."""
    max_staleness: int
    """Fragments of a policy more than this many versions old are dropped, and counted."""
    max_reuse: int
    """Iterations that may use the same fragment. 1 is on-policy PPO."""
    silence_s: float
    """The run stops with an error when nothing has arrived for so long. Unlimited while no collector ever joined
    and `collector.count=0`."""


class ObjectiveConfig(Section, frozen=True):
    """What PPO optimises (Schulman et al. 2017)."""

    kind: Literal["ppo", "decoupled", "vtrace"]
    """How fragments of older weights are corrected; without lag all three are the same. `ppo`: the clipped ratio is
    against the policy that acted. `decoupled`: it is against the weights at the start of the iteration, weighted by how
    much more probable these make the action than the policy that acted (Hilton et al. 2022). `vtrace`: the same, and
    advantages and returns are corrected too (Espeholt et al. 2018)."""
    discount: float
    """γ, 0 to 1: worth of a reward one decision later."""
    trace: float
    """λ of generalised advantage estimation, 0 (one-step) to 1 (Monte Carlo)."""
    clip: float
    """ε of the clipped surrogate, usually 0.1 to 0.3."""
    weight_max: float
    """`decoupled` and `vtrace`: importance weights are cut off here (ρ̄ and c̄), usually 1 to 2."""
    log_ratio_max: float
    """Log-ratios are clamped to ± this, in nats, so that no far-off row overflows: usually 10 to 50."""
    policy_coef: float
    """Weight of the surrogate, usually 1."""
    value_coef: float
    """Weight of the value loss, usually 0.5 to 1."""
    value_clip: float
    """Largest useful change of a value in an iteration, in standard deviations of the returns (in units of reward if
    `normalize_value` is off), usually 0.2. 0: no limit."""
    value_warmup: int
    """Iterations at the start in which only the value is learnt, by the parameters that nothing else depends on. The
    policy stays what it is, and nothing but the first weights is published."""
    normalize_value: bool
    """Predict values in units of the returns' running standard deviation (PopArt: van Hasselt et al. 2016)."""
    value_decay: float
    """0 to 1: how slowly these statistics follow, an iteration; usually 0.9 to 0.99."""
    entropy_coef: float
    """Weight of the entropy bonus, usually 0 to 0.02."""
    normalize_advantage: bool
    """Give the advantages of an iteration (all ranks) mean 0 and standard deviation 1."""


class OptimizerConfig(Section, frozen=True):
    """How the weights move."""

    learning_rate: float
    """Step size of AdamW, usually 1e-5 (large pre-trained) to 1e-3 (small, from scratch)."""
    anneal: bool
    """Let the learning rate fall linearly to 0 at the last iteration."""
    eps: float
    """Term in AdamW's denominator, usually 1e-8 to 1e-5."""
    weight_decay: float
    """AdamW's decoupled decay, usually 0 to 0.05."""
    max_grad_norm: float
    """Gradients are scaled down to this L2 norm."""
    context_length: int
    """Rows that gradients flow back through: fragments are cut into sequences of so many, each beginning with the
    memory that the one before left. A divisor of `fragment.length`; 0 is the whole fragment."""
    epochs: int
    """Passes over the fragments of an iteration."""
    minibatches: int
    """Optimiser steps a pass; a rank's share of sequences is split into so many parts."""
    accumulate: int
    """Parts that a minibatch is evaluated in, one after the other: the same gradient with less memory."""
    max_bad_steps: int
    """Optimiser steps with a gradient that is not finite are skipped; so many in a row end the run."""


class ReferenceConfig(Section, frozen=True):
    """A frozen policy that the learner is kept close to."""

    kl_coef: float
    """ρ, weight of KL(policy || reference), usually 0.01 to 1. 0: there is no reference."""
    kl_decay: float
    """ρ is multiplied by this after each iteration, usually 0.999 to 1."""
    checkpoint: str | None
    """File with the reference's weights; None is a copy of the policy that the run begins with."""
    refresh_every: int
    """Iterations after which the reference becomes a copy of the present policy; 0 never."""


class OfflineConfig(Section, frozen=True):
    """Behaviour cloning of recorded fragments, beside PPO."""

    folder: str | None
    """What `python -m mineonline.collect checkpoint=... record=<folder>` wrote. None: no cloning."""
    coef: float
    """Weight of the mean -log π of the recorded actions, usually 0.01 to 1."""
    fragments: int
    """Recorded fragments that each optimiser step looks at."""


class NetworkConfig(Section, frozen=True):
    """Where the trainer listens."""

    host: str | None
    """None: only this machine, through unix sockets. An address of this machine: collectors elsewhere may join by tcp,
    authenticated with the keys in the run folder."""
    port: int
    """Port of the join socket when `host` is given; 0 takes a free one."""


class VideoConfig(Section, frozen=True):
    """Recordings of whole episodes."""

    every: int
    """Iterations between two videos; 0 records none."""


class CheckpointConfig(Section, frozen=True):
    """What is kept on disk."""

    every: int
    """Iterations between two saves of `checkpoints/last.ckpt`."""
    keep_every: int
    """Iterations between two checkpoints that are kept for good as `checkpoints/<iteration>.ckpt`; 0 keeps none."""


class WandbConfig(Section, frozen=True):
    """Used when `logger` names `wandb`."""

    project: str
    entity: str | None
    """Team or user; None is the account's default."""
    name: str | None
    """Shown name of the run; None uses the name of the run folder."""


LoggerName = Literal["csv", "tensorboard", "wandb"]


class Config(Section, frozen=True):
    """A whole run."""

    iterations: int
    """PPO iterations after which training ends. One iteration learns from `buffer.fragments_per_iteration`."""
    seed: int
    run_dir: str | None
    """Folder of everything that the run writes; None is a new one, or the checkpoint's."""
    checkpoint: str | None
    """File to resume from. On the command line also a run folder, whose newest it is, or `latest`: the newest of
    `run_dir`, or without one of the runs under `runs/`."""
    init_from: str | None
    """Checkpoint whose policy the run begins with; everything else begins anew."""
    env: EnvConfig
    task: Task | None
    """None for environments that bring their own (`env=gym`, `env=crafter`)."""
    policy: PolicyConfig
    collector: CollectorConfig
    fragment: FragmentConfig
    buffer: BufferConfig
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    reference: ReferenceConfig
    offline: OfflineConfig
    network: NetworkConfig
    video: VideoConfig
    checkpointing: CheckpointConfig
    wandb: WandbConfig
    logger: list[LoggerName]
    """`csv` is always written as `metrics.csv`; the others are added."""
    torch_threads: int
    """Threads of each trainer process. 0: the cores that collector workers leave, at least one."""
    learner: dict[str, Any]
    """The class of the LightningModule, `{_target_: my_package.MyPPO}`: `mineonline.learning.module.PPO` or a subclass
    of it."""
    callbacks: list[dict[str, Any]]
    """Lightning callbacks of your own: `{_target_: my_package.MyCallback, ...}` each. Added after the built-in ones."""
    trainer: dict[str, Any]
    """Keyword arguments of `lightning.Trainer`."""


def trainer_threads(config: Config) -> int:
    """Threads of a trainer process: as set, or the cores that the local collectors' workers leave."""
    if config.torch_threads:
        return config.torch_threads
    busy = config.collector.count * config.collector.workers * config.collector.torch_threads
    return max(1, len(os.sched_getaffinity(0)) - busy)
