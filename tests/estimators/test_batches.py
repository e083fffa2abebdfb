"""partial_fit and algorithm="online": the estimators learn from batches as `ob.Online` does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from onebound.estimators import BernoulliMixture, GaussianMixture, LatentClass, MixedMixture, PoissonMixture

FORMS = ("full", "tied", "diag", "spherical")


def two_groups(n: int = 3000) -> np.ndarray:
    g = np.random.default_rng(5)
    return np.where(g.random((n, 1)) < 0.4, g.normal(0, 1, (n, 2)), g.normal(4, 1.5, (n, 2)))


def counts(n: int = 600) -> np.ndarray:
    g = np.random.default_rng(6)
    group = g.random((n, 1)) < 0.5
    return g.poisson(np.where(group, [1.0, 6.0], [5.0, 2.0])).astype(float)


EACH: list[tuple[Any, np.ndarray]] = [
    *((GaussianMixture(2, covariance_type=form, random_state=0), two_groups()) for form in FORMS),
    (PoissonMixture(2, random_state=0), counts()),
    (BernoulliMixture(2, binarize=3.0, random_state=0), counts()),
    (LatentClass(2, random_state=0), np.minimum(counts(), 3)),
    (MixedMixture(2, random_state=0), np.column_stack([two_groups(600), counts()])),
]


def parameters(estimator: Any) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in estimator.model_.parameters()])


@pytest.mark.parametrize(("estimator", "X"), EACH, ids=lambda v: repr(v) if hasattr(v, "fit") else "")
def test_one_batch_is_one_step_of_em(estimator: Any, X: np.ndarray) -> None:
    learnt = clone(estimator).partial_fit(X)
    with pytest.warns(Warning, match="did not converge"):
        em = clone(estimator).set_params(max_iter=1).fit(X)
    np.testing.assert_allclose(parameters(learnt), parameters(em), rtol=1e-10, atol=1e-10)
    assert learnt.lower_bound_ == pytest.approx(em.lower_bound_, rel=1e-10)
    assert learnt.n_iter_ == 1


@pytest.mark.parametrize(("estimator", "X"), EACH, ids=lambda v: repr(v) if hasattr(v, "fit") else "")
def test_an_iterator_is_learnt_batch_by_batch(estimator: Any, X: np.ndarray) -> None:
    batches = np.array_split(X, 5)
    by_hand = clone(estimator)
    for batch in batches:
        by_hand.partial_fit(batch)
    whole = clone(estimator).set_params(algorithm="online").fit(iter(batches))
    np.testing.assert_array_equal(parameters(whole), parameters(by_hand))
    assert whole.n_iter_ == len(whole.lower_bounds_) == 5
    assert whole.lower_bound_ == pytest.approx(whole.score(batches[-1]), rel=1e-10)
    again = whole.fit(iter(batches))  # anew, not on from there
    np.testing.assert_array_equal(parameters(again), parameters(by_hand))


def test_an_online_fit_ends_near_em_and_goes_on_with_what_it_has_seen() -> None:
    X = two_groups()
    em = GaussianMixture(2, random_state=0, tol=1e-8).fit(X)
    online = GaussianMixture(2, random_state=0, algorithm="online", max_iter=50).fit(X)
    assert online.converged_
    assert em.lower_bound_ - 2e-3 < online.lower_bound_ <= em.lower_bound_ + 1e-6
    before = online.means_.copy()
    online.partial_fit(X[:10] + 100.0)  # ten strange rows beside thousands move it, but not to themselves
    assert 0 < np.abs(online.means_ - before).max() < 40
    assert GaussianMixture(2, random_state=0).fit(X).partial_fit(X[:50]).n_iter_ == 1


def test_weights_and_gaps_of_a_batch_count() -> None:
    X = two_groups(400)
    twice = GaussianMixture(1).partial_fit(np.repeat(X, 2, 0)).partial_fit(X[:50])
    weighted = GaussianMixture(1).partial_fit(X, sample_weight=np.full(400, 2.0)).partial_fit(X[:50])
    np.testing.assert_allclose(weighted.means_, twice.means_, rtol=1e-12)
    gaps = X.copy()
    gaps[::3, 1] = np.nan
    found = GaussianMixture(2, missing="marginalize", random_state=0).partial_fit(gaps[:200]).partial_fit(gaps[200:])
    assert np.isfinite(found.score(gaps))


def test_batches_that_cannot_be_learnt_from_are_refused() -> None:
    X = two_groups(50)
    with pytest.raises(ValueError, match=r'iterator of batches needs algorithm="online"'):
        GaussianMixture(2).fit(iter([X]))
    with pytest.raises(ValueError, match=r"partial_fit\(batch, sample_weight=w\)"):
        GaussianMixture(2, algorithm="online").fit(iter([X]), sample_weight=np.ones(50))
    with pytest.raises(ValueError, match="at least one batch"):
        GaussianMixture(2, algorithm="online").fit(iter([]))
    with pytest.raises(ValueError, match="n_samples >= n_components"):
        GaussianMixture(9).partial_fit(X[:4])
    with pytest.raises(ValueError, match="expecting 2 features"):
        GaussianMixture(2).partial_fit(X).partial_fit(X[:, :1])
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        GaussianMixture(1, reg_covar=0).partial_fit(np.ones((5, 2)))
