"""How long to wait before what has failed is tried again."""

from __future__ import annotations


def pause_after(failures: int, *, longest_s: float) -> float:
    """Seconds after so many failures in a row: 0, 1, 3, 7 ..., at most `longest_s`."""
    return min(longest_s, 2.0 ** min(max(0, failures - 1), 60) - 1)
