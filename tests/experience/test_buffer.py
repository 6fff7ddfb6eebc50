"""Staleness, reuse, back-pressure and giving up."""

import threading
import time

import pytest
import torch

from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.errors import CollectorError
from mineonline.experience.buffer import FragmentBuffer, MemoryStorage, check_silence
from mineonline.experience.disk_storage import DiskStorage
from mineonline.fragment import Fragments, Report, Timing, fragment_schema
from tests.helpers.programs import LIMIT_S

SPEC = EnvSpec(observation={"state": TensorSpec((1,), "float32")}, action={"action": 2})
SCHEMA = fragment_schema(SPEC, {}, {}, 2)
REPORT = Report(0, (), 0, Timing(0.0, 0.0, 0.0, 0.0))


def fragment(version, number=0, env=0):
    row = torch.zeros(1, 2)
    flags = torch.zeros(1, 2, dtype=torch.bool)
    return Fragments(
        observation={"state": torch.zeros(1, 3, 1)}, first_BU=torch.zeros(1, 3, dtype=torch.bool),
        action={"action": torch.zeros(1, 2, dtype=torch.int64)}, log_prob_BT=row, value_BT=row, reward_BT=row,
        terminated_BT=flags, truncated_BT=flags, idle_BT=flags, memory={}, reference_memory={},
        version_B=torch.tensor([version]), env_B=torch.tensor([env]), sequence_B=torch.tensor([number]),
    )  # fmt: skip


@pytest.fixture(params=["memory", "disk"])
def filled(request, tmp_path):
    """Make a buffer with a fragment of each given version, in either storage."""

    def fill(versions, numbers=None, **settings):
        settings = {"capacity": 8, "max_staleness": 2, "max_reuse": 1, "seed": 0, **settings}
        storage = DiskStorage(tmp_path, SCHEMA, settings["capacity"]) if request.param == "disk" else MemoryStorage()
        buffer = FragmentBuffer(**settings, storage=storage)
        for version, number in zip(versions, numbers or range(len(versions)), strict=True):
            buffer.put(fragment(version, number), REPORT, threading.Event())
        return buffer

    return fill


def never():
    return False


def test_the_oldest_come_first_and_are_used_once(filled):
    buffer = filled([0, 0, 0, 0])
    assert buffer.take(2, 0, never).fragments.sequence_B.tolist() == [0, 1]
    assert buffer.take(2, 0, never).fragments.sequence_B.tolist() == [2, 3]
    assert buffer.take(1, 0, lambda: True) is None


def test_fragments_beyond_the_staleness_limit_are_dropped_and_counted(filled):
    batch = filled([0, 1, 3, 4, 5]).take(2, 5, never)
    assert batch.lag_B == [2, 1]
    assert batch.arrivals.dropped["stale"] == 2


def test_a_fragment_is_used_as_often_as_allowed_and_not_once_more(filled):
    buffer = filled([0, 0, 0], max_reuse=3)
    uses = []
    for _ in range(3):
        batch = buffer.take(3, 0, never)
        uses.append(sorted(batch.reuse_B))
        assert sorted(batch.fragments.sequence_B.tolist()) == [0, 1, 2]
    assert uses == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    assert buffer.take(1, 0, lambda: True) is None


def test_the_order_of_a_batch_does_not_depend_on_the_order_of_arrival(filled):
    buffer = filled([])
    for env, number in [(1, 0), (0, 1), (1, 1), (0, 0)]:
        buffer.put(fragment(number, number, env), REPORT, threading.Event())
    batch = buffer.take(4, 1, never)
    assert batch.fragments.env_B.tolist() == [0, 0, 1, 1]
    assert batch.fragments.sequence_B.tolist() == [0, 1, 0, 1]
    assert batch.lag_B == [1, 0, 1, 0]


def test_what_is_drawn_for_reuse_is_a_function_of_seed_and_version(filled):
    """One buffer has drawn before; the other has not, as after a resume, and was filled in another order."""
    settings = {"max_reuse": 100, "max_staleness": 100, "seed": 5}
    before = filled([0] * 8, **settings)
    drawn = [before.take(3, version, never).fragments.sequence_B.tolist() for version in range(6)]
    resumed = filled([0] * 8, numbers=[3, 1, 7, 0, 2, 6, 5, 4], **settings)
    assert [resumed.take(3, version, never).fragments.sequence_B.tolist() for version in (4, 5)] == drawn[4:]
    assert len({tuple(numbers) for numbers in drawn}) > 3
    other = filled([0] * 8, **{**settings, "seed": 6})
    assert [other.take(3, version, never).fragments.sequence_B.tolist() for version in range(6)] != drawn


def test_a_full_buffer_that_nobody_empties_any_more_lets_go_of_the_receiver(filled):
    buffer = filled([0] * 8)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    buffer.put(fragment(0, 8), REPORT, stop)
    assert buffer.waiting == 8


def test_a_full_buffer_makes_the_receiver_wait_until_room_is_made(filled):
    buffer = filled([0] * 8)
    done = threading.Event()

    def put():
        buffer.put(fragment(0, 8), REPORT, threading.Event())
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert not done.wait(0.3)
    buffer.take(1, 0, never)
    assert done.wait(LIMIT_S)
    thread.join()
    batch = buffer.take(1, 0, never)
    assert batch.arrivals.full_s > 0


def test_stale_fragments_do_not_keep_newer_ones_out(filled):
    buffer = filled([0] * 8)
    threading.Timer(0.3, lambda: [buffer.put(fragment(9, n), REPORT, threading.Event()) for n in range(2)]).start()
    batch = buffer.take(2, 9, never)
    assert batch.lag_B == [0, 0]
    assert batch.arrivals.dropped["stale"] == 8


def test_taking_waits_for_arrivals_and_says_for_how_long(filled):
    buffer = filled([])
    threading.Timer(0.4, lambda: buffer.put(fragment(0), REPORT, threading.Event())).start()
    assert buffer.take(1, 0, never).wait_s > 0


def test_what_is_raised_while_waiting_reaches_the_learner(filled):
    def fail():
        raise CollectorError("a collector cannot run")

    with pytest.raises(CollectorError, match="cannot run"):
        filled([]).take(1, 0, fail)


def test_silence_beyond_the_limit_is_an_error_that_says_where_to_look():
    check_silence(4.9, 5.0, "look there")
    with pytest.raises(CollectorError, match=r"no fragment has arrived for 1\d s .*look there"):
        check_silence(10.0, 5.0, "look there")


def test_only_the_time_that_the_learner_waits_counts_as_silence(filled):
    buffer = filled([0])
    time.sleep(0.3)
    assert buffer.silent_s == 0.0
    seen, started = [], time.monotonic()

    def give_up():
        seen.append(buffer.silent_s)
        assert seen[-1] <= time.monotonic() - started
        return len(seen) == 4

    assert buffer.take(2, 0, give_up) is None
    assert seen[0] < seen[-1]
