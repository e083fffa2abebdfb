"""What the HMM estimators do beyond hmmlearn: missing cells, weights, a climb that never falls, repairs, plain refusals."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from test_hmm_against_hmmlearn import EVERY, KINDS, LENGTHS, PRIORS, fitted, numbers, shown

import onebound as ob
from onebound import estimators
from onebound.estimators import (
    GMMHMM,
    CategoricalHMM,
    ConvergenceMonitor,
    GaussianHMM,
    MultinomialHMM,
    PoissonHMM,
    hmm_base,
    hmm_monitor,
)

NAN = float("nan")


def with_gaps(X: np.ndarray, seed: int, share: float = 0.15) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(X.shape) < share, NAN, X)


def two_levels(n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.repeat([0.0, 9.0, 0.0, 9.0], n // 4)[:, None] + rng.normal(size=(n, 2))


# --- the climb -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priors", [False, True], ids=["defaults", "priors"])
@EVERY
def test_the_objective_never_falls(kind: str, priors: bool) -> None:
    """ln p(y) + ln p(Θ), at every step; but for rules of hmmlearn that are no maximum, which say so."""
    for seed in range(4):
        model = fitted(kind, seed, estimators, n_iter=30, tol=-math.inf, **(PRIORS[kind] if priors else {}))
        objectives = [record.objective for record in model.trace_]
        assert len(objectives) == 60
        if model._inexact() in ("", "min_covar is added to a covariance that is singular") and not model.repairs_:
            assert min(b - a for a, b in pairwise(objectives)) >= -1e-9 * (1 + abs(objectives[-1]))
        expected = model.monitor_.history[-1] / len(LENGTHS)
        assert model.trace_[-2].evidence == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "kind", ["gaussian-diag", "gaussian-full", "gaussian-tied", "gaussian-spherical", "categorical"]
)
def test_a_fit_ends_where_the_objective_is_flat(kind: str) -> None:
    """∇ (ln p(y) + ln p(Θ)) along random directions of the attributes is 0: the prior is the one that is climbed."""
    model = fitted(kind, 1, estimators, n_iter=400, tol=-math.inf, **PRIORS[kind])
    X, rng = KINDS[kind][1](1), np.random.default_rng(0)
    name = "emissionprob_" if kind == "categorical" else "means_"
    best = getattr(model, name).copy()

    def objective(moved: np.ndarray) -> float:
        setattr(model, name, moved)
        return float(model.score(X, LENGTHS) + model.log_prior())

    for _ in range(4):
        step = 1e-4 * rng.normal(size=best.shape) * (best if kind == "categorical" else 1.0)
        step = step - best * step.sum(-1, keepdims=True) if kind == "categorical" else step
        up, down, here = objective(best + step), objective(best - step), objective(best)
        assert up < here
        assert down < here
        assert abs(up - down) < 0.05 * (2 * here - up - down)


@EVERY
def test_the_bound_is_that_of_the_parameters_that_are_returned_and_computed_when_it_is_read(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, passes, last = KINDS[kind][1](2), [], []
    sweep, mean_bound = hmm_monitor.sweep, hmm_base.mean_bound
    monkeypatch.setattr(hmm_monitor, "sweep", lambda *a, **k: passes.append(1) or sweep(*a, **k))
    monkeypatch.setattr(hmm_base, "mean_bound", lambda *a: last.append(1) or mean_bound(*a))
    model = fitted(kind, 2, estimators, n_iter=5, tol=-math.inf)
    assert (len(passes), len(last)) == (5, 0)
    assert float(model.bound_.evidence) * len(LENGTHS) == pytest.approx(model.score(X, LENGTHS), rel=1e-12)
    assert abs(float(model.bound_.gap)) < 1e-10
    assert model.bound_ is model.bound_
    assert len(last) == 1


def test_a_monitor_of_the_users_own_decides() -> None:
    class Enough(ConvergenceMonitor):
        @property
        def converged(self) -> bool:
            return self.iter == 3

    model = GaussianHMM(2, random_state=0, n_iter=50)
    model.monitor_ = Enough(model.monitor_.tol, model.monitor_.n_iter, model.monitor_.verbose)
    assert model.fit(two_levels()).monitor_.iter == 3
    assert "history=[" in repr(model.monitor_)


def test_new_limits_reach_the_monitor_that_the_constructor_made() -> None:
    model = GaussianHMM(2, random_state=0).set_params(n_iter=3, tol=-math.inf)
    assert len(model.fit(two_levels()).monitor_.history) == 3


@pytest.mark.parametrize("implementation", ["log", "scaling"])
def test_a_chain_that_underflows_in_linear_space_is_fitted(implementation: str) -> None:
    X = two_levels(400)[:, :1]
    X[40] = 10_000.0
    model = GaussianHMM(2, "spherical", n_iter=100, init_params="", implementation=implementation)
    model.startprob_, model.transmat_ = [0.0, 1.0], [[0.4, 0.6], [0.6, 0.4]]
    model.means_, model.covars_ = [[0.0], [9.0]], [1.0, 1.0]
    model.fit(X)
    assert np.isfinite(model.score(X))
    assert model.startprob_.tolist() == [0.0, 1.0]


# --- missing cells and weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "multinomial"])
def test_missing_cells_are_integrated_out(kind: str) -> None:
    X = with_gaps(KINDS[kind][1](3).astype(float), 3)
    X[5] = NAN
    model = fitted(kind, 3, estimators, X, n_iter=25, tol=-math.inf, missing="marginalize")
    objectives = [record.objective for record in model.trace_]
    assert min(b - a for a, b in pairwise(objectives)) >= -1e-9 * (1 + abs(objectives[-1]))
    each = model.model_.evidence(np.split(X, np.cumsum(LENGTHS)[:-1])).detach()
    assert model.score(X, LENGTHS) == pytest.approx(float(each.sum()), rel=1e-12)
    assert np.isfinite(model.predict_proba(X, LENGTHS)).all()
    with pytest.raises(ValueError, match="NaN"):
        fitted(kind, 3, estimators, X)


def test_rows_that_are_missing_are_steps_without_a_word() -> None:
    model = fitted("poisson", 1, estimators, missing="marginalize")
    X = KINDS["poisson"][1](1)[:4].astype(float)
    X[1:3] = NAN
    a, e = model.transmat_, np.exp(model._compute_log_likelihood(X))
    wanted = math.log(model.startprob_ * e[0] @ np.linalg.matrix_power(a, 3) @ e[3])
    assert model.score(X) == pytest.approx(wanted, rel=1e-10)


@EVERY
def test_weights_of_sequences_are_replication(kind: str) -> None:
    X = KINDS[kind][1](4)
    parts = np.split(X, np.cumsum(LENGTHS)[:-1])
    start = fitted(kind, 4, estimators, n_iter=0)
    pair = []
    for data, weight in (([parts[0], *[parts[2]] * 3, parts[3]], None), ([parts[0], parts[2], parts[3]], [1, 3, 1])):
        model = clone(start).set_params(init_params="", n_iter=6, **({"n_trials": 6} if kind == "multinomial" else {}))
        for name, value in shown(start).items():
            setattr(model, name, np.array(value))
        pair.append(model.fit(data, sequence_weight=weight))
    for name, value in shown(pair[0]).items():
        np.testing.assert_allclose(shown(pair[1])[name], value, rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(pair[0].monitor_.history, pair[1].monitor_.history, rtol=1e-12)


# --- edges -----------------------------------------------------------------------------------------------------------


def test_a_state_without_rows_keeps_its_parameters_and_is_named() -> None:
    X = two_levels()
    model = GaussianHMM(3, "full", init_params="", n_iter=3)
    model.startprob_, model.transmat_ = [1.0, 0.0, 0.0], [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.2, 0.3, 0.5]]
    model.means_, model.covars_ = [[0.0, 0.0], [9.0, 9.0], [50.0, 50.0]], [np.eye(2)] * 3
    model.fit(X)
    assert model.means_[2].tolist() == [50.0, 50.0]
    assert model.transmat_[2].tolist() == [0.2, 0.3, 0.5]
    assert any("state 2 is never left" in text for text in model.repairs_)
    assert any("state 2 has no weight" in text for text in model.repairs_)
    assert np.isfinite(model.score(X))


@pytest.mark.parametrize("covariance", ["spherical", "diag", "full", "tied"])
@pytest.mark.parametrize("cls", [GaussianHMM, GMMHMM])
def test_a_covariance_that_becomes_singular_is_mended_and_named(cls: Any, covariance: str) -> None:
    X = np.tile([[1.0, 2.0], [4.0, 8.0]], (30, 1))  # two points, over and over
    model = cls(2, covariance_type=covariance, random_state=0, n_iter=8, tol=-math.inf)
    model.covars_prior = 0.0 if cls is GaussianHMM else model.covars_prior
    model.fit(X)
    assert any("is singular" in text for text in model.repairs_)
    assert all(np.isfinite(value).all() for value in shown(model).values())
    assert np.isfinite(model.score(X))


def test_data_of_one_symbol_one_row_or_one_state_are_fitted() -> None:
    one = CategoricalHMM(2, random_state=0).fit(np.zeros((6, 1), int))
    assert one.score(np.zeros((3, 1), int)) == pytest.approx(0.0, abs=1e-12)
    assert CategoricalHMM(1, random_state=0).fit([[2]]).emissionprob_.tolist() == [[0.0, 0.0, 1.0]]
    single = GaussianHMM(1, random_state=0, covars_prior=0.0).fit(two_levels())
    np.testing.assert_allclose(single.means_[0], two_levels().mean(0))


def test_a_sequence_that_cannot_be_scores_minus_infinity_and_is_named_where_a_path_is_asked_for() -> None:
    model = CategoricalHMM(2)
    model.startprob_, model.transmat_ = [1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]]
    model.emissionprob_ = [[1.0, 0.0], [0.0, 1.0]]
    X = [[0], [1], [1], [0]]
    assert model.score(X) == -math.inf
    for call in (model.decode, model.predict_proba, model.set_params(init_params="").fit):
        with pytest.raises(ob.errors.Infeasible, match="died at step 2"):
            call(X)


# --- around it -------------------------------------------------------------------------------------------------------


@EVERY
def test_the_model_is_an_hmm_that_can_be_saved(kind: str, tmp_path: Path) -> None:
    X, model = KINDS[kind][1](1), fitted(kind, 1, estimators)
    assert type(model.model_) is ob.models.HMM
    ob.save(model.model_, tmp_path / "m.safetensors")
    loaded = ob.load(tmp_path / "m.safetensors")
    assert float(loaded.evidence(X.astype(float)).detach()) == pytest.approx(model.score(X), rel=1e-12)


@EVERY
def test_a_fit_can_be_pickled_without_its_data_and_cloned(kind: str) -> None:
    model = fitted(kind, 1, estimators)
    again = pickle.loads(pickle.dumps(model))
    assert again.score(KINDS[kind][1](1)) == model.score(KINDS[kind][1](1))
    assert float(again.bound_.value) == float(model.bound_.value)
    assert again._unread == ()
    assert not hasattr(clone(model), "startprob_")
    with pytest.raises(NotFittedError):
        clone(model).predict(KINDS[kind][1](1))


def test_a_subclass_may_start_and_check_in_its_own_way() -> None:
    class LeftToRight(GaussianHMM):
        def _init(self, X: np.ndarray, lengths: Any = None) -> None:
            super()._init(X, lengths)
            self.transmat_ = np.triu(np.tri(self.n_components, k=1)) / 2
            self.transmat_[-1, -1] = 1.0

    model = LeftToRight(4, random_state=0, covariance_type="full").fit(two_levels())
    assert (np.tril(model.transmat_, -1) == 0).all()
    assert (np.triu(model.transmat_, 2) == 0).all()


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    fitted("gaussian-diag", 1, estimators).predict(numbers(1))
    assert torch.get_num_threads() == before


def assigned(**changed: Any) -> GaussianHMM:
    model = GaussianHMM(2)
    given = {
        "startprob_": [0.5, 0.5],
        "transmat_": [[0.5, 0.5]] * 2,
        "means_": [[0.0], [1.0]],
        "covars_": [[1.0], [1.0]],
    }
    for name, value in {**given, **changed}.items():
        setattr(model, name, value)
    return model


X2 = two_levels(40)
WRONG = [
    (
        lambda: GaussianHMM(2).fit(X2, [3, 4]),
        r"lengths must be whole numbers ≥ 0 that add up to the 40 rows of X, got \[3, 4\]",
    ),
    (lambda: GaussianHMM(2).fit(X2, [20.0, 20.0]), "lengths must be whole numbers"),
    (lambda: GaussianHMM(2).fit([X2, X2], [40, 40]), "a list of sequences has its own lengths"),
    (lambda: GaussianHMM(2).fit([X2, X2[:, :1]]), r"every sequence must have the same number of columns, got \[1, 2\]"),
    (lambda: GaussianHMM(0).fit(X2), "n_components must be a whole number ≥ 1, got 0"),
    (lambda: GaussianHMM(2, n_iter=-1).fit(X2), "n_iter must be a whole number ≥ 0, got -1"),
    (lambda: GaussianHMM(2, params="stx").fit(X2), "params must be letters among stmc, got 'stx'"),
    (lambda: GaussianHMM(2, implementation="fast").fit(X2), "implementation must be 'log' or 'scaling', got 'fast'"),
    (lambda: GaussianHMM(2, missing="drop").fit(X2), "missing must be 'error' or 'marginalize', got 'drop'"),
    (lambda: GaussianHMM(2, "ful").fit(X2), "covariance_type must be one of .*, got 'ful'. Did you mean full"),
    (lambda: GaussianHMM(2).fit(X2).decode(X2, algorithm="viterby"), "Unknown decoder 'viterby'.*Did you mean viterbi"),
    (lambda: GaussianHMM(2).fit(X2).score(X2[:, :1]), "y must have 2 columns, got 1"),
    (lambda: GaussianHMM(2).fit(X2).fit(X2[:, :1]), "X must have 2 columns, as many as the parameters, got 1"),
    (lambda: GaussianHMM(2).fit(X2, sequence_weight=[1, 2]), "weights"),
    (
        lambda: assigned(startprob_=[0.5, 0.4]).score([[1.0]]),
        r"startprob_ must have shape \(2,\) and rows .* add up to 1",
    ),
    (lambda: assigned(transmat_=[[0.5, 0.4]] * 2).score([[1.0]]), r"transmat_ must have shape \(2, 2\)"),
    (lambda: assigned(means_=[[0.0]]).score([[1.0]]), r"means_ must have shape \(K, D\) with K = 2, got \(1, 1\)"),
    (lambda: assigned(covars_=[[1.0], [-1.0]]), "'diag' covars_ must have shape .* be positive definite"),
    (lambda: GMMHMM(2, n_mix=0).fit(X2), "n_mix must be a whole number ≥ 1, got 0"),
    (lambda: CategoricalHMM(2).fit(X2[:, :1]), "symbols must be whole numbers, got float64"),
    (lambda: CategoricalHMM(2).fit([[0, 1], [1, 0]]), r"X must have one column, got 2. Write X.reshape\(-1, 1\)"),
    (lambda: CategoricalHMM(2, n_features=2).fit([[0], [2]]), "symbols must lie below n_features = 2, got 2"),
    (lambda: CategoricalHMM(2).fit([[0], [-1]]), "symbols must be 0, 1, 2, …, got one below 0"),
    (lambda: PoissonHMM(2).fit([[1], [-2], [3]]), r"counts 0, 1, 2, …, got -2 in step 1 of sequence 0"),
    (lambda: PoissonHMM(2).fit([[3], [3], [3]]), "a start needs counts that differ, got 3 in every cell"),
    (lambda: MultinomialHMM(2).fit([[0.5, 0.5], [1.0, 0.0]]), "X must hold counts"),
    (lambda: MultinomialHMM(2, n_trials=3).fit([[1, 1], [2, 1]]), "every row must add up to n_trials"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_input_gets_one_line(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert isinstance(caught.value, ob.errors.OneboundError)
    assert "\n" not in str(caught.value)
