"""GAE against its definition, written the slow way."""

import pytest
import torch

from mineonline.fragment import Fragments
from mineonline.learning.objective import advantages, gae

DISCOUNT, TRACE = 0.97, 0.9


def fragments(reward, terminated, truncated, final, env, sequence):
    b, t = reward.shape
    return Fragments(
        observation={}, first_BU=torch.zeros(b, t + 1, dtype=torch.bool), action={},
        log_prob_BT=torch.zeros(b, t), value_BT=torch.zeros(b, t), reward_BT=reward,
        terminated_BT=terminated, truncated_BT=truncated, idle_BT=final, memory={}, reference_memory={},
        version_B=torch.zeros(b, dtype=torch.int64), env_B=torch.tensor(env), sequence_B=torch.tensor(sequence),
    )  # fmt: skip


def by_definition(reward, value, terminated, truncated, final):
    """Sum over k of (γλ)^k δ_{t+k}, up to the end of the episode or of the rows (Schulman et al. 2016, eq. 16)."""
    rows = len(reward)
    result = []
    for t in range(rows):
        total, weight = 0.0, 1.0
        for k in range(t, rows):
            bootstrap = 0.0 if terminated[k] else DISCOUNT * value[k + 1]
            total += weight * (reward[k] + bootstrap - value[k])
            weight *= DISCOUNT * TRACE
            if terminated[k] or truncated[k] or final[k]:
                break
        result.append(total)
    return result


def random_rows(b, t, seed):
    g = torch.Generator().manual_seed(seed)
    reward, value = torch.randn(b, t, generator=g), torch.randn(b, t + 1, generator=g)
    terminated = torch.rand(b, t, generator=g) < 0.15
    truncated = ~terminated & (torch.rand(b, t, generator=g) < 0.15)
    final = torch.zeros(b, t, dtype=torch.bool)
    final[:, 1:] = truncated[:, :-1]
    terminated, truncated = terminated & ~final, truncated & ~final
    final[:, 1:] = truncated[:, :-1]
    return reward * ~final, value, terminated, truncated, final


@pytest.mark.parametrize("seed", range(5))
def test_gae_equals_its_definition_with_deaths_and_time_limits(seed):
    reward, value, terminated, truncated, final = random_rows(4, 23, seed)
    batch = fragments(reward, terminated, truncated, final, env=[0, 1, 2, 3], sequence=[0, 0, 0, 0])
    found = advantages(batch, value, discount=DISCOUNT, trace=TRACE)
    for b in range(4):
        expected = by_definition(reward[b], value[b], terminated[b], truncated[b], final[b])
        decided = ~final[b]
        torch.testing.assert_close(found[b][decided], torch.tensor(expected)[decided], rtol=1e-5, atol=1e-5)


def test_a_time_limit_still_bootstraps_but_a_death_does_not():
    reward = torch.zeros(2, 1)
    value = torch.tensor([[0.0, 10.0], [0.0, 10.0]])
    dies = torch.tensor([[True], [False]])
    batch = fragments(reward, dies, ~dies, torch.zeros(2, 1, dtype=torch.bool), env=[0, 1], sequence=[0, 0])
    found = advantages(batch, value, discount=DISCOUNT, trace=TRACE)
    assert found.squeeze(1).tolist() == pytest.approx([0.0, 9.7])


def test_the_trace_runs_on_into_the_fragment_that_followed_in_whatever_order_they_lie():
    reward, value, terminated, truncated, final = random_rows(1, 30, seed=7)
    pieces = [slice(0, 10), slice(10, 20), slice(20, 30)]
    order = [2, 0, 1]

    def cut(x):
        return torch.cat([x[:, pieces[i]] for i in order])

    values = torch.cat([value[:, pieces[i].start : pieces[i].stop + 1] for i in order])
    batch = fragments(cut(reward), cut(terminated), cut(truncated), cut(final), env=[5, 5, 5], sequence=order)
    found = advantages(batch, values, discount=DISCOUNT, trace=TRACE)
    expected = torch.tensor(by_definition(reward[0], value[0], terminated[0], truncated[0], final[0]))
    for row, i in enumerate(order):
        decided = ~final[0, pieces[i]]
        torch.testing.assert_close(found[row][decided], expected[pieces[i]][decided], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("env", "sequence"), [([5, 5], [0, 2]), ([5, 6], [0, 1])])
def test_the_trace_never_crosses_a_gap_or_into_another_environment(env, sequence):
    reward, value, terminated, truncated, final = random_rows(2, 8, seed=3)
    batch = fragments(reward, terminated, truncated, final, env=env, sequence=sequence)
    found = advantages(batch, value, discount=DISCOUNT, trace=TRACE)
    expected = torch.tensor(by_definition(reward[0], value[0], terminated[0], truncated[0], final[0]))
    decided = ~final[0]
    torch.testing.assert_close(found[0][decided], expected[decided], rtol=1e-5, atol=1e-5)


def test_shapes_that_do_not_fit_are_refused():
    flags = torch.zeros(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"expected \(B, T\) and \(B, T \+ 1\)"):
        gae(torch.zeros(2, 3), torch.zeros(2, 3), flags, flags, torch.zeros(2), discount=0.9, trace=0.9)


@pytest.mark.parametrize("seed", range(3))
def test_with_importance_weights_the_targets_are_those_of_v_trace(seed):
    """v_s = V(x_s) + Σ_t γ^(t-s) (Π_{i<t} c_i) δ_t V with δ_t V = ρ_t (r_t + γ V(x_{t+1}) - V(x_t)) and c_i = λ ρ_i."""
    reward, value, terminated, truncated, final = random_rows(2, 15, seed)
    weight = torch.rand(2, 15, generator=torch.Generator().manual_seed(seed))
    batch = fragments(reward, terminated, truncated, final, env=[0, 1], sequence=[0, 0])
    found = value[:, :-1] + weight * advantages(batch, value, weight, discount=DISCOUNT, trace=TRACE)
    for b in range(2):
        for s in range(15):
            if final[b, s]:
                continue
            target, product = float(value[b, s]), 1.0
            for t in range(s, 15):
                after = 0.0 if terminated[b, t] else DISCOUNT * float(value[b, t + 1])
                target += product * float(weight[b, t]) * (float(reward[b, t]) + after - float(value[b, t]))
                product *= DISCOUNT * TRACE * float(weight[b, t])
                if terminated[b, t] or truncated[b, t]:
                    break
            assert float(found[b, s]) == pytest.approx(target, abs=1e-5)
