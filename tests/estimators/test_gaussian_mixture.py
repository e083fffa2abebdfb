"""What GaussianMixture adds to scikit-learn's: weights, missing values, gradients, and a record of what happened."""

import pickle
import warnings

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import onebound as ob
from onebound.estimators import GaussianMixture

COVARIANCES = ("full", "tied", "diag", "spherical")


def clouds(seed: int = 0, n: int = 120, d: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + 5 * rng.integers(2, size=(n, 1))


def with_gaps(X: np.ndarray, share: float = 0.2) -> np.ndarray:
    return np.where(np.random.default_rng(9).random(X.shape) < share, np.nan, X)


# --- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_weights_count_rows_as_often(covariance: str) -> None:
    X, times = clouds(), np.random.default_rng(1).integers(0, 4, size=120)
    given = {"means_init": [[0, 0], [5, 5]], "weights_init": [0.5, 0.5], "tol": 1e-8, "max_iter": 500}
    precisions = {"full": [np.eye(2)] * 2, "tied": np.eye(2), "diag": np.ones((2, 2)), "spherical": np.ones(2)}
    given |= {"covariance_type": covariance, "precisions_init": precisions[covariance], "n_components": 2}
    weighted = GaussianMixture(**given).fit(X, sample_weight=times)
    repeated = GaussianMixture(**given).fit(X.repeat(times, axis=0))
    assert weighted.n_iter_ == repeated.n_iter_
    np.testing.assert_allclose(weighted.covariances_, repeated.covariances_, rtol=1e-9)
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-12)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (-np.ones(120), "Negative values"),
        (np.full(120, np.nan), "NaN"),
        (np.zeros(120), "zero"),
        (np.ones(119), r"\(119,\)"),
    ],
    ids=["negative", "NaN", "all zero", "wrong length"],
)
def test_weights_that_are_none_are_refused(weights: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianMixture().fit(clouds(), sample_weight=weights)


# --- missing values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["diag", "spherical"])
def test_missing_cells_are_integrated_out(covariance: str) -> None:
    X = with_gaps(clouds())
    mixture = GaussianMixture(2, covariance_type=covariance, missing="marginalize", random_state=0, tol=1e-6).fit(X)
    variance = np.broadcast_to(np.reshape(mixture.covariances_, (2, -1)), (2, 2))
    log_cells = -0.5 * ((X[:, None] - mixture.means_) ** 2 / variance + np.log(2 * np.pi * variance))  # (N, K, D)
    joint = np.log(mixture.weights_) + np.nansum(log_cells, axis=-1)
    np.testing.assert_allclose(mixture.score_samples(X), np.logaddexp.reduce(joint, axis=1), rtol=1e-9, atol=1e-9)
    assert mixture.lower_bound_ == pytest.approx(mixture.score(X), rel=1e-12)


def test_without_gaps_marginalizing_changes_nothing() -> None:
    X = clouds()
    plain, ready = (GaussianMixture(2, random_state=0, missing=how).fit(X) for how in ("error", "marginalize"))
    np.testing.assert_array_equal(plain.means_, ready.means_)


def test_gaps_are_refused_unless_asked_for() -> None:
    with pytest.raises(ValueError, match="contains NaN"):
        GaussianMixture(2, covariance_type="diag").fit(with_gaps(clouds()))


def test_a_row_without_any_value_says_nothing_and_is_mentioned() -> None:
    X = with_gaps(clouds())
    options = {"covariance_type": "diag", "missing": "marginalize", "random_state": 0, "tol": 1e-9, "max_iter": 500}
    without = GaussianMixture(2, **options).fit(X[~np.isnan(X).all(axis=1)])
    empty = np.full((3, 2), np.nan)
    with pytest.warns(UserWarning, match=r"\d+ of 123 rows have no observed value"):
        mixture = GaussianMixture(2, **options).fit(np.vstack([X, empty]))
    np.testing.assert_allclose(np.sort(mixture.means_, 0), np.sort(without.means_, 0), atol=1e-4)
    np.testing.assert_allclose(mixture.score_samples(empty), 0.0, atol=1e-12)


def test_a_column_without_any_value_is_refused_by_number() -> None:
    X = clouds()
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"GaussianMixture: column 1 must have an observed value.*Drop it"):
        GaussianMixture(covariance_type="diag", missing="marginalize").fit(X)


