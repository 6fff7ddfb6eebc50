"""`metrics.csv`: on a disk that is full for a while, and what users log beside the iterations."""

import resource
import signal

import pytest

from mineonline.run.metrics import MetricsFile, read_metrics


@pytest.fixture
def limit():
    """Sets the size that files of this process can have: the next byte fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or before[0], before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def log(metrics, first, last, **more):
    for iteration in range(first, last + 1):
        metrics.log_metrics({"return": iteration / 3, **more}, step=iteration)


def test_rows_wait_until_they_can_be_written_and_none_is_cut(tmp_path, limit, caplog):
    file = tmp_path / "metrics.csv"
    metrics = MetricsFile(file, resume_at=0)
    log(metrics, 1, 3)
    limit(file.stat().st_size + 6)  # half a row
    log(metrics, 4, 6)
    assert [row["iteration"] for row in read_metrics(file)] == ["1", "2", "3"]
    limit(None)
    log(metrics, 7, 8)
    rows = read_metrics(file)
    assert [row["iteration"] for row in rows] == [str(i) for i in range(1, 9)]
    assert [row["return"] for row in rows] == [f"{i / 3:.6g}" for i in range(1, 9)]
    assert [record.message for record in caplog.records] == [
        f"{file} cannot be written (File too large): its rows wait in memory.",
        f"{file} is written again, with the rows that waited.",
    ]


def test_a_new_column_that_does_not_fit_waits_too(tmp_path, limit):
    file = tmp_path / "metrics.csv"
    metrics = MetricsFile(file, resume_at=0)
    log(metrics, 1, 2)
    before = file.read_bytes()
    limit(len(before) + 3)
    log(metrics, 3, 3, extra=1.5)
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.csv"]
    limit(None)
    log(metrics, 4, 4, extra=2.5)
    assert [row["extra"] for row in read_metrics(file)] == ["", "", "1.5", "2.5"]


def test_rows_that_never_could_be_written_are_counted_at_the_end(tmp_path, caplog):
    metrics = MetricsFile(tmp_path / "gone" / "metrics.csv", resume_at=0)
    log(metrics, 1, 4)
    metrics.finalize("success")
    assert caplog.records[-1].message.endswith("lacks the last 4 rows, which could not be written.")


def test_what_is_logged_without_a_step_is_in_the_row_of_the_next_iteration_and_a_resume_reads_it(tmp_path, caplog):
    metrics = MetricsFile(tmp_path / "metrics.csv", resume_at=0)
    log(metrics, 1, 1)
    metrics.log_metrics({"mine": 2.5})
    log(metrics, 2, 2)
    metrics.log_metrics({"late": 1.0})
    metrics.finalize("success")
    assert "lacks late, logged without a step after the last iteration" in caplog.text
    resumed = MetricsFile(tmp_path / "metrics.csv", resume_at=2)
    assert resumed.logged == 2
    assert [row["mine"] for row in read_metrics(tmp_path / "metrics.csv")] == ["", "2.5"]
