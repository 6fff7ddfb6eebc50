"""What saturates first, on paper? From costs that were measured, and what a cluster is said to have.

    python -m tests.benchmarks.plan gpus=64 policy=2x envs_per_worker=4
    python -m tests.benchmarks.plan collectors=50 policy=tiny gpus=0

Without `collectors`: for 1,000, 10,000 and 100,000 environments. A use is the part of a resource that is needed while
environments play at their own pace: above 100 % it slows them down, and the largest does so most. (A publisher's is at
the rate that results.) Each resource is taken by itself, as if all worked at the same time. CPU time is that of the
machine named in costs.json; to measure yours: python -m tests.benchmarks.measure_costs. What GPUs and network can do is
assumed, as given here: not verified.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta

from mineonline.errors import ConfigError
from mineonline.settings.command_line import parse_words, report_errors

COSTS_FILE = Path(__file__).with_name("costs.json")
ENVIRONMENTS = (1_000, 10_000, 100_000)


class Line(msgspec.Struct, frozen=True):
    """CPU seconds of a message: fixed_s + bytes x byte_s."""

    fixed_s: float
    byte_s: float

    def at(self, nbytes: float) -> float:
        return self.fixed_s + nbytes * self.byte_s


class PolicyCost(msgspec.Struct):
    """Of one policy. Seconds are CPU seconds of one thread."""

    parameters: int
    row_bytes: float
    """Of a row in a fragment."""
    memory_bytes: int
    """Of a fragment's memory."""
    flop: float
    """A forward pass, per row."""
    decide_call_s: float = 0.0
    """A decision of N environments takes decide_call_s + N x decide_row_s."""
    decide_row_s: float = 0.0
    step_s: float = 0.0
    """An iteration on R rows takes R x first_pass_s + epochs x (minibatches x step_s + R x epoch_s)."""
    first_pass_s: float = 0.0
    epoch_s: float = 0.0
    scaled_from: str = ""
    """The policy whose seconds were multiplied by the ratio of FLOP, where this one's were not measured."""


class Transport(msgspec.Struct, frozen=True):
    """CPU of fragments and of weights through one kind of socket; of weights, for each subscriber."""

    receiver: Line
    io: Line
    take: Line
    send: Line
    publish: Line
    join_s: float


