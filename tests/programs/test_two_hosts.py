"""torchrun on two hosts, without Slurm: two network namespaces of this machine, joined by a cable."""

import os
import shutil
import signal
import subprocess

import numpy as np
import pytest

from tests.helpers.programs import leaves_nothing, rows, wait_until, weights
from tests.helpers.settings import QUICK


def _why_not():
    if os.getuid() != 0:
        return "only root can make namespaces"
    if shutil.which("ip") is None:
        return "no ip: apt-get install iproute2"
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode:
        return "this container may not make namespaces"
    return None


pytestmark = pytest.mark.skipif(_why_not() is not None, reason=f"no two hosts here: {_why_not()}")
_ADDRESSES = ("198.19.0.1", "198.19.0.2")


@pytest.fixture
def hosts(monkeypatch):
    """For each host, the words that run a program on it."""
    names = [f"mineonline-{os.getpid()}-{k}" for k in (0, 1)]
    try:
        for name in names:
            _ip("netns", "add", name)
        cable = [["name", "eth0", "netns", name] for name in names]
        _ip("link", "add", *cable[0], "type", "veth", "peer", *cable[1])
        for name, address in zip(names, _ADDRESSES, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "eth0", "up")
        # they share this machine's host name, which leads to neither
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words):
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def train(start, hosts):
    """Starts torchrun on each host, `apart`: words that the second one is run under."""

    def begin(*words, apart=()):
        words = [*QUICK, "trainer.num_nodes=2", "trainer.accelerator=cpu", "network.host=auto", "collector.count=0",
                 *words]  # fmt: skip
        where = ["--nnodes=2", "--nproc-per-node=1", f"--master-addr={_ADDRESSES[0]}", "--master-port=29500"]
        return [
            start(*where, f"--node-rank={k}", "-m", "mineonline.train", *words, module="torch.distributed.run",
                  under=[*hosts[k], *under])
            for k, under in enumerate(((), apart))
        ]  # fmt: skip

    return begin


def test_two_hosts_train_together_each_with_a_collector(start, hosts, train, tmp_path):
    run_dir = tmp_path / "run"
    compare = "{_target_: tests.helpers.compare_ranks.CompareRanks}"
    note = f"{{_target_: tests.helpers.note_fragments.NoteFragments, folder: {tmp_path}}}"
    first, second = train("iterations=100000", f"run_dir={run_dir}", f"callbacks=[{compare},{note}]")
    first.wait_for((run_dir / "join").exists)
    assert (run_dir / "join").read_text().startswith(f"tcp://{_ADDRESSES[0]}:")
    collectors = [start(f"run={run_dir}", module="mineonline.collect", under=host) for host in hosts]
    for collector in collectors:
        wait_until(lambda one=collector: "the first fragments are sent" in one.output, lambda: first.output)
    before = rows(run_dir)
    first.wait_for(lambda: rows(run_dir) > before + 10)
    for run in (first, second):
        run.send(signal.SIGTERM)
    assert first.wait() != 0
    assert second.wait() != 0
    for collector in collectors:
        collector.send(signal.SIGTERM)
        assert collector.wait() == 128 + signal.SIGTERM, collector.output
    assert leaves_nothing(run_dir)
    done = rows(run_dir)
    assert int(weights(run_dir)["policy.version"]) == done
    assert first.output.count("ranks identical: True, batches differ: True") == done
    for rank in (0, 1):
        env, _ = np.fromfile(tmp_path / f"rank-{rank}.bin", np.int64).reshape(-1, 2).T
        assert set(env // 8) == {0, 1}  # both ranks have learnt from both collectors' environments


@pytest.mark.slow
def test_a_run_folder_that_the_hosts_do_not_share_is_one_error(train, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    own = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {shared} && exec "$@"', "sh"]
    first, second = train(f"run_dir={shared}/run", apart=own)
    assert first.wait() != 0
    assert second.wait() != 0
    expected = f"error: run_dir={shared}/run: rank 1 on another node does not see this folder, in which rank 0 writes."
    assert first.output.count(expected) == 1, first.output
    assert "error: " not in second.output, second.output
    assert leaves_nothing(shared / "run")
