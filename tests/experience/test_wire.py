"""The experience message, over real sockets."""

import os
import time

import msgspec
import pytest
import torch
import zmq

from mineonline.envs.contract import ContinuousAction, EnvSpec, TensorSpec
from mineonline.errors import LearningError, WireError
from mineonline.experience.buffer import FragmentBuffer
from mineonline.experience.collector import FragmentSender
from mineonline.experience.episodes import EpisodeScores
from mineonline.experience.rollout import REASON_BYTES, reason_bytes
from mineonline.experience.wire import TAKEN, WINDOW, Header, RankLinks, Receiver, decode, encode
from mineonline.fragment import EnvFailure, Episode, Report, TensorField, Timing, fragment_schema
from mineonline.processes.sockets import Network, connect
from tests.helpers.programs import LIMIT_S, wait_until

SPEC = EnvSpec(observation={"image": TensorSpec((6, 8, 3), "uint8")}, action={"buttons": 8641, "camera": 121})
SCHEMA = fragment_schema(SPEC, {"gru": TensorSpec((5,), "float32")}, {}, length=7)
ACTIONS = dict(SPEC.action)
STATISTICS = ("kill_entity/cow",)


def tensors(seed=0):
    g = torch.Generator().manual_seed(seed)
    made = {}
    for field in SCHEMA:
        dtype = getattr(torch, field.dtype)
        if dtype == torch.bool:
            made[field.name] = torch.rand(field.shape, generator=g) < 0.3
        elif dtype.is_floating_point:
            made[field.name] = torch.randn(field.shape, generator=g)
        else:
            made[field.name] = torch.randint(0, 120, field.shape, generator=g).to(dtype)
    return made


def header(**changes):
    fields = {
        "run_id": "run", "schema": SCHEMA,
        "report": Report(
            3, (Episode(1.5, 20, "hunt", {"kill_entity/cow": 2.0}),), env_failures=1,
            reasons=(EnvFailure(5, "it burns"),), timing=Timing(0.1, 0.2, 0.3, 0.7)
        ),
    }  # fmt: skip
    return Header(**{**fields, **changes})


def received(frames):
    # writable, as zmq.Frame buffers are
    return [bytearray(frame) for frame in frames]


def refused(frames):
    with pytest.raises(WireError) as error:
        decode(received(frames), run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS)
    return str(error.value)


@pytest.mark.parametrize(
    ("report", "message"),
    [(Report(0, (Episode(float("nan"), 1, "hunt", {"kill_entity/cow": 0.0}),), 0, Timing(0, 0, 0, 0)), "not finite"),
     (Report(0, (), 0, Timing(0, float("inf"), 0, 0)), "a number in its report is not finite"),
     (Report(0, (), -1, Timing(0, 0, 0, 0)), "a count in its report is negative")],
)  # fmt: skip
def test_a_report_that_makes_no_sense_is_refused(report, message):
    assert message in refused(encode(header(report=report), tensors()))


def test_an_episode_of_an_unknown_task_or_a_task_out_of_range_is_refused():
    told = fragment_schema(EnvSpec({"task": TensorSpec((), "int64")}, {"action": 2}), {}, {}, length=3)

    def sent(episode, task):
        made = {field.name: torch.zeros(field.shape, dtype=getattr(torch, field.dtype)) for field in told}
        made["observation.task"][-1] = task
        report = Report(0, (Episode(1.0, 2, *episode),), 0, Timing(0, 0, 0, 0))
        frames = encode(header(schema=told, report=report), made)
        tasks = {"hunt": ("cows",), "chop": ("logs",)}
        return decode(received(frames), run_id="run", schema=told, actions={"action": 2},
                      statistics=("cows", "logs"), tasks=tasks)  # fmt: skip

    assert sent(("chop", {"logs": 1.0}), 1)[0].episodes[0].task == "chop"
    for episode, task, expected in (
        (("fish", {"cows": 1.0}), 0, "its episodes are of another task"),
        (("chop", {"cows": 1.0}), 0, "its episodes must report logs"),
        (("chop", {"logs": 1.0}), 2, r"observation.task is outside 0\.\.1"),
        (("chop", {"logs": 1.0}), -1, r"observation.task is outside 0\.\.1"),
    ):
        with pytest.raises(WireError, match=expected):
            sent(episode, task)


