"""Every setting of a run, typed. `conf/` holds the values; this file says what each one means.

Hydra's DictConfig ends at the entry points: they call `parse_config` once, and everyone else takes these structs. A
key that is not a field here is an error that names its path. Checks that concern several fields are in
`check_config`.
"""

from __future__ import annotations

import difflib
import os
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from mineonline.envs.tasks import Task, parse_task
from mineonline.errors import ConfigError


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class WorldEnvConfig(_Section, frozen=True, tag="world", tag_field="kind"):
    """The embedded voxel world."""

    image_size: tuple[int, int]
    """Width and height of the picture that the policy sees, in pixels."""
    video_size: tuple[int, int]
    """Width and height of the frames of videos, in pixels."""


class GymEnvConfig(_Section, frozen=True, tag="gym", tag_field="kind"):
    """Any gymnasium environment with a Box observation and a Discrete or MultiDiscrete action."""

    id: str
    """Registered name, for example `CartPole-v1`."""
    kwargs: dict[str, Any] = {}
    """Passed to `gymnasium.make`."""


class CrafterEnvConfig(_Section, frozen=True, tag="crafter", tag_field="kind"):
    """Crafter (Hafner 2021): 64x64 pictures and 17 actions."""

    time_limit_steps: int
    """Steps after which an episode is truncated; published results use 10000."""
    video_size: tuple[int, int]
    """Width and height of the frames of videos, in pixels."""


EnvConfig = WorldEnvConfig | GymEnvConfig | CrafterEnvConfig


class TinyPolicyConfig(_Section, frozen=True, tag="tiny", tag_field="kind"):
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


class MlpPolicyConfig(_Section, frozen=True, tag="mlp", tag_field="kind"):
    """A fully connected network for vectors of numbers."""

    hidden_sizes: list[int]
    """Width of each tanh layer; actor and critic have a tower each."""
    zero_initial_value: bool
    """Begin with value 0 everywhere."""


PolicyConfig = TinyPolicyConfig | MlpPolicyConfig


class CollectorConfig(_Section, frozen=True):
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


class FragmentConfig(_Section, frozen=True):
    """The unit of experience: consecutive steps of one environment."""

    length: int
    """Steps in a fragment (T)."""


class BufferConfig(_Section, frozen=True):
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


class ObjectiveConfig(_Section, frozen=True):
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


class OptimizerConfig(_Section, frozen=True):
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


class ReferenceConfig(_Section, frozen=True):
    """A frozen policy that the learner is kept close to."""

    kl_coef: float
    """ρ, weight of KL(policy || reference), usually 0.01 to 1. 0: there is no reference."""
    kl_decay: float
    """ρ is multiplied by this after each iteration, usually 0.999 to 1."""
    checkpoint: str | None
    """File with the reference's weights; None is a copy of the policy that the run begins with."""
    refresh_every: int
    """Iterations after which the reference becomes a copy of the present policy; 0 never."""


class OfflineConfig(_Section, frozen=True):
    """Behaviour cloning of recorded fragments, beside PPO."""

    folder: str | None
    """What `python -m mineonline.collect checkpoint=... record=<folder>` wrote. None: no cloning."""
    coef: float
    """Weight of the mean -log π of the recorded actions, usually 0.01 to 1."""
    fragments: int
    """Recorded fragments that each optimiser step looks at."""


class NetworkConfig(_Section, frozen=True):
    """Where the trainer listens."""

    host: str | None
    """None: only this machine, through unix sockets. An address of this machine: collectors elsewhere may join by tcp,
    authenticated with the keys in the run folder."""
    port: int
    """Port of the join socket when `host` is given; 0 takes a free one."""


class VideoConfig(_Section, frozen=True):
    """Recordings of whole episodes."""

    every: int
    """Iterations between two videos; 0 records none."""


class CheckpointConfig(_Section, frozen=True):
    """What is kept on disk."""

    every: int
    """Iterations between two saves of `checkpoints/last.ckpt`."""
    keep_every: int
    """Iterations between two checkpoints that are kept for good as `checkpoints/<iteration>.ckpt`; 0 keeps none."""


class WandbConfig(_Section, frozen=True):
    """Used when `logger` names `wandb`."""

    project: str
    entity: str | None
    """Team or user; None is the account's default."""
    name: str | None
    """Shown name of the run; None uses the name of the run folder."""


LoggerName = Literal["csv", "tensorboard", "wandb"]


class Config(_Section, frozen=True):
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


