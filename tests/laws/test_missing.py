"""Missing cells are latent like z: everything that is said about them equals brute force, one row at a time."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import scipy.stats as st
import torch
from test_bound import random_q
from test_climbs import objective_gradient
from torch.autograd import gradcheck
from zoo import DISCRETE, ZOO, Case, clone, mixed

import onebound as ob
from onebound.emissions import (
    Bernoulli,
    Categorical,
    Gaussian,
    GaussianEmission,
    MixtureOf,
    Multinomial,
    Poisson,
    Product,
)
from onebound.models import Mixture

EXACT = {"rtol": 1e-10, "atol": 1e-10}
NAN = float("nan")
DENSE = [c for c in ZOO if c.missing and c.name.startswith(("full", "tied"))]
GAPS = [c for c in DISCRETE if c.missing]


def seen_rows(obs: ob.Observations) -> list[int]:
    return [n for n in range(obs.n_items) if not bool(obs.y[n].isnan().all())]


@pytest.mark.parametrize("case", DENSE, ids=repr)
def test_statistics_are_those_of_the_completed_rows(case: Case) -> None:
    """Σ r, Σ r E(y − μ) and Σ r [E(y − μ) E(y − μ)ᵀ + Cov], from the textbook's formulas in the data's units."""
    model, obs = case.model(), case.observations()
    r = (random_q(case, model, obs).marginals * obs.weights.unsqueeze(-1)).numpy()
    found = model.emission.statistics(obs.y, torch.from_numpy(r))
    scale = model.emission.scale.numpy()
    scatters = []
    for k in range(model.n_components):
        mean, cov = model.emission.mean.numpy()[k], model.emission.covariance.numpy()[k]
        count, first, second = 0.0, np.zeros_like(mean), np.zeros_like(cov)
        for n in seen_rows(obs):
            filled, spread = oracles.conditional(mean, cov, obs.y[n].numpy())
            count += r[n, k]
            first += r[n, k] * (filled - mean)
            second += r[n, k] * (np.outer(filled - mean, filled - mean) + spread)
        np.testing.assert_allclose(found.tensor("count")[k], count, **EXACT)
        np.testing.assert_allclose(found.tensor("first")[k].numpy() * scale, first, **EXACT)
        scatters.append(second)
    # Where all components share one covariance, only the sum of their scatters is kept.
    wanted = [sum(scatters)] if model.emission.covariance_type == "tied" else scatters
    np.testing.assert_allclose(found.tensor("second").numpy() * np.outer(scale, scale), wanted, **EXACT)


@pytest.mark.parametrize("case", DENSE, ids=repr)
def test_what_the_bound_loses_when_parameters_move_is_the_divergence_of_the_missing_cells(case: Case) -> None:
    """After M the record is L less Σ r KL(p_old(missing | observed, k) ‖ p_new(missing | observed, k)), exactly."""
    model, obs = case.model(), case.observations()
    old = clone(model).emission
    q = random_q(case, model, obs)
    r = q.marginals * obs.weights.unsqueeze(-1)
    with torch.no_grad():
        s = model.statistics(obs, q)
        model.maximize(s)
        record = float(model.expected_log_joint(s) + s.tensor("entropy"))
        bound = float((obs.weights * (q.expected(model.log_potentials(obs)) + q.entropy)).sum())
    lost = math.fsum(
        float(r[n, k]) * divergence(old, model.emission, obs.y[n].numpy(), k)
        for n in seen_rows(obs)
        for k in range(model.n_components)
    )
    assert lost > 1e-3
    assert record == pytest.approx(bound - lost, rel=1e-10, abs=1e-9)


def divergence(old: GaussianEmission, new: GaussianEmission, y: np.ndarray, k: int) -> float:
    """KL of two Gaussians over the missing cells of one row."""
    m = np.isnan(y)
    (a, s), (b, t) = (oracles.conditional(e.mean.numpy()[k], e.covariance.numpy()[k], y) for e in (old, new))
    s, t, shift = s[np.ix_(m, m)], np.linalg.inv(t[np.ix_(m, m)]), (b - a)[m]
    return 0.5 * float(np.trace(t @ s) + shift @ t @ shift - m.sum() - np.linalg.slogdet(t @ s)[1])


@pytest.mark.parametrize("covariance", ["full", "tied"])
@pytest.mark.parametrize("seed", range(6))
def test_em_climbs_the_likelihood_of_the_observed_cells_to_where_its_gradient_is_0(covariance: str, seed: int) -> None:
    """Random masks, rows with nothing observed among them; the last E record says what brute force says."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(150, 3)) @ rng.normal(size=(3, 3)) + 4 * rng.integers(2, size=(150, 1))
    y[rng.random(y.shape) < 0.05 + 0.1 * seed] = NAN
    y[:3] = NAN
    obs = ob.Observations.of(y.astype(np.float32), weights=rng.integers(1, 4, len(y)))
    model = Mixture(Gaussian(2, 3, covariance)).initialize(obs, torch.Generator().manual_seed(seed))
    fit = ob.fit(model, obs, ob.EM(), max_iter=2000, tol=1e-13)
    rises = np.diff([r.objective for r in fit.trace])
    assert rises.min() >= -1e-10 * (1 + abs(fit.evidence))
    assert all(r.gap is None or r.gap >= -1e-10 for r in fit.trace)
    each = oracles.evidence(oracles.log_joint(model, obs))
    assert fit.evidence == pytest.approx(float(np.average(each, weights=obs.weights)), rel=1e-10)
    if not fit.repairs:
        assert objective_gradient(model, obs) < 1e-5


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_em_and_eg_end_at_one_optimum(covariance: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]]) + 6 * rng.integers(2, size=(200, 1))
    y[rng.random(y.shape) < 0.25] = NAN
    start = Mixture(Gaussian(2, 2, covariance)).initialize(y, torch.Generator().manual_seed(0))
    em = ob.fit(clone(start), y, ob.EM(), tol=1e-14, max_iter=3000)
    for algorithm in (ob.EG(), ob.VAE(optimizer="lbfgs")):
        other = ob.fit(clone(start), y, algorithm, tol=1e-14, max_iter=3000)
        assert other.evidence == pytest.approx(em.evidence, abs=1e-6)
        assert ob.bound(other.model, y).mean()["gap"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_a_complete_row_keeps_its_numbers_among_rows_with_gaps(covariance: str) -> None:
    y = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 2.0
    model = Mixture(Gaussian(2, 3, covariance)).initialize(y, torch.Generator().manual_seed(1))
    holes = y.clone()
    holes[::4, 1] = holes[1::8, :2] = NAN
    whole = ~holes.isnan().any(-1)
    torch.testing.assert_close(model.evidence(holes)[whole], model.evidence(y[whole]), rtol=1e-12, atol=1e-12)
    r = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * whole.unsqueeze(-1)
    found = model.emission.statistics(holes, r).to_vector()
    torch.testing.assert_close(found, model.emission.statistics(y, r).to_vector(), rtol=1e-12, atol=1e-12)
    assert float(model.emission.latent_entropy(holes, r)) == 0.0


@pytest.mark.parametrize("columns", [3, 70])
def test_every_pattern_is_its_own_sub_vector(columns: int) -> None:
    """Few patterns of many rows, and as many patterns as rows, beyond the bits of one whole number."""
    rng = np.random.default_rng(columns)
    y = rng.normal(size=(200, columns))
    y[rng.random(y.shape) < 0.4] = NAN
    mean, root = rng.normal(size=(2, columns)), np.eye(columns) + 0.1 * rng.normal(size=(2, columns, columns))
    cov = root @ root.swapaxes(-1, -2)
    emission = Gaussian(2, columns)
    emission.assign(mean, cov)
    wanted = [
        [oracles.log_emission(emission, row, k, None) for k in range(2)] for row in y
    ]  # SciPy on the observed cells
    np.testing.assert_allclose(emission.log_prob(torch.from_numpy(y)).detach(), wanted, **EXACT)


@pytest.mark.parametrize("case", DENSE, ids=repr)
def test_evidence_is_differentiable_in_the_observed_cells(case: Case) -> None:
    model, obs = case.model(), case.observations()
    seen = ~obs.y.isnan()
    cells = obs.y[seen].clone().requires_grad_()

    def evidence(cells: torch.Tensor) -> torch.Tensor:
        return model.emission.log_prob(obs.y.masked_scatter(seen, cells))

    assert gradcheck(evidence, (cells,), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", GAPS, ids=repr)
def test_imputed_cells_are_conditional_means_and_codes_the_most_probable(case: Case) -> None:
    model, obs = case.model(), case.observations()
    r = oracles.row_posterior(model, obs)
    found = model.impute(obs)
    assert torch.equal(found[~obs.y.isnan()], obs.y[~obs.y.isnan()])
    for n, row in enumerate(obs.y.numpy()):
        np.testing.assert_allclose(found[n], brute_mean(model.emission, row, r[n]), **EXACT)


def brute_mean(emission: object, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Σ_k r_k E[y | observed cells, k] of one row; for categories the code of the largest Σ_k r_k p_k."""
    out = y.copy()
    match emission:
        case Product():
            for columns, part in zip(emission.columns, emission.emissions, strict=True):
                out[columns] = brute_mean(part, y[columns], r)
            return out
        case MixtureOf():
            shares, m = emission.weights.numpy(), emission.n_inner
            joint = [
                [math.log(c) + oracles.log_emission(emission.inner, y, k * m + i, None) for i, c in enumerate(row)]
                for k, row in enumerate(shares)
            ]
            return brute_mean(emission.inner, y, (r[:, None] * oracles.posterior(np.array(joint))).ravel())
        case Categorical():
            wanted = np.einsum("k,kdv->dv", r, emission.probability.numpy()).argmax(-1)
        case Bernoulli():
            wanted = r @ emission.probability.numpy()
        case Poisson():
            wanted = r @ emission.rate.numpy()
        case GaussianEmission():
            means, covs = emission.mean.numpy(), emission.covariance.numpy()
            wanted = sum(p * oracles.conditional(m, c, y)[0] for p, m, c in zip(r, means, covs, strict=True))
    return np.where(np.isnan(y), wanted, y)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_draws_of_missing_cells_have_the_moments_of_the_conditional_mixture(covariance: str) -> None:
    """Means, variances and covariances within 5 standard errors; observed cells are what they were, in float32 too."""
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3)) + 3 * rng.integers(2, size=(60, 1))
    model = Mixture(Gaussian(2, 3, covariance)).initialize(whole, torch.Generator().manual_seed(0))
    y = torch.tensor([[1.0, NAN, 2.0], [NAN, 0.5, NAN], [NAN, NAN, NAN], [0.0, 1.0, 2.0]], dtype=torch.float32)
    n = 40_000
    draws = model.sample_missing(y, n, torch.Generator().manual_seed(1))
    assert draws.shape == (n, 4, 3)
    assert draws.dtype == torch.float32
    seen = ~y.isnan()
    assert torch.equal(draws[:, seen], y[seen].expand(n, -1))
    r = oracles.posterior(oracles.log_joint(model, ob.Observations.of(y)))
    means, covs = model.emission.mean.numpy(), model.emission.covariance.numpy()
    for i, row in enumerate(y.double().numpy()):
        parts = [oracles.conditional(m, c, row) for m, c in zip(means, covs, strict=True)]
        mean = sum(p * m for p, (m, _) in zip(r[i], parts, strict=True))
        x = draws[:, i].double().numpy()
        products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
        spread = sum(p * (c + np.outer(m - mean, m - mean)) for p, (m, c) in zip(r[i], parts, strict=True))
        for sample, wanted in ((x, mean), (products, spread)):
            error = sample.std(0) / math.sqrt(n)
            assert (np.abs(sample.mean(0) - wanted) <= 5 * error + 1e-6).all()


def test_draws_of_discrete_cells_come_as_often_as_their_probabilities_say() -> None:
    model = Mixture(mixed()).initialize(
        ob.Observations.of(next(c for c in ZOO if c.name == "mixed").observations().y), torch.Generator().manual_seed(0)
    )
    y = torch.tensor([[30.0, NAN, NAN, 25.0, NAN]], dtype=torch.float64)
    n = 20_000
    draws = model.sample_missing(y, n, torch.Generator().manual_seed(0))[:, 0]
    r = model.posterior(y).marginals[0].detach()
    _, symbols, counts, bits = model.emission.emissions
    for column, value, p in (
        *((2, v, float(r @ symbols.probability[:, 0, v])) for v in range(3)),
        *((1, v, float(sum(r[k] * st.poisson.pmf(v, float(counts.rate[k, 0])) for k in range(2)))) for v in range(4)),
        (4, 1, float(r @ bits.probability[:, 0])),
    ):
        share = float((draws[:, column] == value).double().mean())
        assert abs(share - p) <= 5 * math.sqrt(p * (1 - p) / n)


def test_where_nothing_is_missing_nothing_is_imputed() -> None:
    for case in ZOO:
        if not case.missing:
            model, obs = case.model(), case.observations()
            assert torch.equal(model.impute(obs), obs.y)
            assert torch.equal(model.sample_missing(obs, 2, case.generator()), obs.y.expand(2, -1, -1))


def test_a_row_that_no_component_can_make_keeps_its_gaps() -> None:
    model = Mixture(Bernoulli(1, 2), keep_infeasible=True).assign([1.0], probability=[[0.0, 0.5]])
    y = torch.tensor([[1.0, NAN], [0.0, NAN]], dtype=torch.float64)
    assert model.impute(y)[:, 1].tolist() == pytest.approx([NAN, 0.5], nan_ok=True)
    assert model.sample_missing(y)[0, :, 1].isnan().tolist() == [True, False]
    with pytest.raises(ob.errors.InputError, match=r"Mixture.sample_missing: n must be a whole number ≥ 1, got 0"):
        model.sample_missing(y, 0)


def test_a_covariance_that_cannot_be_factored_is_named() -> None:
    model = Mixture(Gaussian(2, 2, floor=0.0)).assign(
        [0.5, 0.5], mean=np.zeros((2, 2)), covariance=np.stack([np.eye(2)] * 2)
    )
    with torch.no_grad():
        model.emission.factor[1, 1, 1] = -1e3
    with pytest.raises(ob.errors.NonFinite, match="that of component 1 is not"):
        model.evidence([[1.0, NAN]])


def test_an_emission_that_takes_no_gaps_says_what_to_do() -> None:
    with pytest.raises(ob.errors.InputError, match=r"no missing cells, got nan in item 0.*Fill it in or drop the row"):
        Mixture(Multinomial(1, 2)).impute([[NAN, 1.0]])
