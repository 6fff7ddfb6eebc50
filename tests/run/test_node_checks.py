"""Checks of a node: what each says of numbers that a test cannot make a machine have, and of files and sockets."""

import re
import socket

import pytest

from mineonline.run import node_checks
from mineonline.run.node_checks import (
    MINECRAFT,
    MINESTUDIO,
    SEVERAL_NODES,
    THIS_NODE,
    Check,
    cgroup_limits,
    check_node,
    clock,
    gpus,
    memory,
)
from mineonline.run.node_meeting import NodeReport, ask_time, compare_versions, routes
from mineonline.run.readiness import as_table

H100 = ("NVIDIA H100", "550.54.15")


@pytest.mark.parametrize(
    ("listed", "seen", "cuda", "allotted", "found"),
    [
        ([], [], None, 0, "none (everything runs without one)"),
        ([H100] * 2, ["NVIDIA H100"] * 2, "12.8", 2, "2 x NVIDIA H100, driver 550.54.15, CUDA 12.8"),
        ([H100] * 2, ["NVIDIA H100"], "12.8", 0, "1 x NVIDIA H100, driver 550.54.15, CUDA 12.8"),
    ],
)
def test_gpus_that_torch_can_use_or_that_are_not_there_are_well(monkeypatch, listed, seen, cuda, allotted, found):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus(listed, seen, "torch 2.13", cuda, allotted) == ("GPUs", found, "")


