"""The collectors of a trainer, as real processes that cannot join: nobody listens at their address."""

import time

import psutil
import pytest

from mineonline.errors import CollectorError
from mineonline.processes import supervisor
from mineonline.processes.supervisor import LocalCollectors
from tests.helpers.programs import wait_until


def collectors(folder, count, **settings):
    defaults = {
        "spare": False,
        "start_timeout_s": 600,
        "max_failures": 2,
        "is_present": lambda pid: False,
        "last_arrival": time.monotonic,
    }
    # refused at once: tcp needs keys, which are not there
    return LocalCollectors(count, "tcp://127.0.0.1:1", folder, **{**defaults, **settings})


def collectors_run(script, folder, monkeypatch):
    """Every collector is this shell script."""
    (folder / "logs").mkdir()
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(supervisor.sys, "executable", str(program))


def given_up(kept):
    try:
        kept.check()
    except CollectorError as error:
        return str(error)
    return ""


def test_a_collector_that_cannot_be_started_is_a_failure_that_is_named(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr(supervisor.sys, "executable", str(tmp_path / "absent"))
    with collectors(tmp_path, 1) as kept:
        wait_until(lambda: given_up(kept))
        assert "a collector could not be started ([Errno 2] No such file or directory" in given_up(kept)
        assert "2 failures in a row (collector.max_failures)" in given_up(kept)


def test_a_collector_that_always_fails_is_given_up_although_fragments_arrive_from_others(tmp_path, monkeypatch):
    collectors_run("echo 'error: no room for me'; exit 1", tmp_path, monkeypatch)
    with collectors(tmp_path, 2, max_failures=3) as kept:
        wait_until(lambda: given_up(kept))
        assert "a collector ended with exit code 1 (no room for me): 3 failures in a row" in given_up(kept)


def test_one_that_has_played_starts_to_count_anew(tmp_path, monkeypatch):
    collectors_run(f"echo '{supervisor.PLAYING}'; kill -KILL $$", tmp_path, monkeypatch)
    with collectors(tmp_path, 1) as kept:
        wait_until(lambda: kept.restarts > 4)
        assert not given_up(kept)


def test_one_that_no_longer_answers_is_killed_and_replaced(tmp_path, monkeypatch, caplog):
    collectors_run("exec sleep 3600", tmp_path, monkeypatch)
    monkeypatch.setattr(supervisor, "_LONGEST_ABSENCE_S", 1.0)
    gone = set()
    with collectors(tmp_path, 1, is_present=lambda pid: pid not in gone) as kept:
        kept.may_join()
        wait_until(lambda: kept.pids)
        first = kept.pids.pop()
        time.sleep(2.0)
        assert kept.pids == {first}
        gone.add(first)
        wait_until(lambda: kept.restarts == 1)
        assert "a collector was stopped or frozen for 1 s, and killed; another is started now" in caplog.text
        assert not psutil.pid_exists(first)
        wait_until(lambda: kept.pids)


def test_one_that_has_not_joined_yet_has_the_time_of_its_start(tmp_path, monkeypatch, caplog):
    collectors_run("exec sleep 3600", tmp_path, monkeypatch)
    monkeypatch.setattr(supervisor, "_LONGEST_ABSENCE_S", 0.3)
    there = set()
    with collectors(tmp_path, 1) as kept:
        kept.may_join()
        time.sleep(2.0)
        assert kept.restarts == 0
    with collectors(tmp_path, 1, start_timeout_s=1.0, is_present=lambda pid: pid in there) as kept:
        time.sleep(2.0)
        assert kept.restarts == 0  # nobody can join yet
        kept.may_join()
        wait_until(lambda: kept.restarts == 1)
        assert "a collector did not join within 1 s (collector.start_timeout_s), and was killed" in caplog.text
        wait_until(lambda: kept.pids)
        there |= kept.pids
        time.sleep(2.0)
        assert kept.restarts == 1  # its time has begun with its own start


def test_an_error_in_the_thread_is_not_lost(tmp_path):
    def broken():
        raise ValueError("no clock")

    (tmp_path / "logs").mkdir()
    kept = collectors(tmp_path, 1, spare=True, last_arrival=broken)
    with kept, pytest.raises(RuntimeError, match="the thread collector-supervisor failed"):
        wait_until(lambda: kept.check())
