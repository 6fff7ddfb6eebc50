"""Every setting of a run, typed. `conf/` holds the values; this file says what each one means.

Hydra's DictConfig ends at the command line: `parse_config` (parsing.py) turns it into these structs once, and all other
code takes the structs. A key that is not a field here is an error that names the key's path. The sections `env` and
`task` are described in `envs/settings.py` and `envs/tasks.py`.
"""

from __future__ import annotations

import os
from typing import Any, Literal

import msgspec

from mineonline.envs.settings import EnvConfig, Section
from mineonline.envs.task_mix import TaskMix, WeightedTask
from mineonline.envs.tasks import Task
from mineonline.errors import ConfigError


class TinyPolicyConfig(Section, frozen=True, tag="tiny", tag_field="kind"):
    """A small convolutional network for pictures."""

    memory: Literal["none", "gru"]
    """`gru` carries a recurrent state through each episode."""
    head: Literal["factored", "joint"]
    """How MineStudio's 8641 x 121 actions are chosen: `factored`, an independent choice in each group of buttons and
    for the camera, or `joint`, two flat categoricals."""
    hidden_size: int
    """Width of the last layer, and of the recurrent state."""
    zero_initial_value: bool
    """Start with value 0 everywhere instead of small random values: for a policy that was trained before."""
    channels: list[int]
    """Channels of the three convolutions."""
    task_embedding: int = 0
    """In a run of several tasks: numbers that it learns for each of them, usually 8 to 64, and reads beside the
    picture. 0: it must see from the picture, or from `task.vector`, what to do."""


class MlpPolicyConfig(Section, frozen=True, tag="mlp", tag_field="kind"):
    """A fully connected network for vectors of numbers."""

    hidden_sizes: list[int]
    """Width of each tanh layer; actor and critic have separate towers of these."""
    zero_initial_value: bool
    """Start with value 0 everywhere."""


class VptPolicyConfig(Section, frozen=True, tag="vpt", tag_field="kind"):
    """MineStudio's VPT (Baker et al. 2022): 128x128 pictures, a memory of the last 128 rows, 8641 x 121 actions."""

    size: Literal["mini", "1x", "2x", "3x"] | None
    """`1x`, `2x` and `3x`: 71, 249 and 533 million parameters, as published. `mini`: 1.2 million, for trying things
    out; no trained weights exist. None: `model` or `kwargs` gives all arguments."""
    model: str | None
    """MineStudio's `.model` file: the network's arguments, in place of `size`."""
    weights: str | None
    """MineStudio's `.weights` file, which the policy starts with; only the trainer needs it. None: random weights."""
    kwargs: dict[str, Any]
    """Arguments of MineStudio's `MinecraftPolicy`; they override those of `size` or `model`."""
    temperature: float | None
    """What logits are divided by. None: the `.model` file's temperature, or 2."""
    zero_initial_value: bool
    """Start with value 0 everywhere, even if `weights` holds a value head."""
    checkpointing: int
    """Gradient checkpointing: the picture network keeps the activations of this many rows at a time, and computes those
    of the others again when gradients flow; usually 16 to 128. Saves 0.03 GB a row with 1x, 0.07 with 2x, for a third
    more computation. 0: all are kept."""
    any_pace: bool
    """Play `weights` also with `task.action_repeat` > 1, a pace at which they were never trained."""


class OwnPolicyConfig(Section, frozen=True, tag="own", tag_field="kind"):
    """A policy class of your own."""

    target: str = msgspec.field(name="_target_")
    """Import path of the class, for example `my_package.MyPolicy`: a subclass of `mineonline.Policy`. It is called with
    the environment's `EnvSpec`, and trainer and collectors must be able to import it."""
    kwargs: dict[str, Any]
    """Further keyword arguments of the class."""


PolicyConfig = TinyPolicyConfig | MlpPolicyConfig | VptPolicyConfig | OwnPolicyConfig


