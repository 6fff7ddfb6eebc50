"""`python -m mineonline.play` with real sockets: who may use it, how it starts and ends, and what it shows of a run."""

import asyncio
import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import aiohttp
import psutil
import pytest
import torch

from mineonline.errors import ConfigError
from mineonline.experience.fragment_files import RecordedFragments
from mineonline.play import parse_arguments, record_folder
from mineonline.status import write_status
from mineonline.web.player import TAKEN
from tests.callbacks.test_panel import status
from tests.helpers.player import Client, address_of, played
from tests.helpers.programs import wait_until
from tests.helpers.settings import QUICK, checkpoint_of

PLAY = ["port=0", "seed=0", "env.video_size=[320,180]"]


def get(address, **headers):
    """Status, headers and body of an HTTP answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def a_run(folder: Path, *overrides: str) -> Path:
    """A run folder with a checkpoint, metrics and three videos."""
    checkpoint_of(folder, *overrides, version=3)
    (folder / "metrics.csv").write_text(
        "iteration,episode/return,env_steps,time/learner,time/learner_waits\n1,nan,10,0.5,0.4\n3,2.5,30,0.9,0.05\n"
    )
    (folder / "videos").mkdir()
    for name in ("000002.mp4", "000003_hunt_cow.mp4", "000003.mp4"):
        (folder / "videos" / name).write_bytes(bytes(range(200)))
    (folder / "videos" / ".000004.mp4.17").write_bytes(b"half")
    (folder / "secret.mp4").write_bytes(b"secret")
    return folder


@pytest.mark.program
def test_only_who_has_the_token_and_comes_from_here_gets_an_answer(start, tmp_path):
    run = start(f"run={a_run(tmp_path / 'run', *QUICK)}", "port=0", module="mineonline.play")
    address = address_of(run)
    origin, token = address.split("/")[2], address.split("/")[3]
    status, headers, body = get(address)
    assert status == 200
    assert b"<title>mineonline</title>" in body
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    for name in ("page.js", "page.css", "run.json"):
        assert get(address + name)[0] == 200
        assert get(f"http://{origin}/{token[:-1]}x/{name}")[0] == 403
    assert get(f"http://{origin}/")[0] == 403
    assert get(f"http://{origin}/page.js")[0] == 403
    # another site's name that was pointed at this machine
    assert get(address, Host="evil.example:80")[0] == 403
    # a tunnel has another port
    assert get(address, Host="localhost:9000")[0] == 200
    assert get(address + "run.json", Origin="http://evil.example")[0] == 403
    assert get(address + "run.json", Origin=f"http://{origin}")[0] == 200
    # nothing but the run's videos and the page's own files
    assert get(address + "videos/000003.mp4")[2] == bytes(range(200))
    assert get(address + "videos/000003.mp4", Range="bytes=10-19")[2] == bytes(range(10, 20))
    for path in ("videos/..%2Fsecret.mp4", "videos/../secret.mp4", "videos/.000004.mp4.17", "..%2Fserver.py",
                 "videos/%2Fetc%2Fpasswd", "%2e%2e/server.py", "__init__.py"):  # fmt: skip
        assert get(address + path)[0] in (403, 404), path


@pytest.mark.program
def test_a_run_that_cannot_be_played_is_shown_as_its_files_are_now(start, tmp_path):
    folder = a_run(tmp_path / "run", *QUICK)
    run = start(f"run={folder}", "port=0", module="mineonline.play")
    address = address_of(run)
    assert json.loads(get(address + "about.json")[2]) == {"play": False, "run": True}
    shown = json.loads(get(address + "run.json")[2])
    assert shown["name"] == "CartPole-v1"
    assert shown["iterations"] == 3
    assert shown["curves"]["episode/return"] == [[3, 2.5]]  # before the first episode there is no return
    assert shown["latest"]["time/learner"] == 0.9
    assert [(video["name"], video["iteration"]) for video in shown["videos"]] == [
        ("000003_hunt_cow.mp4", 3), ("000003.mp4", 3), ("000002.mp4", 2),
    ]  # fmt: skip
    assert shown["status"] is None
    assert not shown["done"]
    with (folder / "metrics.csv").open("a") as file:
        file.write("4,3.5,40,0.9,0.05\n")
    write_status(status(), folder)
    (folder / "done").touch()
    shown = json.loads(get(address + "run.json")[2])
    assert shown["curves"]["episode/return"] == [[3, 2.5], [4, 3.5]]
    assert shown["status"]["headline"] == status().headline
    assert shown["done"]
    assert not psutil.Process(run.process.pid).children()  # no world


@pytest.mark.program
def test_a_person_plays_and_what_they_play_is_a_set_that_can_be_cloned(start, tmp_path):
    run = start(*PLAY, f"record={tmp_path / 'set'}", "fragment.length=16", module="mineonline.play")
    address = address_of(run)

    async def script(client: Client) -> None:
        await client.start()
        first = client.jpeg
        number = await client.press("forward")
        await client.until(lambda: client.pictures[-1][1] >= number)
        await client.turn(right=30)
        await client.until(lambda: client.news["situation"]["recorded"] >= 20)
        assert client.jpeg != first
        assert client.jpeg.startswith(b"\xff\xd8")  # a JPEG

    client = played(address, script)
    assert client.news["opened"]["text"] == "hunt a cow"
    keys = {key["code"]: key["state"] for key in client.news["opened"]["keys"]}
    assert keys["KeyW"] == "works"
    assert keys["KeyE"] == "forbidden"
    world = psutil.Process(run.process.pid).children()
    assert len(world) == 1
    began = time.monotonic()
    run.send(signal.SIGINT)
    assert run.wait() == 0, run.output
    assert time.monotonic() - began < 5  # about a second, on a machine that is not busy
    wait_until(lambda: not psutil.pid_exists(world[0].pid))
    assert f"your play: {tmp_path / 'set'}." in run.output
    assert "Traceback" not in run.output
    fragments = RecordedFragments(tmp_path / "set")
    decided = torch.cat([(~fragments[torch.tensor([i])].idle_BT[0]) for i in range(len(fragments))])
    assert int(decided.sum()) >= 20


@pytest.mark.program
def test_a_second_browser_is_told_that_someone_plays_and_the_world_pauses_without_one(start, tmp_path):
    run = start(*PLAY, "record=none", module="mineonline.play")
    address = address_of(run)

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            first = await session.ws_connect(address + "socket")
            client = Client(first)
            await client.start()
            async with session.ws_connect(address + "socket") as second:
                refused = await second.receive(timeout=60)
                assert refused.type is aiohttp.WSMsgType.CLOSE
                assert refused.data == TAKEN
            await client.until(lambda: client.news["situation"]["left_s"] < 29)
            await first.close()
            left_s = client.news["situation"]["left_s"]
            await asyncio.sleep(2.0)
            async with session.ws_connect(address + "socket") as third:
                again = Client(third)
                await again.until(lambda: "situation" in again.news)
                assert again.news["situation"]["paused"]
                # what was on its way when the browser left, and no more
                assert left_s - again.news["situation"]["left_s"] < 1.5

    asyncio.run(script())


@pytest.mark.program
def test_nonsense_on_the_socket_ends_that_connection_only(start):
    run = start(*PLAY, "record=none", module="mineonline.play")
    address = address_of(run)

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            for nonsense in ('{"kind": "press"}', "[" * 900, '{"kind": "turn", "number": 1, "down": 1e9, "right": 0}'):
                async with session.ws_connect(address + "socket") as socket:
                    await socket.send_str(nonsense)
                    while (message := await socket.receive(timeout=60)).type is not aiohttp.WSMsgType.CLOSE:
                        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
                    assert message.data == aiohttp.WSCloseCode.POLICY_VIOLATION
            async with session.ws_connect(address + "socket") as socket:
                client = Client(socket)
                await client.start()

    asyncio.run(script())


@pytest.mark.program
def test_a_checkpoint_takes_over_and_gives_back(start, tmp_path):
    folder = a_run(tmp_path / "run", "task=hunt_cow")
    metrics = "iteration,episode/return,episode/kill_entity/cow\n3,6.5,5.7\n"
    (folder / "metrics.csv").write_text(metrics)
    run = start(f"run={folder}", "port=0", "record=none", module="mineonline.play")

    async def script(client: Client) -> None:
        await client.start()
        await client.send("hand", to="agent")
        await client.until(lambda: client.news["situation"]["shared"])
        assert client.news["situation"]["who"] == "agent"
        assert client.news["situation"]["agent"] == "run, iteration 3"
        assert client.news["situation"]["scores"][0]["agent"] == 5.7
        await client.send("hand", to="person")
        await client.until(lambda: client.news["situation"]["who"] == "person")

    played(address_of(run), script)


@pytest.mark.program
def test_a_world_that_cannot_start_says_why_and_leaves_nothing(start, tmp_path):
    run = start(f"checkpoint={tmp_path / 'absent.ckpt'}", "port=0", module="mineonline.play")
    assert run.wait() == 1
    assert f"error: checkpoint={tmp_path / 'absent.ckpt'}: there is no such file." in run.output
    assert "Traceback" not in run.output


@pytest.mark.program
def test_a_port_that_is_taken_is_named(start):
    first = start(*PLAY, "record=none", module="mineonline.play")
    port = address_of(first).split(":")[2].partition("/")[0]
    second = start(f"port={port}", "record=none", module="mineonline.play")
    assert second.wait() == 1
    assert f"port={port}: cannot listen there" in second.output
    assert "Give another port=<number>" in second.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["chekpoint=x"], "chekpoint: there is no such key."),
        (["env=synthetic"], "env=synthetic: only the embedded world can be played."),
        (["checkpoint=x", "run=y"], "give one of them"),
        (["checkpoint=x", "task=hunt_cow"], "task=hunt_cow: checkpoint=... says already what is played."),
        (["run=absent"], "run=absent: is not a run folder: it has no config.yaml."),
        (["task=hunt_cows"], "task=hunt_cows: there is no such task."),
        (["port=many"], "port=many: must be a whole number."),
    ],
)
def test_a_command_line_that_cannot_work_says_what_may_be_typed(words, expected):
    with pytest.raises(ConfigError) as error:
        parse_arguments(words)
    assert expected in str(error.value)


def test_nothing_is_added_to_a_recorded_set(tmp_path):
    assert record_folder("none") is None
    assert record_folder(str(tmp_path / "new")) == tmp_path / "new"
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "000000.safetensors").touch()
    with pytest.raises(ConfigError, match="set is not empty"):
        record_folder(str(tmp_path / "set"))
