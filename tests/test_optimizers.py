"""The optimisers of the gradient M step, on functions whose minima are known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import onebound as ob
from onebound.algorithms.optimizers import LBFGS, Adam, wolfe
from onebound.algorithms.trace import flat


def rosenbrock(x: Tensor) -> tuple[float, Tensor]:
    x = x.detach().requires_grad_()
    value = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    return float(value.detach()), torch.autograd.grad(value, x)[0]


def test_lbfgs_finds_the_bottom_of_a_curved_valley() -> None:
    x = torch.tensor([-1.2, 1.0, -0.5, 0.8], dtype=torch.float64)
    optimizer = LBFGS()
    for _ in range(100):
        value, gradient = rosenbrock(x)
        x = optimizer.step(x, value, gradient, rosenbrock)
    torch.testing.assert_close(x, torch.ones(4, dtype=torch.float64), rtol=1e-8, atol=1e-8)


def test_lbfgs_never_raises_the_objective_and_stays_where_nothing_is_lower() -> None:
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    optimizer, last = LBFGS(), math.inf
    for _ in range(80):
        value, gradient = rosenbrock(x)
        assert value <= last + 1e-14
        last, x = value, optimizer.step(x, value, gradient, rosenbrock)
    bottom = torch.ones(2, dtype=torch.float64)
    value, gradient = rosenbrock(bottom)
    assert torch.equal(LBFGS().step(bottom, value, gradient, rosenbrock), bottom)


@pytest.mark.parametrize("cliff", [1e-3, 0.1, 0.6])
def test_a_line_search_turns_back_from_infinity(cliff: float) -> None:
    """f(x) = −ln(cliff − x) − 5x is +∞ from the cliff on; the first trial step goes far beyond it."""

    def f(x: Tensor) -> tuple[float, Tensor]:
        left = cliff - float(x[0])
        if left <= 0:
            return math.inf, torch.zeros(1, dtype=torch.float64)
        return -math.log(left) - 50 * float(x[0]), torch.tensor([1 / left - 50], dtype=torch.float64)

    x = torch.tensor([-1.0], dtype=torch.float64)
    optimizer = LBFGS()
    for _ in range(40):
        value, gradient = f(x)
        x = optimizer.step(x, value, gradient, f)
    assert float(x[0]) == pytest.approx(cliff - 1 / 50, abs=1e-6)


def test_a_step_satisfies_the_wolfe_conditions() -> None:
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    value, gradient = rosenbrock(x)
    found = wolfe(x, value, gradient, -gradient, 1.0, rosenbrock)
    assert found is not None
    t, after = found
    slope = -float(gradient @ gradient)
    assert rosenbrock(x - t * gradient)[0] <= value + 1e-4 * t * slope
    assert abs(float(after @ -gradient)) <= -0.9 * slope


def test_adam_takes_the_steps_of_torchs_adam() -> None:
    start = torch.tensor([-1.2, 1.0, 0.3], dtype=torch.float64)
    ours, x = Adam(0.05), start.clone()
    theirs = torch.nn.Parameter(start.clone())
    peer = torch.optim.Adam([theirs], lr=0.05)
    for _ in range(50):
        x = ours.step(x, rosenbrock(x)[1])
        theirs.grad = rosenbrock(theirs)[1]
        peer.step()
    torch.testing.assert_close(x, theirs.detach(), rtol=1e-10, atol=1e-10)


def test_adams_steps_shrink_over_the_last_third(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = []
    step = Adam.step

    def seen(self: Adam, x: Tensor, gradient: Tensor, scale: float = 1.0) -> Tensor:
        scales.append(scale)
        return step(self, x, gradient, scale)

    monkeypatch.setattr(Adam, "step", seen)
    ob.fit(ob.models.Mixture(ob.emissions.Poisson(1, 1)), [[1.0], [2.0]], ob.EG("adam"), max_iter=30, tol=0)
    assert scales[:21] == [1.0] * 21
    assert all(a > b for a, b in pairwise(scales[20:]))
    assert 0 < scales[-1] < 0.2


def test_a_climb_is_flat_only_where_nothing_moves_up_or_down() -> None:
    def records(values: list[float]) -> list[ob.Record]:
        return [ob.Record(i + 1, "E", i + 1.0, v, v, 0.0, v, 0.0) for i, v in enumerate(values)]

    assert flat(records([-2.0, -2.0 + 1e-9]), 1, 1e-8)
    assert not flat(records([-2.0, -1.9]), 1, 1e-8)
    assert not flat(records([-1.9, -2.0]), 1, 1e-8)  # a noisy climb may fall, which is no arrival
    assert not flat(records([-2.0]), 1, 1e-8)
    assert not flat(records([-2.0, -2.0]), 1, 0.0)
    assert flat(records([-2.0, -1.0, -1.0, -2.0]), 2, 1e-8)