class CollectorConfig(Section, frozen=True):
    """The processes that play."""

    count: int
    """Collector processes that the trainer starts and supervises. 0: start none, and wait for collectors to join."""
    spare: bool
    """Keep one more collector process that has done its imports and waits, for 520 MB of memory: it takes the place of
    the next one that ends, within 2 s instead of many."""
    workers: int
    """Processes per collector that step environments, each with its own copy of the policy. Where environments are
    stepped together, the workers of a collector wait for each other at the end of a rollout."""
    mode: Literal["async", "lockstep"]
    """`async`: collectors keep playing while the learner learns (the lag is usually about 1). `lockstep`: after the
    fragments of an iteration they wait for the weights learnt from them (lag 0, half the speed). It needs a single
    trainer process, and the seed then determines the whole run."""
    envs_per_worker: int
    """Environments that each worker steps; its policy decides for all of them in one forward pass."""
    batch_min: int
    """Environments of a worker that the policy decides for at once, where each plays at its own pace (`env=minestudio`,
    slow games of `env=gym`, `env=synthetic`, classes of `env=own` that are made for it): it waits for so many, but not
    longer than two of its forward passes. 0: a quarter of `envs_per_worker`."""
    device: str
    """Where the workers' policy runs, for example `cpu` or `cuda:0`."""
    torch_threads: int
    """CPU threads of each worker's policy."""
    batch_timeout_s: float
    """A rollout that takes longer counts as a hang: the workers are replaced. Set it to several times what
    `fragment.length` decisions of the slowest environment take."""
    start_timeout_s: float
    """The same for the first rollout, which includes starting the environments, and for a collector of the trainer's
    own until it has joined."""
    max_failures: int
    """The run stops when a collector has failed this many times in a row without sending a fragment in between."""


class FragmentConfig(Section, frozen=True):
    """The unit of experience: consecutive rows of one environment (see `mineonline/fragment.py`)."""

    length: int
    """Rows in a fragment (T); nearly every row is a decision."""


class BufferConfig(Section, frozen=True):
    """How many fragments wait between collectors and learner, and which are too old to learn from."""

    fragments_per_iteration: int
    """Fragments that one PPO iteration learns from, over all ranks."""
    capacity: int
    """Fragments that each rank holds at most; when all ranks are full, collectors wait. 0: as many as one batch."""
    storage: Literal["memory", "disk"]
    """Where they wait. `disk`, for buffers larger than memory: a file in the run folder with room for `capacity`
    fragments, which is gone when the process ends."""
    max_staleness: int
    """Fragments with more lag than this, in versions, are dropped and counted."""
    max_reuse: int
    """Iterations that may use the same fragment. 1 is on-policy PPO."""
    silence_s: float
    """The run stops with an error when the learner waits and nothing has arrived for this long. With
    `collector.count=0` there is no limit until the first fragment arrives."""


class ObjectiveConfig(Section, frozen=True):
    """What PPO optimises (Schulman et al. 2017)."""

    kind: Literal["ppo", "decoupled", "vtrace"]
    """How fragments of older weights are corrected; without lag all three are the same. `ppo`: the clipped ratio is
    taken against the behaviour policy. `decoupled`: it is taken against the proximal policy (the weights at the start
    of the iteration), and the loss is weighted by the ratio of the proximal to the behaviour policy (Hilton et al.
    2022). `vtrace`: as `decoupled`, and advantages and returns are corrected too (Espeholt et al. 2018)."""
    reward_scale: float
    """What the learner multiplies every reward by; usually 1, as `normalize_value` copes with any scale. What is
    reported (`episode/return`) stays as it is."""
    reward_clip: float
    """Rewards, once scaled, are clipped to ± this; usually 1 or 10 (Mnih et al. 2015 clip to 1). 0: no limit."""
    discount: float
    """γ, 0 to 1: what a reward one decision later is worth now. Null: from `horizon_s`."""
    horizon_s: float
    """How far ahead rewards count, in seconds of the game: γ is 1 - (seconds between decisions / horizon), whatever
    `task.action_repeat` is. Unused where `discount` is given."""
    trace: float
    """λ of generalised advantage estimation, 0 (one-step) to 1 (Monte Carlo)."""
    clip: float
    """ε of the clipped surrogate, usually 0.1 to 0.3."""
    weight_max: float
    """`decoupled` and `vtrace`: importance weights are truncated to this (ρ̄ and c̄), usually 1 to 2."""
    log_ratio_max: float
    """Log-ratios are clamped to ± this, in nats, so that an extreme row does not overflow; usually 10 to 50."""
    policy_coef: float
    """Weight of the policy loss (the clipped surrogate), usually 1."""
    value_coef: float
    """Weight of the value loss, usually 0.5 to 1."""
    value_clip: float
    """A value gains nothing by moving further than this in one iteration. In standard deviations of the returns (in
    units of reward if `normalize_value` is off), usually 0.2. 0: no limit."""
    value_warmup: int
    """Iterations at the start that train only the value, and only the parameters that nothing else depends on. The
    policy does not change, and only the first weights are published."""
    normalize_value: bool
    """Predict values in units of the returns' running standard deviation (PopArt: van Hasselt et al. 2016): rewards of
    any scale learn alike. Off: the value loss grows with the square of the rewards, and drowns the policy loss."""
    value_decay: float
    """Decay of these statistics per iteration, 0 (the newest returns alone) to less than 1; usually 0.9 to 0.99."""
    entropy_coef: float
    """Weight of the entropy bonus, usually 0 to 0.02."""
    normalize_advantage: bool
    """Scale the advantages of an iteration, over all ranks, to mean 0 and standard deviation 1."""


