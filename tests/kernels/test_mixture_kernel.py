"""Law 10: the fused pass is its plain-Python twin, on random and on nasty inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from zoo import CLOSED, Case, clone

import onebound as ob
from onebound.algorithms import sweep as sweep_module
from onebound.emissions import Gaussian, gaussian_base, gaussian_pass
from onebound.kernels import mixture as kernel
from onebound.kernels.softmax import SMALLEST_EXPONENT, exp_of_negative, log_of_normal
from onebound.kernels.threads import run
from onebound.models import Mixture

FORMS = ("full", "tied", "diag", "spherical")


@dataclass
class Table:
    """Data and a mixture's parameters, all in plain numbers."""

    y: np.ndarray
    weights: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray  # (K, D, D)
    shares: np.ndarray
    allowed: np.ndarray | None = None


def table(form: str, n: int, d: int, k: int, seed: int = 0, spread: float = 1.0) -> Table:
    """Rows around K means, components `spread` wide; weights 0 to 3."""
    g = np.random.default_rng(seed)
    mean = g.normal(size=(k, d))
    root = g.normal(size=(k, d, d)) / math.sqrt(d)
    covariance = spread**2 * (root @ root.swapaxes(1, 2) + 0.3 * np.eye(d))
    if form == "tied":
        covariance[:] = covariance[0]
    if form == "diag":
        covariance = covariance * np.eye(d)
    if form == "spherical":
        covariance = covariance[:, :1, :1] * np.eye(d)
    y = mean[g.integers(0, k, n)] + spread * g.normal(size=(n, d))
    weights = g.integers(0, 4, n).astype(float)
    weights[0] = 1.5
    return Table(y, weights, mean, covariance, g.dirichlet(np.ones(k)))


def model_of(t: Table, form: str) -> Mixture:
    k, d = t.mean.shape
    given = {
        "full": t.covariance,
        "tied": t.covariance[0],
        "diag": t.covariance.diagonal(0, 1, 2).copy(),
        "spherical": t.covariance[:, 0, 0],
    }[form]
    model = Mixture(Gaussian(k, d, form, floor=0.0))
    return model.assign(t.shares, mean=t.mean, covariance=given)


def twin(t: Table, form: str) -> dict[str, np.ndarray]:
    """Row by row, component by component, in the order in which the formulas are written."""
    k, d = t.mean.shape
    totals, count = np.zeros(4), np.zeros(k)
    first, second = np.zeros((k, d)), np.zeros((k, d, d))
    inverses = [np.linalg.inv(np.linalg.cholesky(c)) for c in t.covariance]
    for n, weight in enumerate(t.weights):
        if weight == 0:
            continue
        diff = t.y[n].astype(float) - t.mean
        w = np.full(k, -math.inf)
        for j in range(k):
            if t.shares[j] > 0 and (t.allowed is None or t.allowed[n, j]):
                z = inverses[j] @ diff[j]
                w[j] = math.log(t.shares[j]) + np.log(inverses[j].diagonal()).sum() - 0.5 * z @ z
                w[j] -= 0.5 * d * math.log(2 * math.pi)
        top = w.max()
        log_evidence = top + math.log(math.fsum(np.exp(w - top)))
        q = np.exp(w - log_evidence)
        entropy = -math.fsum(p * (a - log_evidence) for p, a in zip(q, w, strict=True) if p > 0)
        totals += weight * np.array([1.0, log_evidence, entropy, 1 + abs(log_evidence)])
        count += weight * q
        first += weight * q[:, None] * diff
        second += weight * q[:, None, None] * diff[:, :, None] * diff[:, None, :]
    if form == "tied":
        second = second.sum(0, keepdims=True)
    if form in ("diag", "spherical"):
        second = second.diagonal(0, 1, 2)
    return {"totals": totals, "count": count, "first": first, "second": second}


