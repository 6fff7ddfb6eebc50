"""The losses, against definitions written the slow way."""

import math

import pytest
import torch

from mineonline.learning.objective import Rows, clipped_surrogate, importance_weight, value_loss
from mineonline.policies.value import ValueHead


def test_rows_without_a_decision_are_not_counted_whatever_stands_there():
    decided = torch.tensor([[True, False, True]])
    rows = Rows(decided, decided.sum())
    assert float(rows.mean(torch.tensor([[1.0, float("nan"), 3.0]]))) == 2.0


def test_the_parts_of_a_minibatch_add_up_to_its_mean():
    x = torch.randn(4, 5)
    decided = torch.rand(4, 5) < 0.7
    whole = Rows(decided, decided.sum()).mean(x)
    parts = [Rows(decided[i : i + 1], decided.sum()).mean(x[i : i + 1]) for i in range(4)]
    assert float(sum(parts)) == pytest.approx(float(whole), abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "moves"),
    [(1.0, 2.0, -2.0, True), (1.5, 2.0, -2.4, False), (0.5, 2.0, -1.0, True), (1.5, -2.0, 3.0, True),
     (0.5, -2.0, 1.6, False)],
)  # fmt: skip
def test_the_surrogate_stops_rewarding_what_left_the_clip_range_in_the_wanted_direction(
    ratio, advantage, expected, moves
):
    r = torch.tensor([[ratio]], requires_grad=True)
    loss = clipped_surrogate(r, torch.tensor([[advantage]]), 0.2)
    assert float(loss) == pytest.approx(expected)
    loss.sum().backward()
    assert (float(r.grad) != 0) == moves


def test_importance_weights_are_cut_off_and_have_no_gradient():
    target = torch.tensor([[0.0, -1.0, -1000.0]], requires_grad=True)
    weight = importance_weight(target, torch.tensor([[-1.0, 0.0, 0.0]]), largest=2.0, log_ratio_max=20)
    assert weight.tolist() == [[2.0, pytest.approx(math.exp(-1)), pytest.approx(math.exp(-20))]]
    assert not weight.requires_grad


def test_a_clipped_value_gains_nothing_from_moving_further_than_the_limit():
    old, target = torch.tensor([[1.0]]), torch.tensor([[9.0]])
    deviation = torch.tensor(2.0)
    for value, moves in ((1.2, True), (3.0, False)):
        v = torch.tensor([[value]], requires_grad=True)
        loss = value_loss(v, target, old, deviation, 0.2)
        loss.sum().backward()
        assert (float(v.grad) != 0) == moves
    assert float(value_loss(torch.tensor([[3.0]]), target, old, deviation, 0.0)) == 0.5 * 9.0
    assert float(value_loss(torch.tensor([[3.0]]), target, old, deviation, 0.2)) == pytest.approx(0.5 * 3.8**2)


def test_predictions_stay_what_they_are_when_the_statistics_of_returns_move():
    head = ValueHead(8)
    features = torch.randn(50, 3, 8)
    for scale, shift in ((10.0, 3.0), (1000.0, -500.0), (0.01, 0.0)):
        before = head(features)
        returns = (torch.randn(1000) * scale + shift).double()
        head.update(returns.mean(), (returns**2).mean(), decay=0.5)
        torch.testing.assert_close(head(features), before, rtol=1e-4, atol=1e-4)


def test_the_statistics_are_a_running_average_without_a_cold_start():
    head = ValueHead(4)
    batches = [torch.randn(1000).double() * 3 + 7, torch.randn(1000).double() * 5 - 2]
    head.update(batches[0].mean(), (batches[0] ** 2).mean(), decay=0.9)
    assert float(head.mean) == pytest.approx(float(batches[0].mean()), rel=1e-5)
    assert float(head.deviation) == pytest.approx(float(batches[0].std(correction=0)), rel=1e-5)
    head.update(batches[1].mean(), (batches[1] ** 2).mean(), decay=0.9)
    weights = torch.tensor([0.9, 1.0]).double() / 1.9
    first = sum(w * b.mean() for w, b in zip(weights, batches, strict=True))
    second = sum(w * (b**2).mean() for w, b in zip(weights, batches, strict=True))
    assert float(head.mean) == pytest.approx(float(first), rel=1e-5)
    assert float(head.deviation) == pytest.approx(float((second - first**2).sqrt()), rel=1e-5)


def test_a_value_head_may_begin_with_zero():
    assert (ValueHead(8, zero=True)(torch.randn(5, 2, 8)) == 0).all()
    assert (ValueHead(8)(torch.randn(5, 2, 8)) != 0).any()