def test_infinite_values_are_refused_also_among_gaps() -> None:
    X = with_gaps(clouds())
    X[3, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        GaussianMixture(covariance_type="diag", missing="marginalize").fit(X)


# --- what is recorded ------------------------------------------------------------------------------------------------------


def test_the_bound_is_that_of_the_parameters_that_are_returned() -> None:
    X = clouds(3)
    mixture = GaussianMixture(2, random_state=0, tol=1e-6).fit(X)
    assert mixture.lower_bound_ == mixture.lower_bounds_[-1] == pytest.approx(mixture.score(X), rel=1e-12)
    assert len(mixture.lower_bounds_) == mixture.n_iter_
    shorter = GaussianMixture(2, random_state=0, tol=0, max_iter=2)
    with pytest.warns(ConvergenceWarning):
        shorter.fit(X)
    assert mixture.lower_bounds_[:2] == pytest.approx(shorter.lower_bounds_, rel=1e-12)
    assert isinstance(mixture.bound_, ob.Bound)
    assert mixture.bound_.mean()["bound"] == pytest.approx(mixture.lower_bound_, rel=1e-12)
    assert mixture.bound_.mean()["entropy"] == pytest.approx(
        float(ob.bound(mixture.model_, X).entropy.mean()), rel=1e-12
    )
    assert "120 items" in repr(mixture.bound_)


def test_every_start_is_reported_and_the_best_is_kept() -> None:
    X = np.random.default_rng(5).normal(size=(60, 2))
    mixture = GaussianMixture(4, n_init=5, init_params="random_from_data", random_state=0, tol=1e-5).fit(X)
    assert len(mixture.restarts_) == 5
    assert len({round(bound, 6) for bound in mixture.restarts_}) > 1
    assert mixture.lower_bound_ == max(mixture.restarts_) == pytest.approx(mixture.score(X), rel=1e-12)


def test_a_collapse_under_the_ridge_is_recorded() -> None:
    X = np.vstack([np.zeros((5, 2)), np.ones((5, 2))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = GaussianMixture(4, random_state=0).fit(X)
    assert any("the ridge alone holds its covariance" in repair for repair in mixture.repairs_)
    assert np.isfinite(mixture.lower_bound_)
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        GaussianMixture(2, random_state=0, reg_covar=0).fit(X)


def test_a_sound_fit_reports_no_repairs() -> None:
    assert GaussianMixture(2, random_state=0).fit(clouds()).repairs_ == []


def test_icl_asks_for_clear_cut_components() -> None:
    X = clouds()
    mixture = GaussianMixture(2, random_state=0).fit(X)
    r = mixture.predict_proba(X)
    entropy = -np.sum(r * np.log(np.maximum(r, 1e-300)))
    assert mixture.icl(X) == pytest.approx(mixture.bic(X) + 2 * entropy, rel=1e-9)
    assert mixture.icl(X) > mixture.bic(X)


# --- algorithms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["eg", "vae"])
def test_gradients_end_where_em_ends(algorithm: str) -> None:
    X = clouds(7)
    em = GaussianMixture(2, random_state=0, tol=1e-9, max_iter=1000).fit(X)
    other = GaussianMixture(2, random_state=0, tol=1e-9, max_iter=1000, algorithm=algorithm).fit(X)
    assert other.score(X) == pytest.approx(em.score(X), abs=1e-3 if algorithm == "vae" else 1e-6)
    assert (other.bound_.mean()["gap"] > 0) == (algorithm == "vae")


def test_an_unknown_algorithm_is_refused_in_scikit_learns_words() -> None:
    with pytest.raises(ValueError, match=r"The 'algorithm' parameter of GaussianMixture must be a str among"):
        GaussianMixture(algorithm="newton").fit(clouds())


# --- life among scikit-learn's tools ---------------------------------------------------------------------------------------


def test_it_lives_in_pipelines_and_searches() -> None:
    X = clouds()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), GaussianMixture(random_state=0)), {"gaussianmixture__n_components": [1, 2]}
    )
    search.fit(X)
    assert search.best_params_ == {"gaussianmixture__n_components": 2}
    assert search.predict(X).shape == (120,)


def test_a_clone_is_unfitted_and_a_pickle_is_the_same() -> None:
    X = clouds()
    mixture = GaussianMixture(2, random_state=0, covariance_type="tied").fit(X)
    assert clone(mixture).get_params() == mixture.get_params()
    assert not hasattr(clone(mixture), "means_")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mixture)).predict_proba(X), mixture.predict_proba(X))