def parse_config(data: Mapping[str, Any]) -> Config:
    """The typed settings of `data` (plain dicts and lists). ConfigError names the key that does not fit."""
    values = dict(data)
    if isinstance(values.get("logger"), str):
        values["logger"] = [values["logger"]]
    task = values.pop("task", None)
    env_kind = (values.get("env") or {}).get("kind")
    try:
        config = msgspec.convert({**values, "task": None}, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), values)) from None
    if env_kind == "world":
        config = msgspec.structs.replace(config, task=parse_task(task or {}))
    check_config(config)
    return config


def check_config(config: Config) -> None:
    """Raise ConfigError where settings that are each legal cannot work together."""
    positive = {
        **({"env.time_limit_steps": config.env.time_limit_steps} if isinstance(config.env, CrafterEnvConfig) else {}),
        "iterations": config.iterations,
        "collector.workers": config.collector.workers,
        "collector.envs_per_worker": config.collector.envs_per_worker,
        "collector.torch_threads": config.collector.torch_threads,
        "collector.max_failures": config.collector.max_failures,
        "fragment.length": config.fragment.length,
        "buffer.fragments_per_iteration": config.buffer.fragments_per_iteration,
        "buffer.max_reuse": config.buffer.max_reuse,
        "optimizer.epochs": config.optimizer.epochs,
        "optimizer.minibatches": config.optimizer.minibatches,
        "optimizer.accumulate": config.optimizer.accumulate,
        "offline.fragments": config.offline.fragments,
        "optimizer.max_bad_steps": config.optimizer.max_bad_steps,
        "checkpointing.every": config.checkpointing.every,
    }
    for key, value in positive.items():
        if value < 1:
            raise ConfigError(f"{key}={value}: must be at least 1.")
    for key, amount in {
        "collector.count": config.collector.count,
        "seed": config.seed,
        "objective.value_warmup": config.objective.value_warmup,
        "objective.value_clip": config.objective.value_clip,
        "objective.policy_coef": config.objective.policy_coef,
        "objective.value_coef": config.objective.value_coef,
        "optimizer.context_length": config.optimizer.context_length,
        "reference.kl_coef": config.reference.kl_coef,
        "reference.kl_decay": config.reference.kl_decay,
        "reference.refresh_every": config.reference.refresh_every,
        "offline.coef": config.offline.coef,
        "buffer.max_staleness": config.buffer.max_staleness,
        "video.every": config.video.every,
    }.items():
        if amount < 0:
            raise ConfigError(f"{key}={amount:g}: must be 0 or more.")
    for key, seconds in {
        "buffer.silence_s": config.buffer.silence_s,
        "collector.batch_timeout_s": config.collector.batch_timeout_s,
        "collector.start_timeout_s": config.collector.start_timeout_s,
    }.items():
        if seconds <= 0:
            raise ConfigError(f"{key}={seconds:g}: must be more than 0 seconds.")
    for key, share in {
        "objective.discount": config.objective.discount,
        "objective.trace": config.objective.trace,
        "objective.value_decay": config.objective.value_decay,
    }.items():
        if not 0 <= share <= 1:
            raise ConfigError(f"{key}={share}: must lie between 0 and 1.")
    for key, limit in {
        "objective.clip": config.objective.clip,
        "objective.weight_max": config.objective.weight_max,
        "objective.log_ratio_max": config.objective.log_ratio_max,
        "optimizer.max_grad_norm": config.optimizer.max_grad_norm,
    }.items():
        if limit <= 0:
            raise ConfigError(f"{key}={limit:g}: must be more than 0.")
    context = config.optimizer.context_length
    if context and config.fragment.length % context:
        raise ConfigError(
            f"optimizer.context_length={context} does not divide fragment.length={config.fragment.length}. "
            "Give a divisor, or 0 for the whole fragment."
        )
    _check_policy_fits(config)
    _check_lockstep(config)


def check_shares(config: Config, ranks: int) -> None:
    """Raise ConfigError if an iteration cannot be shared out evenly among `ranks` trainer processes."""
    total = config.buffer.fragments_per_iteration
    if total % ranks:
        raise ConfigError(
            f"buffer.fragments_per_iteration={total} cannot be shared by {ranks} ranks. "
            f"Give a multiple of {ranks}, for example {(total // ranks + 1) * ranks}."
        )
    share = total // ranks
    sequences = share * config.fragment.length // (config.optimizer.context_length or config.fragment.length)
    parts = config.optimizer.minibatches * config.optimizer.accumulate
    if sequences % parts:
        raise ConfigError(
            f"optimizer.minibatches={config.optimizer.minibatches} in "
            f"optimizer.accumulate={config.optimizer.accumulate} parts do not divide a rank's {sequences} sequences "
            f"(buffer.fragments_per_iteration={total} over {ranks} ranks). Give numbers whose product divides "
            f"{sequences}."
        )
    if 0 < config.buffer.capacity < share:
        raise ConfigError(
            f"buffer.capacity={config.buffer.capacity} cannot hold a rank's share of an iteration: the learner would "
            f"wait for ever. Give at least {share}, or 0."
        )


