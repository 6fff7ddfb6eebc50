"""Messages that repeat, and the errors that logs end with."""

import logging
import os

from mineonline.processes.logs import NewMessages, Repeats, end_of, last_error, logging_to_file, open_log, tail
from tests.helpers.programs import wait_until


def test_a_warning_is_logged_at_once_and_then_counted_once_per_minute(caplog):
    repeats = Repeats(logging.getLogger("repeats"), every_s=0.5)
    for number in range(9093):
        repeats.warning("refused a message: header", f"broken at byte {number}")
    repeats.warning("refused a connection", "wrong\nkeys")
    assert caplog.messages == [
        "refused a message: header: broken at byte 0",
        "refused a connection: wrong keys",
    ]
    wait_until(lambda: len(caplog.messages) == 3)
    assert caplog.messages[2] == "refused a message: header: 9092 more in the last 0 s"
    # a minute without any is the end of it, and the next one is shown at once again
    wait_until(lambda: not repeats._more)
    repeats.warning("refused a message: header", "again")
    assert caplog.messages[3:] == ["refused a message: header: again"]


def test_each_run_of_a_process_has_a_log_of_its_own(tmp_path, capsys):
    for name in ("first", "second"):
        with logging_to_file(tmp_path / name):
            logging.getLogger("mineonline.test").warning("of %s", name)
    assert [(tmp_path / name).read_text().count("WARNING") for name in ("first", "second")] == [1, 1]
    assert capsys.readouterr().err == "WARNING: of first\nWARNING: of second\n"


def test_the_last_error_of_a_log_is_one_line():
    assert last_error("") == ""
    assert last_error("2026-11-29 19:10:26,528 ERROR an old one\n") == "an old one"
    said = "2026-11-29 19:10:27,528 INFO starting 16 environments\nerror: worker 1 ended. Its log:\nlast words\n"
    assert last_error(said) == "worker 1 ended. Its log:"
    assert last_error("Traceback (most recent call last):\nMemoryError: no room\n\n") == "MemoryError: no room"
    trace = "Traceback (most recent call last):\n  File x\nValueError: two\nlines\n\nresource_tracker: leaked\n"
    assert last_error(f"2026-11-29 19:10:26,528 ERROR an old one\n{trace}") == "ValueError: two"


def test_the_end_of_a_long_log_is_found_without_reading_all_of_it(tmp_path):
    log = tmp_path / "log"
    assert tail(log) == end_of(log) == ""
    log.write_text("first\n" + "x" * 2**20 + "\nlast but one\nlast\n")
    assert tail(log, lines=2) == "last but one\nlast"
    assert len(end_of(log)) == 2**16
    assert end_of(log, since=log.stat().st_size - 5) == "last\n"


def test_a_log_in_a_run_folder_that_is_gone_does_not_bring_it_back(tmp_path):
    with open_log(tmp_path / "run" / "logs" / "collector-0.log") as log:
        log.write(b"lost")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with open_log(tmp_path / "run" / "logs" / "collector-0.log") as log:
        log.write(b"kept")
    assert (tmp_path / "run" / "logs" / "collector-0.log").read_text() == "kept"


def test_the_newest_message_of_a_collector_is_its_own_or_one_of_its_workers_and_never_from_before(tmp_path):
    own, worker = tmp_path / "collector-1.log", tmp_path / "collector-1-worker-0.log"
    own.write_text("2026-11-29 19:10:26,528 INFO of an earlier session\n")
    (tmp_path / "collector-10.log").write_text("")
    messages = NewMessages(tmp_path)
    (tmp_path / "collector-10.log").write_text("2026-11-29 19:10:27,528 INFO of another collector\n")
    assert messages.newest("collector-1") == ""
    with own.open("a") as file:
        file.write("2026-11-29 19:10:27,528 INFO starting 16 environments\nnot a message\n")
    assert messages.newest("collector-1") == "starting 16 environments"
    worker.write_text("2026-11-29 19:10:28,528 WARNING Minecraft 3 failed\n  a traceback\n")
    os.utime(own, (0, 0))
    assert messages.newest("collector-1") == "worker-0: Minecraft 3 failed"
    assert messages.newest("collector-1", within_s=60.0) == "worker-0: Minecraft 3 failed"
    os.utime(worker, (0, 0))
    assert messages.newest("collector-1", within_s=60.0) == ""