def test_the_model_inside_is_onebounds_own(tmp_path: object) -> None:
    X = clouds()
    mixture = GaussianMixture(2, random_state=0).fit(X)
    ob.save(mixture.model_, f"{tmp_path}/mixture.safetensors")
    loaded = ob.load(f"{tmp_path}/mixture.safetensors")
    with torch.no_grad():  # as the estimator does: rows that need no derivatives have a path of their own
        np.testing.assert_array_equal(loaded.evidence(X).numpy(), mixture.score_samples(X))
    np.testing.assert_allclose(loaded.evidence(X).detach().numpy(), mixture.score_samples(X), rtol=1e-13)


def test_arrays_of_another_library_are_refused_under_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from onebound.estimators import checks

    monkeypatch.setattr(checks, "get_config", lambda: {**sklearn.get_config(), "array_api_dispatch": True})
    with pytest.raises(TypeError, match=r"GaussianMixture: array API dispatch is not supported, got torch\.Tensor"):
        GaussianMixture().fit(torch.from_numpy(clouds()))


def test_draws_follow_the_components() -> None:
    mixture = GaussianMixture(2, random_state=0).fit(clouds())
    draws, z = mixture.sample(4000)
    assert (np.diff(z) >= 0).all()
    for k in range(2):
        error = np.sqrt(np.diag(mixture.covariances_[k]) / (z == k).sum())
        assert (np.abs(draws[z == k].mean(0) - mixture.means_[k]) < 5 * error).all()


def test_a_warm_start_on_data_of_another_width_begins_anew() -> None:
    mixture = GaussianMixture(2, warm_start=True, random_state=0).fit(clouds())
    assert mixture.fit(clouds(d=3)).means_.shape == (2, 3)


def test_k_means_sees_a_subsample_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from onebound.estimators import starts

    X = clouds(n=400)
    whole = GaussianMixture(2, random_state=0).fit(X)
    monkeypatch.setattr(starts, "KMEANS_ROWS", 50)
    part = GaussianMixture(2, random_state=0).fit(X)
    np.testing.assert_allclose(np.sort(part.means_, 0), np.sort(whole.means_, 0), atol=0.05)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_data_frame_goes_in_and_its_names_are_kept(library: str) -> None:
    frames = pytest.importorskip(library, reason="data frames are an optional way in")
    X = clouds()
    frame = frames.DataFrame({"height": X[:, 0], "weight": X[:, 1]})
    mixture = GaussianMixture(2, random_state=0).fit(frame)
    assert mixture.feature_names_in_.tolist() == ["height", "weight"]
    np.testing.assert_array_equal(mixture.predict(frame), GaussianMixture(2, random_state=0).fit_predict(X))
    other = frames.DataFrame({"length": X[:, 0], "weight": X[:, 1]})
    with pytest.raises(ValueError, match="feature names should match"):
        mixture.predict(other)
    gaps = frames.DataFrame({"height": X[:, 0], "weight": [np.nan] * len(X)})
    with pytest.raises(ValueError, match="column 'weight' must have an observed value"):
        GaussianMixture(covariance_type="diag", missing="marginalize").fit(gaps)


def test_missing_cells_are_filled_in_from_the_observed_ones() -> None:
    g = np.random.default_rng(4)
    X = g.multivariate_normal([1.0, 2.0], [[2.0, 1.2], [1.2, 1.0]], 400)
    gaps = X.copy()
    gaps[:100, 1] = np.nan
    one = GaussianMixture(1, missing="marginalize").fit(gaps)
    covariance = one.covariances_[0]
    line = one.means_[0, 1] + covariance[0, 1] / covariance[0, 0] * (gaps[:100, 0] - one.means_[0, 0])
    filled = one.impute(gaps)
    np.testing.assert_allclose(filled[:100, 1], line, rtol=1e-10)
    np.testing.assert_array_equal(filled[100:], X[100:])
    draws = one.sample_missing(gaps, 2000)
    assert draws.shape == (2000, 400, 2)
    spread = np.sqrt(covariance[1, 1] - covariance[0, 1] ** 2 / covariance[0, 0])
    z = (draws[:, :100, 1].mean(0) - line) / (spread / np.sqrt(2000))
    assert np.abs(z).max() < 5
    with pytest.raises(ValueError, match="contains NaN"):
        GaussianMixture(1).fit(X).impute(gaps)
