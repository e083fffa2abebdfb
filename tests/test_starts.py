"""Where a climb starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from zoo import CLOSED, VECTORS, Case

import onebound as ob
from onebound.models import start


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_k_means_ends_where_every_centre_is_the_mean_of_its_own() -> None:
    g = np.random.default_rng(0)
    points = torch.from_numpy(g.normal(size=(300, 2)) + 3.0 * g.integers(0, 3, (300, 1)))
    weights = torch.from_numpy(g.integers(0, 4, 300).astype(float))
    centres = start.k_means(points, weights, 3, seeded())
    label = torch.cdist(points, centres).argmin(-1)
    for k in range(3):
        own = weights * (label == k)
        torch.testing.assert_close(centres[k], own @ points / own.sum(), rtol=1e-6, atol=1e-6)
    assert torch.equal(centres, start.k_means(points, weights, 3, seeded()))


@pytest.mark.parametrize("how", ["k-means++", "k-means", "random"])
@pytest.mark.parametrize("case", [c for c in CLOSED if c not in VECTORS], ids=repr)
def test_every_way_starts_every_model_and_the_same_seed_at_the_same_place(case: Case, how: str) -> None:
    obs = case.observations()
    if obs.n_items < case.build().n_components:
        with pytest.raises(ob.errors.InputError, match="at least one row a component"):
            case.build().initialize(obs, seeded(), how)
        return
    one, other = (case.build().initialize(obs, seeded(3), how) for _ in range(2))
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert bool(torch.isfinite(p).all())
        assert torch.equal(p, q)
    assert np.isfinite(ob.bound(one, obs).mean()["evidence"])


def test_fewer_different_rows_than_components_are_no_reason_to_complain() -> None:
    y = np.repeat([[0.0, 1.0], [5.0, 2.0]], 10, 0) + np.random.default_rng(0).normal(0, 1e-3, (20, 2))
    y[:] = y[[0, 10]].repeat(10, 0)
    fit = ob.fit(ob.models.Mixture(ob.emissions.Gaussian(4, 2, "diag")), y, init="k-means", generator=seeded())
    assert np.isfinite(fit.bound)


@pytest.mark.parametrize("how", ["pca", "random", None])
@pytest.mark.parametrize("case", VECTORS, ids=repr)
def test_every_way_starts_every_vector_and_the_same_seed_at_the_same_place(case: Case, how: str | None) -> None:
    obs = case.observations()
    one, other = (case.build().initialize(obs, seeded(3), how) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert bool(one.evidence(obs).isfinite().all())
    before = one.loadings.clone()
    if how is None:  # a restart goes elsewhere
        assert not torch.equal(one.initialize(obs, seeded(3)).loadings, before)
    given = case.build().initialize(obs, how=before)
    torch.testing.assert_close(given.components, before)