class OptimizerConfig(Section, frozen=True):
    """How the weights are updated."""

    learning_rate: float
    """Step size of AdamW, usually 1e-5 (large pre-trained) to 1e-3 (small, from scratch)."""
    learning_rates: dict[str, float]
    """Learning rates of parts of the policy, by pattern of their parameters' names (`fnmatch`, the first that matches
    counts), for example `{net.*: 1e-5}`. The others have `learning_rate`."""
    frozen: list[str]
    """Patterns of the parameters that are not trained, for example `[net.img_process.*]`."""
    warmup: int
    """Iterations at the start in which all learning rates rise linearly; usually 0 to 100."""
    anneal: bool
    """Lower the learning rate linearly, to 0 at the end of the run."""
    eps: float
    """ε in AdamW's denominator, usually 1e-8 to 1e-5."""
    weight_decay: float
    """AdamW's decoupled weight decay, usually 0 to 0.05."""
    max_grad_norm: float
    """Gradients with a larger L2 norm are scaled down to it."""
    context_length: int
    """Rows that gradients flow back through: fragments are cut into sequences of this many rows, and each starts with
    the memory that the one before left. A divisor of `fragment.length`; 0 is the whole fragment."""
    epochs: int
    """Passes over the batch in each iteration."""
    target_kl: float
    """An iteration ends, on all ranks, before an optimiser step whose minibatch shows that the policy has moved further
    than this since the iteration began: estimated KL in nats, usually 0.01 to 0.05. 0: no limit."""
    minibatches: int
    """Optimiser steps per epoch: each rank splits the sequences of its batch into this many minibatches."""
    accumulate: int
    """Parts that each minibatch is split into, evaluated one after the other: the same gradient with less memory."""
    compile: bool
    """Compile the learner's networks with `torch.compile`: the first iterations take minutes. Not measured on a
    GPU yet."""
    max_bad_steps: int
    """Optimiser steps whose gradient is not finite are skipped; this many in a row end the run. So do more than this
    many fragments in a row that are refused because their numbers are not finite."""


class AuxiliaryConfig(Section, frozen=True):
    """Phasic policy gradient (Cobbe et al. 2021), as in VPT's reinforcement learning (Baker et al. 2022, appendix G).

    After some iterations, an auxiliary phase trains the value further on the iteration's batch, while a KL term keeps
    the policy. Where policy and value share a network, the value's gradient reaches what they share in these phases
    only (Cobbe et al., section 3.4).
    """

    every: int
    """Iterations between two auxiliary phases, usually 1 to 32. 0: none."""
    epochs: int
    """Passes over the iteration's batch in each phase, usually 1 to 6."""
    kl_coef: float
    """Weight of KL(policy before the phase || policy), usually 1. The value's weight is `objective.value_coef`."""


class ReferenceConfig(Section, frozen=True):
    """A frozen policy that the learner's policy is kept close to."""

    kl_coef: float
    """ρ, the weight of the KL divergence from the reference, usually 0.01 to 1. 0: no reference policy."""
    direction: Literal["policy_reference", "reference_policy"]
    """`policy_reference`: KL(policy || reference), as in MineStudio; the policy avoids what the reference would not do.
    `reference_policy`: KL(reference || policy), as in VPT's paper; it keeps all that the reference would do."""
    kl_target: float
    """ρ is raised or lowered by up to 2 % an iteration, to bring the divergence to this many nats (Ziegler et al.
    2019, section 2.2). 0: ρ is not adapted."""
    kl_decay: float
    """ρ is multiplied by this after each iteration, usually 0.999 to 1."""
    checkpoint: str | None
    """Checkpoint with the reference's weights. None: a copy of the policy that the run starts with."""
    refresh_every: int
    """Every this many iterations the reference becomes a copy of the current policy. 0: never."""


