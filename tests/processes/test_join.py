"""Joining a run, over real sockets."""

import threading

import msgspec
import pytest
import zmq

from mineonline.errors import CollectorError
from mineonline.processes import join
from mineonline.processes.join import PROTOCOL_VERSION, JoinServer, Refusal, Request, Welcome
from mineonline.processes.sockets import Network, connect
from tests.helpers.programs import LIMIT_S


@pytest.fixture
def server(tmp_path):
    with Network(None, tmp_path) as network:
        opened = JoinServer(network, 0)
        opened.open(lambda i: Welcome("run", i, "{}", ("ipc:///experience",), "ipc:///weights"), tmp_path)
        opened.network = network
        yield opened
        opened.close()


def joined(server, *, asked_at=0, lost=""):
    return join.join(server.network.context, server.address, None, asked_at=asked_at, timeout_s=LIMIT_S, lost=lost)


def answer_to(server, message):
    asker = connect(server.network.context, zmq.REQ, [server.address], None)
    asker.send(message)
    assert asker.poll(LIMIT_S * 1000)
    answer = msgspec.msgpack.decode(asker.recv())
    asker.close()
    return answer


def test_each_collector_that_joins_gets_a_number_of_its_own_and_is_counted(server):
    ids = [joined(server, asked_at=number).collector_id for number in (5, 6, 7, 6, 6)]  # one asks again
    assert (ids, server.joined) == ([0, 1, 2, 1, 1], 3)


@pytest.mark.parametrize(
    "message",
    [
        msgspec.msgpack.encode(Request(PROTOCOL_VERSION - 1, "elsewhere", 1, 0)),
        msgspec.msgpack.encode({"type": "request", "join_version": 1, "host": "elsewhere", "pid": 1}),
        b"random",
    ],
)
def test_a_collector_of_another_version_is_told_what_to_do(server, message):
    answer = answer_to(server, message)
    assert answer["type"] == "refusal"
    assert "nstall the same mineonline on both" in answer["reason"]
    assert server.joined == 0


def test_a_message_of_several_parts_is_refused_and_the_next_one_is_answered(server):
    asker = connect(server.network.context, zmq.REQ, [server.address], None)
    asker.send_multipart([b"random", b"parts"])
    assert asker.poll(LIMIT_S * 1000)
    assert msgspec.msgpack.decode(asker.recv())["type"] == "refusal"
    asker.close()
    assert join.join(server.network.context, server.address, None, timeout_s=LIMIT_S, asked_at=1) is not None
    server.check()


def test_a_refused_collector_ends_with_the_trainers_reason(tmp_path):
    with Network(None, tmp_path) as network:
        trainer = network.bind(zmq.REP, "join")
        answering = threading.Thread(
            target=lambda: (trainer.recv(), trainer.send(msgspec.msgpack.encode(Refusal("too late"))))
        )
        answering.start()
        with pytest.raises(CollectorError, match=r"ipc://.*/join refused this collector: too late"):
            join.join(network.context, network.address_of(trainer), None, asked_at=0, timeout_s=LIMIT_S)
        answering.join()
        trainer.close()


def test_a_request_that_is_far_too_long_is_cut_off_and_others_are_answered(server):
    attacker = connect(server.network.context, zmq.REQ, [server.address], None)
    attacker.send(bytes(2**20))
    assert joined(server).collector_id == 0
    assert not attacker.poll(0)
    attacker.close()


def test_a_collector_that_lost_its_workers_is_announced_with_the_reason_and_counted(server, caplog):
    answer = joined(server, lost="worker 1\nended")
    assert answer.collector_id == 0
    assert server.restarts == 1
    (message,) = caplog.messages
    assert message.startswith("a collector lost its workers and starts new ones: ")
    assert message.endswith(": worker 1 ended")


def test_joining_ends_as_soon_as_the_trainer_is_elsewhere(tmp_path):
    with Network(None, tmp_path) as network:
        silent = network.bind(zmq.REP, "join")
        address = network.address_of(silent)
        assert join.join(network.context, address, None, asked_at=0, timeout_s=10 * LIMIT_S, moved=lambda: True) is None
        silent.close()