def test_a_decoded_fragment_equals_the_sent_one_through_a_real_socket(tmp_path):
    sent = tensors()
    with Network(None, tmp_path) as network:
        pull = network.bind(zmq.PULL, "test")
        push = connect(network.context, zmq.PUSH, [network.address_of(pull)], None)
        push.send_multipart(encode(header(), sent), copy=False)
        assert pull.poll(LIMIT_S * 1000)
        got, fragment = decode(
            pull.recv_multipart(copy=False), run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS
        )
        assert got == header().report
        found = dict(fragment.named_tensors())
        assert list(found) == [field.name for field in SCHEMA]
        for name, tensor in sent.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor.unsqueeze(0)), name
        push.close()
        pull.close()


def test_messages_of_another_run_or_schema_are_refused():
    assert "another run" in refused(encode(header(run_id="other"), tensors()))
    other = (Episode(1.0, 1, "hunt", {"sheep": 1.0}),)
    report = msgspec.structs.replace(header().report, episodes=other)
    assert "must report kill_entity/cow" in refused(encode(header(report=report), tensors()))
    longer = tuple(msgspec.structs.replace(s, shape=(8, *s.shape[1:])) if s.name == "reward_BT" else s for s in SCHEMA)
    assert "schema" in refused(encode(header(schema=longer), tensors()))


