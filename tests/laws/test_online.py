"""Online EM: on one batch of everything it is EM; on several it is the decaying sum that its equations write down."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from zoo import CLOSED, Case, clone

import onebound as ob
from onebound.algorithms import Stepwise
from onebound.emissions import Categorical, Gaussian, Poisson
from onebound.models import Mixture, Model


def assert_same_parameters(one: Model, other: Model, tolerance: float) -> None:
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"step": 1.0}, {"decay": 1.0}], ids=str)
@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_a_batch_of_everything_is_a_step_of_em(case: Case, options: dict[str, float]) -> None:
    model, obs = case.model(), case.observations()
    online = ob.Online(clone(model), **options)
    record = online.update(obs)
    em = ob.fit(model, obs, ob.EM(), max_iter=1)
    assert_same_parameters(online.model, em.model, 1e-10)
    assert (record.bound, record.evidence) == pytest.approx((em.trace[0].bound, em.trace[0].evidence), rel=1e-12)
    assert online.trace[1].objective == pytest.approx(em.trace[1].objective, rel=1e-10)


def test_a_step_of_1_is_em_however_often() -> None:
    y = ob.data.old_faithful().values
    model = Mixture(Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(0))
    online = ob.Online(clone(model), step=1.0)
    for _ in range(5):
        online.update(y)
    assert_same_parameters(online.model, ob.fit(model, y, ob.EM(), max_iter=5, tol=0).model, 1e-10)


# Inner components, and rows with gaps under full and tied covariance, are latent under the old parameters.
LATENT = [case for case in CLOSED if case.missing and ("full" in case.name or "tied" in case.name)]
FIXED = [case for case in CLOSED if case not in LATENT and "inner" not in case.name]


@pytest.mark.parametrize("case", FIXED, ids=repr)
def test_sums_about_other_parameters_are_those_that_would_have_been_collected_there(case: Case) -> None:
    model, obs = case.model(), case.observations()
    q = model.posterior(obs)
    old = model.statistics(obs, q)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, dtype=p.dtype, generator=case.generator()))
    torch.testing.assert_close(
        model.recentred(old).to_vector(), model.statistics(obs, q).to_vector(), rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(
        model.expected_log_joint(model.recentred(old)), model.expected_log_joint(old), rtol=1e-10, atol=1e-10
    )


def by_hand(y: np.ndarray, w: np.ndarray, start: Mixture, batch: int, gamma: float | None) -> list[np.ndarray]:
    """Online EM of a univariate Gaussian mixture from raw moments: π, μ and σ² (K,) after the last batch."""
    pi, mu = start.weights.numpy(), start.emission.mean.numpy()[:, 0]
    var = start.emission.covariance.numpy()[:, 0, 0]
    kept, seen = None, 0.0
    for first in range(0, len(y), batch):
        x, weight = y[first : first + batch], w[first : first + batch]
        density = pi * np.exp(-0.5 * (x[:, None] - mu) ** 2 / var) / np.sqrt(2 * math.pi * var)
        r = weight[:, None] * density / density.sum(1, keepdims=True)
        now = np.stack([r.sum(0), r.T @ x, r.T @ x**2]) / weight.sum()
        seen += weight.sum()
        step = (weight.sum() / seen) ** 0.6 if gamma is None else gamma
        kept = now if kept is None else (1 - step) * kept + step * now
        pi, mu = kept[0] / kept[0].sum(), kept[1] / kept[0]
        var = kept[2] / kept[0] - mu**2
    return [pi, mu, var]


@pytest.mark.parametrize("gamma", [None, 0.3])
def test_the_decaying_sum_is_the_one_written_by_hand(gamma: float | None) -> None:
    g = np.random.default_rng(1)
    y = np.where(g.random(90) < 0.4, g.normal(-2, 1, 90), g.normal(3, 2, 90))
    w = g.integers(1, 4, 90).astype(float)
    model = Mixture(Gaussian(2, 1, floor=0.0)).assign([0.5, 0.5], mean=[[-1.0], [1.0]], covariance=[[[4.0]], [[9.0]]])
    wanted = by_hand(y, w, model, 25, gamma)
    online = ob.Online(model, step=gamma)
    for first in range(0, 90, 25):
        here = slice(first, first + 25)
        online.update(ob.Observations.of(y[here, None], weights=w[here]))
    found = [model.weights, model.emission.mean[:, 0], model.emission.covariance[:, 0, 0]]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-10)
    assert (online.n_items, online.weight) == (90, w.sum())


def table(n: int = 4000) -> np.ndarray:
    g = np.random.default_rng(3)
    return np.where(g.random((n, 1)) < 0.3, g.normal(0, 1, (n, 2)), g.normal(3, 1.5, (n, 2)))


class Blocks:
    """A stream that is read anew in each pass."""

    def __init__(self, y: np.ndarray, size: int) -> None:
        self.y, self.size = y, size
        self.names, self.n_rows = ("a", "b"), len(y)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter([self.y[i : i + self.size] for i in range(0, len(self.y), self.size)])


@pytest.mark.parametrize(
    "option",
    [{"max_iter": 3}, {"tol": 0.0}, {"batch_size": 2}, {"restarts": 2}, {"checkpoint": print}],
    ids=lambda option: next(iter(option)),
)
def test_what_asks_for_more_than_one_look_is_refused_for_an_iterator(option: dict[str, Any]) -> None:
    model = ob.models.Mixture(ob.emissions.Gaussian(2, 1))
    with pytest.raises(ob.errors.InputError, match=f"so {next(iter(option))} means nothing there"):
        ob.fit(model, iter([torch.randn(20, 1)]), **option)
    assert not bool(model.initialized)


def test_an_iterator_a_stream_and_updates_by_hand_learn_the_same_bits() -> None:
    y = table()
    start = Mixture(Gaussian(2, 2)).initialize(y[:500], torch.Generator().manual_seed(0))
    parts = [y[i : i + 500] for i in range(0, len(y), 500)]
    from_iterator = ob.fit(clone(start), iter(parts))
    online = ob.Online(clone(start))
    for part in parts:
        online.update(part)
    stream = ob.fit(clone(start), Blocks(y, 500), ob.OnlineEM(), batch_size=500, max_iter=1)
    arrow = ob.fit(clone(start), iter([pa.record_batch(list(part.T), names=["a", "b"]) for part in parts]))
    for other in (online.model, stream.model, arrow.model):
        assert_same_parameters(from_iterator.model, other, 0.0)
    last = ob.bound(from_iterator.model, parts[-1]).mean()
    assert from_iterator.evidence == pytest.approx(last["evidence"], rel=1e-12)
    assert (from_iterator.n_items, from_iterator.reason) == (len(y), "end of the batches")
    assert "of the last batch" in repr(from_iterator)
    assert stream.evidence == pytest.approx(ob.bound(stream.model, y).mean()["evidence"], rel=1e-10)


def test_it_ends_near_where_em_ends_and_em_goes_on_from_there() -> None:
    y = table()
    start = Mixture(Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(0))
    em = ob.fit(clone(start), y, ob.EM())
    online = ob.fit(start, y, ob.OnlineEM(), batch_size=200, generator=torch.Generator().manual_seed(1))
    assert online.converged
    assert em.evidence - 2e-3 < online.evidence <= em.evidence + 1e-9
    assert ob.fit(online.model, y, ob.EM()).evidence == pytest.approx(em.evidence, abs=1e-6)


def test_rows_one_at_a_time_are_learnt_from_without_a_collapse() -> None:
    y = table(1500)
    online = ob.Online(Mixture(Gaussian(2, 2)), generator=torch.Generator().manual_seed(0))
    online.update(y[:300])
    for row in y[300:]:
        online.update(row[None])
    em = ob.fit(Mixture(Gaussian(2, 2)), y, generator=torch.Generator().manual_seed(0))
    assert ob.bound(online.model, y).mean()["evidence"] > em.evidence - 0.05
    assert all(not record.repairs for record in online.trace)


@pytest.mark.parametrize("emission", [Poisson(2, 2), Categorical(2, [3, 2])], ids=["counts", "categories"])
def test_a_symbol_that_comes_late_is_no_impossible_event(emission: torch.nn.Module) -> None:
    """Zero counts in the first batch must not stay zero probabilities in those that follow."""
    online = ob.Online(Mixture(emission), generator=torch.Generator().manual_seed(0))
    online.update([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(ob.errors.Infeasible, match="prior"):
        online.update([[2.0, 1.0], [2.0, 1.0]])


def test_callbacks_and_time_end_it_between_batches() -> None:
    parts = [table(200) for _ in range(5)]
    stopped = ob.fit(Mixture(Gaussian(2, 2)), iter(parts), callbacks=[lambda r: r.after == "M" and r.iteration == 2])
    assert (stopped.reason, stopped.n_items) == ("callback", 400)
    late = ob.fit(Mixture(Gaussian(2, 2)), iter(parts), max_seconds=1e-9)
    assert (late.reason, late.n_items) == ("time", 200)


@pytest.mark.parametrize(
    ("options", "message"), [({"decay": 0.5}, "decay"), ({"decay": 1.1}, "decay"), ({"step": 0}, "step")]
)
def test_steps_that_cannot_settle_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ob.errors.InputError, match=f"Stepwise: {message} must"):
        Stepwise(**options)


def test_what_cannot_be_done_with_batches_that_come_once_is_said() -> None:
    model = Mixture(Gaussian(2, 2))
    with pytest.raises(ob.errors.InputError, match=r"EM needs the data again.*ob\.OnlineEM"):
        ob.fit(model, iter([table(50)]), ob.EM())
    with pytest.raises(ob.errors.InputError, match="at least one batch"):
        ob.fit(model, iter([]))
    with pytest.raises(ob.errors.InputError, match=r"2 columns.*got 1"):
        ob.fit(model, iter([table(50), table(50)[:, :1]]))
