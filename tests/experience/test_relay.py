"""Fragments through a relay, over real sockets; the test is the rank."""

import pytest
import zmq

from mineonline.experience.relay import ExperienceRelay
from mineonline.experience.wire import LOST, REFUSED, TAKEN, RankLinks
from mineonline.processes.sockets import Network
from tests.helpers.programs import LIMIT_S, wait_until


@pytest.fixture
def ranks(tmp_path):
    """A network and two ranks' sockets in it."""
    with Network(None, tmp_path) as network:
        yield network, [network.bind(zmq.ROUTER, f"rank-{number}") for number in range(2)]


@pytest.fixture
def relay(ranks, tmp_path):
    network, routers = ranks
    with Network(None, tmp_path) as own:
        opened = ExperienceRelay(own, [network.address_of(router) for router in routers], None, largest_frame=1000)
        opened.network = own
        yield opened
        opened.close()
        opened.check()


def received(router):
    assert router.poll(LIMIT_S * 1000)
    return router.recv_multipart()


def test_each_collector_gets_the_answers_to_its_own_fragments_in_its_order(ranks, relay):
    _, routers = ranks
    collectors = [RankLinks(relay.network.context, relay.addresses, None) for _ in range(2)]
    answers = [[], []]
    for number, collector in enumerate(collectors):
        for word in (b"first", b"second"):
            collector.send([word, str(number).encode()], lambda: None, answers[number].append)
    seen, senders = [], [set() for _ in routers]

    def all_are_answered():
        for router, known in zip(routers, senders, strict=True):
            while router.poll(0):
                sender, *frames = router.recv_multipart()
                seen.append(frames)
                known.add(sender)
                router.send_multipart([sender, TAKEN if frames[1] == b"0" else REFUSED])
        return len(seen) == 4

    wait_until(all_are_answered)
    assert sorted(seen) == [[b"first", b"0"], [b"first", b"1"], [b"second", b"0"], [b"second", b"1"]]
    assert all(len(known) <= 1 for known in senders), "the relay has one connection to a rank"
    for collector in collectors:
        collector.settle(lambda: None)
        collector.close()
    assert answers == [[TAKEN, TAKEN], [REFUSED, REFUSED]]


def test_a_fragment_that_was_lost_with_the_relays_connection_is_counted_by_its_collector(ranks, relay):
    network, routers = ranks
    collector = RankLinks(relay.network.context, relay.addresses[:1], None)
    answers = []
    collector.send([b"fragment"], lambda: None, answers.append)
    received(routers[0])
    routers[0].close(linger=0)
    again = network.bind(zmq.ROUTER, "rank-0")

    def is_told():
        collector.has_room()
        return answers == [LOST]

    wait_until(is_told)
    assert collector.lost == 1
    collector.send([b"another"], lambda: None, answers.append)
    sender, frame = received(again)
    assert frame == b"another"
    again.send_multipart([sender, TAKEN])
    collector.settle(lambda: None)
    assert answers == [LOST, TAKEN]
    collector.close()


def test_a_rank_that_does_not_take_in_leaves_the_others_alone(ranks, relay):
    """Its fragments wait in the collector, whose window is not wider for the relay."""
    _, routers = ranks
    collector = RankLinks(relay.network.context, relay.addresses, None)
    taken = waiting = 0

    def much_was_taken():
        nonlocal taken, waiting
        collector.offer([b"fragment"], lambda answer: None)
        while routers[1].poll(0):
            routers[1].send_multipart([routers[1].recv_multipart()[0], TAKEN])
            taken += 1
        while routers[0].poll(0):
            routers[0].recv_multipart()
            waiting += 1
        return taken > 20 and waiting >= 2

    wait_until(much_was_taken)
    for _ in range(10):
        much_was_taken()
    assert waiting == 2
    collector.close()


def test_a_collector_that_sends_too_much_is_cut_off_and_the_others_are_not(ranks, relay):
    _, routers = ranks
    attacker, honest = (RankLinks(relay.network.context, relay.addresses[:1], None) for _ in range(2))
    attacker.send([bytes(1001)], lambda: None)
    honest.send([bytes(1000)], lambda: None)
    assert received(routers[0])[1] == bytes(1000)
    assert not routers[0].poll(300)
    attacker.close()
    honest.close()
