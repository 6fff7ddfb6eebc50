"""What the environment says of who started the ranks."""

import pytest

from mineonline.errors import ConfigError
from mineonline.processes.launchers import first_slurm_node, meeting_point


def test_a_container_without_slurms_commands_is_told_what_to_export(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "n[1-2]")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match=r"export MASTER_ADDR=\$\(hostname\)"):
        first_slurm_node()
    monkeypatch.setenv("MASTER_ADDR", "n1")
    monkeypatch.setenv("SLURM_JOB_ID", "120034")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    assert meeting_point() == ("n1", 15034)