def fused(t: Table, form: str, dtype: torch.dtype = torch.float64) -> dict[str, np.ndarray]:
    found = model_of(t, form).exact_pass(observed(t, dtype), statistics=True)
    assert found is not None
    part = found.statistics.part("emission")
    assert found.statistics.tensor("entropy").item() == found.entropy
    assert torch.equal(found.statistics.tensor("counts"), part.tensor("count")[:, 0])
    moments = {name: part.tensor(name).numpy() for name in ("first", "second")}
    totals = np.array([found.weight, found.evidence, found.entropy, found.scale])
    return {"totals": totals, "count": found.counts.numpy(), **moments}


def observed(t: Table, dtype: torch.dtype = torch.float64) -> ob.Observations:
    return ob.Observations.of(torch.from_numpy(t.y).to(dtype), weights=t.weights, allowed=t.allowed)


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], rtol: float = 1e-10) -> None:
    for name, right in wanted.items():
        size = np.abs(right).max(initial=1e-300)
        np.testing.assert_allclose(found[name], right, rtol=rtol, atol=rtol * size, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(7, 1, 1), (1, 3, 2), (60, 2, 3), (500, 5, 4), (433, 1, 6), (230, 18, 5)], ids=str)
def test_the_fused_pass_is_its_twin(form: str, shape: tuple[int, int, int]) -> None:
    """Rows that fill no block, one row, one component, one column, and products that fill more than one panel."""
    t = table(form, *shape)
    assert_same(fused(t, form), twin(t, form))


@pytest.mark.parametrize("form", FORMS)
def test_narrow_components_take_the_centred_form_and_lose_nothing(form: str) -> None:
    for spread in (1e-3, 1e-7):
        t = table(form, 260, 3, 4, seed=1, spread=spread)
        assert_same(fused(t, form), twin(t, form))


@pytest.mark.parametrize("form", FORMS)
def test_some_components_of_a_block_may_be_narrow(form: str) -> None:
    t = table(form, 300, 3, 4, seed=2)
    t.covariance[1] *= 1e-12
    t.y[:100] = t.mean[1] + 1e-6 * (t.y[:100] - t.y[:100].mean(0))
    if form == "tied":
        t.covariance[:] = t.covariance[0]
    assert_same(fused(t, form), twin(t, form))


@pytest.mark.parametrize("form", FORMS)
def test_data_far_from_the_origin_lose_what_float64_lacks_and_no_more(form: str) -> None:
    """Mean / sd = 1e8: a difference of two such numbers is exact."""
    t = table(form, 240, 2, 3, seed=3)
    t.mean, t.y = t.mean + 1e8, t.y + 1e8
    assert_same(fused(t, form), twin(t, form))


