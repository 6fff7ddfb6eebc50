"""Checks of one node. Each gives what it found, and for what is wrong, what to type."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import psutil

from mineonline.atomic import written_whole
from mineonline.envs.minestudio import requirements
from mineonline.envs.minestudio.requirements import Finding
from mineonline.errors import ConfigError
from mineonline.processes.sockets import own_address

THIS_NODE = "this node (env=world, env=gym)"
SEVERAL_NODES = "several nodes"
MINESTUDIO = "env=minestudio env.engine=world, policy=vpt"
MINECRAFT = "env=minestudio"

RUN_BYTES = 2 * 10**9
"""Memory of the default run: trainer, collector, two workers, and the spare with its fork server."""
ENGINE_BYTES = 3 * 10**9
"""Memory of one Minecraft: a Java heap of 2 GB, its client of 0.4 GB, and what Java needs besides its heap."""
SHARED_BYTES = 256 * 10**6
"""Of /dev/shm, where workers hand over their rollouts: 20 MB in the default run, 90 MB for 12 environments of VPT 1x.
The ranks of a node with GPUs use it too (NCCL)."""
FOLDER_BYTES = 5 * 10**9
"""A checkpoint is written beside the one before it: of VPT 1x, with its optimiser, 0.9 GB each."""
OPEN_FILES = 1024
"""A trainer has 25 open, and 5 more for each collector. A collector has 30, and 40 more for each worker: each shared
tensor is one."""
CLOCK_S = 2.0
"""By which two clocks may differ: `checkpoint=latest` and a requeued job compare times of files."""
_COMMAND_TIMEOUT_S = 60
_MINIMAL_DRIVERS = {11: 450, 12: 525, 13: 580}
"""CUDA's major version -> driver (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html)."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked for on a node."""

    area: str
    """What it is for."""
    name: str
    needed: bool
    """Whether the node is not ready without it."""
    found: str
    """What was found; what is wrong, if `cure` is not empty."""
    cure: str = ""
    """What to type; empty if all is well."""


def check_node(folder: Path, *, engines: int, nodes: int, needed: Sequence[str] = ()) -> list[Check]:
    """Everything that can be found out on this node alone.

    `folder`: where runs are to be. `engines`: how many Minecrafts are to run here; more than 0 makes what they need
    needed. So does naming it in `needed`. `nodes`: how many this one is to work with.
    """
    allotted = int(os.environ.get("SLURM_GPUS_ON_NODE") or 0)
    areas: list[tuple[str, bool, Iterable[Finding]]] = [
        (THIS_NODE, allotted > 0, [own_gpus(allotted)]),  # everything runs without one, unless Slurm was asked for some
        (THIS_NODE, True, _this_node(folder, engines)),
        (SEVERAL_NODES, nodes > 1, _network()),
        (MINESTUDIO, engines > 0, requirements.findings("world")),
        (MINECRAFT, engines > 0, requirements.findings("minecraft")),
    ]
    return [
        Check(area, found.name, always or found.name in needed, found.found, found.cure)
        for area, always, findings in areas
        for found in findings
    ]


def _this_node(folder: Path, engines: int) -> Iterator[Finding]:
    yield Finding("CPUs", str(len(os.sched_getaffinity(0))))
    yield memory(available_memory(), engines)
    yield shared_memory(Path("/dev/shm"))
    yield open_files()
    yield from folder_findings(folder)


def own_gpus(allotted: int) -> Finding:
    """The GPUs of this node. `allotted`: how many Slurm has given to this job here."""
    build = importlib.metadata.version("torch")
    seen: list[str] = []
    cuda: str | None = None
    if not build.endswith("+cpu"):  # importing torch takes a second, and that build sees none
        import torch

        cuda = torch.version.cuda
        seen = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return gpus(_listed_by_driver(), seen, f"torch {build}", cuda, allotted)