def test_missing_truncated_and_surplus_frames_are_refused():
    frames = received(encode(header(), tensors()))
    assert "frames" in refused(frames[:-1])
    assert "frames" in refused([*frames, b"more"])
    assert "bytes, expected" in refused([frames[0], frames[1][:-1], *frames[2:]])
    assert "header" in refused([])
    assert "header" in refused([b"\xc1garbage", *frames[1:]])
    assert "header" in refused([b"\xa4\xff\xfe\xfd\xfc", *frames[1:]])
    assert "header" in refused([b"\x91" * 5000 + b"\x90", *frames[1:]])
    assert "header" in refused([frames[0][: len(frames[0]) // 2], *frames[1:]])


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("action.buttons", 8641, "outside 0..8640"),
        ("action.camera", -1, "outside 0..120"),
        ("reward_BT", float("nan"), "reward_BT is not finite"),
        ("log_prob_BT", float("inf"), "log_prob_BT is not finite"),
        ("memory.gru", float("nan"), "memory.gru is not finite"),
    ],
)
def test_contents_that_would_harm_the_learner_are_refused(name, value, complaint):
    bad = tensors()
    bad[name][3] = value
    assert complaint in refused(encode(header(), bad))


def test_a_report_with_an_endless_reason_is_refused():
    report = msgspec.structs.replace(header().report, reasons=(EnvFailure(0, "a" * 301),))
    assert "header" in refused(encode(header(report=report), tensors()))


def test_continuous_actions_are_any_numbers_that_are_finite():
    spec = EnvSpec(SPEC.observation, {"arm": ContinuousAction((2,), (0.0, None), (1.0, None)), "buttons": 5})
    schema = fragment_schema(spec, {}, {}, length=7)
    sent = {field.name: torch.zeros(field.shape, dtype=getattr(torch, field.dtype)) for field in schema}
    sent["action.arm"][3, 1] = -100.0

    def arrived():
        frames = received(encode(header(schema=schema), sent))
        return decode(frames, run_id="run", schema=schema, actions=spec.action, statistics=STATISTICS)[1]

    assert torch.equal(arrived().action["arm"][0], sent["action.arm"])
    sent["action.arm"][3, 1] = float("inf")
    with pytest.raises(WireError, match=r"action\.arm is not finite"):
        arrived()


def test_a_byte_that_is_no_boolean_is_refused():
    bad = tensors()
    bad["terminated_BT"].view(torch.uint8)[2] = 7
    assert "terminated_BT is not boolean" in refused(encode(header(), bad))


def test_the_receiver_counts_what_it_refuses_and_goes_on(tmp_path):
    buffer = FragmentBuffer(capacity=4, max_staleness=1000, max_reuse=1, seed=0)
    with Network(None, tmp_path) as network:
        receiver = Receiver(
            network, buffer, rank=0, run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS
        )
        push = connect(network.context, zmq.DEALER, [receiver.address], None)
        good = received(encode(header(), tensors()))
        for message in ([b"random"], good, received(encode(header(run_id="foreign"), tensors())), good[:-1], good):
            push.send_multipart(message)
        batch = buffer.take(2, 0, lambda: False)
        assert len(batch.fragments) == 2
        assert batch.arrivals.dropped["refused"] == 3
        assert len(batch.arrivals.episodes) == 2
        push.close()
        receiver.close()


def test_a_flood_of_broken_messages_is_counted_whole_and_logged_once_per_kind(tmp_path, caplog):
    buffer = FragmentBuffer(capacity=4, max_staleness=1000, max_reuse=1, seed=0)
    with Network(None, tmp_path) as network:
        receiver = Receiver(
            network, buffer, rank=0, run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS
        )
        push = connect(network.context, zmq.DEALER, [receiver.address], None)
        good = received(encode(header(), tensors()))
        for number in range(300):
            push.send_multipart([good[0], *good[1 : 2 + number % 3]] if number % 2 else [os.urandom(20)])
        push.send_multipart(good)
        assert buffer.take(1, 0, lambda: False).arrivals.dropped["refused"] == 300
        push.close()
        receiver.close()
    kinds = [message.split(": ")[1] for message in caplog.messages]
    assert sorted(kinds) == ["N frames, expected N", "header"]


def test_a_message_larger_than_any_fragment_is_cut_off_without_being_read(tmp_path):
    buffer = FragmentBuffer(capacity=4, max_staleness=1000, max_reuse=1, seed=0)
    with Network(None, tmp_path) as network:
        receiver = Receiver(
            network, buffer, rank=0, run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS
        )
        attacker = connect(network.context, zmq.DEALER, [receiver.address], None)
        attacker.send(bytes(8 * 2**20))
        honest = connect(network.context, zmq.DEALER, [receiver.address], None)
        honest.send_multipart(received(encode(header(), tensors())))
        batch = buffer.take(1, 0, lambda: False)
        assert batch.arrivals.dropped["refused"] == 0
        attacker.close()
        honest.close()
        receiver.close()


def test_few_fragments_are_under_way_however_small_they_are(tmp_path):
    """A full buffer stops the collector at once, not when the kernel's socket buffers are full."""
    buffer = FragmentBuffer(capacity=3, max_staleness=1000, max_reuse=1, seed=0)
    with Network(None, tmp_path) as network:
        receiver = Receiver(
            network, buffer, rank=0, run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS
        )
        links = RankLinks(network.context, [receiver.address], None)

        def give_up():
            if time.monotonic() > deadline:
                raise TimeoutError

        deadline = time.monotonic() + LIMIT_S
        for _ in range(3 + WINDOW):
            links.send(encode(header(), tensors()), give_up)
        deadline = time.monotonic() + 1
        with pytest.raises(TimeoutError):
            links.send(encode(header(), tensors()), give_up)
        deadline = time.monotonic() + LIMIT_S
        buffer.take(3, 0, lambda: False)
        for _ in range(3):
            links.send(encode(header(), tensors()), give_up)
        links.close()
        receiver.close()


def test_a_rank_that_is_full_does_not_keep_fragments_from_another(tmp_path):
    buffers = [FragmentBuffer(capacity=size, max_staleness=1000, max_reuse=1, seed=0) for size in (1, 50)]
    with Network(None, tmp_path) as network:
        receivers = [
            Receiver(network, buffer, rank=rank, run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS)
            for rank, buffer in enumerate(buffers)
        ]
        links = RankLinks(network.context, [receiver.address for receiver in receivers], None)
        for _ in range(1 + WINDOW + 20):
            links.send(encode(header(), tensors()), lambda: None)
        assert buffers[1].take(20, 0, lambda: False) is not None
        assert buffers[0].waiting == 1
        links.close()
        for receiver in receivers:
            receiver.close()


def test_a_connection_that_broke_and_came_back_is_used_again(tmp_path):
    """The answers to the fragments in flight never come."""
    with Network(None, tmp_path) as network:
        router = network.bind(zmq.ROUTER, "test")
        address = network.address_of(router)
        links = RankLinks(network.context, [address], None)
        for _ in range(WINDOW):
            links.send([b"fragment"], lambda: None)
        assert router.poll(LIMIT_S * 1000)
        router.close(linger=0)
        again = network.bind(zmq.ROUTER, "test")
        assert network.address_of(again) == address
        links.send([b"another"], lambda: None)
        assert links.lost == WINDOW
        assert again.poll(LIMIT_S * 1000)
        links.close()
        again.close()


def test_who_waits_for_a_connection_that_broke_is_asked_whether_to_go_on(tmp_path):
    """Even if its window is open."""
    with Network(None, tmp_path) as network:
        router = network.bind(zmq.ROUTER, "test")
        links = RankLinks(network.context, [network.address_of(router)], None)
        links.send([b"fragment"], lambda: None)
        assert router.poll(LIMIT_S * 1000)
        router.close(linger=0)

        def give_up():
            raise TimeoutError

        def send_on():
            for _ in range(1 + WINDOW):  # what is sent before the break is noticed is lost
                links.send([b"another"], give_up)

        with pytest.raises(TimeoutError):
            send_on()
        links.close()


def test_a_policy_that_diverged_is_named_instead_of_waited_for(tmp_path):
    buffer = FragmentBuffer(capacity=4, max_staleness=1000, max_reuse=1, seed=0)
    bad = tensors()
    bad["log_prob_BT"][3] = float("nan")
    with Network(None, tmp_path) as network:
        receiver = Receiver(
            network, buffer, rank=0, run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS
        )
        links = RankLinks(network.context, [receiver.address], None)
        for message in (bad, bad, tensors(), bad, bad):
            links.send(encode(header(), message), lambda: None)
        buffer.take(1, 0, lambda: False)
        buffer.check_finite(2)
        for _ in range(WINDOW + 1):
            links.send(encode(header(), bad), lambda: None)
        with pytest.raises(LearningError, match=r"log_prob_BT is not finite\. The behaviour policy has diverged"):
            wait_until(lambda: buffer.check_finite(2))
        links.close()
        receiver.close()


def test_schemas_survive_the_wire():
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(SCHEMA), type=tuple[TensorField, ...]) == SCHEMA


