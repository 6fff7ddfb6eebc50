"""The nodes of a job meet: each tries to reach all others, and rank 0 collects what every node has found.

    rank r                                           rank 0
    ──────                                           ──────
    hello: its name, the address of its clock  ───▶  waits for all, `timeout_s` at most
                                               ◀───  roll: who came, and a locked file in the shared folder
    connects to the clock of each other one,         (so does rank 0)
    looks for that file
    report                                     ───▶  waits for those that came
                                               ◀───  end
    left                                       ───▶  leaves, and its store with it

All of it goes through a torch.distributed.TCPStore of rank 0 (or of torchrun), as JSON: nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mineonline.envs.minestudio.requirements import Finding
from mineonline.errors import ConfigError, EnvError
from mineonline.processes.launchers import meeting_point, slurm_nodes
from mineonline.processes.sockets import own_address
from mineonline.run.node_checks import SEVERAL_NODES, Check, clock

if TYPE_CHECKING:  # takes a second to import, and one node alone does not need it
    from torch.distributed import Store  # type: ignore[attr-defined]

_ROUTE_TIMEOUT_S = 10.0
_FOLDER_TIMEOUT_S = 10.0
"""A shared folder may show a new file seconds late."""
_REPORT_TIMEOUT_S = _ROUTE_TIMEOUT_S + _FOLDER_TIMEOUT_S + 10.0
_POLL_S = 0.1
_TIME = struct.Struct("!d")
_CONNECTIONS = 64
"""That a node tries at the same time."""


class NodeReport(msgspec.Struct, frozen=True):
    """What was found on a node."""

    node: str
    """Its host name; `rank <r>` of one that has not come, if Slurm does not tell."""
    rank: int
    versions: dict[str, str]
    """Package -> version; none of a node that has not come."""
    checks: list[Check]

    @property
    def ready(self) -> bool:
        """Whether nothing that is needed is missing."""
        return not any(check.needed and check.cure for check in self.checks)


class _Hello(msgspec.Struct, frozen=True):
    node: str
    host: str
    port: int
    """Of its clock; 0 if it has none, since it has no address."""


class _Roll(msgspec.Struct, frozen=True):
    came: dict[int, _Hello]
    lock_file: str | None
    """None if rank 0 could not write it."""


def meet_nodes(own: NodeReport, ranks: int, folder: Path, timeout_s: float) -> list[NodeReport]:
    """In rank 0 the reports of all nodes, in order of rank; in the others, nothing. All ranks call it.

    `own`: what this node found alone. `folder`: where runs are to be. EnvError if rank 0 is not there within
    `timeout_s`; ConfigError if rank 0 cannot listen for the others.
    """
    with ExitStack() as stack:
        hello = stack.enter_context(_clock_server(own.node))
        store = _open_store(own, timeout_s)
        with _explained():
            store.set(f"hello/{own.rank}", _text(hello))
            if own.rank == 0:
                came = _wait(store, [f"hello/{rank}" for rank in range(ranks)], timeout_s)
                hellos = {int(key.partition("/")[2]): msgspec.json.decode(came[key], type=_Hello) for key in came}
                roll = _Roll(hellos, stack.enter_context(_locked_file(folder)))
                store.set("roll", _text(roll))
            else:
                called = _wait(store, ["roll"], timeout_s + _ROUTE_TIMEOUT_S)  # rank 0 waits as long for others
                if not called:
                    raise EnvError(f"rank {own.rank} ({own.node}) has met rank 0, which then said nothing more")
                roll = msgspec.json.decode(called["roll"], type=_Roll)
            report = msgspec.structs.replace(own, checks=own.checks + _check_others(own.rank, roll, folder))
            store.set(f"report/{own.rank}", _text(report))
            if own.rank > 0:
                _wait(store, ["end"], _REPORT_TIMEOUT_S)  # others may still ask for the time
                store.set(f"left/{own.rank}", "")
                return []
            found = _wait(store, [f"report/{rank}" for rank in roll.came], _REPORT_TIMEOUT_S)
            store.set("end", "")
            there = [int(key.partition("/")[2]) for key in found]
            _wait(store, [f"left/{rank}" for rank in there if rank > 0], _REPORT_TIMEOUT_S)
        reports = [msgspec.json.decode(each, type=NodeReport) for each in found.values()]
        absent = [_absent(rank, ranks, roll, timeout_s) for rank in range(ranks) if f"report/{rank}" not in found]
        return compare_versions(sorted([*reports, *absent], key=lambda each: each.rank))


def _text(message: msgspec.Struct) -> str:
    return msgspec.json.encode(message).decode()


def _open_store(own: NodeReport, timeout_s: float) -> Store:
    from torch.distributed import DistError, PrefixStore, TCPStore  # type: ignore[attr-defined]

    host, port = meeting_point()
    serves = own.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if not serves:
        _wait_for_server(own, host, port, timeout_s)
    try:
        store = TCPStore(host, port, None, serves, timedelta(seconds=timeout_s), wait_for_workers=False)
    except DistError as error:
        raise ConfigError(
            f"rank {own.rank} ({own.node}) cannot meet the others at {host}:{port} ({error}). Start them with "
            "MASTER_PORT=<a free port of the first node>, and MASTER_ADDR=<its address> if that is wrong."
        ) from None
    return PrefixStore("mineonline.doctor", store)


def _wait_for_server(own: NodeReport, host: str, port: int, timeout_s: float) -> None:
    """In Python: torch would wait in C code, where signals are not handled."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, port), timeout=_ROUTE_TIMEOUT_S).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise EnvError(
                    f"rank {own.rank} ({own.node}) has not reached rank 0 at {host}:{port} within {timeout_s:.0f} s "
                    f"({error}). Let the nodes reach one another (a firewall?), and {host} stand for an address that "
                    "others reach: MASTER_ADDR=<address> MASTER_PORT=<open port>."
                ) from None
        time.sleep(_POLL_S)


