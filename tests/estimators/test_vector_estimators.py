"""FactorAnalysis beside scikit-learn's, and the VAE: what an estimator says is what its model says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis as Peer
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import onebound as ob
from onebound.errors import InputError
from onebound.estimators import VAE, FactorAnalysis


def table(n: int = 300, d: int = 7, rank: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return 5 + (rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + rng.normal(size=(n, d)) * 0.6) * rng.uniform(
        1, 9, d
    )


@pytest.mark.parametrize("algorithm", ["em", "eg"])
@pytest.mark.parametrize("rotation", [None, "varimax", "quartimax"])
def test_factor_analysis_is_scikit_learns(algorithm: str, rotation: str | None) -> None:
    X = table()
    ours = FactorAnalysis(3, tol=1e-9, rotation=rotation, algorithm=algorithm).fit(X)
    peer = Peer(3, tol=1e-9, rotation=rotation, max_iter=20_000, svd_method="lapack").fit(X)
    assert ours.score(X) == pytest.approx(peer.score(X), abs=1e-6)
    np.testing.assert_allclose(ours.noise_variance_, peer.noise_variance_, rtol=2e-3)
    np.testing.assert_allclose(ours.get_covariance(), peer.get_covariance(), rtol=2e-3, atol=1e-2)
    order = [int(np.abs(ours.components_ @ w).argmax()) for w in peer.components_]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(np.abs(ours.components_[order]), np.abs(peer.components_), rtol=2e-2, atol=2e-2)
    np.testing.assert_allclose(np.abs(ours.transform(X)[:, order]), np.abs(peer.transform(X)), rtol=2e-2, atol=2e-2)
    assert ours.loglike_[-1] == pytest.approx(ours.score_samples(X).sum(), abs=1e-6)
    assert ours.get_feature_names_out().tolist() == ["factoranalysis0", "factoranalysis1", "factoranalysis2"]
    assert float(ours.bound_.gap) == pytest.approx(0, abs=1e-9)


def test_at_the_default_tolerance_it_is_no_worse() -> None:
    X = table(500, 12, 4)
    assert FactorAnalysis(4).fit(X).score(X) >= Peer(4).fit(X).score(X) - 1e-4


def test_missing_cells_weights_draws_and_a_start_of_your_own() -> None:
    X = table()
    gaps = X.copy()
    gaps[::4, 0] = np.nan
    fa = FactorAnalysis(3, missing="marginalize").fit(gaps)
    assert np.isfinite(fa.transform(gaps)).all()
    filled = fa.impute(gaps)
    assert np.corrcoef(filled[::4, 0], X[::4, 0])[0, 1] > 0.5
    np.testing.assert_array_equal(filled[1], X[1])
    np.testing.assert_allclose(
        fa.inverse_transform(fa.transform(gaps)), fa.model_.mean + fa.transform(gaps) @ fa.components_
    )
    with pytest.raises(ValueError, match="NaN"):
        FactorAnalysis(3).fit(gaps)
    twice = FactorAnalysis(2, tol=1e-8).fit(X, sample_weight=np.r_[np.full(100, 2.0), np.zeros(200)])
    once = FactorAnalysis(2, tol=1e-8).fit(X[:100])
    np.testing.assert_allclose(twice.get_covariance(), once.get_covariance(), rtol=1e-4, atol=1e-3)
    y, z = fa.sample(5)
    assert (y.shape, z.shape) == ((5, 7), (5, 3))
    started = FactorAnalysis(3, tol=1e-8, noise_variance_init=X.var(0) / 2).fit(X)
    assert started.score(X) == pytest.approx(FactorAnalysis(3, tol=1e-8).fit(X).score(X), abs=1e-4)
    with pytest.raises(ValueError, match="7 variances > 0"):
        FactorAnalysis(3, noise_variance_init=[1.0]).fit(X)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        FactorAnalysis(3, max_iter=1).fit(X)


def test_no_factors_are_independent_columns() -> None:
    X = table()
    none = FactorAnalysis(0).fit(X)
    wanted = -0.5 * (np.log(2 * math.pi * X.var(0)) + 1).sum()
    assert none.score(X) == pytest.approx(wanted, rel=1e-9)
    assert none.transform(X).shape == (300, 0)


def test_a_vae_says_what_its_model_says() -> None:
    X = table().astype(np.float32)
    vae = VAE(2, hidden=(16,), max_iter=30, random_state=0).fit(X)
    assert vae.transform(X).dtype == np.float32
    np.testing.assert_allclose(vae.transform(X), vae.model_.encode(X).mean.detach(), rtol=1e-6)
    np.testing.assert_allclose(vae.reconstruct(X), vae.inverse_transform(vae.transform(X)), rtol=1e-5, atol=1e-5)
    assert vae.n_iter_ == 30 == len(vae.lower_bounds_)
    assert vae.lower_bounds_[-1] > vae.lower_bounds_[0]
    assert vae.bound_.evidence_is == "estimate"
    assert vae.bound_.mean()["gap"] > 0
    assert vae.latent_use_.size == 2
    assert vae.score(X[:20]) == vae.score(X[:20])  # the same draws
    assert vae.score(X[:20]) >= float(vae.bound(X[:20]).mean()["bound"])
    y, z = vae.sample(4)
    assert (y.shape, z.shape) == ((4, 7), (4, 2))
    again = VAE(2, hidden=(16,), max_iter=30, random_state=0).fit(X)
    np.testing.assert_array_equal(again.transform(X), vae.transform(X))
    assert not hasattr(vae, "predict")
    with pytest.raises(InputError, match=r"expected \(N, 2\) values of z, got \(3, 5\)"):
        vae.inverse_transform(np.zeros((3, 5)))


def test_a_mixture_below_gives_names_to_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    X = np.where(label[:, None] == 1, 4.0, -4.0) + rng.normal(size=(200, 3))
    vae = VAE(1, hidden=(16,), prior_components=2, max_iter=100, learning_rate=5e-3, random_state=1, verbose=50).fit(X)
    found = vae.predict(X)
    assert max((found == label).mean(), (found != label).mean()) > 0.95
    assert any(text.startswith("prior: N(0, 1) until here") for text in vae.repairs_)
    assert capsys.readouterr().out.count("Pass") == 2
    piped = make_pipeline(
        StandardScaler(), VAE(1, hidden=(8,), max_iter=3, importance=True, samples=3, random_state=0)
    ).fit(X)
    assert piped.transform(X).shape == (200, 1)
    bits = VAE(1, likelihood="bernoulli", hidden=(8,), max_iter=3, random_state=0).fit((X > 0).astype(float))
    assert set(np.unique(bits.sample(20)[0])) <= {0.0, 1.0}
    with pytest.raises(InputError, match="only 0 and 1"):
        VAE(1, likelihood="bernoulli").fit(X)
    assert isinstance(bits.model_, ob.models.DeepGaussian)
    assert torch.is_tensor(bits.latent_use_.kl)
