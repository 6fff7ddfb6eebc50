"""The arithmetic of the plan: what one resource costs more, and no other."""

import statistics

import msgspec
import pytest

from mineonline.errors import ConfigError
from mineonline.settings.command_line import parse_words
from tests.benchmarks.plan import (
    Costs,
    Line,
    PolicyCost,
    Settings,
    Transport,
    decision_s,
    plan,
    read_costs,
    table,
    usage,
)

MS = Line(0.001, 0.0)
NOTHING = Line(0.0, 0.0)
WIRE = Transport(receiver=NOTHING, io=NOTHING, take=NOTHING, send=NOTHING, publish=NOTHING, join_s=0.0)
POLICY = PolicyCost(parameters=10**6, row_bytes=10_000, memory_bytes=0, flop=1e9)
QUIET = Settings(step_ms=100, envs_per_worker=10, workers=1, gpus=1, tflops=1e6, nic_gbit=1e6, length=10, policy="p")
"""1,000 environments play 10,000 rows/s: 1,000 fragments of 100 kB, and 10 iterations, a second in 10 s."""


def costs(wire=WIRE, policy=POLICY, copy_byte_s=0.0):
    return Costs(
        machine="", date="", copy_byte_s=copy_byte_s, transports={"tcp": wire, "ipc": wire}, policies={"p": policy}
    )


def change(struct, **fields):
    return msgspec.structs.replace(struct, **fields)


def share(found, name):
    (use,) = (use for use in found.uses if use.name.startswith(name))
    return use.share


def test_environments_set_the_pace_where_nothing_else_is_full():
    found = plan(costs(), QUIET, 1000)
    assert found.pace == found.rate == pytest.approx(10_000)
    assert found.limit.startswith("environments")
    assert plan(costs(), QUIET, 100_000).rate == pytest.approx(1_000_000)


def test_a_worker_waits_and_decides_in_turn():
    policy = change(POLICY, decide_call_s=0.05, decide_row_s=0.015)
    found = plan(costs(policy=policy), QUIET, 1000)
    assert found.pace == pytest.approx(1000 / 0.3)
    assert found.limit.startswith("inference")
    assert plan(costs(policy=policy), change(QUIET, reference=True), 1000).pace == pytest.approx(1000 / 0.5)


def test_only_environments_that_step_together_wait_while_a_rollout_is_sent():
    wire = change(WIRE, send=Line(0.01, 1e-7))
    assert plan(costs(wire), change(QUIET, workers=2), 1000).pace == pytest.approx(1000 / 0.1)
    assert plan(costs(wire), change(QUIET, workers=2, step_ms=0), 1000).pace == pytest.approx(1000 / (20 * 0.02 / 10))


def test_environments_of_unequal_steps_wait_for_few_others():
    slow = change(POLICY, decide_call_s=0.004, decide_row_s=0.001)
    assert decision_s(slow, change(QUIET, envs_per_worker=16)) == pytest.approx(0.020), "all at once"
    assert decision_s(slow, change(QUIET, envs_per_worker=16, jitter=0.5)) == pytest.approx(0.016), "four at once"
    assert decision_s(slow, change(QUIET, envs_per_worker=16, jitter=0.5, step_ms=0)) == pytest.approx(0.020)


def test_the_busiest_thread_of_a_rank_limits_what_it_takes_in():
    wire = change(WIRE, receiver=MS, io=Line(0.001, 1e-8))
    assert share(plan(costs(wire), QUIET, 1000), "receiver") == pytest.approx(2.0)
    assert share(plan(costs(wire), change(QUIET, gpus=4), 1000), "receiver") == pytest.approx(0.5)
    found = plan(costs(wire), QUIET, 1000)
    assert found.rate == pytest.approx(5_000)
    assert found.limit.startswith("receiver, its busiest thread (200%): more ranks")


def test_the_network_of_a_node_is_shared_by_its_ranks():
    slow = change(QUIET, nic_gbit=1.6)  # 200 MB/s
    assert share(plan(costs(), slow, 1000), "network into") == pytest.approx(0.5)
    assert share(plan(costs(), change(slow, gpus=4, ranks_per_node=2), 1000), "network into") == pytest.approx(0.25)


def test_a_memory_travels_once_in_a_fragment_and_with_a_reference_twice():
    policy, slow = change(POLICY, memory_bytes=100_000), change(QUIET, nic_gbit=1.6)
    assert share(plan(costs(policy=policy), slow, 1000), "network into") == pytest.approx(1.0)
    assert share(plan(costs(policy=policy), change(slow, reference=True), 1000), "network into") == pytest.approx(1.5)