@pytest.mark.parametrize("form", ["full", "tied"])
def test_a_condition_number_of_1e10_keeps_ten_digits(form: str) -> None:
    t = table(form, 300, 4, 3, seed=4)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    root = turn * np.array([1.0, 1e-1, 1e-3, 1e-5])
    t.covariance[:] = root @ root.T
    t.y = t.mean[np.arange(300) % 3] + np.random.default_rng(1).normal(size=(300, 4)) @ root.T
    model, obs = model_of(t, form), observed(t)
    found, plain = model.exact_pass(obs, statistics=True), model.posterior(obs)
    # The parameters themselves hold five digits less here, so both paths start from the same factor.
    wanted = float((obs.weights * plain.log_partition.detach()).sum())
    assert found is not None
    assert found.evidence == pytest.approx(wanted, rel=1e-10)
    np.testing.assert_allclose(
        found.statistics.to_vector(), model.statistics(obs, plain).to_vector().detach(), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("form", FORMS)
def test_one_row_at_1e12_takes_nothing_from_the_good_rows(form: str) -> None:
    """It has a component to itself, so that every number beside its own moments is of ordinary size."""
    t = table(form, 1000, 3, 3, seed=5)
    t.y[123], t.weights[123], t.mean[2] = 1e12, 1.0, 1e12
    t.allowed = np.ones((1000, 3), bool)
    t.allowed[:, 2], t.allowed[123] = False, [False, False, True]
    assert_same(fused(t, form), twin(t, form))
    t.weights[123] = 0.0  # and where it does not count, nothing but the rows beside it is in the sums
    assert_same(fused(t, form), twin(t, form))


@pytest.mark.parametrize("form", FORMS)
def test_known_classes_empty_components_and_zero_weights_mean_what_they_say(form: str) -> None:
    t = table(form, 250, 2, 4, seed=6)
    t.shares = np.array([0.5, 0.0, 0.2, 0.3])
    t.allowed = np.random.default_rng(0).random((250, 4)) < 0.5
    t.allowed[:, 0] = True
    t.weights[t.weights == 2] = 0.0
    assert_same(fused(t, form), twin(t, form))
    t.shares = np.array([0.0, 1.0, 0.0, 0.0])
    t.allowed = None
    assert_same(fused(t, form), twin(t, form))


@pytest.mark.parametrize("form", FORMS)
def test_float32_data_are_read_as_they_are(form: str) -> None:
    t = table(form, 300, 3, 3, seed=7)
    short = replace(t, y=t.y.astype(np.float32))
    assert_same(fused(short, form, torch.float32), twin(short, form))


@pytest.mark.parametrize("form", FORMS)
def test_whole_numbers_and_turned_tables_are_read_too(form: str) -> None:
    t = table(form, 300, 3, 3, seed=8)
    whole = replace(t, y=np.round(3 * t.y))
    wanted = fused(whole, form)
    assert_same(fused(whole, form, torch.int16), wanted, 1e-15)
    turned = replace(whole, y=np.asfortranarray(whole.y))
    assert_same(fused(turned, form), wanted, 1e-15)


def test_denormal_numbers_are_numbers() -> None:
    t = table("diag", 50, 2, 2, seed=9)
    t.y[:25] = 5e-324
    assert_same(fused(t, "diag"), twin(t, "diag"))


@pytest.mark.parametrize("form", FORMS)
def test_any_number_of_threads_gives_the_same_bits(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    t = table(form, 5000, 3, 3, seed=10)
    before, results = torch.get_num_threads(), []
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "CHUNK_ITEMS", 500)
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(fused(t, form))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(np.array_equal(other[name], results[0][name]) for name in other)
    assert_same(results[0], fused(t, form), 1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_the_kernel_cannot_explain_go_the_ordinary_way(form: str) -> None:
    t = table(form, 300, 3, 2, seed=11)
    model = model_of(t, form)
    if model.emission.takes_missing:
        gap = t.y.copy()
        gap[250, 1] = math.nan
        assert model.exact_pass(ob.Observations.of(gap), statistics=True) is None
    none = np.ones((300, 2), bool)
    none[17] = False
    obs = ob.Observations.of(t.y, allowed=none)
    assert model.exact_pass(obs, statistics=True) is None
    with pytest.raises(ob.errors.Infeasible, match=r"\(17\)"):
        ob.fit(model, obs, max_iter=1)
    unweighted = np.ones(300)
    unweighted[17] = 0.0
    assert model.exact_pass(ob.Observations.of(t.y, allowed=none, weights=unweighted), statistics=True) is not None
    huge = t.y.copy()
    huge[3] = 1e200
    assert model.exact_pass(ob.Observations.of(huge), statistics=True) is None


@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_a_fit_is_the_same_with_and_without_the_kernel(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, obs = case.model(), case.observations()
    monkeypatch.setattr(sweep_module, "APART_ROWS", 5)
    with_kernel = ob.fit(clone(model), obs, ob.EM(), max_iter=8, tol=0)
    monkeypatch.setattr(Mixture, "exact_pass", ob.models.Model.exact_pass)
    monkeypatch.setattr(sweep_module, "APART_ROWS", len(obs.y))
    without = ob.fit(clone(model), obs, ob.EM(), max_iter=8, tol=0)
    for a, b in zip(with_kernel.trace, without.trace, strict=True):
        assert (a.bound, a.evidence) == pytest.approx((b.bound, b.evidence), rel=1e-10)
        assert a.gap == pytest.approx(b.gap, abs=1e-10)
    for p, q in zip(with_kernel.model.parameters(), without.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_data_too_small_to_pay_for_the_load_get_the_same_sums_without_it(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = table(form, 300, 3, 2, seed=11)
    model = model_of(t, form)
    monkeypatch.setattr(gaussian_base, "FUSED_CELLS", 300 * 3 * 2)
    fused = model.exact_pass(observed(t), statistics=True)
    monkeypatch.setattr(gaussian_base, "FUSED_CELLS", 300 * 3 * 2 + 1)
    monkeypatch.setattr(gaussian_pass, "exact_sums", lambda *_, **__: pytest.fail("the compiled pass was taken"))
    few = model.exact_pass(observed(t), statistics=True)
    assert fused is not None
    assert few is not None
    for name in ("weight", "evidence", "entropy", "scale"):
        assert getattr(few, name) == pytest.approx(getattr(fused, name), rel=1e-12)
    assert few.statistics is not None
    assert fused.statistics is not None
    torch.testing.assert_close(few.statistics.to_vector(), fused.statistics.to_vector(), rtol=1e-11, atol=1e-10)
    few = model.exact_pass(observed(t), statistics=False)
    assert few is not None
    assert few.evidence == pytest.approx(fused.evidence, rel=1e-12)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_densities_of_many_rows_are_those_of_the_ordinary_way(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    t = table(form, 700, 3, 4, seed=5)
    emission, y = model_of(t, form).emission, torch.from_numpy(t.y.copy())
    wanted = emission.log_prob(y).detach()  # with a gradient, so not compiled
    monkeypatch.setattr(gaussian_base, "FUSED_CELLS", 0)
    with torch.no_grad():
        torch.testing.assert_close(emission.log_prob(y), wanted, rtol=1e-11, atol=1e-10)
        torch.testing.assert_close(emission.log_prob(y.float()), emission.log_prob(y.float().double()), rtol=0, atol=0)
        y[3, 1] = np.nan
        if form in ("diag", "spherical"):
            assert bool(emission.log_prob(y).isfinite().all())  # the ordinary way takes what is missing
    plain = np.empty((700, 4))
    components, units = emission._for_the_kernel(emission._density_arrays())
    assert kernel._densities.py_func(t.y, units, *gaussian_pass.kernel_arguments(components), plain)
    np.testing.assert_allclose(plain, wanted, rtol=1e-11, atol=1e-10)


def test_few_rows_that_arrays_cannot_hold_go_the_ordinary_way() -> None:
    t = table("full", 20, 3, 2, seed=11)
    model = model_of(t, "full")
    far, gap = t.y.copy(), t.y.copy()
    far[3], gap[3, 0] = 1e200, np.nan
    for y in (far, gap):
        assert model.exact_pass(ob.Observations.of(y), statistics=True) is None


def test_the_exponential_is_right_to_the_last_bits() -> None:
    x = np.concatenate([np.linspace(SMALLEST_EXPONENT, 0.0, 20_001), -np.logspace(-300, 2, 500)])
    found = np.array([exp_of_negative(v) for v in x])
    np.testing.assert_allclose(found, np.exp(x), rtol=4.5e-16, atol=0)


def test_the_logarithm_is_right_to_the_last_bits() -> None:
    x = np.concatenate([np.linspace(1.0, 300.0, 20_001), np.logspace(-300, 300, 500), 1 + np.logspace(-16, -1, 200)])
    found = np.array([log_of_normal(v) for v in x])
    np.testing.assert_allclose(found, np.log(x), rtol=4.5e-16, atol=0)


def test_a_failure_in_a_thread_is_raised_and_a_refusal_ends_the_run() -> None:
    assert run(lambda i: True, 9, 4)
    assert not run(lambda i: i != 5, 9, 4)
    with pytest.raises(ZeroDivisionError):
        run(lambda i: bool(1 / (i - 3)), 9, 4)
