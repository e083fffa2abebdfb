"""What is a mixture within components' own: nested models give the same numbers, and a start that is not stuck."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

import onebound as ob
from onebound.emissions import Categorical, Gaussian, MixtureOf, Product
from onebound.models import HMM, Mixture

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def rows(n: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def test_a_mixture_of_mixtures_is_a_flat_mixture() -> None:
    given = {"mean": rows(4, 1), "covariance": 0.5 + rows(4, 2).abs()}
    pi = torch.tensor([0.3, 0.7], dtype=torch.float64)
    mixing = torch.tensor([[0.2, 0.8], [0.6, 0.4]], dtype=torch.float64)
    nested = Mixture(MixtureOf(Gaussian(4, 2, "diag"), 2)).assign(pi, mixing=mixing, **given)
    flat = Mixture(Gaussian(4, 2, "diag")).assign((pi[:, None] * mixing).ravel(), **given)
    y = rows()
    torch.testing.assert_close(nested.evidence(y), flat.evidence(y), **TIGHT)
    a, b = ob.fit(nested, y, max_iter=6, tol=0), ob.fit(flat, y, max_iter=6, tol=0)
    assert [r.bound for r in a.trace] == pytest.approx([r.bound for r in b.trace], rel=1e-12)
    torch.testing.assert_close(nested.emission.inner.mean, flat.emission.mean, rtol=1e-10, atol=1e-10)


def test_one_inner_component_is_the_inner_emission() -> None:
    y, steps = rows(), [[0.7, 0.3], [0.2, 0.8]]
    given = {"mean": rows(2, 1), "covariance": torch.eye(2).expand(2, 2, 2)}
    nested = HMM(MixtureOf(Gaussian(2, 2), 1)).assign([0.5, 0.5], steps, mixing=[[1.0], [1.0]], **given)
    plain = HMM(Gaussian(2, 2)).assign([0.5, 0.5], steps, **given)
    torch.testing.assert_close(nested.evidence(y), plain.evidence(y), **TIGHT)
    assert nested.n_parameters() == plain.n_parameters()


def test_inner_components_do_not_stay_alike_from_a_start_that_knows_the_outer_ones_only() -> None:
    """Two states far apart, each of two blobs: every start finds the four of them."""
    generator = torch.Generator().manual_seed(0)
    state = torch.arange(600) // 30 % 2
    blob = torch.randint(0, 2, (600,), generator=generator)
    noise = torch.randn(600, 2, dtype=torch.float64, generator=generator)
    y = torch.stack([20.0 * state, 6.0 * blob], -1) + noise
    for seed in range(3):
        hmm = HMM(MixtureOf(Gaussian(4, 2, "diag"), 2))
        ob.fit(hmm, y, generator=torch.Generator().manual_seed(seed))
        found = sorted((round(a / 20), round(b / 6)) for a, b in hmm.emission.inner.mean.tolist())
        assert found == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_mixed_columns_may_be_mixed_within_a_state() -> None:
    inner = Product([([0], Gaussian(4, 1, "diag")), ([1], Categorical(4, [3]))])
    y = torch.stack([rows()[:, 0], torch.arange(40) % 3], -1)
    fit = ob.fit(HMM(MixtureOf(inner, 2)), y, max_iter=20, generator=torch.Generator().manual_seed(0))
    objectives = [r.objective for r in fit.trace]
    assert min(b - a for a, b in pairwise(objectives)) >= -1e-9


def test_an_empty_inner_component_loses_its_weight_and_a_silent_component_keeps_its_own() -> None:
    emission = MixtureOf(Categorical(4, [2]), 2)
    emission.assign([[0.5, 0.5], [0.1, 0.9]], probabilities=[[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]], [[0.5, 0.5]]])
    y, weights = torch.zeros(3, 1).double(), torch.tensor([[1.0, 0.0]] * 3).double()
    repairs = emission.maximize(emission.statistics(y, weights))
    assert "inner component 1 of component 0 is empty: its weight is 0" in repairs
    torch.testing.assert_close(emission.weights, torch.tensor([[1.0, 0.0], [0.1, 0.9]], dtype=torch.float64), **TIGHT)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MixtureOf(Gaussian(5, 2), 2), "inner must have n_inner = 2 components for each of K, got 5"),
        (lambda: MixtureOf(Gaussian(4, 2), 0), "n_inner must be a whole number ≥ 1, got 0"),
        (lambda: MixtureOf(Gaussian(4, 2), 2).assign([0.5, 0.5]), r"mixing must be \(2, 2\), ≥ 0"),
        (lambda: Mixture(MixtureOf(Gaussian(4, 2), 2)).evidence([[1.0]]), "y must have 2 columns, got 1"),
    ],
)
def test_a_wrong_call_gets_one_line(call: object, message: str) -> None:
    with pytest.raises(ob.errors.InputError, match=message):
        call()
