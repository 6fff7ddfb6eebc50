"""Pauses before what failed is tried again."""

from mineonline.processes.pauses import pause_after


def test_pauses_double_up_to_a_limit_however_often_something_fails():
    assert [pause_after(failures, longest_s=10) for failures in range(7)] == [0, 0, 1, 3, 7, 10, 10]
    assert pause_after(100_000, longest_s=60) == 60
