"""What the environment says of who started the ranks."""

import pytest

from mineonline.processes.launchers import first_slurm_node, meeting_point, slurm_nodes

LISTS = {
    "n1": "n1",
    "n[1-2]": "n1",
    "node[003-007,9]": "node003",
    "r[1-2]n[1-4]": "r1n1",
    "r[2,5]n[03,7],s1": "r2n03",
    "gpu-a-1,gpu-b-[2-3]": "gpu-a-1",
}


@pytest.mark.parametrize("listed", LISTS)
def test_the_first_node_of_a_list_is_known_without_slurms_commands(monkeypatch, listed):
    monkeypatch.setenv("SLURM_STEP_NODELIST", listed)
    monkeypatch.setenv("PATH", "")  # as in a container
    assert slurm_nodes() == []
    assert first_slurm_node() == LISTS[listed]


def test_ranks_of_srun_meet_at_the_first_node_or_where_the_user_says(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NODELIST", "n[4-5]")
    monkeypatch.setenv("SLURM_JOB_ID", "120034")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    assert meeting_point() == ("n4", 15034)
    monkeypatch.setenv("MASTER_ADDR", "10.1.0.4")
    monkeypatch.setenv("MASTER_PORT", "4000")
    assert meeting_point() == ("10.1.0.4", 4000)
