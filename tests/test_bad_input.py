"""What a user can get wrong in Python: the right exception, one line, and what to do next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import onebound as ob
from onebound.emissions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Gamma,
    Gaussian,
    Multinomial,
    NeuralGaussian,
    NormalInverseWishart,
    Poisson,
    Product,
)
from onebound.errors import InputError, InputTypeError, OneboundError
from onebound.models import Mixture

INF, NAN = float("inf"), float("nan")
TABLE = [[0.0, 1.0], [1.0, 3.0], [2.0, 2.0], [4.0, 0.0]]


def gaussian(k: int = 2, covariance: str = "full", d: int = 2) -> Mixture:
    return Mixture(Gaussian(k, d, covariance))


CASES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "empty table": (lambda: ob.fit(gaussian(), []), InputError, "at least one row"),
    "no columns": (lambda: ob.fit(gaussian(), np.zeros((3, 0))), InputError, "at least one row and one column"),
    "ragged rows": (lambda: ob.fit(gaussian(), [[1.0, 2.0], [3.0]]), InputError, "rectangular"),
    "one row": (lambda: ob.fit(gaussian(1), [[1.0, 2.0]]), InputError, r"column 0 must vary, got 1 in every row"),
    "fewer rows than components": (lambda: ob.fit(gaussian(5), TABLE), InputError, "5 in all, got 4"),
    "constant column": (lambda: ob.fit(gaussian(), [[1.0, 2.0], [2.0, 2.0]]), InputError, "column 1 must vary"),
    "all rows equal": (lambda: ob.fit(gaussian(), [[1.0, 2.0]] * 4), InputError, "column 0 must vary"),
    "nothing observed": (
        lambda: ob.fit(gaussian(2, "diag"), [[NAN, 1.0], [NAN, 2.0], [NAN, 3.0]]),
        InputError,
        "column 0 has no observed cell",
    ),
    "nothing observed, full": (
        lambda: ob.fit(gaussian(2), ob.Observations.of([[1.0, NAN], [2.0, NAN], [3.0, NAN]], names=["age", "height"])),
        InputError,
        "column 'height' has no observed cell. Drop it.",
    ),
    "infinity": (lambda: ob.fit(gaussian(), [[1.0, -INF], *TABLE]), InputError, "finite numbers, got -inf"),
    "strings": (lambda: ob.fit(gaussian(), [["a", "b"]]), InputTypeError, "must hold numbers"),
    "complex": (lambda: ob.fit(gaussian(), np.zeros((3, 2), complex)), InputTypeError, "numbers"),
    "three axes": (lambda: ob.fit(gaussian(), np.zeros((3, 2, 2))), InputError, r"must be \(N, D\).*reshape"),
    "too many columns": (lambda: ob.fit(gaussian(), np.zeros((9, 3))), InputError, "2 columns, got 3"),
    "negative count": (lambda: ob.fit(Mixture(Poisson(2, 1)), [[1], [-2], [0]]), InputError, "got -2 in item 1"),
    "half a count": (lambda: ob.fit(Mixture(Poisson(2, 1)), [[1.0], [0.5]]), InputError, "got 0.5 in item 1"),
    "half a multinomial": (lambda: ob.fit(Mixture(Multinomial(1, 2)), [[1.0, 0.5]]), InputError, "got 0.5"),
    "missing multinomial": (lambda: ob.fit(Mixture(Multinomial(1, 2)), [[1.0, NAN]]), InputError, "no missing cells"),
    "grey pixels": (lambda: ob.fit(Mixture(Bernoulli(2, 1)), [[0.0], [0.3]]), InputError, "zeros and ones, got 0.3"),
    "unknown category": (lambda: ob.fit(Mixture(Categorical(2, [3])), [[0], [3]]), InputError, "got 3 in item 1"),
    "squares that overflow": (lambda: ob.fit(gaussian(), [[1e300, 0.0], [-1e300, 1.0]]), InputError, "below 1e308"),
    "K = 0": (lambda: gaussian(0), InputError, "n_components must be a whole number ≥ 1, got 0"),
    "K = 1.5": (lambda: gaussian(1.5), InputError, "got 1.5"),  # type: ignore[arg-type]
    "unknown covariance": (lambda: gaussian(2, "ful"), InputError, "one of full, tied, diag, spherical, got 'ful'"),
    "unknown algorithm": (lambda: ob.fit(gaussian(), TABLE, "emm"), InputError, "got 'emm'. Did you mean em"),
    "algorithm not called": (lambda: ob.fit(gaussian(), TABLE, ob.EM), InputError, r"Call it: ob\.EM\(\)"),
    "unknown optimizer": (lambda: ob.EG("adm"), InputError, "got 'adm'. Did you mean adam"),
    "negative lr": (lambda: ob.EG("adam", lr=-1.0), InputError, "lr must be > 0"),
    "no steps": (lambda: ob.EG("adam", steps=0), InputError, "steps must be"),
    "unknown estimator": (
        lambda: ob.VAE(estimator="reinforce"),
        InputError,
        "one of enumerated, score, reparameterized, importance, got 'reinforce'",
    ),
    "reparameterized": (
        lambda: ob.plan(ob.models.Mixture(ob.emissions.Poisson(2, 1)), ob.VAE(estimator="reparameterized")),
        ob.errors.Unsupported,
        "cannot be reparameterised",
    ),
    "one sample": (lambda: ob.VAE(estimator="score", samples=1), InputError, "samples ≥ 2"),
    "no samples": (lambda: ob.MCEM(0), InputError, "samples must be"),
    "negative max_iter": (lambda: ob.fit(gaussian(), TABLE, max_iter=-1), InputError, "max_iter"),
    "negative tol": (lambda: ob.fit(gaussian(), TABLE, tol=-1.0), InputError, "tol"),
    "tol is NaN": (lambda: ob.fit(gaussian(), TABLE, tol=NAN), InputError, "tol"),
    "no restarts": (lambda: ob.fit(gaussian(), TABLE, restarts=0), InputError, "restarts"),
    "no batch": (lambda: ob.fit(gaussian(), TABLE, ob.VAE(), batch_size=0), InputError, "batch_size"),
    "no time": (lambda: ob.fit(gaussian(), TABLE, max_seconds=0), InputError, "max_seconds"),
    "unknown start": (
        lambda: ob.fit(gaussian(), TABLE, init="kmeans"),
        InputError,
        r"got 'kmeans'. Did you mean k-means",
    ),
    "labels out of range": (lambda: ob.fit(gaussian(), TABLE, init=[0, 1, 2, 0]), InputError, "labels"),
    "labels too few": (lambda: ob.fit(gaussian(), TABLE, init=[0, 1]), InputError, r"labels \(4,\)"),
    "weights too few": (lambda: ob.Observations.of(TABLE, weights=[1.0]), InputError, "4 in all, got 1"),
    "weights negative": (lambda: ob.Observations.of(TABLE, weights=[1, 1, -1, 1]), InputError, "item 2"),
    "weights NaN": (lambda: ob.Observations.of(TABLE, weights=[1, NAN, 1, 1]), InputError, "item 1"),
    "weights zero": (lambda: ob.Observations.of(TABLE, weights=[0, 0, 0, 0]), InputError, "all zeros"),
    "lengths that disagree": (lambda: ob.Observations.of(TABLE, lengths=[3, 3]), InputError, "add up to the 4 rows"),
    "sequences": (lambda: ob.fit(gaussian(), [np.ones((3, 2)), np.ones((2, 2))]), InputError, "one row an item"),
    "allowed of another shape": (
        lambda: ob.fit(gaussian(), ob.Observations.of(TABLE, allowed=np.ones((4, 3)))),
        InputError,
        r"allowed must be \(4, 2\)",
    ),
    "an item with no class": (
        lambda: ob.fit(gaussian(1), ob.Observations.of(TABLE, allowed=np.zeros((4, 1)))),
        ob.errors.Infeasible,
        "4 of 4 items",
    ),
    "mean of another shape": (lambda: gaussian().assign([0.5, 0.5], mean=[1.0], covariance=[1.0]), InputError, "mean"),
    "singular covariance": (
        lambda: gaussian().assign([0.5, 0.5], mean=[[0.0, 0.0]] * 2, covariance=np.zeros((2, 2, 2))),
        InputError,
        "positive definite",
    ),
    "negative weights of components": (lambda: gaussian().assign([1.0, -1.0]), InputError, "weights must be"),
    "negative rate": (lambda: Poisson(1, 1).assign([[-1.0]]), InputError, "rates ≥ 0"),
    "probabilities of another shape": (
        lambda: Categorical(1, [2]).assign([0.5, 0.5]),
        InputError,
        r"shape \(1, 1, 2\)",
    ),
    "sparse Dirichlet": (lambda: Dirichlet(0.5), InputError, "concentration must be ≥ 1"),
    "sparse Beta": (lambda: Beta(0.0, 1.0), InputError, "a must be ≥ 1"),
    "sparse Gamma": (lambda: Gamma(0.5), InputError, "shape must be ≥ 1"),
    "negative NIW": (lambda: NormalInverseWishart(-1.0), InputError, "mean_strength must be ≥ 0"),
    "a floor of 1": (lambda: Gaussian(2, 2, floor=1.0), InputError, "floor must be in"),
    "columns twice": (lambda: Product([([0, 0], Gaussian(1, 2))]), InputError, "once each"),
    "no parts": (lambda: Product([]), InputError, "at least one part"),
    "no symbols": (lambda: Categorical(1, []), InputError, "n_symbols"),
    "GEM on mini-batches": (
        lambda: ob.fit(
            Mixture(Product([([0], NeuralGaussian(torch.nn.Linear(1, 2), 2, 1)), ([1], Poisson(2, 1))])),
            ob.Observations.of(TABLE, context=np.ones((4, 1))),
            ob.GEM(),
            batch_size=2,
        ),
        InputError,
        "closed forms need whole passes",
    ),
    "restarts from one start": (
        lambda: ob.fit(gaussian(), TABLE, init=[0, 1, 0, 1], restarts=2),
        InputError,
        "the same",
    ),
    "max_iter in words": (lambda: ob.fit(gaussian(), TABLE, max_iter="a"), InputError, "whole number ≥ 0, got 'a'"),
    "tol in words": (lambda: ob.fit(gaussian(), TABLE, tol="x"), InputError, "tol must be"),
    "a seed for a generator": (lambda: ob.fit(gaussian(), TABLE, generator=0), InputTypeError, "manual_seed"),
    "one size for all columns": (lambda: Categorical(2, 3), InputError, "must list a number"),  # type: ignore[arg-type]
    "allowed is no mask": (lambda: ob.Observations.of(TABLE, allowed=True), InputError, "must be a mask"),
    "sparse": (lambda: ob.fit(gaussian(), torch.eye(2).to_sparse()), InputTypeError, "to_dense"),
    "observations twice": (
        lambda: ob.Observations.of(ob.Observations.of(TABLE), weights=[1.0] * 4),
        InputError,
        "an Observations already",
    ),
    "q of another size": (
        lambda: ob.bound(gaussian(), TABLE, ob.structures.Categorical(torch.zeros(3, 2))),
        InputError,
        "4 items of y, got 3",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gets_one_clear_line(name: str) -> None:
    act, expected, message = CASES[name]
    with pytest.raises(expected, match=message) as caught:
        act()
    assert isinstance(caught.value, OneboundError)
    assert "\n" not in str(caught.value)


def test_one_component_fits_and_is_the_closed_form() -> None:
    model = gaussian(1)
    fit = ob.fit(model, TABLE)
    np.testing.assert_allclose(model.emission.mean[0], np.mean(TABLE, 0), atol=1e-12)
    np.testing.assert_allclose(model.emission.covariance[0], np.cov(np.transpose(TABLE), bias=True), atol=1e-12)
    assert fit.converged


def test_a_refused_fit_leaves_the_model_as_it_was() -> None:
    model = gaussian().assign([0.5, 0.5], mean=[[0.0, 1.0], [2.0, 3.0]], covariance=np.stack([np.eye(2)] * 2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for y in ([[1.0, INF], *TABLE], [["a", "b"]], np.zeros((5, 3))):
        with pytest.raises(OneboundError):
            ob.fit(model, y)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_names_of_columns_appear_in_messages() -> None:
    obs = ob.Observations.of([[1.0, INF], *TABLE], names=["age", "height"])
    with pytest.raises(InputError, match="column 'height'"):
        ob.fit(gaussian(), obs)


COLLAPSE = {
    "duplicated points": [[1.0, 1.0]] * 5 + [[2.0, 3.0], [4.0, 1.0], [0.0, 7.0]],
    "one outlier": [[float(i % 3), float(i % 5)] for i in range(20)] + [[1e12, -1e12]],
    "scales": [[1e-8 * (i % 7), 1e8 * (i % 4) + i] for i in range(20)],
    "collinear": [[float(i), 2.0 * i] for i in range(10)],
    "barely above K": [[0.0, 1.0], [1.0, 0.5], [5.0, 5.0], [9.0, 1.0]],
}


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("name", COLLAPSE)
def test_no_fit_ends_in_nan_and_collapse_is_recorded(name: str, covariance: str) -> None:
    for algorithm in (ob.EM(), ob.HardEM(), ob.MCEM(3), ob.EG(), ob.EG("adam")):
        model = gaussian(3, covariance)
        fit = ob.fit(model, COLLAPSE[name], algorithm, max_iter=40, generator=torch.Generator().manual_seed(0))
        assert np.isfinite([fit.bound, fit.evidence, fit.gap]).all(), algorithm.name
        assert all(bool(torch.isfinite(v).all()) for v in model.state_dict().values() if v.is_floating_point())
    if name == "collinear" and covariance == "full":
        assert any("clipped at the floor" in r for r in ob.fit(gaussian(2), COLLAPSE[name], ob.EM()).repairs)


def test_an_empty_component_keeps_its_parameters_and_is_recorded() -> None:
    model = gaussian(2).assign([0.5, 0.5], mean=[[1.0, 1.0], [1e6, 1e6]], covariance=np.stack([np.eye(2)] * 2))
    fit = ob.fit(model, TABLE)
    assert any("component 1 is empty: its weight is 0" in r for r in fit.repairs)
    assert model.weights.tolist() == [1.0, 0.0]
    np.testing.assert_allclose(model.emission.mean[1], [1e6, 1e6])


def test_a_plan_prints_the_steps_and_refuses_what_cannot_work() -> None:
    text = str(ob.plan(gaussian(), ob.VAE()))
    assert "recognition network" in text
    assert "gradient (Adam)" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert ob.plan(gaussian()).algorithm == "EM"
    with pytest.raises(InputError, match="steps > 1"):
        ob.plan(Mixture(ob.emissions.NeuralGaussian(torch.nn.Linear(1, 2), 2, 1)), ob.EG("adam", steps=2))
