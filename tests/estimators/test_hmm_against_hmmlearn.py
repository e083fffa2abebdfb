"""The same data and the same start give what hmmlearn's classes give, to 1e-8."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import hmmlearn.hmm as peers
import numpy as np
import pytest

from onebound import estimators

LENGTHS = [90, 1, 60, 49]
TIGHT = {"rtol": 1e-8, "atol": 1e-8}
COVARIANCES = ("spherical", "diag", "full", "tied")
PARAMETERS = ("startprob_", "transmat_", "means_", "_covars_", "weights_", "emissionprob_", "lambdas_")


def states(rng: np.random.Generator, n: int = sum(LENGTHS), k: int = 3) -> np.ndarray:
    return np.repeat(rng.integers(k, size=n // 8 + 1), 8)[:n]


def numbers(seed: int) -> np.ndarray:
    """Three overlapping clouds in a skewed frame, one after the other."""
    rng = np.random.default_rng(seed)
    z = states(rng)
    return 2.5 * rng.normal(size=(3, 2))[z] + rng.normal(size=(len(z), 2)) @ np.array([[1.0, 0.4], [0.0, 0.7]])


def symbols(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(5, p=p) for p in rng.dirichlet(np.full(5, 0.4), size=3)[states(rng)]])[:, None]


def trials(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([rng.multinomial(6, p) for p in rng.dirichlet(np.full(4, 0.6), size=3)[states(rng)]])


def counts(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(2.0, 4.0, size=(3, 2))[states(rng)])


KINDS: dict[str, tuple[str, Callable[[int], np.ndarray], dict[str, Any]]] = {
    **{f"gaussian-{c}": ("GaussianHMM", numbers, {"covariance_type": c}) for c in COVARIANCES},
    **{f"gmm-{c}": ("GMMHMM", numbers, {"covariance_type": c, "n_mix": 2}) for c in COVARIANCES},
    "categorical": ("CategoricalHMM", symbols, {}),
    "multinomial": ("MultinomialHMM", trials, {}),
    "poisson": ("PoissonHMM", counts, {}),
}
PRIORS: dict[str, dict[str, Any]] = {
    **{
        f"gaussian-{c}": {
            "startprob_prior": 2.0,
            "transmat_prior": np.array([[5.0, 1.5, 2.0]] * 3),
            "means_prior": np.array([1.0, -1.0]),
            "means_weight": 3.0,
            "covars_prior": 0.5 * np.eye(2) if c in ("full", "tied") else np.array([0.5, 0.7]),
            "covars_weight": 6.0,
        }
        for c in COVARIANCES
    },
    "gmm-diag": {
        "weights_prior": 3.0,
        "means_prior": 1.0,
        "means_weight": 2.0,
        "covars_prior": 2.0,
        "covars_weight": 0.8,
    },
    "gmm-spherical": {"weights_prior": 3.0, "covars_prior": 2.0, "covars_weight": 0.8},
    "gmm-full": {"means_weight": 2.0, "covars_prior": 0.7 * np.eye(2), "covars_weight": 5.0},
    "gmm-tied": {"transmat_prior": 4.0, "covars_prior": 0.7 * np.eye(2), "covars_weight": 5.0},
    "categorical": {"emissionprob_prior": 2.5, "transmat_prior": 1.5},
    "multinomial": {"startprob_prior": 3.0, "transmat_prior": 1.5},
    "poisson": {"lambdas_prior": 2.0, "lambdas_weight": 0.3},
}
EVERY = pytest.mark.parametrize("kind", KINDS)


def fitted(kind: str, seed: int, module: Any, X: Any = None, lengths: Any = LENGTHS, **options: Any) -> Any:
    name, draw, own = KINDS[kind]
    model = getattr(module, name)(3, random_state=seed, **{"n_iter": 12, "tol": 1e-9, **own, **options})
    return model.fit(draw(seed) if X is None else X, lengths)


def shown(model: Any) -> dict[str, np.ndarray]:
    found = {name: np.asarray(getattr(model, name)) for name in PARAMETERS if hasattr(model, name)}
    if hasattr(model, "covars_") and "_covars_" not in found:
        found["covars_"] = np.asarray(model.covars_)
    if getattr(model, "covariance_type", "") == "spherical" and "_covars_" in found:
        found["_covars_"] = found["_covars_"].reshape(model.n_components, -1)[
            :, 0
        ]  # hmmlearn repeats it for every column
    return found


def assert_same(ours: Any, peer: Any) -> None:
    assert shown(ours).keys() == shown(peer).keys()
    for name, wanted in shown(peer).items():
        np.testing.assert_allclose(shown(ours)[name], wanted, **TIGHT, err_msg=name)


@EVERY
@pytest.mark.parametrize("implementation", ["log", "scaling"])
def test_the_climb_is_the_same_from_the_same_random_state(kind: str, implementation: str) -> None:
    for seed in (1, 2):
        peer = fitted(kind, seed, peers, implementation="log")
        ours = fitted(kind, seed, estimators, implementation=implementation)
        assert_same(ours, peer)
        assert (ours.monitor_.iter, ours.monitor_.converged) == (peer.monitor_.iter, peer.monitor_.converged)
        np.testing.assert_allclose(ours.monitor_.history, peer.monitor_.history, rtol=1e-10)
        assert ours.repairs_ == []


@pytest.mark.parametrize("kind", PRIORS)
def test_the_climb_is_the_same_under_priors(kind: str) -> None:
    assert_same(fitted(kind, 3, estimators, **PRIORS[kind]), fitted(kind, 3, peers, **PRIORS[kind]))


@EVERY
def test_what_is_said_of_sequences_is_the_same(kind: str) -> None:
    peer, ours, X = fitted(kind, 4, peers), fitted(kind, 4, estimators), KINDS[kind][1](9)
    X = np.minimum(X, 4) if kind == "categorical" else X
    for cut in (None, LENGTHS):
        assert ours.score(X, cut) == pytest.approx(peer.score(X, cut), rel=1e-9)
        np.testing.assert_allclose(ours.predict_proba(X, cut), peer.predict_proba(X, cut), **TIGHT)
        for decoder in ("viterbi", "map"):
            (score, path), (wanted, wanted_path) = ours.decode(X, cut, decoder), peer.decode(X, cut, decoder)
            assert score == pytest.approx(wanted, rel=1e-9)
            np.testing.assert_array_equal(path, wanted_path)
        np.testing.assert_array_equal(ours.predict(X, cut), peer.predict(X, cut))
        for criterion in ("aic", "bic"):
            assert getattr(ours, criterion)(X, cut) == pytest.approx(getattr(peer, criterion)(X, cut), rel=1e-9)
    np.testing.assert_allclose(ours._compute_log_likelihood(X), peer._compute_log_likelihood(X), **TIGHT)
    np.testing.assert_allclose(ours.get_stationary_distribution(), peer.get_stationary_distribution(), **TIGHT)


@EVERY
def test_samples_are_the_same_from_the_same_random_state(kind: str) -> None:
    ours, peer = fitted(kind, 5, estimators), fitted(kind, 5, peers)
    if kind == "gaussian-spherical":
        peer._covars_ = peer._covars_[:, 0]  # after a fit hmmlearn takes its repeated variances for one a state
    ours.n_trials = peer.n_trials = 6
    for first in (None, 1):
        X, z = ours.sample(30, random_state=7, currstate=first)
        wanted, wanted_z = peer.sample(30, random_state=7, currstate=first)
        np.testing.assert_array_equal(z, wanted_z)
        np.testing.assert_allclose(X, wanted, rtol=1e-6, atol=1e-6)


@EVERY
@pytest.mark.parametrize("letters", ["s", "t", "st", "rest"])
def test_params_and_init_params_name_what_is_fitted_and_started(kind: str, letters: str) -> None:
    start = fitted(kind, 6, peers, n_iter=2)
    every = start.params
    params = "".join(sorted(set(every) - set("st"))) if letters == "rest" else letters
    pair = []
    for module in (estimators, peers):
        model = fitted(kind, 6, module, n_iter=0)
        for name, value in shown(start).items():
            setattr(model, name, np.array(value))
        model.params, model.init_params, model.n_iter = params, "", 4
        pair.append(model.fit(KINDS[kind][1](6), LENGTHS))
    assert_same(*pair)
    for letter, name in pair[0].letters.items():
        name = "_covars_" if name == "covars_" and "gaussian" in kind else name
        moved = not np.allclose(np.asarray(getattr(pair[0], name)).ravel(), shown(start)[name].ravel(), atol=1e-10)
        assert moved == (letter in params), name


@EVERY
def test_a_list_of_arrays_is_rows_with_lengths(kind: str) -> None:
    X = KINDS[kind][1](1)
    cut = np.split(X, np.cumsum(LENGTHS)[:-1])
    a, b = fitted(kind, 1, estimators), fitted(kind, 1, estimators, cut, None)
    for name, value in shown(a).items():
        np.testing.assert_array_equal(shown(b)[name], value)
    assert a.score(X, LENGTHS) == b.score(cut)
    np.testing.assert_array_equal(a.predict(X, LENGTHS), b.predict(cut))
    assert a.bic(X, LENGTHS) == b.bic(cut)


def test_what_is_printed_and_warned_of_is_the_same(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    said = []
    for module in (estimators, peers):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            model = fitted("gaussian-diag", 1, module, verbose=True, n_iter=4)
            model.fit(numbers(1)[:9])
        said.append((capsys.readouterr().err, [record.getMessage() for record in caplog.records]))
    assert said[0][0] == said[1][0]
    assert said[0][1] == said[1][1]
    assert any("degenerate" in text for text in said[0][1])