@contextmanager
def _explained() -> Iterator[None]:
    """Turns errors of the store into one that says who has gone."""
    from torch.distributed import DistError

    try:
        yield
    except DistError as error:
        raise EnvError(f"rank 0, or the network to it, has gone before all were done ({error})") from None


def _wait(store: Store, keys: Sequence[str], timeout_s: float) -> dict[str, bytes]:
    """Those of `keys` that others have set, as soon as all are there, or after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    found: dict[str, bytes] = {}
    while True:
        found |= {key: store.get(key) for key in keys if key not in found and store.check([key])}
        if len(found) == len(keys) or time.monotonic() > deadline:
            return found
        time.sleep(_POLL_S)


@contextmanager
def _clock_server(node: str) -> Iterator[_Hello]:
    """While open, whoever connects is told the time of this node. Listens where others reach it, at a free port."""
    try:
        server = socket.create_server((own_address(), 0), backlog=1024)
    except (ConfigError, OSError):
        yield _Hello(node, "", 0)
        return
    over = threading.Event()
    server.settimeout(_POLL_S)

    def serve() -> None:
        while not over.is_set():
            # whoever leaves early has got no time, and says so
            with contextlib.suppress(OSError):
                other, _ = server.accept()
                with other:
                    other.sendall(_TIME.pack(time.time()))

    thread = threading.Thread(target=serve, name="clock")
    thread.start()
    try:
        yield _Hello(node, *server.getsockname())
    finally:
        over.set()
        thread.join(_ROUTE_TIMEOUT_S)
        server.close()


@contextmanager
def _locked_file(folder: Path) -> Iterator[str | None]:
    """A new file in `folder`, locked by this process; None if that does not work, which the node's own check says."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix=".mineonline-doctor-", dir=folder))
            file = stack.enter_context((Path(made) / "lock").open("wb"))
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
        else:
            yield str(Path(made).name)


def _check_others(rank: int, roll: _Roll, folder: Path) -> list[Check]:
    """What this rank finds out about the way to the others, and whether they share `folder`."""
    others = {other: hello for other, hello in roll.came.items() if other != rank}
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        asked = pool.map(lambda hello: ask_time(hello.host, hello.port), others.values())
        answers = dict(zip(others, asked, strict=True))
    findings = [routes({f"{others[other].node} (rank {other})": answer for other, answer in answers.items()})]
    if rank > 0:
        first = answers.get(0)
        if isinstance(first, tuple):
            findings.append(clock("clock", f"{roll.came[0].node}'s", *first))
        if roll.lock_file is not None:
            findings.append(_shared_folder(folder, roll.lock_file, roll.came[0].node))
    else:
        findings += [Finding("clock", "the reference"), Finding("shared folder", str(folder))]
    return [Check(SEVERAL_NODES, each.name, True, each.found, each.cure) for each in findings]