def _listed_by_driver() -> list[tuple[str, str]]:
    """Name and driver version of every GPU, visible to this process or not; none without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.strip().splitlines() if done.returncode == 0 else []
    return [(name.strip(), driver.strip()) for name, _, driver in (line.rpartition(",") for line in lines)]


def gpus(
    listed: Sequence[tuple[str, str]], seen: Sequence[str], build: str, cuda: str | None, allotted: int
) -> Finding:
    """`listed`: what the driver knows. `seen`: what torch (`build`, made for `cuda`) can use."""
    name = "GPUs"
    driver = listed[0][1] if listed else ""
    if len(seen) >= max(allotted, 1):
        return Finding(name, f"{len(seen)} x {seen[0]}{f', driver {driver}' if driver else ''}, CUDA {cuda}")
    if not listed and not allotted:
        return Finding(name, "none (everything runs without one)")
    short = f"{build} sees {len(seen)} of {max(len(listed), allotted)} GPUs"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not listed:
        return Finding(name, f"{short}, and nvidia-smi shows none", "Ask the administrator for a driver on this node")
    if cuda is None:
        return Finding(
            name, f"{short}: it was built without CUDA",
            "Type  pip install torch --force-reinstall --index-url https://download.pytorch.org/whl/<cuXYZ>  "
            "(https://pytorch.org/get-started/locally), with the version that is installed now",
        )  # fmt: skip
    least = _MINIMAL_DRIVERS.get(int(cuda.partition(".")[0]), 0)
    if int(driver.partition(".")[0]) < least:
        return Finding(
            name, f"{short}: driver {driver} is too old for CUDA {cuda}",
            f"Install a torch for an older CUDA (https://pytorch.org/get-started/previous-versions), or driver {least}",
        )  # fmt: skip
    if hidden is not None:
        cure = "Unset CUDA_VISIBLE_DEVICES, or name them all (Slurm: --gpus-per-node, not --gpus-per-task)"
        return Finding(name, f"{short}: CUDA_VISIBLE_DEVICES={hidden}", cure)
    return Finding(
        name,
        f"{short} (driver {driver}, CUDA {cuda})",
        "See what  python -c 'import torch; torch.zeros(1).cuda()'  says",
    )


def available_memory() -> int:
    """Bytes: what is free on this node, and at most what its control groups allow (a Slurm job's, a container's)."""
    limits = cgroup_limits(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup").read_text())
    return min(int(psutil.virtual_memory().available), *limits)


def cgroup_limits(root: Path, groups: str) -> list[int]:
    """Memory limits of a process, in bytes. `groups`: its `/proc/<pid>/cgroup`; version 1 and 2 are both in use."""
    limits = [2**63]
    for _, controllers, path in (line.split(":", 2) for line in groups.splitlines()):
        if controllers == "":
            base, file = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, file = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = base / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(base) and (group / file).is_file():
                text = (group / file).read_text().strip()
                limits.append(2**63 if text == "max" else int(text))
    return limits


def memory(free: int, engines: int) -> Finding:
    """Memory for a run with `engines` Minecrafts on this node."""
    need = RUN_BYTES + engines * ENGINE_BYTES
    if free >= need:
        return Finding("memory", f"{_gb(free)} free")
    return Finding(
        "memory", f"{_gb(free)} free, but {_gb(need)} are needed{f' for {engines} engines' if engines else ''}",
        "Start fewer (collector.workers x collector.envs_per_worker; 3 GB for each Minecraft), use more nodes, or ask "
        "Slurm for more with --mem",
    )  # fmt: skip


def shared_memory(mount: Path) -> Finding:
    """Room for the rollouts that workers hand over."""
    name = "shared memory"
    cure = "Make it larger:  docker run --shm-size=8g  or  mount -o remount,size=50% /dev/shm"
    try:
        free = shutil.disk_usage(mount).free
    except OSError as error:
        return Finding(name, f"{mount}: {error.strerror}", cure)
    if free < SHARED_BYTES:
        return Finding(name, f"{_gb(free)} free in {mount}, but {_gb(SHARED_BYTES)} are needed", cure)
    return Finding(name, f"{_gb(free)} free")


def open_files() -> Finding:
    """How many files and sockets a process may have."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return Finding("open files", "unlimited")
    if limit < OPEN_FILES:
        return Finding(
            "open files", f"{limit} at most, but a run may need {OPEN_FILES}",
            f"Type  ulimit -n {most if most >= OPEN_FILES else 65536}  before it starts (a login node's limit goes "
            "along to the job), or raise nofile in /etc/security/limits.conf",
        )  # fmt: skip
    return Finding("open files", str(limit))


