"""The discrete and mixed estimators: the same numbers as the core's, and refusals that name the cell."""

from typing import Any

import numpy as np
import pytest

import onebound as ob
from onebound.estimators import BernoulliMixture, LatentClass, MixedMixture, PoissonMixture

ANSWERS = np.random.default_rng(0)
GROUP = ANSWERS.integers(2, size=200)
ONES = (ANSWERS.random((200, 4)) < np.where(GROUP, 0.85, 0.15)[:, None]).astype(float)
CODES = np.column_stack(
    [np.where(ANSWERS.random(200) < 0.8, 2 * GROUP, ANSWERS.integers(3, size=200)) for _ in range(4)]
)
COUNTS = ANSWERS.poisson(np.where(GROUP, 9.0, 2.0)[:, None], size=(200, 3)).astype(float)
MIXED = np.column_stack([ANSWERS.normal(4.0 * GROUP), COUNTS[:, 0], ONES[:, 0], CODES[:, 0]])

CASES = [
    (BernoulliMixture(2, random_state=0), ONES),
    (LatentClass(2, random_state=0), CODES),
    (PoissonMixture(2, random_state=0), COUNTS),
    (MixedMixture(2, random_state=0, kinds=["real", "count", "binary", "category"]), MIXED),
]
IDS = [type(estimator).__name__ for estimator, _ in CASES]
parametrize = pytest.mark.parametrize(("estimator", "X"), CASES, ids=IDS)


@parametrize
def test_the_groups_are_found_and_the_bound_is_the_models_own(estimator: Any, X: np.ndarray) -> None:
    estimator.fit(X)
    found = estimator.predict(X)
    assert max(np.mean(found == GROUP), np.mean(found != GROUP)) > 0.85
    evidence = ob.bound(estimator.model_, X).evidence.numpy()
    np.testing.assert_allclose(estimator.score_samples(X), evidence, rtol=1e-12)
    assert estimator.lower_bound_ == pytest.approx(evidence.mean(), rel=1e-12)
    assert list(estimator.lower_bounds_) == sorted(estimator.lower_bounds_)
    np.testing.assert_allclose(estimator.predict_proba(X).sum(1), 1.0)


@parametrize
def test_criteria_count_the_parameters(estimator: Any, X: np.ndarray) -> None:
    estimator.fit(X)
    p, total = estimator.model_.n_parameters(), estimator.score(X) * len(X)
    assert estimator.aic(X) == pytest.approx(-2 * total + 2 * p)
    assert estimator.bic(X) == pytest.approx(-2 * total + p * np.log(len(X)))
    assert estimator.icl(X) > estimator.bic(X)


@parametrize
def test_gaps_are_integrated_out(estimator: Any, X: np.ndarray) -> None:
    gaps = np.where(np.random.default_rng(3).random(X.shape) < 0.1, np.nan, X)
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(gaps)
    ready = type(estimator)(**{**estimator.get_params(), "missing": "marginalize"}).fit(gaps)
    np.testing.assert_allclose(ready.score_samples(gaps), ob.bound(ready.model_, gaps).evidence.numpy(), rtol=1e-12)
    assert max(np.mean(ready.predict(gaps) == GROUP), np.mean(ready.predict(gaps) != GROUP)) > 0.8


@parametrize
def test_weights_count_rows_as_often(estimator: Any, X: np.ndarray) -> None:
    """From the same parameters, so that only the climb can tell weights from copies."""
    times = np.random.default_rng(1).integers(0, 3, size=len(X))
    rows = X.repeat(times, axis=0)
    fits = []
    for data, weights in ((X, times), (rows, None)):
        started = type(estimator)(**{**estimator.get_params(), "warm_start": True, "tol": 1e-9, "max_iter": 300})
        fits.append(started.fit(X).fit(data, sample_weight=weights))
    assert fits[0].lower_bound_ == pytest.approx(fits[1].lower_bound_, rel=1e-9)
    np.testing.assert_allclose(fits[0].predict_proba(X), fits[1].predict_proba(X), atol=1e-6)


