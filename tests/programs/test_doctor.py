"""`python -m mineonline.doctor`, alone and as the ranks of a job, on a machine where each thing is missing in turn."""

import json
import os
import re
import socket
import subprocess
import sys
from datetime import timedelta

import psutil
import pytest
from torch.distributed import PrefixStore, TCPStore

from mineonline.processes.sockets import own_address
from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import ROOT
from tests.helpers.slurm_cluster import SlurmCluster, why_not

DOCTOR = "mineonline.doctor"
APART = ("unshare", "--map-root-user", "--mount", "--net", "--uts")
"""Runs a program with mounts, a network and a host name of its own."""
_WHY_NOT = subprocess.run([*APART, "true"], capture_output=True, text=True).stderr.strip()
needs_namespaces = pytest.mark.skipif(bool(_WHY_NOT), reason=f"no namespaces here: {_WHY_NOT}")


def apart(*commands, net=False):
    """Words that run a program after `commands`, which change what only it sees."""
    options = APART if net else [word for word in APART if word != "--net"]
    return [*options, "bash", "-euc", "; ".join([*commands, 'exec "$@"']), "-"]


def checks_of(run):
    """What the only node has found, by name."""
    (line,) = [line for line in run.output.splitlines() if line.startswith("{")]
    return {check["name"]: check for check in json.loads(line)["checks"]}