def folder_findings(folder: Path) -> Iterator[Finding]:
    """Whether runs can be in `folder`: it can be written, files be renamed and locked, and there is room."""
    name = "folder"
    cure = "Give --folder=<where runs are to be>: a folder that can be written, on all nodes the same"
    try:
        with tempfile.TemporaryDirectory(prefix=".mineonline-doctor-", dir=folder) as trial:
            file = Path(trial) / "trial"
            before = time.time()
            with written_whole(file) as partial:
                partial.touch()
            written = file.stat().st_mtime
            after = time.time()
            with file.open("r+b") as opened:
                fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding(name, f"{folder}: {error.strerror}", cure)
        return
    yield Finding(name, str(folder))
    if free < FOLDER_BYTES:
        yield Finding(
            "room in it", f"{_gb(free)} free, but {_gb(FOLDER_BYTES)} are needed for checkpoints",
            "Delete old runs, or give --folder=<another>",
        )  # fmt: skip
    else:
        yield Finding("room in it", f"{_gb(free)} free")
    yield clock("its time", "this node's clock", written - before, after - before)


def clock(name: str, than: str, ahead_s: float, unsure_s: float) -> Finding:
    """A clock that is `ahead_s` ahead of that of `than`, or up to `unsure_s` less."""
    surely_s = max(ahead_s - unsure_s, 0.0) if ahead_s > 0 else ahead_s
    if abs(surely_s) > CLOCK_S:
        text = f"{abs(surely_s):.0f} s {'ahead of' if surely_s > 0 else 'behind'} {than}"
        return Finding(name, text, "Have the clocks set:  systemctl start chronyd  (or ntpd), by the administrator")
    return Finding(name, f"within {max(abs(surely_s), unsure_s, 0.001):.3f} s")


def _network() -> Iterator[Finding]:
    addresses = _ipv4_addresses()
    yield Finding("interfaces", ", ".join(f"{name} {address}" for name, address in addresses.items()) or "none")
    try:
        address = own_address()
    except ConfigError:
        cure = "Connect it to the network of the other nodes; a container needs the host's (docker run --network=host)"
        yield Finding("address", "this node has no route to another one", cure)
        return
    yield Finding("address", address)
    yield port(address)
    interface = next((name for name, known in addresses.items() if known == address), "<interface>")
    yield host_name(interface, list(addresses))


def _ipv4_addresses() -> dict[str, str]:
    """Interface -> address, but for the loopback's."""
    found = {
        name: [each.address for each in known if each.family == socket.AF_INET]
        for name, known in psutil.net_if_addrs().items()
    }
    return {name: known[0] for name, known in found.items() if known and not known[0].startswith("127.")}


def port(address: str) -> Finding:
    """Whether sockets can listen at the address by which others reach this node."""
    try:
        with socket.create_server((address, 0)) as server:
            return Finding("free port", str(server.getsockname()[1]))
    except OSError as error:
        cure = "Give network.host=<an address in `ip addr`>, and let this user listen there"
        return Finding("free port", f"{address} cannot be listened at: {error.strerror}", cure)


def host_name(interface: str, interfaces: Sequence[str]) -> Finding:
    """Whether ranks without GPUs meet: gloo listens at the address that this node's name stands for."""
    name, node = "host name", socket.gethostname()
    chosen = os.environ.get("GLOO_SOCKET_IFNAME")
    if chosen is not None:
        missing = [each for each in chosen.split(",") if each not in interfaces]
        if missing:
            return Finding(
                name, f"GLOO_SOCKET_IFNAME={chosen}, but there is no {missing[0]} with an IPv4 address",
                f"Type  export GLOO_SOCKET_IFNAME={interface}",
            )  # fmt: skip
        return Finding(name, f"GLOO_SOCKET_IFNAME={chosen}")
    cure = f"Type  export GLOO_SOCKET_IFNAME={interface}  or give {node} its address in /etc/hosts"
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(node, None)}
    except OSError as error:
        return Finding(name, f"{node} has no address ({error.strerror})", cure)
    loopback = sorted(each for each in addresses if re.match(r"127\.|::1$", each))
    if loopback:
        return Finding(name, f"{node} is {loopback[0]} here, where no other node reaches it", cure)
    return Finding(name, f"{node} is {', '.join(sorted(addresses))}")


def _gb(size: int) -> str:
    return f"{size / 1e9:.{0 if size >= 10**10 else 1}f} GB"