def ask_time(host: str, port: int) -> tuple[float, float] | str:
    """By how many seconds this node is ahead of that one, or up to how many less; or why it cannot be reached.

    `port`: 0 if the node has found no address to listen at.
    """
    if not port:
        return "it has no address"
    before = time.time()
    try:
        with socket.create_connection((host, port), timeout=_ROUTE_TIMEOUT_S) as connection:
            message = connection.recv(_TIME.size, socket.MSG_WAITALL)
    except OSError as error:
        return f"{host}:{port}: {error}"
    if len(message) < _TIME.size:
        return f"{host}:{port}: it hung up"
    after = time.time()
    (there,) = _TIME.unpack(message)
    return after - there, after - before


def routes(answers: dict[str, tuple[float, float] | str]) -> Finding:
    """`answers`: other node -> what its clock said, or why it said nothing."""
    failed = [f"{node}, {answer}" for node, answer in answers.items() if isinstance(answer, str)]
    if failed:
        return Finding(
            "routes", f"none to {'; none to '.join(failed)}",
            "Let the nodes reach one another at all ports (a firewall?), or choose the network: MASTER_ADDR=<the first "
            "node's address in it>, GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME=<interface>",
        )  # fmt: skip
    return Finding("routes", f"to {len(answers)} of {len(answers)}")


def _shared_folder(folder: Path, lock_file: str, first: str) -> Finding:
    """Whether `folder` is the one of rank 0's node, `first`, which holds a lock in it."""
    name, file = "shared folder", folder / Path(lock_file).name / "lock"
    deadline, started = time.monotonic() + _FOLDER_TIMEOUT_S, time.monotonic()
    while not file.exists():
        if time.monotonic() > deadline:
            return Finding(
                name, f"{folder} is not the folder that {first} sees under this name",
                "Give --folder=<a folder that all nodes share>, and start runs there",
            )  # fmt: skip
        time.sleep(_POLL_S)
    waited_s = time.monotonic() - started
    try:
        with file.open("r+b") as opened:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Finding(name, f"seen after {waited_s:.1f} s")
    except OSError as error:
        return Finding(name, f"{file}: {error.strerror}", "Let this user write there, on all nodes")
    return Finding(
        name, f"{folder}: a lock that {first} holds is not seen here",
        "Have it mounted with locks that all nodes see (NFS: without nolock and local_lock; Lustre: with flock)",
    )  # fmt: skip


def _absent(rank: int, ranks: int, roll: _Roll, timeout_s: float) -> NodeReport:
    """What is said of a node from which there is no report."""
    if rank in roll.came:
        node, found = roll.came[rank].node, "came, and then reported nothing"
    else:
        nodes = slurm_nodes()
        node = nodes[rank] if len(nodes) == ranks else f"rank {rank}"
        found = f"has not come within {timeout_s:.0f} s"
    host, port = meeting_point()
    cure = f"Look at its own output, and whether it reaches {host}:{port}; a slow node may need --timeout=<seconds>"
    return NodeReport(node, rank, {}, [Check(SEVERAL_NODES, "arrival", True, found, cure)])


def compare_versions(reports: Sequence[NodeReport]) -> list[NodeReport]:
    """Each report with a check of its versions against rank 0's."""
    first = reports[0]
    compared = []
    for report in reports:
        differ = [
            f"{name} {version} (on {first.node}: {first.versions.get(name)})"
            for name, version in report.versions.items()
            if version != first.versions.get(name)
        ]
        cure = "Use the same virtual environment on all nodes, in a folder that they share" if differ else ""
        check = Check(SEVERAL_NODES, "versions", True, ", ".join(differ) or "the same", cure)
        compared.append(msgspec.structs.replace(report, checks=[*report.checks, *([check] if report.versions else [])]))
    return compared
