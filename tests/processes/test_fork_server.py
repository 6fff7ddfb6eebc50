"""What forks a collector's workers: fast, alone, and gone when its collector is."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.helpers.programs import LIMIT_S, wait_until
from tests.helpers.settings import ROOT

OWNER = r"""
import multiprocessing, os, signal, sys, time
from mineonline.processes import fork_server

def worker():
    fork_server.die_with_fork_server()
    os.write(1, f"worker {'torchrl.collectors' in sys.modules}\n".encode())
    time.sleep(3600)

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    fork_server.start(["mineonline.experience.worker"])
    fork_server.start([])
    for _ in range(2):
        multiprocessing.Process(target=worker, daemon=True).start()
    os.write(1, b"two workers\n")
    signal.sigwait({signal.SIGUSR1})
    fork_server.start([])
    multiprocessing.Process(target=worker, daemon=True).start()
    time.sleep(3600)
"""


@pytest.fixture
def owner(tmp_path):
    """A process with two workers."""
    program = tmp_path / "owner.py"
    program.write_text(OWNER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert [process.stdout.readline() for _ in range(3)].count("worker True\n") == 2
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def server_of(owner):
    return next(child for child in owner.children() if child.children())


def test_a_fork_server_has_one_thread_when_it_forks(owner):
    assert server_of(owner).num_threads() == 1


def test_workers_end_with_the_owner_even_if_it_is_killed_and_they_are_stopped(owner):
    server = server_of(owner)
    processes = [server, *server.children()]
    for process in processes:
        process.suspend()
    owner.kill()
    wait_until(lambda: not any(process.is_running() for process in processes))


def test_workers_end_with_their_fork_server(owner):
    server = server_of(owner)
    workers = server.children()
    server.kill()
    wait_until(lambda: not any(worker.is_running() for worker in workers))
    assert owner.is_running()


def test_one_that_was_stopped_forks_again(owner):
    server = server_of(owner)
    server.suspend()
    wait_until(lambda: server.status() == psutil.STATUS_STOPPED)
    owner.send_signal(signal.SIGUSR1)
    wait_until(lambda: len(server.children()) == 3)


def test_a_signal_to_all_processes_leaves_it_to_the_owner_to_end_them(owner):
    server = server_of(owner)
    for number in (signal.SIGINT, signal.SIGTERM):
        server.send_signal(number)
    time.sleep(0.5)
    assert server.is_running()
    assert len(server.children()) == 2
    owner.send_signal(signal.SIGTERM)
    owner.wait(LIMIT_S)
    wait_until(lambda: not server.is_running())
