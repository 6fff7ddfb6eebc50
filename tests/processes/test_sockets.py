"""Sockets that a trainer opens, and how it gets rid of them."""

import socket
import threading

import pytest
import zmq

from mineonline.errors import ConfigError
from mineonline.processes.sockets import KEYS_VARIABLE, Keys, Network, connect, listens, own_address
from tests.helpers.programs import LIMIT_S, wait_until


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


def test_a_network_whose_folder_was_removed_early_closes_without_touching_anything_else(tmp_path):
    network = Network(None, tmp_path)
    network.remove_folder()
    with (tmp_path / "other").open("w") as other:  # may get the number of the descriptor that was closed
        network.close()
        other.write("still open")
    assert (tmp_path / "other").read_text() == "still open"


def test_the_address_that_others_reach_is_that_of_the_route_to_rank_0(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "no.such.host.invalid")
    elsewhere = own_address()
    assert not elsewhere.startswith("127.")
    monkeypatch.setenv("MASTER_ADDR", "localhost")  # says nothing about other machines
    assert own_address() == elsewhere


@pytest.mark.parametrize(
    ("host", "prefix"), [("::1", "tcp://[::1]:"), ("[::1]", "tcp://[::1]:"), ("lo", "tcp://127.0.0.1:")]
)
def test_a_trainer_listens_at_an_ipv6_address_or_on_an_interface(tmp_path, host, prefix):
    if ":" in host:
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind(("::1", 0))
            except OSError as error:
                pytest.skip(f"this machine has no IPv6: {error}")
    with Network(host, tmp_path) as network:
        router = network.bind(zmq.ROUTER, "test")
        assert network.address_of(router).startswith(prefix)
        asker = connect(network.context, zmq.REQ, [network.address_of(router)], network.keys)
        asker.send(b"hello")
        assert router.poll(LIMIT_S * 1000)
        asker.close()


def test_keys_can_be_somewhere_else_than_in_the_run_folder(tmp_path, monkeypatch):
    file = tmp_path / "elsewhere.json"
    monkeypatch.setenv(KEYS_VARIABLE, str(file))
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        with Network("127.0.0.1", tmp_path / run) as network:
            assert network.keys == Keys.load(file)
        assert not list((tmp_path / run).iterdir())
    assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv(KEYS_VARIABLE, str(tmp_path / "no folder" / "keys.json"))
    with pytest.raises(ConfigError, match=r"the keys cannot be written to .*no folder/keys\.json"):
        Network("127.0.0.1", tmp_path)


def test_a_unix_socket_listens_as_long_as_its_process_has_it_open(tmp_path):
    with Network(None, tmp_path) as network:
        router = network.bind(zmq.ROUTER, "test")
        address = network.address_of(router)
        assert listens(address)
        router.close()
        wait_until(lambda: not listens(address))