class Costs(msgspec.Struct, frozen=True):
    """What `measure_costs` measured."""

    machine: str
    date: str
    copy_byte_s: float
    """Making a message of new weights."""
    transports: dict[str, Transport]
    policies: dict[str, PolicyCost]


Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys; those with a dot are named as in `mineonline.train`."""

    collectors: Annotated[int, Meta(ge=0, description="collector processes; 0: for 10^3 to 10^5 environments")] = 0
    workers: Annotated[Count, Meta(description="per collector")] = 2
    envs_per_worker: Annotated[Count, Meta(description="environments of a worker")] = 16
    collectors_per_node: Annotated[Count, Meta(description="which share a relay")] = 16
    relay: Annotated[bool, Meta(description="whether there is one on each node of collectors")] = True
    step_ms: Annotated[float, Meta(ge=0, description="of an environment, on average")] = 50.0
    jitter: Annotated[float, Meta(ge=0, description="sigma of the logarithm of that time")] = 0.0
    gpus: Annotated[int, Meta(ge=0, description="one rank each; 0: one rank on the CPU")] = 8
    ranks_per_node: Annotated[Count, Meta(description="trainer processes of a node, which share its network")] = 8
    policy: Annotated[str, Meta(description="one of those in costs.json: tiny, mini, 1x, 2x, 3x")] = "2x"
    reference: Annotated[bool, Meta(description="whether reference.kl_coef > 0")] = False
    collector_gpus: Annotated[int, Meta(ge=0, description="that workers decide on; 0: on the CPU")] = 0
    tflops: Annotated[Positive, Meta(description="of a GPU at its peak (312: A100, bfloat16)")] = 312.0
    utilisation: Annotated[float, Meta(gt=0, le=1, description="part of that which is reached (assumed)")] = 0.3
    nic_gbit: Annotated[Positive, Meta(description="a node's network in Gbit/s, each way")] = 100.0
    network: Annotated[Literal["tcp", "ipc"], Meta(description="ipc only on one machine")] = "tcp"
    length: Annotated[Count, Meta(description="rows of a fragment")] = msgspec.field(default=64, name="fragment.length")
    fragments: Annotated[int, Meta(ge=0, description="0: one of each environment")] = msgspec.field(
        default=0, name="buffer.fragments_per_iteration"
    )
    epochs: Annotated[Count, Meta(description="passes over a batch")] = msgspec.field(
        default=2, name="optimizer.epochs"
    )
    minibatches: Annotated[Count, Meta(description="optimiser steps of an epoch")] = msgspec.field(
        default=4, name="optimizer.minibatches"
    )
    dtype: Annotated[Literal["float32", "bfloat16"], Meta(description="of weights on the wire")] = msgspec.field(
        default="float32", name="weights.dtype"
    )


class Use(NamedTuple):
    """How much of a resource is needed while environments play at their own pace."""

    name: str
    share: float | None
    """1 is all of it; None for what does not saturate."""
    text: str
    change: str = ""


class Plan(NamedTuple):
    """Rates are rows per second over all environments."""

    environments: int
    pace: float
    """What environments, inference and sending alone allow."""
    rate: float
    """What the fullest resource allows too."""
    limit: str
    """What saturates first, and what to do about it."""
    uses: list[Use]


class Play(NamedTuple):
    """What environments and collectors do by themselves."""

    collectors: int
    wait_s: float
    """Of each decision: a worker waits for its environments, then decides; then its collector sends what was played."""
    decide_s: float
    send_s: float
    fragment: float
    """Bytes."""
    pace: float
    fragments_s: float
    """Fragments per second, and iterations per second."""
    iterations_s: float

    @property
    def decision_s(self) -> float:
        return self.wait_s + self.decide_s + self.send_s


def decision_s(policy: PolicyCost, s: Settings) -> float:
    """From an environment's answer to its next action. Those that answer together wait for one forward pass."""
    if not s.jitter or not s.step_ms:
        return policy.decide_call_s + s.envs_per_worker * policy.decide_row_s
    # a quarter of them at once; the wait for these and for the pass before is as long again (see async_player.py)
    return 2 * (policy.decide_call_s + max(1, s.envs_per_worker // 4) * policy.decide_row_s)


def play(policy: PolicyCost, wire: Transport, s: Settings, environments: int) -> Play:
    """How fast environments play while the trainer takes everything at once."""
    nets, per_collector = 1 + s.reference, s.workers * s.envs_per_worker
    fragment = policy.row_bytes * s.length + policy.memory_bytes * nets
    wait_s = s.step_ms / 1000
    # what a GPU adds to each decision is not measured: it counts by its FLOP alone, over all workers
    decide_s = 0.0 if s.collector_gpus else nets * decision_s(policy, s)
    # environments with a pace of their own play on while a rollout is sent
    send_s = 0.0 if s.step_ms else per_collector * wire.send.at(fragment) / s.length
    pace = environments / (wait_s + decide_s + send_s)
    fragments_s = pace / s.length
    return Play(
        math.ceil(environments / per_collector), wait_s, decide_s, send_s, fragment, pace, fragments_s,
        fragments_s / (s.fragments or environments),
    )  # fmt: skip


def plan(costs: Costs, s: Settings, environments: int) -> Plan:
    """What this many environments need, and what limits them. ConfigError for a policy without costs."""
    policy = costs.policies.get(s.policy)
    if policy is None:
        raise ConfigError(f"policy={s.policy}: no costs of it. There are: {', '.join(costs.policies)}.")
    playing = play(policy, costs.transports[s.network], s, environments)
    uses = uses_of(costs, policy, s, playing)
    fullest = max((use for use in uses if use.share is not None), key=lambda use: use.share or 0.0)
    assert fullest.share is not None
    held_up = max(1.0, fullest.share)
    if fullest.share > 1:
        limit = f"{fullest.name} ({fullest.share:.0%}): {fullest.change}"
    else:
        _, name, change = max(
            (playing.wait_s, "environments", "add collectors"),
            (playing.decide_s, "inference", "collector_gpus, a smaller policy, or fewer envs_per_worker"),
            (playing.send_s, "sending", "fewer workers in a collector, more collectors"),
        )
        limit = f"{name} (of the rest, {fullest.name} is the fullest, {fullest.share:.0%}): {change}"
    published = publishers(costs, policy, s, playing, held_up)
    late = published[0 if not s.relay else 1]
    if late.share is not None and late.share > 1:
        limit += f". Weights are late: {late.name} ({late.share:.0%}): {late.change}"
    buffered = 2 * (s.fragments or environments) * playing.fragment / max(s.gpus, 1)
    memory = Use("memory of a rank: buffer, batch", None, f"{buffered / 1e9:,.1f} GB")
    return Plan(environments, playing.pace, playing.pace / held_up, limit, [*uses, *published, memory])


def uses_of(costs: Costs, policy: PolicyCost, s: Settings, p: Play) -> list[Use]:
    """What experience passes through, in this order."""
    wire, ranks, nets = costs.transports[s.network], max(s.gpus, 1), 1 + s.reference
    nodes, nic, flop_s = math.ceil(ranks / s.ranks_per_node), s.nic_gbit * 1e9 / 8, s.tflops * 1e12 * s.utilisation
    taking = p.fragments_s * wire.take.at(p.fragment) / ranks
    if s.gpus:
        flop = p.pace * policy.flop * (nets + 3 * s.epochs)
        learner = Use("learner", taking + flop / (s.gpus * flop_s), f"{flop / 1e12:,.1f} TFLOP/s")
    else:
        row_s = policy.first_pass_s * nets + s.epochs * policy.epoch_s
        cpu = taking + p.pace * row_s + p.iterations_s * s.epochs * s.minibatches * policy.step_s
        learner = Use("learner", cpu, f"{row_s * 1e3:.2g} CPU ms a row")
    reduced = 2 * (nodes - 1) / nodes * 4 * policy.parameters * p.iterations_s * s.epochs * s.minibatches
    cores, gpus = p.collectors * s.workers * p.decide_s / p.decision_s, p.pace * policy.flop * nets / flop_s
    deciding = gpus / s.collector_gpus if s.collector_gpus else None
    return [
        Use("environments: part of a decision", None, f"{p.wait_s / p.decision_s:.0%}, {p.wait_s:.3g} s"),
        Use("inference: part of a decision", None, f"{p.decide_s / p.decision_s:.0%}, {p.decide_s:.3g} s"),
        Use("inference: cores, or GPUs", deciding, f"{cores:,.1f}, or {gpus:,.1f}",
            "more collector_gpus, or a smaller policy"),
        Use("network into a node of ranks", p.fragments_s * p.fragment / nodes / nic,
            f"{p.fragments_s * p.fragment / ranks / 1e9:,.3f} GB/s a rank", "more nodes, or smaller pictures"),
        Use("receiver, its busiest thread",
            p.fragments_s / ranks * max(wire.receiver.at(p.fragment), wire.io.at(p.fragment)),
            f"{p.fragments_s / ranks:,.1f} fragments/s a rank", "more ranks, or longer fragments"),
        learner._replace(change="more gpus, fewer epochs, or a smaller policy"),
        Use("network between nodes of ranks", reduced / nic, f"{reduced / 1e9:,.3f} GB/s all-reduce",
            "more fragments_per_iteration, or fewer minibatches"),
    ]  # fmt: skip


def publishers(costs: Costs, policy: PolicyCost, s: Settings, p: Play, held_up: float) -> list[Use]:
    """Without and with relays, at the rate that results: late weights slow nothing down, they are older."""
    wire, nic = costs.transports[s.network], s.nic_gbit * 1e9 / 8
    weights = policy.parameters * (2 if s.dtype == "bfloat16" else 4)
    versions_s = p.iterations_s / held_up
    less = "weights.dtype=bfloat16, or more fragments_per_iteration"

    def use(name: str, subscribers: int, change: str) -> Use:
        sent = versions_s * subscribers * weights
        cpu = versions_s * (subscribers * wire.publish.at(weights) + weights * costs.copy_byte_s)
        return Use(name, max(sent / nic, cpu), f"{sent / 1e9:,.3f} GB/s", change)

    storm_s = p.collectors * max(wire.join_s, weights / nic, wire.publish.at(weights))
    return [
        use("publisher, without relays", p.collectors, f"a relay a node, {less}"),
        use("publisher, with a relay a node", math.ceil(p.collectors / s.collectors_per_node), less),
        Use("all join at once", None, f"{storm_s:,.1f} s, weights included"),
    ]


def read_costs() -> Costs:
    return msgspec.json.decode(COSTS_FILE.read_bytes(), type=Costs)


def usage() -> str:
    """What the keys are, and what they are if not given."""
    lines = []
    for field in msgspec.structs.fields(Settings):
        about: list[Any] = [each for each in get_args(field.type) if isinstance(each, Meta) and each.description]
        lines.append(f"  {field.encode_name}={field.default}".ljust(36) + about[0].description)
    return "\n".join([str(__doc__), "Keys, and what they are if not given:", *lines])


def table(plans: list[Plan]) -> str:
    """The uses, a column for each number of environments."""

    def row(name: str, cells: list[str]) -> str:
        return f"{name:34}" + "".join(f"{cell:>36}" for cell in cells)

    lines = [row("environments", [f"{each.environments:,}" for each in plans]),
             row("rows/s, by themselves", [f"{each.pace:,.0f}" for each in plans])]  # fmt: skip
    for uses in zip(*(each.uses for each in plans), strict=True):
        cells = [use.text if use.share is None else f"{use.text}  {use.share:8.1%}" for use in uses]
        lines.append(row(uses[0].name, cells))
    lines.append(row("rows/s, all together", [f"{each.rate:,.0f}" for each in plans]))
    lines += [f"{each.environments:,} environments are limited by: {each.limit}." for each in plans]
    return "\n".join(lines)


def main() -> None:
    settings = parse_words(sys.argv[1:], Settings, usage())
    costs = read_costs()
    per_collector = settings.workers * settings.envs_per_worker
    counts = [settings.collectors * per_collector] if settings.collectors else ENVIRONMENTS
    print(table([plan(costs, settings, count) for count in counts]))
    print(f"CPU costs: {costs.machine}, {costs.date}.")
    scaled = costs.policies[settings.policy].scaled_from
    if scaled:
        print(f"CPU costs of {settings.policy}: those of {scaled}, times the ratio of their FLOP; not measured.")
    if settings.gpus:
        print(f"Assumed, not verified: GPUs reach {settings.utilisation:.0%} of {settings.tflops:g} TFLOP/s, and a "
              "backward pass costs two forward passes.")  # fmt: skip


if __name__ == "__main__":
    report_errors(main)