@parametrize
def test_draws_are_of_the_same_kind_as_the_data(estimator: Any, X: np.ndarray) -> None:
    draws, z = estimator.fit(X).sample(50)
    assert draws.shape == (50, X.shape[1])
    assert z.shape == (50,)
    assert np.isfinite(estimator.score(draws))


@parametrize
@pytest.mark.parametrize("algorithm", ["eg", "vae"])
def test_gradients_do_as_well_as_em(estimator: Any, X: np.ndarray, algorithm: str) -> None:
    options = {**estimator.get_params(), "tol": 1e-8, "max_iter": 1000}
    em = type(estimator)(**options).fit(X)
    other = type(estimator)(**{**options, "algorithm": algorithm}).fit(X)
    assert other.score(X) == pytest.approx(em.score(X), abs=2e-3)


def test_parameters_are_shown_under_their_names() -> None:
    ones, codes, counts, mixed = (estimator.fit(X) for estimator, X in CASES)
    assert ones.probabilities_.shape == (2, 4)
    assert codes.n_categories_.tolist() == [3, 3, 3, 3]
    assert [table.shape for table in codes.probabilities_] == [(2, 3)] * 4
    np.testing.assert_allclose([table.sum(1) for table in codes.probabilities_], 1.0)
    assert np.abs(np.sort(counts.rates_, 0)[:, 0] - [2, 9]).max() < 1
    assert mixed.kinds_ == ("real", "count", "binary", "category")
    assert mixed.profiles_["real"]["means"].shape == mixed.profiles_["count"]["rates"].shape == (2, 1)
    assert mixed.profiles_["category"]["columns"] == [3]


def test_kinds_are_read_from_the_values_where_none_are_given() -> None:
    assert MixedMixture(2, random_state=0).fit(MIXED).kinds_ == ("real", "count", "binary", "count")
    assert MixedMixture(2, random_state=0, kinds={3: "category"}).fit(MIXED).kinds_[3] == "category"


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["real"], "an entry for each of 4 columns, got 1"),
        ({7: "real"}, "names a column 7 that X lacks"),
        ({0: "reel"}, "got 'reel'. Did you mean real?"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(kinds: object, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        MixedMixture(kinds=kinds).fit(MIXED)


@pytest.mark.parametrize(
    ("estimator", "cell", "message"),
    [
        (BernoulliMixture(), 0.3, "zeros and ones, got 0.3 in item 5"),
        (LatentClass(), 0.5, "codes 0, 1, …, V − 1 of a category, got 0.5 in item 5"),
        (LatentClass(), -1, "Negative values in data"),
        (LatentClass(), 1e7, "without large gaps, got 1e.07 in column 1.*OrdinalEncoder"),
        (PoissonMixture(), 0.5, "counts 0, 1, 2, …, got 0.5 in item 5"),
        (PoissonMixture(), -2, "Negative values in data"),
    ],
)
def test_a_cell_that_a_model_cannot_explain_is_named(estimator: Any, cell: float, message: str) -> None:
    X = ONES.copy()
    X[5, 1] = cell
    with pytest.raises(ValueError, match=message):
        estimator.fit(X)


def test_a_category_that_was_never_seen_is_refused_and_smoothing_covers_one_that_was_not_seen_together() -> None:
    survey = LatentClass(1).fit([[0, 0], [1, 1]])
    with pytest.raises(ValueError, match="got 2 in item 0"):
        survey.predict([[2, 0]])
    strict, smooth = (PoissonMixture(1, smoothing=s).fit([[0, 1], [0, 3]]) for s in (0.0, 1.0))
    with pytest.raises(ValueError, match="ln p"):
        strict.score([[1, 1]])
    assert np.isfinite(smooth.score([[1, 1]]))


def test_grey_values_become_ones_and_zeros_when_asked() -> None:
    grey = np.where(ONES == 1, 0.9, 0.2)
    plain, binarized = BernoulliMixture(2, random_state=0), BernoulliMixture(2, random_state=0, binarize=0.5)
    np.testing.assert_array_equal(plain.fit(ONES).probabilities_, binarized.fit(grey).probabilities_)