class OfflineConfig(Section, frozen=True):
    """Behaviour cloning of recorded fragments, in addition to PPO."""

    folder: str | None
    """Folder that `python -m mineonline.collect checkpoint=... record=<folder>` wrote. None: no cloning."""
    coef: float
    """Weight of the mean -log π of the recorded actions, usually 0.01 to 1."""
    fragments: int
    """Recorded fragments that each optimiser step draws at random."""


class WeightsConfig(Section, frozen=True):
    """How the learner's weights reach the collectors."""

    dtype: Literal["float32", "bfloat16"]
    """Of the policy's parameters in messages. `bfloat16` halves what is sent. Collectors then play with the rounded
    parameters: the ratio is exact, since it is taken to what they played with, but it is not 1 at lag 0."""


class NetworkConfig(Section, frozen=True):
    """Where the trainer listens for collectors."""

    host: str | None
    """None: collectors on this machine only, over unix sockets. An address of this machine (IPv4, IPv6, a host name),
    or the name of a network interface that all nodes have, such as `ib0`: collectors elsewhere can join too, over tcp,
    authenticated with the keys in the run folder. `auto`: each rank uses the address of its machine that others reach
    it by. With `trainer.num_nodes` > 1 it must be given."""
    port: int
    """Port of the join server when `host` is given. 0: any free port."""
    ranks_timeout_s: float
    """Seconds that a trainer process waits for the others at the start, 60 to 900: nodes may load files slowly."""


class VideoConfig(Section, frozen=True):
    """Recordings of whole episodes."""

    every: int
    """Iterations between two videos. 0: none."""


class CheckpointConfig(Section, frozen=True):
    """Which checkpoints are kept, and what happens when one cannot be saved."""

    every: int
    """Iterations between two saves of `checkpoints/last.ckpt`."""
    keep_every: int
    """Iterations between two checkpoints that are also kept for good, as `checkpoints/<iteration>.ckpt`. 0: none."""
    on_error: Literal["continue", "stop"]
    """What to do when a checkpoint cannot be saved, for example because the disk is full. The one before it stays as it
    was, either way. `continue`: warn, count it in the metric `checkpoint_failures`, and try again when the next one is
    due, so that a disk that is full for an hour costs a long run nothing. `stop`: end the run with an error, for
    machines that must not work on what may be lost. At the end of a run it is always an error."""


class WandbConfig(Section, frozen=True):
    """Weights & Biases, used when `logger` names `wandb`."""

    project: str
    """Project that the run belongs to."""
    entity: str | None
    """Team or user. None: the account's default."""
    name: str | None
    """Name of the run. None: the name of the run folder."""
    group: str | None
    """Group of runs that belong together, such as the seeds of an experiment. None: no group."""
    tags: list[str]
    """To find runs by."""
    notes: str | None
    """What the run is about, in a sentence or more."""


class SweepConfig(Section, frozen=True):
    """What a job of a sweep (`-m`) tells the sweeper: how well its settings do."""

    metric: str
    """A metric of `docs/metrics.md`, or one that a callback of yours logs."""
    last: int
    """The mean over the last so many iterations counts, those in which the metric is unknown left out; usually 1 to
    100."""


LoggerName = Literal["csv", "tensorboard", "wandb"]


