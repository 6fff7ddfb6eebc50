"""How sure a mean is: the intervals hold what they promise."""

import math

import numpy as np
import pytest

from mineonline.run.intervals import interquartile_mean, mean_interval, rate_interval, t_quantile


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (999, 1.96234)]
)
def test_the_quantiles_of_students_t_are_those_of_the_tables(degrees, expected):
    assert t_quantile(degrees) == pytest.approx(expected, rel=1e-4)


def test_the_interval_of_a_mean_holds_it_in_95_of_100_cases():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        interval = mean_interval(rng.normal(3.0, 2.0, size=4))
        held += interval.low <= 3.0 <= interval.high
    assert 0.935 < held / 2000 < 0.965


def test_of_one_value_nothing_is_known_but_the_value():
    interval = mean_interval([2.5])
    assert interval.mean == 2.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_a_success_rate_stays_within_0_and_1():
    # Wilson 1927; values from statsmodels' proportion_confint(method="wilson")
    assert rate_interval(7, 10) == pytest.approx((0.7, 0.396778, 0.892209), abs=1e-5)
    assert rate_interval(10, 10) == pytest.approx((1.0, 0.722467, 1.0), abs=1e-5)
    assert rate_interval(0, 10).low == 0.0


def test_the_interquartile_mean_is_that_of_the_middle_half():
    scores = np.array([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0]).reshape(-1, 1)
    found = interquartile_mean(scores)
    assert found.mean == 3.5  # of 2, 3, 4 and 5
    assert -100 < found.low < 3.5 < found.high < 100
    assert interquartile_mean(scores) == found


def test_seeds_are_drawn_for_each_task_on_its_own():
    easy, hard = np.full(6, 1.0), np.zeros(6)
    # were tasks mixed, resamples with more of one than of the other would move the mean
    assert interquartile_mean(np.stack([easy, hard], 1)) == (0.5, 0.5, 0.5)