@pytest.fixture
def send(tmp_path):
    """Send a rollout of up to two environments as a collector does; returns the `count` messages that arrive."""
    with Network(None, tmp_path) as network:
        router = network.bind(zmq.ROUTER, "test")
        links = RankLinks(network.context, [network.address_of(router)], None)
        episodes = EpisodeScores(2, statistics=STATISTICS, task="hunt", staggered=False)
        sender = FragmentSender(
            links, episodes, run_id="run", collector_id=0, schema=SCHEMA, first_env=0, numbered_from=0,
        )  # fmt: skip

        def through(batch, count, **how):
            batch["report.env_s"] = batch["report.policy_s"] = torch.zeros(len(batch["env_B"]))
            sender.send(batch, alive=lambda: None, **how)
            arrived = []
            for _ in range(count):
                assert router.poll(LIMIT_S * 1000)
                name, *frames = router.recv_multipart(copy=False)
                router.send_multipart([name, TAKEN])
                arrived.append(decode(frames, run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS))
            return arrived

        yield through
        assert not router.poll(100), "an unexpected message"
        links.close()
        router.close()


def batch_of(environments):
    """A rollout in which nothing ends and nothing fails."""
    batch = {name: torch.stack([tensor] * environments) for name, tensor in tensors().items()}
    batch["env_B"] = torch.arange(environments)
    for name in ("terminated_BT", "truncated_BT", "idle_BT", "report.crashed_BT"):
        batch[name] = torch.zeros(environments, 7, dtype=torch.bool)
    batch["report.failures"] = torch.zeros(environments, dtype=torch.int64)
    batch["report.reason"] = torch.zeros(environments, REASON_BYTES, dtype=torch.uint8)
    batch["report.reason_env"] = torch.arange(environments)
    batch["report.statistics_BTK"] = torch.arange(7.0).view(1, 7, 1).repeat(environments, 1, 1)
    return batch


