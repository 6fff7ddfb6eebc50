"""Joining a run, over real sockets."""

import threading

import msgspec
import pytest
import zmq

from mineonline.errors import CollectorError, ConfigError
from mineonline.processes.join import (
    PROTOCOL_VERSION,
    Admissions,
    JoinServer,
    Refusal,
    Request,
    Welcome,
    join,
    request_of,
)
from mineonline.processes.sockets import Network, connect
from mineonline.run.joining import Joiner
from tests.helpers.programs import LIMIT_S


@pytest.fixture
def admissions():
    return Admissions()


@pytest.fixture
def server(tmp_path, admissions):
    def welcome(request):
        return Welcome("run", admissions.number(request), "{}", ("ipc:///experience",), "ipc:///weights", 2**20)

    with Network(None, tmp_path) as network:
        opened = JoinServer(network)
        opened.open(welcome, tmp_path / "join")
        opened.network = network
        yield opened
        opened.close()


def joined(server, *, asked_at=0, lost="", relay=False):
    request = request_of(asked_at=asked_at, lost=lost, relay=relay)
    return join(server.network.context, server.address, None, request, timeout_s=LIMIT_S)


def answer_to(server, message):
    asker = connect(server.network.context, zmq.REQ, [server.address], None)
    asker.send(message)
    assert asker.poll(LIMIT_S * 1000)
    answer = msgspec.msgpack.decode(asker.recv())
    asker.close()
    return answer


def test_each_collector_that_joins_gets_a_number_of_its_own_and_is_counted(server, admissions):
    ids = [joined(server, asked_at=number).collector_id for number in (5, 6, 6, 6, 7)]  # one asks again
    assert joined(server, relay=True).collector_id == -1
    assert (ids, admissions.joined) == ([0, 1, 1, 1, 2], 3)


def test_a_collector_that_is_forgotten_gets_another_number(server, admissions):
    assert joined(server, asked_at=5).collector_id == 0
    admissions.forget(admissions.members)
    assert not admissions.members
    assert joined(server, asked_at=6).collector_id == 1


@pytest.mark.parametrize(
    "message",
    [
        msgspec.msgpack.encode(Request(PROTOCOL_VERSION - 1, "elsewhere", 1, 0)),
        msgspec.msgpack.encode({"type": "request", "join_version": 1, "host": "elsewhere", "pid": 1}),
        b"random",
    ],
)
def test_a_collector_of_another_version_is_told_what_to_do(server, admissions, message):
    answer = answer_to(server, message)
    assert answer["type"] == "refusal"
    assert "nstall the same mineonline on both" in answer["reason"]
    assert admissions.joined == 0


def test_a_message_of_several_parts_is_refused_and_the_next_one_is_answered(server):
    asker = connect(server.network.context, zmq.REQ, [server.address], None)
    asker.send_multipart([b"random", b"parts"])
    assert asker.poll(LIMIT_S * 1000)
    assert msgspec.msgpack.decode(asker.recv())["type"] == "refusal"
    asker.close()
    assert joined(server, asked_at=1) is not None
    server.check()


def test_who_is_not_answered_asks_again_while_others_are_answered(tmp_path):
    def welcome(request):
        return None if request.asked_at == 1 else Welcome("run", 0, "{}", (), "", 2**20)

    with Network(None, tmp_path) as network:
        server = JoinServer(network)
        server.open(welcome, tmp_path / "join")
        asker = connect(network.context, zmq.REQ, [server.address], None)
        asker.send(msgspec.msgpack.encode(request_of(asked_at=1)))
        reply = join(network.context, server.address, None, request_of(asked_at=2), timeout_s=LIMIT_S)
        assert isinstance(reply, Welcome)
        assert not asker.poll(0)
        asker.close()
        server.close()


def test_a_refused_collector_ends_with_the_trainers_reason(tmp_path):
    with Network(None, tmp_path) as network:
        server = JoinServer(network)
        server.open(lambda request: Refusal("too late"), tmp_path / "join")
        with pytest.raises(CollectorError, match=r"ipc://.*/join refused this collector: too late"):
            Joiner(str(tmp_path), None).join(network.context)
        server.close()


def test_a_request_that_is_far_too_long_is_cut_off_and_others_are_answered(server):
    attacker = connect(server.network.context, zmq.REQ, [server.address], None)
    attacker.send(bytes(2**20))
    assert joined(server).collector_id == 0
    assert not attacker.poll(0)
    attacker.close()


def test_a_collector_that_lost_its_workers_is_announced_with_the_reason_and_counted(server, admissions, caplog):
    answer = joined(server, lost="worker 1\nended")
    assert answer.collector_id == 0
    assert admissions.restarts == 1
    (message,) = caplog.messages
    assert message.startswith("a collector lost its workers and starts new ones: ")
    assert message.endswith(": worker 1 ended")


@pytest.mark.parametrize("address", ["tcp://node1", "tcp://node1:abc", "http://node1:5555", "ipc://"])
def test_an_address_that_makes_no_sense_is_refused_with_the_right_forms(address):
    with pytest.raises(ConfigError, match=rf"run={address}: must be a run folder, tcp://<host>:<port> or ipc://<path>"):
        Joiner(address, None).join(zmq.Context())


def test_a_file_of_keys_that_is_named_and_absent_is_told_at_once(tmp_path, monkeypatch):
    (tmp_path / "join").write_text("tcp://127.0.0.1:5555")
    monkeypatch.setenv("MINEONLINE_KEYS", str(tmp_path / "nowhere.json"))
    with pytest.raises(ConfigError, match=r"MINEONLINE_KEYS=.*nowhere.json: there is no such file"):
        Joiner(str(tmp_path), None).join(zmq.Context())


def test_a_file_server_that_fails_for_a_while_does_not_look_like_another_trainer(tmp_path):
    with Network(None, tmp_path) as network:
        server = JoinServer(network)
        server.open(lambda request: Welcome("run", 0, "{}", (), "", 0), tmp_path / "join")
        joiner = Joiner(str(tmp_path), None)
        joiner.join(network.context)
        assert not joiner.has_moved
        (tmp_path / "join").unlink()
        assert joiner.has_moved
        (tmp_path / "join").mkdir()  # read_text raises an OSError
        assert not joiner.has_moved
        server.close()


def test_a_collector_joins_when_the_file_server_is_back(tmp_path):
    (tmp_path / "join").mkdir()  # read_text raises an OSError
    with Network(None, tmp_path) as network:
        server = JoinServer(network)

        def come_back():
            (tmp_path / "join").rmdir()
            server.open(lambda request: Welcome("run", 7, "{}", (), "", 0), tmp_path / "join")

        threading.Timer(1.0, come_back).start()
        welcome, _ = Joiner(str(tmp_path), None).join(network.context)
        assert welcome.collector_id == 7
        server.close()


def test_joining_ends_as_soon_as_the_trainer_is_elsewhere(tmp_path):
    with Network(None, tmp_path) as network:
        silent = network.bind(zmq.REP, "join")
        address = network.address_of(silent)
        request = request_of(asked_at=0)
        assert join(network.context, address, None, request, timeout_s=10 * LIMIT_S, moved=lambda: True) is None
        silent.close()
