"""Laws 7 and 8: nested models give the same numbers; weights, gaps, order and blocks mean what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from zoo import CLOSED, ZOO, Case, clone

import onebound as ob
from onebound.emissions import Bernoulli, Categorical, Gaussian, Multinomial, Product
from onebound.models import Mixture

TIGHT = {"rtol": 1e-12, "atol": 1e-11}


def one_em_step(model: ob.models.Model, obs: ob.Observations) -> torch.Tensor:
    """The evidence of each item after one step of EM."""
    model = clone(model)
    ob.fit(model, obs, ob.EM(), max_iter=1, tol=0)
    return model.evidence(obs).detach()


@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_weights_are_replication(case: Case) -> None:
    model, obs = case.model(), case.observations()
    repeats = torch.randint(0, 4, (obs.n_items,), generator=case.generator())
    repeats[0] = 3
    weighted = replace(obs, weights=repeats.double())
    index = torch.repeat_interleave(torch.arange(obs.n_items), repeats)
    replicated = replace(obs.select(index), weights=torch.ones(len(index), dtype=torch.float64))
    a, b = ob.bound(model, weighted).mean(), ob.bound(model, replicated).mean()
    assert a == pytest.approx(b, rel=1e-12, abs=1e-12)
    torch.testing.assert_close(one_em_step(model, weighted)[index], one_em_step(model, replicated), **TIGHT)
    columns = ob.observations.Columns
    torch.testing.assert_close(columns.of(weighted, 3).variance, columns.of(replicated, 5).variance, **TIGHT)


@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_the_order_of_items_does_not_matter(case: Case) -> None:
    model, obs = case.model(), case.observations()
    order = torch.randperm(obs.n_items, generator=case.generator())
    torch.testing.assert_close(one_em_step(model, obs)[order], one_em_step(model, obs.select(order)), **TIGHT)


@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_blocks_equal_the_whole(case: Case) -> None:
    model, obs = case.model(), case.observations()
    whole = ob.fit(clone(model), obs, ob.EM(), max_iter=4, tol=0)
    blocks = ob.fit(clone(model), obs, ob.EM(), max_iter=4, tol=0, batch_size=3)
    for a, b in zip(whole.trace, blocks.trace, strict=True):
        assert a.bound == pytest.approx(b.bound, rel=1e-12)
        assert a.passes == b.passes
    q = model.posterior(obs).detach()
    parts = [model.statistics(b, q.select(slice(b.first, b.first + b.n_items))) for b in obs.blocks(3)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    wanted = model.statistics(obs, q)
    torch.testing.assert_close(total.to_vector(), wanted.to_vector(), **TIGHT)
    assert torch.equal(wanted.from_vector(wanted.to_vector()).to_vector(), wanted.to_vector())
    torch.testing.assert_close((wanted * 0.25).to_vector(), 0.25 * wanted.to_vector(), **TIGHT)


@pytest.mark.parametrize("case", ZOO, ids=repr)
def test_the_evidence_of_an_item_has_the_same_bits_in_any_batch(case: Case) -> None:
    """To 1e-12: matrix products go through BLAS."""
    model, obs = case.model(), case.observations()
    together = model.evidence(obs).detach()
    alone = torch.cat([model.evidence(obs.select(slice(n, n + 1))).detach() for n in range(obs.n_items)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_a_row_with_nothing_observed_contributes_nothing_but_its_weight(form: str) -> None:
    model = Mixture(Gaussian(2, 2, form)).assign([0.4, 0.6], mean=[[0.0, 1.0], [2.0, 3.0]], covariance=_ones(form))
    nothing = torch.full((1, 2), float("nan"), dtype=torch.float64)
    assert model.evidence(nothing).item() == pytest.approx(0.0, abs=1e-14)
    y = torch.tensor([[0.0, 1.0], [2.0, 2.5], [1.0, 1.0]], dtype=torch.float64)
    a = ob.fit(clone(model), y, max_iter=1, tol=0).model
    b = ob.fit(clone(model), torch.cat([y, nothing]), max_iter=1, tol=0).model
    torch.testing.assert_close(a.emission.mean, b.emission.mean, **TIGHT)
    torch.testing.assert_close(a.emission.covariance, b.emission.covariance, **TIGHT)
    # Its posterior is the prior, so it votes for the weights as they were.
    torch.testing.assert_close(b.weights, (3 * a.weights + torch.tensor([0.4, 0.6], dtype=torch.float64)) / 4, **TIGHT)


def _ones(form: str) -> list:
    identity = [[1.0, 0.0], [0.0, 1.0]]
    return {"full": [identity] * 2, "tied": identity, "diag": [[1.0, 1.0]] * 2, "spherical": [1.0, 1.0]}[form]


def test_missing_cells_are_the_marginalised_likelihood() -> None:
    """p(y₁) = Σ_{y₂} p(y₁, y₂), summed over every value of a discrete cell."""
    case = next(c for c in ZOO if c.name == "categorical")
    model = case.model()
    y = case.observations().y.clone()
    y[:, 1] = float("nan")
    filled = []
    for symbol in range(model.emission.n_symbols[1]):
        whole = y.clone()
        whole[:, 1] = symbol
        filled.append(model.evidence(whole))
    torch.testing.assert_close(model.evidence(y), torch.logsumexp(torch.stack(filled), 0), **TIGHT)


@pytest.mark.parametrize("build", [lambda: Gaussian(1, 2), lambda: Bernoulli(1, 2), lambda: Categorical(1, [2, 2])])
def test_a_mixture_of_one_component_is_its_emission(build: object) -> None:
    emission = build()
    y = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(Mixture(emission).evidence(y), emission.log_prob(y)[:, 0], **TIGHT)


def test_bernoulli_is_categorical_with_two_symbols_and_multinomial_of_one_draw_is_categorical() -> None:
    p = torch.tensor([[0.2, 0.7], [0.9, 0.5]], dtype=torch.float64)
    y = torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    bernoulli, categorical = Bernoulli(2, 2), Categorical(2, [2, 2])
    bernoulli.assign(p)
    categorical.assign(torch.stack([1 - p, p], -1))
    torch.testing.assert_close(bernoulli.log_prob(y), categorical.log_prob(y), **TIGHT)
    multinomial, single = Multinomial(2, 3), Categorical(2, [3])
    v = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], dtype=torch.float64)
    multinomial.assign(v)
    single.assign(v.unsqueeze(1))
    one_hot = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(multinomial.log_prob(one_hot), single.log_prob(torch.arange(3).unsqueeze(-1)), **TIGHT)


def test_spherical_diag_tied_and_full_agree_where_they_overlap() -> None:
    y = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, variance = torch.tensor([[0.0, 1.0], [1.0, -1.0]]), torch.tensor([0.7, 0.7])
    values = []
    for form, covariance in {
        "spherical": variance,
        "diag": variance.unsqueeze(-1).expand(2, 2),
        "tied": 0.7 * torch.eye(2),
        "full": 0.7 * torch.eye(2).expand(2, 2, 2),
    }.items():
        emission = Gaussian(2, 2, form)
        emission.assign(mean, covariance)
        values.append(emission.log_prob(y))
    for other in values[1:]:
        torch.testing.assert_close(values[0], other, rtol=1e-7, atol=1e-7)  # 0.7 was given in float32


def test_a_product_of_parts_is_the_sum_of_their_log_probabilities() -> None:
    a, b = Gaussian(2, 1), Bernoulli(2, 1)
    a.assign([[0.0], [1.0]], [[[1.0]], [[2.0]]])
    y = torch.tensor([[1.0, 0.3], [0.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(
        Product([([1], a), ([0], b)]).log_prob(y), a.log_prob(y[:, 1:]) + b.log_prob(y[:, :1]), **TIGHT
    )


@pytest.mark.parametrize(
    "case", [c for c in CLOSED if c.name in ("full", "tied", "diag-missing", "spherical")], ids=repr
)
def test_units_do_not_matter(case: Case) -> None:
    """y → a y + b shifts ln p(y) by −Σ ln a and changes nothing else (spherical: one a for all columns)."""
    obs = case.observations()
    d = obs.n_features
    a = (
        torch.full((d,), 1e-6, dtype=torch.float64)
        if case.name == "spherical"
        else 10.0 ** torch.arange(-6, 3 * d - 6, 3, dtype=torch.float64)
    )
    labels = torch.arange(obs.n_items) % 2
    plain, scaled = case.build(), case.build()
    one = ob.fit(plain, obs, init=labels, max_iter=10, tol=0)
    two = ob.fit(scaled, ob.Observations.of(obs.y * a + 5 * a), init=labels, max_iter=10, tol=0)
    cells = (~obs.y.isnan()).double() @ a.log()
    assert two.evidence == pytest.approx(one.evidence - float(cells.mean()), rel=1e-9)


def test_known_labels_pin_their_items_to_their_component() -> None:
    y = ob.data.old_faithful().values
    allowed = np.ones((len(y), 2), dtype=bool)
    long = y[:, 0] > 3.0
    allowed[:40] = np.stack([long[:40], ~long[:40]], -1)
    model = Mixture(Gaussian(2, 2))
    ob.fit(model, ob.Observations.of(y, allowed=allowed), generator=torch.Generator().manual_seed(0))
    assert float(model.emission.mean[0, 0]) > float(model.emission.mean[1, 0])
    r = model.posterior(ob.Observations.of(y, allowed=allowed)).marginals
    assert bool((r[:40][torch.from_numpy(~allowed[:40])] == 0).all())


def test_float32_data_give_float64_numbers_of_the_same_values() -> None:
    y = torch.from_numpy(ob.data.old_faithful().values)
    model = Mixture(Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(0))
    single = y.float()
    assert torch.equal(model.evidence(single), model.evidence(single.double()))
    whole = torch.randint(0, 9, (20, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    poisson = Mixture(ob.emissions.Poisson(2, 2))
    assert torch.equal(poisson.evidence(whole), poisson.evidence(whole.double()))


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_where_the_data_lie_does_not_matter(covariance: str) -> None:
    """A start and a climb on y + 1e9 end where those on y end, to what float64 has left of y."""
    y = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y[:30] += 4.0
    labels = (torch.arange(60) // 20) % 3
    near = ob.fit(Mixture(Gaussian(3, 2, covariance)), y, init=labels, max_iter=20, tol=0)
    far = ob.fit(Mixture(Gaussian(3, 2, covariance)), y + 1e9, init=labels, max_iter=20, tol=0)
    assert far.trace[0].evidence == pytest.approx(near.trace[0].evidence, abs=1e-5)
    assert far.evidence == pytest.approx(near.evidence, abs=1e-5)


@pytest.mark.parametrize("algorithm", [ob.VAE, lambda: ob.EG("adam")])
def test_weighted_minibatches_climb_the_weighted_bound(algorithm: object) -> None:
    """Heavy ones among many light zeros: dividing each batch by its own weight would end far below the weighted share."""
    y = torch.cat([torch.ones(50, 1), torch.zeros(950, 1)]).double()
    weights = torch.where(y[:, 0] > 0, 100.0, 1.0)
    model = Mixture(Bernoulli(1, 1)).assign([1.0], probability=[[0.5]])
    obs = ob.Observations.of(y, weights=weights)
    ob.fit(model, obs, algorithm(), batch_size=20, tol=0, max_iter=60, generator=torch.Generator().manual_seed(0))
    assert model.emission.probability.item() == pytest.approx(5000 / 5950, abs=0.02)


def test_a_network_sees_the_same_features_in_any_batch() -> None:
    for case in ZOO:
        model, obs = case.model(), case.observations()
        together = model.features(obs)
        alone = torch.cat([model.features(obs.select(slice(n, n + 1))) for n in range(obs.n_items)])
        torch.testing.assert_close(together, alone, **TIGHT)


def test_known_labels_seed_their_components() -> None:
    """Components that have items of their own start there, whatever order the seeds came in."""
    y = torch.tensor([[0.0], [0.1], [10.0], [10.1], [20.0], [20.1]], dtype=torch.float64)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        allowed = torch.ones(6, 3, dtype=torch.bool)
        for group, k in enumerate(order):
            allowed[2 * group] = torch.arange(3) == k
        model = Mixture(Gaussian(3, 1, "diag"))
        model.initialize(ob.Observations.of(y, allowed=allowed), torch.Generator().manual_seed(0))
        nearest = model.posterior(y).argmax
        assert nearest.tolist() == [k for k in order for _ in range(2)]


def test_the_map_of_one_gaussian_is_the_textbook_mode() -> None:
    """Mode of the normal-inverse-Wishart posterior (Murphy 2012, section 4.6.3.4), in standardised columns."""
    from onebound.emissions import NormalInverseWishart

    y = np.random.default_rng(0).normal(size=(30, 2)) * [2.0, 5.0] + [3.0, -1.0]
    prior = NormalInverseWishart(mean_strength=2.0, degrees=6.0, scale=0.7)
    model = Mixture(Gaussian(1, 2, prior=prior))
    ob.fit(model, y, max_iter=2, tol=0)
    x = (y - y.mean(0)) / y.std(0)
    n, d = x.shape
    scatter = x.T @ x
    mode = (0.7 * np.eye(d) + scatter) / (6.0 + n + d + 2)
    np.testing.assert_allclose(model.emission.covariance[0], mode * np.outer(y.std(0), y.std(0)), rtol=1e-10)
    np.testing.assert_allclose(model.emission.mean[0], y.mean(0), rtol=1e-10)
    diagonal = Mixture(Gaussian(1, 2, "diag", prior=prior))
    ob.fit(diagonal, y, max_iter=2, tol=0)
    wanted = (0.7 + np.diag(scatter)) / (6.0 + n + 3) * y.var(0)
    np.testing.assert_allclose(diagonal.emission.covariance[0].diagonal(), wanted, rtol=1e-10)