@pytest.mark.parametrize(
    ("listed", "seen", "cuda", "allotted", "hidden", "found", "cure"),
    [
        ([H100], [], None, 0, None, "sees 0 of 1 GPUs: it was built without CUDA", "pip install torch"),
        ([H100], [], "13.0", 0, None, "driver 550.54.15 is too old for CUDA 13.0", "or driver 580"),
        ([("K80", "470.82.01")], [], "12.4", 0, None, "driver 470.82.01 is too old for CUDA 12.4", "or driver 525"),
        ([H100], [], "12.8", 0, "", "sees 0 of 1 GPUs: CUDA_VISIBLE_DEVICES=", "Unset CUDA_VISIBLE_DEVICES"),
        ([H100] * 4, ["NVIDIA H100"], "12.8", 4, "0", "sees 1 of 4 GPUs: CUDA_VISIBLE_DEVICES=0", "Unset"),
        ([], [], "12.8", 2, None, "sees 0 of 2 GPUs, and nvidia-smi shows none", "driver on this node"),
        ([H100], [], "12.8", 0, None, "sees 0 of 1 GPUs (driver 550.54.15, CUDA 12.8)", "torch.zeros(1).cuda()"),
    ],
)
def test_gpus_that_torch_cannot_use_are_named_with_the_reason(
    monkeypatch, listed, seen, cuda, allotted, hidden, found, cure
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    finding = gpus(listed, seen, "torch 2.13", cuda, allotted)
    assert finding.found.startswith("torch 2.13 ")
    assert finding.found.endswith(found)
    assert cure in finding.cure


@pytest.mark.parametrize("allotted", ["0", "1"])
def test_a_gpu_is_needed_only_where_slurm_was_asked_for_one(monkeypatch, tmp_path, allotted):
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", allotted)
    (found,) = [check for check in check_node(tmp_path, engines=0, nodes=1) if check.name == "GPUs"]
    assert found.needed == (allotted == "1")


def test_what_is_needed_follows_from_what_is_asked_for(tmp_path):
    def needed(**asked):
        return {check.area for check in check_node(tmp_path, **asked) if check.needed}

    assert needed(engines=0, nodes=1) == {THIS_NODE}
    assert needed(engines=0, nodes=2) == {THIS_NODE, SEVERAL_NODES}
    assert needed(engines=1, nodes=1) == {THIS_NODE, MINESTUDIO, MINECRAFT}
    installed = check_node(tmp_path, engines=0, nodes=1, needed=["engine"])
    assert {check.name for check in installed if check.needed and check.area == MINECRAFT} == {"engine"}


def test_three_gigabytes_are_needed_for_each_minecraft():
    assert not memory(2 * 10**9, engines=0).cure
    assert not memory(14 * 10**9, engines=4).cure
    short = memory(14 * 10**9 - 1, engines=4)
    assert short.found == "14 GB free, but 14 GB are needed for 4 engines"
    assert "collector.envs_per_worker" in short.cure


def test_memory_is_limited_by_every_control_group_above_in_both_versions(tmp_path):
    group = tmp_path / "slurm" / "job_7" / "step_0"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text("8000000000\n")
    assert min(cgroup_limits(tmp_path, "0::/slurm/job_7/step_0\n")) == 8 * 10**9
    old = tmp_path / "memory" / "docker"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("4000000000\n")
    assert min(cgroup_limits(tmp_path, "9:name=systemd:/\n4:cpu,memory:/docker\n0::/elsewhere\n")) == 4 * 10**9
    assert min(cgroup_limits(tmp_path, "1:cpu:/docker\n")) == 2**63


@pytest.mark.parametrize(
    ("ahead_s", "unsure_s", "found"),
    [
        (0.01, 0.02, "within 0.020 s"),
        (-0.5, 0.1, "within 0.500 s"),
        (30.0, 29.0, "within 29.000 s"),  # it took so long to ask that nothing is certain
        (30.0, 1.0, "29 s ahead of n1's"),
        (-40.0, 1.0, "40 s behind n1's"),
    ],
)
def test_a_clock_is_wrong_if_it_is_off_by_more_than_asking_took(ahead_s, unsure_s, found):
    finding = clock("clock", "n1's", ahead_s, unsure_s)
    assert finding.found == found
    assert bool(finding.cure) == (" s ahead" in found or " s behind" in found)


def test_an_address_that_is_not_this_nodes_cannot_be_listened_at():
    finding = node_checks.port("203.0.113.1")
    assert "203.0.113.1 cannot be listened at" in finding.found
    assert "network.host" in finding.cure


def test_a_node_that_is_not_reached_is_named_with_the_reason():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused = ask_time("127.0.0.1", port)
    assert refused == f"127.0.0.1:{port}: [Errno 111] Connection refused"
    finding = routes({"n1 (rank 0)": (0.0, 0.1), "n3 (rank 2)": refused, "n4 (rank 3)": ask_time("", 0)})
    assert finding.found == f"none to n3 (rank 2), {refused}; none to n4 (rank 3), it has no address"
    assert "firewall" in finding.cure
    assert routes({"n1 (rank 0)": (0.0, 0.1)}) == ("routes", "to 1 of 1", "")


def test_versions_are_compared_with_those_of_rank_0():
    first = NodeReport("n1", 0, {"torch": "2.13.0", "numpy": "2.4"}, [])
    other = NodeReport("n2", 1, {"torch": "2.12.0", "numpy": "2.4"}, [])
    absent = NodeReport("n3", 2, {}, [])
    same, different, nothing = compare_versions([first, other, absent])
    assert same.ready
    assert not different.ready
    assert different.checks[0].found == "torch 2.12.0 (on n1: 2.13.0)"
    assert nothing.checks == []


def test_the_table_has_six_nodes_side_by_side_and_names_all_that_miss_the_same():
    missing = Check(THIS_NODE, "folder", True, "/scratch: Permission denied", "Give --folder=<another>")
    well = Check(THIS_NODE, "folder", True, "/a/folder/with/a/very/long/name")
    reports = [NodeReport(f"n{k}", k, {}, [missing if k in (2, 7) else well]) for k in range(8)]
    lines = as_table(reports).splitlines()
    assert lines[0].split() == [f"n{k}" for k in range(6)]
    assert re.split(r"\s{2,}", lines[1]) == [
        "folder",
        *["/a/folder/with/a/very/l…"] * 2,
        "FAIL",
        *["/a/folder/with/a/very/l…"] * 3,
    ]
    assert lines[3].split() == ["n6", "n7"]
    assert lines[-2] == f"FAIL folder ({THIS_NODE}) on n2, n7: /scratch: Permission denied"
    assert lines[-1].strip() == "Give --folder=<another>"
