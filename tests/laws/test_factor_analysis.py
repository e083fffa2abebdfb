"""The linear Gaussian models: EM, EG and the VAE meet, at the optimum that algebra gives, and missing cells are exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from zoo import VECTORS, Case

import onebound as ob
from onebound.models import FactorAnalysis, ProbabilisticPCA


def table(n: int = 200, d: int = 5, rank: int = 2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, d)) * rng.uniform(0.3, 1.0, d)
    return 3 + (rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + noise) * rng.uniform(1, 4, d)


def top(y: np.ndarray, rank: int) -> float:
    """Nats per item at the optimum of probabilistic PCA (Tipping & Bishop 1999, equation 8)."""
    d = y.shape[1]
    values = np.linalg.eigvalsh(np.cov(y.T, bias=True))[::-1]
    noise = values[rank:].mean()
    return -0.5 * (d * math.log(2 * math.pi) + np.log(values[:rank]).sum() + (d - rank) * math.log(noise) + d)


@pytest.mark.parametrize("name", ["EM", "EG", "VAE", "reparameterized", "diagonal"])
def test_every_algorithm_reaches_the_optimum_of_probabilistic_pca(name: str) -> None:
    y = table()
    model = ProbabilisticPCA(5, 2)
    algorithm = {
        "EM": ob.EM(),
        "EG": ob.EG(),
        "VAE": ob.VAE(optimizer="lbfgs"),
        "reparameterized": ob.VAE(estimator="reparameterized", samples=64, lr=0.01),
        "diagonal": ob.VAE(
            Diagonal(model), optimizer="lbfgs"
        ),  # a rotation of the factors makes the posterior diagonal
    }[name]
    fit = ob.fit(
        model, y, algorithm, init="random", generator=torch.Generator().manual_seed(1), tol=1e-12, max_iter=800
    )
    assert fit.evidence == pytest.approx(top(y, 2), abs=2e-3 if name == "reparameterized" else 1e-6)
    assert fit.gap < (1e-2 if name == "reparameterized" else 1e-6)
    assert bool((model.noise_variance == model.noise_variance[0]).all())


class Diagonal(torch.nn.Module):
    """A linear recognition network whose covariance is diagonal."""

    def __init__(self, model: ProbabilisticPCA) -> None:
        super().__init__()
        self.model = [model]
        self.mean = torch.nn.Linear(model.n_features, model.n_latent, dtype=torch.float64)
        self.log_sd = torch.nn.Parameter(torch.zeros(1, model.n_latent, dtype=torch.float64))
        torch.nn.init.zeros_(self.mean.weight)

    def forward(self, obs: ob.Observations) -> ob.structures.DiagonalGaussian:
        return ob.structures.DiagonalGaussian.of(self.mean(self.model[0].features(obs)), self.log_sd)


def test_the_start_along_the_axes_is_the_optimum_of_probabilistic_pca() -> None:
    y = table()
    model = ProbabilisticPCA(5, 2).initialize(y, how="pca")
    assert float(model.evidence(y).mean().detach()) == pytest.approx(top(y, 2), rel=1e-12)


def test_factor_analysis_is_at_least_scikit_learns() -> None:
    from sklearn.decomposition import FactorAnalysis as Peer

    y = table(300, 8, 3)
    peer = Peer(3, tol=1e-12, max_iter=20_000, svd_method="lapack").fit(y)
    for algorithm in (ob.EM(accelerate="squarem"), ob.EG()):
        model = FactorAnalysis(8, 3)
        fit = ob.fit(model, y, algorithm, tol=1e-13, max_iter=5000)
        assert fit.evidence == pytest.approx(peer.score(y), abs=1e-6)
        torch.testing.assert_close(model.covariance, torch.from_numpy(peer.get_covariance()), rtol=1e-3, atol=1e-3)


def test_the_fused_pass_is_the_ordinary_one() -> None:
    for case in VECTORS:
        model, obs = case.model(), case.observations()
        if obs.has_gaps:
            assert model.exact_pass(obs, statistics=True) is None
            continue
        sums = model.exact_pass(obs, statistics=True)
        q = model.posterior(obs)
        assert sums.evidence == pytest.approx(float((obs.weights * q.log_partition).sum().detach()), rel=1e-12)
        assert sums.entropy == pytest.approx(float((obs.weights * q.entropy).sum().detach()), rel=1e-12)
        wanted = model.statistics(obs, q).to_vector().detach()
        torch.testing.assert_close(sums.statistics.to_vector(), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", [c for c in VECTORS if c.missing], ids=repr)
def test_imputed_cells_are_conditional_means(case: Case) -> None:
    import oracles

    model, obs = case.model(), case.observations()
    filled = model.impute(obs)
    for n, row in enumerate(obs.y.numpy()):
        wanted, _ = oracles.conditional(model.mean.numpy(), model.covariance.numpy(), row)
        np.testing.assert_allclose(filled[n], wanted, rtol=1e-10)
    blanks = ob.Observations.of(torch.full((2, model.n_features), math.nan, dtype=torch.float64))
    torch.testing.assert_close(model.impute(blanks), model.mean.expand(2, -1))
    assert model.evidence(blanks).tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_samples_are_those_of_the_density() -> None:
    model = VECTORS[0].model()
    y, z = model.sample(50_000, torch.Generator().manual_seed(0))
    found = torch.cov(y.T)
    error = (
        (model.covariance.square() + model.covariance.diagonal().outer(model.covariance.diagonal())) / 50_000
    ).sqrt()
    assert bool(((found - model.covariance).abs() < 5 * error).all())
    assert z.shape == (50_000, 2)
    r = model.posterior(y[:2000])
    assert bool(((z[:2000] - r.mean) / r.variance.sqrt()).square().mean().sub(1).abs() < 0.15)


def test_a_factor_that_explains_a_column_fully_stops_at_the_floor_and_says_so() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(60, 3))
    y[:, 1] = y[:, 0]
    for algorithm in (ob.EM(), ob.EG()):
        model = FactorAnalysis(3, 1)
        fit = ob.fit(model, y, algorithm, max_iter=400)
        assert math.isfinite(fit.evidence)
        assert bool((model.noise_variance > 0).all())
    em = FactorAnalysis(3, 1, floor=1e-2)
    fit = ob.fit(em, y, ob.EM(), max_iter=200)
    assert any("clipped at the floor" in text for text in fit.repairs)
    low = em.noise_variance / em.scale.square()
    assert float(low.min()) == pytest.approx(1e-2, rel=1e-9)


def test_a_constant_column_and_one_row_end_finite() -> None:
    y = np.column_stack([np.random.default_rng(0).normal(size=(20, 2)), np.full(20, 7.0)])
    for data in (y, y[:1]):
        fit = ob.fit(FactorAnalysis(3, 1), data, ob.EM(), max_iter=20)
        assert math.isfinite(fit.evidence)


def test_bad_input_is_named() -> None:
    model = FactorAnalysis(3, 1)
    for wrong, says in {
        "columns": (lambda: model.evidence(np.zeros((2, 2))), r"3 columns, got 2"),
        "infinite": (lambda: model.evidence(np.full((2, 3), np.inf)), r"finite numbers, got inf in item 0"),
        "sequences": (lambda: model.evidence([np.zeros((2, 3))]), "rows, got sequences"),
        "too many": (lambda: FactorAnalysis(2, 3), "at most the 2 columns"),
        "how": (lambda: model.initialize(np.zeros((4, 3)), how="pcs"), '"pca", "random" or W'),
        "shape": (lambda: model.initialize(np.eye(3), how=np.zeros((2, 1))), r"must be \(3, 1\)"),
        "noise": (lambda: model.assign(np.zeros(3), np.zeros((3, 1)), [1.0, 0.0, 1.0]), "noise_variance must be > 0"),
        "unequal": (
            lambda: ProbabilisticPCA(2, 1).assign(np.zeros(2), np.zeros((2, 1)), [1.0, 2.0]),
            "same in all columns",
        ),
        "assigned shape": (lambda: model.assign(np.zeros(2), np.zeros((3, 1)), 1.0), r"mean must be \(3,\)"),
    }.values():
        with pytest.raises((ob.errors.InputError, ob.errors.InputTypeError), match=says):
            wrong()
    given = FactorAnalysis(3, 1).assign([1.0, 2.0, 3.0], np.ones((3, 1)), 0.5)
    torch.testing.assert_close(given.covariance, torch.ones(3, 3).double() + 0.5 * torch.eye(3).double())
    assert "factors" in str(ob.plan(given))


def test_drawn_cells_have_the_conditional_moments() -> None:
    import oracles

    model = VECTORS[0].model()
    row = VECTORS[0].observations().y[:1].clone()
    row[0, 1:] = math.nan
    draws = model.sample_missing(row, 40_000, torch.Generator().manual_seed(2))[:, 0]
    mean, _ = oracles.conditional(model.mean.numpy(), model.covariance.numpy(), row[0].numpy())
    covariance = model.covariance
    wanted = covariance[1:, 1:] - covariance[1:, :1] @ covariance[:1, 1:] / covariance[0, 0]
    error = (wanted.diagonal() / 40_000).sqrt()
    assert bool(((draws[:, 1:].mean(0) - torch.from_numpy(mean[1:])).abs() < 5 * error).all())
    spread = ((wanted.square() + wanted.diagonal().outer(wanted.diagonal())) / 40_000).sqrt()
    assert bool(((torch.cov(draws[:, 1:].T) - wanted).abs() < 5 * spread).all())
    assert bool((draws[:, 0] == row[0, 0]).all())
