"""The weights path, over real sockets."""

import signal
import subprocess
import sys
import time

import pytest
import torch
import zmq

from mineonline.errors import WireError
from mineonline.processes.sockets import KEYS_FILE, Keys, Network
from mineonline.weights.publisher import WeightsPublisher, weights_schema
from mineonline.weights.subscriber import Model, WeightsSubscriber
from tests.helpers.programs import LIMIT_S, wait_until
from tests.helpers.stopped_subscriber import CONSTANT as SMALL_CONSTANT
from tests.helpers.stopped_subscriber import LARGE

STATE = {
    "weight": torch.arange(12.0).view(3, 4),
    "version": torch.tensor(7),
    "half": torch.ones(3, dtype=torch.bfloat16),
}


@pytest.fixture
def network(tmp_path):
    with Network(None, tmp_path) as opened:
        yield opened


def subscribe(network, publisher, *, run_id="run", state=STATE, keys=None):
    return WeightsSubscriber(
        network.context, publisher.address, keys, run_id=run_id, model=Model(weights_schema(state))
    )


def newest(subscriber, version):
    """Waits for the weights of that version; what comes before it is passed over."""
    while True:
        weights = subscriber.newest(timeout_s=LIMIT_S)
        assert weights is not None
        assert weights.version <= version
        if weights.version == version:
            return weights


def test_a_late_joiner_gets_the_newest_weights_at_once(network):
    publisher = WeightsPublisher(network, "run", refresh_s=10 * LIMIT_S)
    for version in range(5):
        publisher.publish(version, {**STATE, "version": torch.tensor(version)})
    subscriber = subscribe(network, publisher)
    # nothing is published any more, and no heartbeat comes: it is the subscription that is answered
    weights = newest(subscriber, 4)
    for name, tensor in {**STATE, "version": torch.tensor(4)}.items():
        assert torch.equal(weights.tensors[name], tensor)
    subscriber.close()
    publisher.close()


def test_only_the_newest_of_many_is_seen_and_nothing_twice(network):
    publisher = WeightsPublisher(network, "run", refresh_s=10 * LIMIT_S)
    publisher.publish(0, STATE)
    subscriber = subscribe(network, publisher)
    assert subscriber.newest(timeout_s=LIMIT_S).version == 0
    for version in range(1, 50):
        publisher.publish(version, STATE)
    seen = [0]
    deadline = time.monotonic() + LIMIT_S
    while seen[-1] < 49 and time.monotonic() < deadline:
        time.sleep(0.2)
        weights = subscriber.newest()
        if weights is not None:
            seen.append(weights.version)
    assert seen[-1] == 49
    assert len(seen) < 10
    assert seen == sorted(set(seen))
    assert subscriber.newest(timeout_s=0.2) is None
    subscriber.close()
    publisher.close()


def test_publishing_copies_so_that_training_on_does_not_change_what_is_sent(network):
    publisher = WeightsPublisher(network, "run", refresh_s=10 * LIMIT_S)
    state = {name: tensor.clone() for name, tensor in STATE.items()}
    publisher.publish(1, state)
    state["weight"].zero_()
    subscriber = subscribe(network, publisher)
    assert torch.equal(subscriber.newest(timeout_s=LIMIT_S).tensors["weight"], STATE["weight"])
    subscriber.close()
    publisher.close()


def test_a_quiet_publisher_still_sends_heartbeats(network):
    publisher = WeightsPublisher(network, "run", refresh_s=0.2)
    publisher.publish(1, STATE)
    subscriber = subscribe(network, publisher)
    subscriber.newest(timeout_s=LIMIT_S)
    heard = subscriber.last_heard

    def hears_again():
        assert subscriber.newest() is None
        return subscriber.last_heard > heard

    wait_until(hears_again)
    subscriber.close()
    publisher.close()


def test_weights_of_another_model_or_run_are_refused_by_name(network):
    publisher = WeightsPublisher(network, "run", refresh_s=10 * LIMIT_S)
    publisher.publish(1, STATE)
    other = {**STATE, "weight": torch.zeros(3, 5)}
    for subscriber, complaint in [
        (subscribe(network, publisher, state=other), r"weight float32\(3, 4\), expected weight float32\(3, 5\)"),
        (subscribe(network, publisher, run_id="other"), "another run"),
    ]:
        with pytest.raises(WireError, match=complaint):
            subscriber.newest(timeout_s=LIMIT_S)
        subscriber.close()
    publisher.close()


def test_a_subscriber_recovers_when_the_trainer_comes_back_at_the_same_address(tmp_path):
    first = Network("127.0.0.1", tmp_path)
    publisher = WeightsPublisher(first, "run", refresh_s=60)
    address, keys = publisher.address, Keys.load(tmp_path / KEYS_FILE)
    publisher.publish(1, STATE)
    context = zmq.Context()
    subscriber = WeightsSubscriber(context, address, keys, run_id="run", model=Model(weights_schema(STATE)))
    assert subscriber.newest(timeout_s=LIMIT_S).version == 1
    publisher.close()
    first.close()

    class SamePort(Network):
        def bind(self, kind, name, *, port=0, options=None):
            return super().bind(kind, name, port=int(address.rpartition(":")[2]), options=options)

    second = SamePort("127.0.0.1", tmp_path)
    publisher = WeightsPublisher(second, "run", refresh_s=0.2)
    publisher.publish(2, STATE)
    assert subscriber.newest(timeout_s=LIMIT_S).version == 2
    publisher.close()
    subscriber.close()
    context.destroy(linger=0)
    second.close()


