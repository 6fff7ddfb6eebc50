"""Which collectors a run has."""

import pytest

from mineonline.experience.buffer import FragmentBuffer, Heard
from mineonline.processes.join import PROTOCOL_VERSION, Admissions, Request
from mineonline.processes.supervisor import LocalCollectors
from mineonline.run import attendance
from mineonline.run.attendance import Roster
from mineonline.weights.publisher import presence


@pytest.fixture
def admissions():
    return Admissions()


@pytest.fixture
def buffer():
    return FragmentBuffer(capacity=1, max_staleness=1, max_reuse=1, seed=0)


@pytest.fixture
def roster(tmp_path, admissions, buffer, monkeypatch):
    """Of a run on `here`, without collectors of its own."""
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    local = LocalCollectors(
        0, "", tmp_path, spare=False, start_timeout_s=1, max_failures=1, is_present=lambda pid: True,
        last_arrival=lambda: 0.0,
    )  # fmt: skip
    return Roster(local, admissions, buffer, tmp_path)


def join(admissions, host, pid):
    return admissions.number(Request(PROTOCOL_VERSION, host, pid, asked_at=0))


def test_a_collector_that_left_is_shown_for_a_while_and_then_forgotten(roster, admissions, buffer, monkeypatch):
    monkeypatch.setattr(attendance, "_APPEARS_WITHIN_S", 0.0)
    stays, leaves = join(admissions, "node1", 10), join(admissions, "node2", 10)
    roster.present = frozenset({presence("node1", 10), presence("node2", 10)})
    buffer.heard = {number: Heard(0.0, 1, 1.0) for number in (stays, leaves)}
    assert [each.name for each in roster.collectors()] == ["node1:10", "node2:10"]
    roster.present = frozenset({presence("node1", 10)})
    assert [each.state for each in roster.collectors()][1] == "left"
    monkeypatch.setattr(attendance, "_NEWS_S", 0.0)
    assert [each.name for each in roster.collectors()] == ["node1:10"]
    assert list(admissions.members) == [("node1", 10), ("node2", 10)]  # it may come back
    monkeypatch.setattr(attendance, "_REMEMBERED_S", 0.0)
    roster.collectors()
    assert list(admissions.members) == [("node1", 10)]
    assert list(buffer.heard) == [stays]


def test_a_collector_of_the_trainers_own_is_not_taken_for_one_of_another_machine(roster, admissions):
    join(admissions, "here", 10)
    join(admissions, "node1", 10)  # in a container, process ids are small
    roster.present = frozenset({presence("node1", 10)})
    assert not roster.is_present(10)
    roster.present = frozenset({presence("here", 10)})
    assert roster.is_present(10)


def test_a_collector_of_the_trainers_own_is_found_when_its_machine_has_another_name_by_now(roster, admissions):
    join(admissions, "here.cluster", 10)
    assert not roster.is_present(10)
    roster.present = frozenset({presence("here.cluster", 10)})
    assert roster.is_present(10)