def test_scores_go_on_where_the_trainer_was_lost_while_a_rollout_was_sent(tmp_path):
    class Lost(Exception):
        pass

    def lost():
        raise Lost

    episodes = EpisodeScores(2, statistics=STATISTICS, task="hunt", staggered=False)
    with Network(None, tmp_path) as network:
        links = RankLinks(network.context, [f"ipc://{tmp_path}/nobody"], None)
        sender = FragmentSender(
            links, episodes, run_id="run", collector_id=0, schema=SCHEMA, first_env=0, numbered_from=0,
        )  # fmt: skip
        batch = batch_of(2) | {"report.env_s": torch.zeros(2), "report.policy_s": torch.zeros(2)}
        batch["reward_BT"] = torch.ones(2, 7)
        with pytest.raises(Lost):
            sender.send(batch, alive=lost)
        links.close()
    batch = batch_of(2) | {"reward_BT": torch.ones(2, 7)}
    batch["terminated_BT"][:, 2] = True
    assert [episodes.finished(batch, n, n)[0].length for n in range(2)] == [10, 10]


def test_what_was_begun_with_weights_of_a_later_version_than_the_trainer_has_is_dropped_and_counted(send):
    batch = batch_of(2)
    batch["version_B"] = torch.tensor([50, 150])
    ((_, first),) = send(batch, 1, newest=50)
    assert int(first.version_B) == 50
    (report, _), (_, _) = send(batch_of(2) | {"version_B": torch.tensor([50, 50])}, 2, newest=50)
    assert report.surplus == 1


def test_finished_episodes_are_reported_with_their_return_length_and_statistics_over_fragments(send):
    """One environment, two fragments of 7 rows; the truncation at row 4 has its last observation in row 5."""
    heard = []
    for _ in range(2):
        batch = batch_of(1)
        batch["reward_BT"] = torch.tensor([[1.0, 1, 1, 1, 10, 100, 1]])
        batch["terminated_BT"][0, 1] = True
        batch["truncated_BT"][0, 4] = batch["report.crashed_BT"][0, 4] = True
        batch["idle_BT"][0, 5] = True
        ((got, _),) = send(batch, 1)
        heard += got.episodes
    assert heard == [
        Episode(2.0, 2, "hunt", {"kill_entity/cow": 1.0}, crashed=False, discounted_return=2.0),
        Episode(12.0, 3, "hunt", {"kill_entity/cow": 4.0}, crashed=True, discounted_return=12.0),
        # started in the last row of the first fragment; the reward of a row without a decision is not counted
        Episode(3.0, 3, "hunt", {"kill_entity/cow": 1.0}, crashed=False, discounted_return=3.0),
        Episode(12.0, 3, "hunt", {"kill_entity/cow": 4.0}, crashed=True, discounted_return=12.0),
    ]


