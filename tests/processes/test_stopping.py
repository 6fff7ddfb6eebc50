"""Processes that a trainer started end with it, whatever signals they inherited as ignored."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mineonline.processes.lifetimes import PARENT_VARIABLE
from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import ROOT

PROGRAM = """
import signal, time
from mineonline.processes.stopping import exit_on_signals
exit_on_signals()
print("ready", flush=True)
time.sleep(600)
"""


STOPPED_IN_A_FINALISER = """
import signal, sys, time
from mineonline.processes.stopping import StopRequest, exit_on_signals
class Slow:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(600)
if sys.argv[1] == "command":
    exit_on_signals()
else:
    stop = StopRequest()
    stop.training = sys.argv[1] == "training"
    stop.install()
try:
    Slow()
    time.sleep(600)
finally:
    print("cleaned up", flush=True)
"""


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("command", [signal.SIGINT]),
        ("command", [signal.SIGHUP]),
        ("trainer", [signal.SIGINT]),
        ("training", [signal.SIGTERM, signal.SIGINT]),
    ],
)
def test_a_signal_counts_even_where_python_ignores_exceptions(kind, numbers):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", STOPPED_IN_A_FINALISER, kind]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            for number in numbers:
                process.send_signal(number)
                time.sleep(0.5)
            said, complaints = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        assert (said, complaints, process.returncode) == ("cleaned up\n", "", 128 + numbers[-1])


@pytest.mark.parametrize(("started_by_trainer", "code"), [(True, 128 + signal.SIGHUP), (False, -signal.SIGKILL)])
def test_a_hangup_that_is_ignored_ends_only_what_a_trainer_started(started_by_trainer, code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({PARENT_VARIABLE: "1"} if started_by_trainer else {})}
    words = ["nohup", sys.executable, "-c", PROGRAM]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        if not started_by_trainer:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.0)
            process.kill()
        assert process.wait(LIMIT_S) == code
