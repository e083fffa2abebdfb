"""The same data and the same random_state give what scikit-learn's GaussianMixture gives."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer

from onebound.estimators import GaussianMixture

COVARIANCES = ("full", "tied", "diag", "spherical")
WAYS = ("kmeans", "k-means++", "random", "random_from_data")
PARAMETERS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


def clouds(seed: int, n: int = 300, d: int = 3, k: int = 3) -> np.ndarray:
    """k overlapping clouds of different shapes in a skewed frame."""
    rng = np.random.default_rng(seed)
    centres, frame = 3 * rng.normal(size=(k, d)), rng.normal(size=(d, d))
    return centres[rng.integers(k, size=n)] + rng.normal(size=(n, d)) @ frame


def pair(X: np.ndarray, **options: object) -> tuple[Peer, GaussianMixture]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return Peer(**options).fit(X), GaussianMixture(**options).fit(X)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_climb_is_the_same_from_every_start(covariance: str, way: str) -> None:
    for seed in (1, 2):
        options = {"covariance_type": covariance, "init_params": way, "random_state": seed, "tol": 1e-4}
        peer, ours = pair(clouds(seed), n_components=3, **options)
        assert (ours.n_iter_, ours.converged_) == (peer.n_iter_, peer.converged_)
        for name in PARAMETERS:
            np.testing.assert_allclose(getattr(ours, name), getattr(peer, name), rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_what_is_said_of_rows_is_the_same(covariance: str) -> None:
    X = clouds(5)
    peer, ours = pair(X, n_components=3, covariance_type=covariance, random_state=5)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), atol=1e-7)
    np.testing.assert_allclose(ours.score_samples(X), peer.score_samples(X), rtol=1e-7)
    np.testing.assert_array_equal(ours.predict(X), peer.predict(X))
    for criterion in ("aic", "bic", "score"):
        assert getattr(ours, criterion)(X) == pytest.approx(getattr(peer, criterion)(X), rel=1e-9)


def test_float32_takes_the_same_number_of_iterations() -> None:
    X = clouds(3).astype(np.float32)
    peer, ours = pair(X, n_components=3, random_state=0)
    assert ours.n_iter_ == peer.n_iter_
    assert ours.means_.dtype == np.float32
    np.testing.assert_allclose(ours.means_, peer.means_, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("given", ["weights_init", "means_init", "precisions_init"])
def test_a_start_that_is_given_in_part_is_completed_in_the_same_way(given: str) -> None:
    X = clouds(7)
    values = {
        "weights_init": [0.2, 0.3, 0.5],
        "means_init": X[:3],
        "precisions_init": np.broadcast_to(np.eye(3), (3, 3, 3)),
    }
    peer, ours = pair(X, n_components=3, random_state=0, **{given: values[given]})
    assert ours.n_iter_ == peer.n_iter_
    np.testing.assert_allclose(ours.means_, peer.means_, rtol=1e-6)


def test_the_best_of_several_starts_is_the_same() -> None:
    X = clouds(11)
    peer, ours = pair(X, n_components=3, n_init=4, init_params="random_from_data", random_state=0, tol=1e-5)
    np.testing.assert_allclose(ours.means_, peer.means_, rtol=1e-6)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_constant_column_fits_as_it_does_there(covariance: str) -> None:
    X = np.column_stack([clouds(2, d=2, k=2), np.full(300, 7.0)])
    peer, ours = pair(X, n_components=2, covariance_type=covariance, random_state=0)
    assert ours.n_iter_ == peer.n_iter_
    np.testing.assert_allclose(ours.means_, peer.means_, rtol=1e-6)
    np.testing.assert_allclose(ours.covariances_, peer.covariances_, rtol=1e-6, atol=1e-9)


def test_a_warm_start_needs_as_many_fits() -> None:
    X, fits = clouds(4), []
    for mixture in (
        Peer(3, warm_start=True, max_iter=1, random_state=0, tol=1e-4),
        GaussianMixture(3, warm_start=True, max_iter=1, random_state=0, tol=1e-4),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(next(n for n in range(1, 500) if mixture.fit(X).converged_))
    assert fits[0] == fits[1] > 2


def test_what_is_printed_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    X, printed = clouds(6), []
    for cls in (Peer, GaussianMixture):
        cls(3, random_state=0, tol=1e-5, n_init=2, verbose=1, verbose_interval=2, init_params="random").fit(X)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].count("Iteration") > 2
