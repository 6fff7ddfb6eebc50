"""Sockets that a trainer opens, and how it gets rid of them."""

import threading

import zmq

from mineonline.processes.sockets import Network, connect, own_address
from tests.helpers.programs import LIMIT_S


def test_a_network_closes_although_sockets_are_still_open(tmp_path):
    """A socket that somebody forgot would hold up ZeroMQ's context forever."""
    network = Network(None, tmp_path)
    bound = network.bind(zmq.ROUTER, "test")
    connected = connect(network.context, zmq.DEALER, [network.address_of(bound)], None)
    connected.linger = -1
    connected.send(b"nobody will read this")
    closing = threading.Thread(target=network.close, daemon=True)
    closing.start()
    closing.join(LIMIT_S)
    assert not closing.is_alive()
    assert bound.closed
    assert connected.closed
    assert not network.folder.exists()


def test_the_address_that_others_reach_is_that_of_the_route_to_rank_0(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "no.such.host.invalid")
    elsewhere = own_address()
    assert not elsewhere.startswith("127.")
    monkeypatch.setenv("MASTER_ADDR", "localhost")  # says nothing about other machines
    assert own_address() == elsewhere