def _check_policy_fits(config: Config) -> None:
    sizes = config.policy.hidden_sizes if isinstance(config.policy, MlpPolicyConfig) else [config.policy.hidden_size]
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"policy: hidden sizes are {sizes}; each must be at least 1.")
    if not isinstance(config.env, GymEnvConfig) and not isinstance(config.policy, TinyPolicyConfig):
        env = msgspec.to_builtins(config.env)["kind"]
        raise ConfigError(f"policy=mlp reads vectors, but env={env} shows pictures. Use policy=tiny.")
    if isinstance(config.policy, TinyPolicyConfig):
        channels = config.policy.channels
        if len(channels) != 3 or min(channels) < 1:
            raise ConfigError(f"policy.channels={channels}: must be three numbers of at least 1.")


def _check_lockstep(config: Config) -> None:
    if config.collector.mode != "lockstep":
        return
    environments = config.collector.count * config.collector.workers * config.collector.envs_per_worker
    if not environments or config.buffer.fragments_per_iteration % environments:
        raise ConfigError(
            f"collector.mode=lockstep: an iteration must learn from equally many fragments of each environment, but "
            f"buffer.fragments_per_iteration={config.buffer.fragments_per_iteration} and there are {environments} "
            "environments (collector.count x workers x envs_per_worker). Give a multiple of these."
        )
    if config.objective.value_warmup or config.buffer.max_reuse > 1:
        raise ConfigError(
            "collector.mode=lockstep waits for new weights after each iteration's share, which objective.value_warmup "
            "does not publish and buffer.max_reuse does not need. Set them to 0 and 1, or collector.mode=async."
        )


def trainer_threads(config: Config) -> int:
    """Threads of a trainer process: as set, or the cores that the local collectors' workers leave."""
    if config.torch_threads:
        return config.torch_threads
    busy = config.collector.count * config.collector.workers * config.collector.torch_threads
    return max(1, len(os.sched_getaffinity(0)) - busy)


def _explain(message: str, values: Mapping[str, Any]) -> str:
    """Rewrite msgspec's message so that it names the key as typed on the command line."""
    text, _, path = message.partition(" - at ")
    key = path.strip("`").removeprefix("$").removeprefix(".") or ""
    unknown = re.search(r"unknown field `(.+?)`", text)
    if unknown:
        name = unknown.group(1)
        full = f"{key}.{name}" if key else name
        return f"{full}: there is no such key.{_suggest(name, _field_names(key))}"
    missing = re.search(r"missing required field `(.+?)`", text)
    if missing:
        return f"{key + '.' if key else ''}{missing.group(1)}: a value is missing."
    kind = re.search(r"Invalid value '(.+?)'", text)
    if kind and key.endswith("kind"):
        return f"{key}={kind.group(1)}: there is no such {key.split('.')[0]}."
    word = re.search(r"Invalid enum value '(.+?)'", text)
    if word:
        plain_key = key.partition("[")[0]
        return f"{plain_key}={word.group(1)}: there is no such choice.{_suggest(word.group(1), _choices(key))}"
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else found
    return f"{key}={found!r}: {text[0].lower()}{text[1:]}." if key else f"{text}."


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{hint} There are: {', '.join(known)}."


def _field_names(section: str) -> list[str]:
    """Names of the settings directly under `section` ("" is the top), over all variants of that section."""
    return [field.name for field in _fields(section)]


def _fields(section: str) -> list[msgspec.structs.FieldInfo]:
    if not section:
        return list(msgspec.structs.fields(Config))
    hint = next((field.type for field in _fields("") if field.name == section.split(".")[0]), None)
    variants = [hint, *typing.get_args(hint)]
    return [
        field
        for variant in variants
        if isinstance(variant, type) and issubclass(variant, msgspec.Struct)
        for field in msgspec.structs.fields(variant)
    ]


def _choices(key: str) -> list[str]:
    """What a key whose values are words may be."""
    section, _, name = re.sub(r"\[.*", "", key).rpartition(".")
    hints = [field.type for field in _fields(section) if field.name == name]
    return [str(choice) for hint in hints for each in [hint, *typing.get_args(hint)] for choice in _words(each)]


def _words(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