@pytest.fixture
def without_minecraft(monkeypatch, tmp_path):
    """No engine, no Java, no screen."""
    monkeypatch.setenv("MINESTUDIO_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def test_a_machine_without_minecraft_is_ready_for_the_embedded_world(start, without_minecraft):
    run = start(module=DOCTOR)
    assert run.wait() == 0, run.output
    assert "this node (env=world, env=gym): ready" in run.output
    assert "env=minestudio: not ready" in run.output
    for cure in ("mineonline.doctor --engine", "openjdk=8", "apt install xvfb xauth"):
        assert cure in run.output


def test_a_machine_without_minecraft_is_not_ready_for_engines(start, without_minecraft):
    run = start("--engines", "1", module=DOCTOR)
    assert run.wait() == 1
    node = socket.gethostname()
    assert f"error: not ready: engine on {node}, Java 8 on {node}, display on {node}" in run.output


def test_json_is_one_object_with_everything_that_was_found(start, tmp_path, without_minecraft):
    run = start("--json", module=DOCTOR)
    assert run.wait() == 0, run.output
    (line,) = run.output.splitlines()
    report = json.loads(line)
    assert report.keys() == {"node", "rank", "ready", "versions", "checks"}
    assert (report["node"], report["rank"], report["ready"]) == (socket.gethostname(), 0, True)
    assert report["versions"].keys() >= {"python", "mineonline", "torch"}
    for check in report["checks"]:
        assert check.keys() == {"area", "name", "needed", "ok", "found", "cure"}
        assert check["ok"] == (check["cure"] == "")
    found = checks_of(run)
    assert found["folder"]["found"] == str(tmp_path)
    assert not found["Java 8"]["ok"]
    assert not found["Java 8"]["needed"]
    assert not list(tmp_path.glob(".mineonline-*"))


def test_a_mistake_is_one_error_with_the_usage(start):
    for words, error in (
        (["--engines", "many"], "error: argument --engines: invalid int value: 'many'."),
        (["--fodler", "x"], "error: unrecognized arguments: --fodler x."),
    ):
        run = start(*words, module=DOCTOR)
        assert run.wait() == 1
        assert run.output.startswith(error)
        assert "`python -m mineonline.doctor --help` shows what there is" in run.output


def test_a_folder_that_is_not_there_is_not_ready(start, tmp_path):
    run = start("--folder", str(tmp_path / "absent"), "--json", module=DOCTOR)
    assert run.wait() == 1
    folder = checks_of(run)["folder"]
    assert folder["found"] == f"{tmp_path / 'absent'}: No such file or directory"
    assert "--folder=" in folder["cure"]


def test_too_few_open_files_are_not_ready(start):
    run = start("--json", module=DOCTOR, under=["bash", "-c", 'ulimit -Sn 256; exec "$@"', "-"])
    assert run.wait() == 1
    files = checks_of(run)["open files"]
    assert files["found"].startswith("256 at most")
    assert re.search(r"ulimit -n \d{4,}", files["cure"])


def test_more_minecrafts_than_there_is_memory_for_are_not_ready(start):
    run = start("--engines", "100000", "--json", module=DOCTOR)
    assert run.wait() == 1
    memory = checks_of(run)["memory"]
    assert memory["needed"]
    assert memory["found"].endswith("but 300002 GB are needed for 100000 engines")


@needs_namespaces
def test_full_disks_are_not_ready(start, tmp_path):
    (tmp_path / "full").mkdir()
    mounts = [f"mount -t tmpfs -o size=1m none {where}" for where in ("/dev/shm", tmp_path / "full")]
    run = start("--folder", str(tmp_path / "full"), "--json", module=DOCTOR, under=apart(*mounts))
    assert run.wait() == 1
    found = checks_of(run)
    assert "in /dev/shm, but 0.3 GB are needed" in found["shared memory"]["found"]
    assert "--shm-size" in found["shared memory"]["cure"]
    assert found["room in it"]["found"].startswith("0.0 GB free")
    assert found["folder"]["ok"]


@needs_namespaces
def test_a_folder_that_cannot_be_written_is_not_ready(start, tmp_path):
    (tmp_path / "read-only").mkdir()
    mount = f"mount -t tmpfs -o ro none {tmp_path / 'read-only'}"
    run = start("--folder", str(tmp_path / "read-only"), "--json", module=DOCTOR, under=apart(mount))
    assert run.wait() == 1
    assert checks_of(run)["folder"]["found"] == f"{tmp_path / 'read-only'}: Read-only file system"


@needs_namespaces
def test_without_a_network_one_node_is_ready_but_not_several(start):
    run = start("--json", module=DOCTOR, under=apart(net=True))
    assert run.wait() == 0, run.output
    address = checks_of(run)["address"]
    assert address["found"] == "this node has no route to another one"
    assert not address["ok"]
    assert not address["needed"]


@needs_namespaces
@pytest.mark.parametrize(
    ("addresses", "chosen", "found", "cure"),
    [
        ("127.0.1.1 doctor-test", None, "doctor-test is 127.0.1.1 here, where", "export GLOO_SOCKET_IFNAME="),
        ("", None, "doctor-test has no address", "export GLOO_SOCKET_IFNAME="),
        ("", "ib7", "GLOO_SOCKET_IFNAME=ib7, but there is no ib7", "export GLOO_SOCKET_IFNAME="),
        ("198.51.100.7 doctor-test", None, "doctor-test is 198.51.100.7", None),
    ],
)
def test_the_nodes_name_must_stand_for_an_address_that_others_reach(
    start, tmp_path, monkeypatch, addresses, chosen, found, cure
):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    if chosen is not None:
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", chosen)
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost\n{addresses}\n")
    renamed = apart(f"mount --bind {tmp_path / 'hosts'} /etc/hosts", "hostname doctor-test")
    run = start("--json", module=DOCTOR, under=renamed)
    assert run.wait() == 0, run.output
    name = checks_of(run)["host name"]
    assert name["found"].startswith(found)
    assert cure in name["cure"] if cure else name["ok"]


def test_gpus_that_torch_does_not_see_fail_a_job_that_was_given_some(start, tmp_path, monkeypatch):
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 'NVIDIA Test GPU, 400.10'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{driver.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run = start("--json", module=DOCTOR)
    assert run.wait() == 0, run.output
    assert "sees 0 of 1 GPUs" in checks_of(run)["GPUs"]["found"]
    assert not checks_of(run)["GPUs"]["ok"]
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    run = start("--json", module=DOCTOR)
    assert run.wait() == 1
    assert "sees 0 of 2 GPUs" in checks_of(run)["GPUs"]["found"]


@pytest.fixture
def job(start, monkeypatch):
    """Starts ranks of a job of two, as srun does: `job(rank, *arguments)`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name, value in {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "SLURM_JOB_ID": "17",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "2",
        "GLOO_SOCKET_IFNAME": interface_of(own_address()),
    }.items():
        monkeypatch.setenv(name, value)

    def begin(rank, *arguments, **how):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        return start(*arguments, module=DOCTOR, **how)

    begin.port = port
    return begin


def interface_of(address):
    return next(name for name, known in psutil.net_if_addrs().items() if address in [each.address for each in known])


def rows_of(run):
    """The first table's rows: name -> one cell for each rank."""
    table = run.output.partition("\n\n")[0].splitlines()
    return {re.split(r"\s{2,}", line)[0]: re.split(r"\s{2,}", line)[1:] for line in table}


def test_two_ranks_meet_and_rank_0_prints_one_table(job, tmp_path):
    second, first = job(1), job(0)
    assert first.wait() == 0, first.output
    assert second.wait() == 0, second.output
    assert second.output == ""
    node, rows = socket.gethostname(), rows_of(first)
    assert rows[""] == [f"{node} (0)", f"{node} (1)"]
    assert rows["routes"] == ["to 1 of 1"] * 2
    assert rows["clock"][0] == "the reference"
    assert rows["clock"][1].startswith("within ")
    assert rows["shared folder"][1].startswith("seen after ")
    assert rows["versions"] == ["the same"] * 2
    assert rows["address"] == [own_address()] * 2
    assert not list(tmp_path.glob(".mineonline-*"))


def test_what_is_missing_on_one_node_fails_the_job_and_names_the_node(job, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    second = job(1, "--folder", str(tmp_path / "elsewhere"), under=["bash", "-c", 'ulimit -Sn 300; exec "$@"', "-"])
    first = job(0)
    assert first.wait() == 1
    assert second.wait() == 0, second.output
    rows, second_name = rows_of(first), f"{socket.gethostname()} (1)"
    assert rows["open files"][1] == rows["shared folder"][1] == "FAIL"
    assert "FAIL" not in (rows["open files"][0], rows["shared folder"][0])
    assert (
        f"FAIL shared folder (several nodes) on {second_name}: {tmp_path / 'elsewhere'} is not the folder"
        in first.output
    )
    assert f"on {second_name}: 300 at most" in first.output


def test_versions_that_differ_between_nodes_are_shown(job, tmp_path, monkeypatch):
    first = job(0)
    (tmp_path / "older" / "numpy-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "older" / "numpy-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n"
    )
    # what a node that has a virtual environment of its own would see
    second = job(1, paths=[tmp_path / "older"])
    assert first.wait() == 1
    assert second.wait() == 0, second.output
    assert rows_of(first)["versions"] == ["the same", "FAIL"]
    assert "numpy 1.0 (on " in first.output
    assert "Use the same virtual environment on all nodes" in first.output


def test_a_node_that_never_comes_is_in_the_table(job):
    run = job(0, "--timeout", "2")
    assert run.wait() == 1
    assert rows_of(run)[""] == [socket.gethostname(), "rank 1"]
    assert rows_of(run)["arrival"] == ["-", "FAIL"]
    assert "on rank 1: has not come within 2 s" in run.output
    assert f"reaches 127.0.0.1:{job.port}" in run.output


@pytest.mark.slow
def test_a_node_that_falls_silent_is_in_the_table(job):
    run = job(0, "--timeout", "30", "--json")
    # a rank that says hello, where nobody answers, and then hangs
    run.wait_for(lambda: not _is_free(job.port))
    store = PrefixStore("mineonline.doctor", TCPStore("127.0.0.1", job.port, None, False, timedelta(seconds=60)))
    store.set("hello/1", json.dumps({"node": "n2", "host": "", "port": 0}))
    assert run.wait() == 1
    first, second = [json.loads(line) for line in run.output.splitlines() if line.startswith("{")]
    assert (second["node"], second["ready"], second["versions"]) == ("n2", False, {})
    assert second["checks"][0]["found"] == "came, and then reported nothing"
    (routes,) = [check for check in first["checks"] if check["name"] == "routes"]
    assert routes["found"] == "none to n2 (rank 1), it has no address"


def _is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_rank_that_does_not_reach_rank_0_says_where_it_looked(job):
    run = job(1, "--timeout", "2")
    assert run.wait() == 1
    assert f"has not reached rank 0 at 127.0.0.1:{job.port} within 2 s ([Errno 111] Connection refused)" in run.output
    assert "MASTER_PORT=<open port>" in run.output


def test_a_port_that_is_taken_is_one_error_that_says_what_to_set(job):
    with socket.create_server(("0.0.0.0", job.port)):
        run = job(0)
        assert run.wait() == 1
    assert f"cannot meet the others at 127.0.0.1:{job.port}" in run.output
    assert "MASTER_PORT=<a free port of the first node>" in run.output
    assert "Traceback" not in run.output


def test_torchrun_starts_ranks_of_a_doctor_too(start, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", interface_of(own_address()))
    run = start("--nproc-per-node=2", "-m", DOCTOR, "--json", module="torch.distributed.run")
    assert run.wait() == 0, run.output
    reports = [json.loads(line) for line in run.output.splitlines() if line.startswith("{")]
    assert [report["rank"] for report in reports] == [0, 1]
    assert all(report["ready"] for report in reports)


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason=f"no Slurm cluster here: {why_not()}")
def test_srun_starts_it_on_two_nodes_and_prints_one_table(tmp_path):
    with SlurmCluster(2) as cluster:

        def srun(*words):
            env = {**cluster.env, "PYTHONPATH": str(ROOT)}
            command = ["srun", "--nodes=2", *words]
            return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S)

        done = srun(sys.executable, "-m", DOCTOR)
        only_first = f"[ $SLURM_PROCID = 1 ] || exec {sys.executable} -m {DOCTOR} --timeout 2"
        alone = srun("bash", "-c", only_first)
    assert done.returncode == 0, done.stdout + done.stderr
    table = [re.split(r"\s{2,}", line) for line in done.stdout.partition("\n\n")[0].splitlines()]
    rows = {row[0]: row[1:] for row in table}
    assert rows[""] == ["n1", "n2"]
    assert rows["routes"] == ["to 1 of 1"] * 2
    first, second = rows["address"]
    assert first != second
    assert rows["host name"] == [f"n1 is {first}", f"n2 is {second}"]
    assert rows["shared folder"][1].startswith("seen after ")
    assert alone.returncode != 0
    assert "arrival (several nodes) on n2: has not come within 2 s" in alone.stdout