def test_beyond_unix_sockets_only_holders_of_the_key_get_weights(tmp_path):
    with Network("127.0.0.1", tmp_path) as network:
        publisher = WeightsPublisher(network, "run", refresh_s=0.2)
        publisher.publish(1, STATE)
        keys = Keys.load(tmp_path / KEYS_FILE)
        assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
        public, secret = (part.decode() for part in zmq.curve_keypair())
        stranger = Keys(keys.server_public, keys.server_secret, public, secret)
        for wrong in (None, stranger):
            subscriber = subscribe(network, publisher, keys=wrong)
            assert subscriber.newest(timeout_s=1.0) is None
            subscriber.close()
        subscriber = subscribe(network, publisher, keys=keys)
        assert subscriber.newest(timeout_s=LIMIT_S).version == 1
        subscriber.close()
        publisher.close()


CONSTANT = {"reference": torch.arange(1000.0)}


def subscribe_to_both(network, publisher):
    model = Model(weights_schema(STATE), weights_schema(CONSTANT))
    return WeightsSubscriber(network.context, publisher.address, None, run_id="run", model=model)


def test_what_hardly_ever_changes_is_sent_to_joiners_and_when_it_has_changed(network):
    publisher = WeightsPublisher(network, "run", refresh_s=10 * LIMIT_S)
    publisher.publish(0, STATE, constant=CONSTANT)
    wait_until(lambda: publisher.published == 1)  # so that it is the answer to its joining that brings these
    early = subscribe_to_both(network, publisher)
    assert set(early.newest(timeout_s=LIMIT_S).tensors) == {*STATE, *CONSTANT}
    changed = {"reference": CONSTANT["reference"] + 1}
    publisher.publish(1, STATE, constant=changed)  # not read: constant_version is the same
    weights = early.newest(timeout_s=LIMIT_S)
    assert (weights.version, set(weights.tensors)) == (1, set(STATE))
    late = subscribe_to_both(network, publisher)
    assert torch.equal(late.newest(timeout_s=LIMIT_S).tensors["reference"], CONSTANT["reference"])
    publisher.publish(2, STATE, constant=changed, constant_version=1)
    for subscriber in (early, late):
        assert torch.equal(subscriber.newest(timeout_s=LIMIT_S).tensors["reference"], changed["reference"])
        subscriber.close()
    publisher.close()


@pytest.fixture
def stopped_subscriber(network):
    """Starts a subscriber that missed version 20: it was stopped while it and those before it were published."""
    children = []

    def start(publisher, **last):
        words = [sys.executable, "-m", "tests.helpers.stopped_subscriber", publisher.address]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout.readline() == "0 0.0\n"
        child.send_signal(signal.SIGSTOP)
        for version in range(1, 20):  # more than the kernel and ZeroMQ hold for it
            publisher.publish(version, LARGE, constant=SMALL_CONSTANT)
            wait_until(lambda version=version: publisher.published == version + 1)
        publisher.publish(20, LARGE, **last)
        wait_until(lambda: publisher.published == 21)
        child.send_signal(signal.SIGCONT)
        return child.stdout

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_heartbeat_shows_who_has_missed_weights(network, stopped_subscriber):
    publisher = WeightsPublisher(network, "run", refresh_s=0.3)
    publisher.publish(0, LARGE, constant=SMALL_CONSTANT)
    output = stopped_subscriber(publisher)
    while (line := output.readline().split())[0] != "20":
        assert int(line[0]) < 19
    publisher.close()


def test_a_subscriber_that_missed_a_change_asks_for_it(network, stopped_subscriber):
    publisher = WeightsPublisher(network, "run", refresh_s=10 * LIMIT_S)  # no heartbeat comes
    publisher.publish(0, LARGE, constant=SMALL_CONSTANT)
    output = stopped_subscriber(publisher, constant={"reference": torch.ones(1)}, constant_version=1)
    time.sleep(5.1)  # before that, the answer to the first subscription may be on its way
    publisher.publish(21, LARGE, constant_version=1)
    while (line := output.readline().split())[0] != "21":
        assert int(line[0]) < 19
    assert line == ["21", "1.0"]
    publisher.close()


def test_a_heartbeat_is_small(network):
    publisher = WeightsPublisher(network, "run", refresh_s=0.3)
    publisher.publish(1, LARGE)
    wait_until(lambda: publisher.published == 1)
    listener = network.context.socket(zmq.SUB)
    listener.setsockopt(zmq.SUBSCRIBE, b"")
    listener.connect(publisher.address)
    assert len(listener.recv()) < 1000
    publisher.close()