def test_failures_of_environments_are_told_with_the_next_fragment_that_is_sent(send):
    """Two environments, three rollouts; in the first, environment 0 only fails and waits."""
    first, second, third = (batch_of(2) for _ in range(3))
    first["idle_BT"][0] = True
    first["report.failures"][0] = 2
    first["report.reason"][0] = torch.from_numpy(reason_bytes("no\x1b[31m GL\ncontext " + 400 * "ä"))
    second["report.failures"][:] = 1
    second["report.reason"][1] = torch.from_numpy(reason_bytes("it burns"))
    arrived = [*send(first, 1), *send(second, 2), *send(third, 2)]
    assert [int(fragment.env_B) for _, fragment in arrived] == [1, 0, 1, 0, 1]
    assert [report.env_failures for report, _ in arrived] == [2, 2, 0, 0, 0]
    shown = "no [31m GL context " + 278 * "ä" + "..."
    assert [report.reasons for report, _ in arrived] == [
        (EnvFailure(0, shown),), (EnvFailure(1, "it burns"),), (), (), (),
    ]  # fmt: skip


def test_fragments_may_come_in_any_order_and_several_of_one_environment(send):
    first, second = batch_of(2), batch_of(2)
    first["env_B"], second["env_B"] = torch.tensor([1, 1]), torch.tensor([1, 0])
    first["terminated_BT"][1, 1] = second["terminated_BT"][:, 0] = True
    first["report.reason"][1] = torch.from_numpy(reason_bytes("it burns"))
    first["report.reason_env"][1] = 0
    arrived = [*send(first, 2), *send(second, 2)]
    assert [int(fragment.env_B) for _, fragment in arrived] == [1, 1, 1, 0]
    assert [[episode.length for episode in report.episodes] for report, _ in arrived] == [[], [9], [6], [1]]
    assert arrived[0][0].reasons == (EnvFailure(0, "it burns"),)


def test_in_lockstep_a_refused_fragment_is_replaced_and_what_the_others_play_meanwhile_is_dropped_and_counted(tmp_path):
    buffer = FragmentBuffer(capacity=4, max_staleness=0, max_reuse=1, seed=0)

    def rollouts():
        for number in range(2):
            each = [tensors(seed) for seed in range(2)]
            if number == 0:
                each[1]["reward_BT"][2] = float("nan")
            rollout = {name: torch.stack([fragment[name] for fragment in each]) for name in each[0]}
            rollout["idle_BT"].zero_()
            rollout["sequence_B"].fill_(number)
            rollout["version_B"].zero_()
            length = rollout["idle_BT"].shape[1]
            yield rollout | {
                "report.env_s": torch.zeros(2), "report.policy_s": torch.zeros(2),
                "report.crashed_BT": torch.zeros(2, length, dtype=torch.bool),
                "report.statistics_BTK": torch.zeros(2, length, 1),
                "report.reason": torch.zeros(2, 8, dtype=torch.uint8),
                "report.reason_env": torch.arange(2), "report.failures": torch.zeros(2, dtype=torch.int64),
                "env_B": torch.arange(2) + 4,
            }  # fmt: skip

    with Network(None, tmp_path) as network:
        receiver = Receiver(
            network, buffer, rank=0, run_id="run", schema=SCHEMA, actions=ACTIONS, statistics=STATISTICS
        )
        links = RankLinks(network.context, [receiver.address], None)
        episodes = EpisodeScores(2, statistics=STATISTICS, task="hunt", staggered=False)
        sender = FragmentSender(
            links, episodes, run_id="run", collector_id=0, schema=SCHEMA, first_env=6,
            numbered_from=4,
        )  # fmt: skip
        sender.send_share(rollouts(), 1, lambda: None)
        batch = buffer.take(2, 0, lambda: False)
        assert list(zip(batch.fragments.env_B.tolist(), batch.fragments.sequence_B.tolist(), strict=True)) == [
            (6, 0), (7, 1),
        ]  # fmt: skip
        assert batch.arrivals.dropped == {"refused": 1, "surplus": 1, "lost": 0}
        links.close()
        receiver.close()