def test_a_publisher_feeds_every_collector_or_every_relay():
    wire = change(WIRE, publish=Line(0.0, 1e-9))
    slow = change(QUIET, collectors_per_node=10, fragments=500)  # 2 iterations/s, 100 collectors, 4 MB
    found = plan(costs(wire), slow, 1000)
    assert share(found, "publisher, without") == pytest.approx(2 * 100 * 4e6 * 1e-9)
    assert share(found, "publisher, with a") == pytest.approx(2 * 10 * 4e6 * 1e-9)
    assert share(plan(costs(wire), change(slow, dtype="bfloat16"), 1000), "publisher, without") == pytest.approx(0.4)
    copied = plan(costs(wire, copy_byte_s=1e-8), slow, 1000)
    assert share(copied, "publisher, with a") == pytest.approx(2 * 10 * 4e6 * 1e-9 + 2 * 4e6 * 1e-8)
    network = plan(costs(), change(slow, nic_gbit=3.2), 1000)
    assert share(network, "publisher, without") == pytest.approx(2.0)


def test_late_weights_slow_nothing_down_and_are_said_to_be_late():
    wire = change(WIRE, publish=Line(0.01, 0.0))
    found = plan(costs(wire), change(QUIET, relay=False, fragments=100), 1000)  # 10 versions/s to 100 collectors
    assert found.rate == found.pace
    assert "Weights are late: publisher, without relays (1000%): a relay a node" in found.limit
    assert "late" not in plan(costs(wire), change(QUIET, fragments=100), 1000).limit


def test_a_learner_that_is_held_up_publishes_less_often():
    wire = change(WIRE, publish=Line(0.001, 0.0), receiver=Line(0.004, 0.0))
    found = plan(costs(wire), change(QUIET, fragments=100), 1000)
    assert found.limit.startswith("receiver, its busiest thread (400%)")
    assert share(found, "publisher, without") == pytest.approx(10 / 4 * 100 * 0.001)


def test_a_learner_on_gpus_needs_a_forward_pass_and_three_more_an_epoch():
    settings = change(QUIET, gpus=2, tflops=100, utilisation=0.5, epochs=2)
    assert share(plan(costs(), settings, 1000), "learner") == pytest.approx(10_000 * 1e9 * 7 / 1e14)
    assert share(plan(costs(), change(settings, reference=True), 1000), "learner") == pytest.approx(0.8)
    taken = plan(costs(change(WIRE, take=MS)), settings, 1000)
    assert share(taken, "learner") == pytest.approx(0.7 + 1000 * 0.001 / 2)


def test_gpus_that_workers_decide_on_are_a_resource_of_their_own():
    policy = change(POLICY, decide_call_s=0.05)
    found = plan(costs(policy=policy), change(QUIET, gpus=0, collector_gpus=4, tflops=10, utilisation=0.5), 1000)
    assert found.pace == pytest.approx(10_000)
    assert share(found, "inference: cores") == pytest.approx(10_000 * 1e9 / 20e12)
    assert share(plan(costs(policy=policy), QUIET, 1000), "inference: cores") is None


def test_a_learner_on_the_cpu_needs_what_was_measured():
    policy = change(POLICY, first_pass_s=1e-5, epoch_s=2e-5, step_s=0.01)
    found = plan(costs(policy=policy), change(QUIET, gpus=0, epochs=3, minibatches=2), 1000)
    assert share(found, "learner") == pytest.approx(10_000 * 7e-5 + 6 * 0.01)


def test_gradients_cross_the_network_only_between_nodes():
    slow = change(QUIET, gpus=4, epochs=2, minibatches=5, nic_gbit=3.2)  # 10 steps/s of 4 MB, 400 MB/s
    assert share(plan(costs(), slow, 1000), "network between") == 0
    assert share(plan(costs(), change(slow, ranks_per_node=2), 1000), "network between") == pytest.approx(0.1)
    assert share(plan(costs(), change(slow, ranks_per_node=1), 1000), "network between") == pytest.approx(0.15)


def test_a_joining_storm_lasts_as_long_as_the_slowest_part():
    (use,) = (use for use in plan(costs(change(WIRE, join_s=0.02)), QUIET, 1000).uses if "join" in use.name)
    assert use.text == "2.0 s, weights included"


@pytest.mark.parametrize(
    ("word", "message"),
    [("polcy=2x", "polcy: there is no such key. Did you mean policy?"), ("x=1", "fragment.length"),
     ("gpus=-1", "gpus=-1: must be >= 0."), ("weights.dtype=int8", "weights.dtype=int8: must be float32, bfloat16.")],
)  # fmt: skip
def test_a_mistake_is_one_error_that_says_what_there_is(word, message):
    with pytest.raises(ConfigError) as error:
        parse_words([word], Settings, usage())
    assert message in str(error.value)


def test_the_committed_costs_serve_every_policy_that_the_usage_names():
    measured = read_costs()
    for policy in ("tiny", "mini", "1x", "2x", "3x"):
        found = [plan(measured, change(Settings(), policy=policy), count) for count in (1_000, 100_000)]
        assert statistics.fmean(each.rate for each in found) > 0
        assert "100,000 environments are limited by" in table(found)
    with pytest.raises(ConfigError, match=r"policy=4x: no costs of it. There are: tiny"):
        plan(measured, change(Settings(), policy="4x"), 1000)
