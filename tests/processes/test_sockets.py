"""Sockets that a trainer opens, and how it gets rid of them."""

import threading

import zmq

from mineonline.processes.sockets import Network, connect
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