class Config(Section, frozen=True):
    """A whole run."""

    iterations: int
    """PPO iterations after which training ends; each learns from `buffer.fragments_per_iteration` fragments."""
    seed: int
    """Decides the first weights, the environments' episodes and the sampled actions. In lockstep it determines the
    whole run."""
    run_dir: str | None
    """Folder for everything that the run writes. None: a new one, or that of `checkpoint`."""
    checkpoint: str | None
    """Checkpoint file to resume from. On the command line also a run folder, for its newest checkpoint, or `latest`:
    the newest of `run_dir`, or without `run_dir` that of the run under `runs/` that saved last."""
    init_from: str | None
    """Checkpoint whose policy the run starts with; everything else starts from scratch."""
    env: EnvConfig
    task: Task | None
    """None for environments with a task of their own (`env=gym`, `env=crafter`, `env=own`, `env=synthetic`), and where
    there are several `tasks`."""
    policy: PolicyConfig
    collector: CollectorConfig
    fragment: FragmentConfig
    buffer: BufferConfig
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    auxiliary: AuxiliaryConfig
    reference: ReferenceConfig
    offline: OfflineConfig
    weights: WeightsConfig
    network: NetworkConfig
    video: VideoConfig
    checkpointing: CheckpointConfig
    wandb: WandbConfig
    sweep: SweepConfig
    logger: list[LoggerName | dict[str, Any]]
    """`csv` (the file `metrics.csv`) is always written; the others are added to it. Any other logger of Lightning's as
    `{_target_: lightning.pytorch.loggers.MLFlowLogger, ...}` with its arguments."""
    torch_threads: int
    """CPU threads of each trainer process. 0: the cores that collector workers leave free, at least one."""
    learner: dict[str, Any]
    """Class of the learner, a LightningModule, as `{_target_: my_package.MyPPO}`: `mineonline.PPO` or a
    subclass of it."""
    callbacks: list[dict[str, Any]]
    """Lightning callbacks of your own, each `{_target_: my_package.MyCallback, ...}`; they run after the built-in
    ones."""
    trainer: dict[str, Any]
    """Keyword arguments of `lightning.Trainer`. `max_time` (days:hours:minutes:seconds of training, over all sessions)
    and `max_steps` (optimiser steps, of which an iteration has `optimizer.epochs` x `optimizer.minibatches`) end a run
    after the iteration in which they are reached: it is saved and can be continued. There are no epochs, see
    `iterations`."""
    tasks: dict[str, WeightedTask] = msgspec.field(default_factory=dict)
    """Several tasks in one run, by name. On the command line the names of their files, with weights that say how much
    of the run each gets (`{hunt_cow: 2, chop_tree: 1}`), or without (`[hunt_cow, chop_tree]`): all the same."""
    task_lasts: Literal["run", "episode"] = "run"
    """How long an environment keeps its task. `run`: for good; the shares of environments are exact as far as their
    number divides. `episode`: a task is drawn for each episode, from the seed (not with `env=minestudio`)."""

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """The task, or all of them; none for environments with a task of their own."""
        return tuple(each.task for each in self.tasks.values()) if self.tasks else (self.task,) if self.task else ()

    @property
    def played(self) -> Task | TaskMix | None:
        """What `env_spec` and `build_env` take."""
        if not self.tasks:
            return self.task
        return TaskMix(self.all_tasks, tuple(each.weight for each in self.tasks.values()), self.task_lasts)


def on_task(config: Config, task: Task) -> Config:
    """The same settings, with nothing but `task` to play. A policy of several tasks is still told which one it is.

    ConfigError if it could not be told, because this is none of the tasks that it was trained on.
    """
    if not config.tasks:
        return msgspec.structs.replace(config, task=task)
    embeds = isinstance(config.policy, TinyPolicyConfig) and config.policy.task_embedding > 0
    if embeds and task.name not in config.tasks:
        raise ConfigError(
            f"tasks: the policy has learnt numbers for each of its tasks (policy.task_embedding), and so has none for "
            f"{task.name}. It knows: {', '.join(config.tasks)}."
        )
    length = len(config.all_tasks[0].vector)
    if length not in (0, len(task.vector)):
        raise ConfigError(
            f"tasks: the policy reads a vector of {length} numbers for each task, but that of {task.name} has "
            f"{len(task.vector)}. Give its file a `vector`."
        )
    others = {name: WeightedTask(0, each.task) for name, each in config.tasks.items()}
    return msgspec.structs.replace(config, tasks={**others, task.name: WeightedTask(1, task)})


def trainer_threads(config: Config) -> int:
    """CPU threads of a trainer process: as set, or the cores that the local collectors' workers leave free."""
    if config.torch_threads:
        return config.torch_threads
    busy = config.collector.count * config.collector.workers * config.collector.torch_threads
    return max(1, len(os.sched_getaffinity(0)) - busy)
