"""Laws 5 and 6: the objective never falls, and every algorithm ends where EM ends."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from zoo import ALGORITHMS, CLOSED, VECTORS, ZOO, Case, clone

import onebound as ob

RISING = ("EM", "SQUAREM", "HardEM")
NEEDS_POINTS = ("MCEM", "HardEM")


def objective_gradient(model: ob.models.Model, obs: ob.Observations) -> float:
    """max |∇ objective| per unit of weight, in unconstrained coordinates."""
    value = (obs.weights * model.evidence(obs)).sum() + model.log_prior()
    found = torch.autograd.grad(value / obs.total_weight, list(model.parameters()), allow_unused=True)
    return max(float(g.abs().max()) for g in found if g is not None)


@pytest.mark.parametrize("name", RISING)
@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_the_objective_never_falls(case: Case, name: str) -> None:
    if name in NEEDS_POINTS and case in VECTORS:
        pytest.skip("a vector has no single value of mass")
    model, obs = case.model(), case.observations()
    fit = ob.fit(model, obs, ALGORITHMS[name](), max_iter=60, tol=0)
    scale = 1e-10 * (1 + abs(fit.evidence))
    rises = np.diff([r.objective for r in fit.trace])
    assert rises.min() >= -scale
    assert [r.after for r in fit.trace] == ["E", "M"] * 60 + ["E"]
    assert [r.iteration for r in fit.trace] == sorted([*range(1, 61), *range(1, 62)])


@pytest.mark.parametrize("case", CLOSED, ids=repr)
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_that_the_plan_allows_runs_and_reports_the_returned_parameters(case: Case, name: str) -> None:
    model, obs = case.model(), case.observations()
    if name in NEEDS_POINTS and case in VECTORS:
        with pytest.raises(ob.errors.Unsupported, match="is a vector"):
            ob.fit(model, obs, ALGORITHMS[name]())
        return
    before = ob.bound(model, obs).mean()["evidence"]
    fit = ob.fit(model, obs, ALGORITHMS[name](), max_iter=5, tol=0, generator=case.generator())
    w, each = obs.weights.numpy(), oracles.log_evidence(model, obs)
    wanted = (np.where(w > 0, w * np.nan_to_num(each, neginf=0.0), 0.0)).sum() / w.sum()
    assert fit.evidence == pytest.approx(wanted, rel=1e-10)
    assert fit.bound == pytest.approx(fit.evidence - fit.gap, rel=1e-9, abs=1e-9)
    assert fit.trace[0].evidence == pytest.approx(before, rel=1e-12)
    assert fit.gap >= 0
    for r in fit.trace:
        assert r.bound is None or r.evidence is None or r.bound <= r.evidence + 1e-9 * (1 + abs(r.evidence))


@pytest.mark.parametrize("case", [c for c in ZOO if c.name == "regressions"], ids=repr)
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_what_has_no_closed_form_is_refused_or_climbed_by_gradient(case: Case, name: str) -> None:
    model, obs = case.model(), case.observations()
    if name in ("EM", "SQUAREM", "OnlineEM", "VEM", "MCEM", "HardEM"):
        with pytest.raises(ob.errors.NoClosedForm, match=r"network.*Use ob\.GEM"):
            ob.plan(model, ALGORITHMS[name]())
        with pytest.raises(ob.errors.NoClosedForm):
            ob.fit(model, obs, ALGORITHMS[name]())
        return
    before = ob.bound(model, obs).mean()["evidence"]
    fit = ob.fit(model, obs, ALGORITHMS[name](), max_iter=150, generator=case.generator())
    assert fit.evidence > before
    assert ob.plan(model).algorithm == "GEM"


@pytest.mark.parametrize("case", [c for c in CLOSED if c.one_basin], ids=repr)
def test_em_eg_and_vae_end_at_the_same_place_from_one_start(case: Case) -> None:
    obs, start = case.observations(), case.model()
    ends = {}
    for name, algorithm in {"EM": ob.EM(), "EG": ob.EG(), "VAE": ob.VAE(optimizer="lbfgs")}.items():
        ends[name] = ob.fit(clone(start), obs, algorithm, tol=1e-14, max_iter=3000, generator=case.generator())
    assert ends["EG"].objective == pytest.approx(ends["EM"].objective, abs=1e-6)
    assert ends["VAE"].objective == pytest.approx(ends["EM"].objective, abs=1e-3)


@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_em_and_eg_end_stationary(case: Case) -> None:
    obs, start = case.observations(), case.model()
    for algorithm in (ob.EM(), ob.EG()):
        model = clone(start)
        fit = ob.fit(model, obs, algorithm, tol=1e-14, max_iter=1500)
        # A floor or an exact zero that is reached leaves the interior, where stationarity is another condition.
        if not fit.repairs and fit.converged:
            loose = 1e-5 if not hitting_a_boundary(model) else np.inf
            assert objective_gradient(model, obs) < loose, algorithm.name


def hitting_a_boundary(model: ob.models.Model) -> bool:
    """Whether a probability, a rate or a variance is on its way to 0, where the optimum lies at infinity in logits."""
    tables = [m.probabilities() for m in model.modules() if isinstance(m, ob.numerics.Simplex)]
    rates = [m.rate for m in model.modules() if isinstance(m, ob.emissions.Poisson)]
    noise = [model.noise.exp()] if hasattr(model, "noise") else []  # a column that the factors explain fully
    return any(bool((t < 1e-4).any()) for t in tables + rates + noise)


def overlapping(n: int = 600) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(1.6 * generator.integers(0, 3, (n, 1)), 1.0, (n, 2))


def test_squarem_ends_where_em_ends_in_half_the_passes_which_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    y = overlapping()
    start = ob.models.Mixture(ob.emissions.Gaussian(3, 2, "diag")).initialize(y, torch.Generator().manual_seed(1))
    swept = []
    sweep = ob.algorithms.climb.sweep
    monkeypatch.setattr(ob.algorithms.climb, "sweep", lambda *a, **k: swept.append(1) or sweep(*a, **k))
    ends = {}
    for algorithm in (ob.EM(), ob.EM(accelerate="squarem")):
        swept.clear()
        ends[algorithm.name] = ob.fit(clone(start), y, algorithm, max_iter=5000, tol=1e-10)
        assert ends[algorithm.name].trace[-1].passes == len(swept)
    em, squarem = ends["EM"], ends["SQUAREM"]
    assert squarem.bound == pytest.approx(em.bound, abs=1e-6)
    assert squarem.trace[-1].passes < em.trace[-1].passes / 2


def test_a_long_step_that_lowers_l_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    y = overlapping()
    start = ob.models.Mixture(ob.emissions.Gaussian(3, 2)).initialize(y, torch.Generator().manual_seed(1))
    # Far too long, always: every one of them has to be refused, and what is left is EM.
    monkeypatch.setattr(ob.algorithms.acceleration, "GROWTH", 1e3)
    monkeypatch.setattr(ob.algorithms.acceleration, "wanted_length", lambda first, turn: 1e3)
    fit = ob.fit(start, y, ob.EM(accelerate="squarem"), max_iter=30, tol=0)
    assert np.diff([r.objective for r in fit.trace]).min() >= -1e-10 * (1 + abs(fit.bound))
    assert fit.trace[-1].passes > 31


def test_old_faithful_em_eg_and_vae_climb_to_the_same_place() -> None:
    y = ob.data.old_faithful().values
    start = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(3), "random")
    fits = {
        name: ob.fit(clone(start), y, algorithm, generator=torch.Generator().manual_seed(0))
        for name, algorithm in {
            "EM": ob.EM(),
            "EG": ob.EG(),
            "VAE": ob.VAE(),
            "score": ob.VAE(estimator="score", samples=4),
        }.items()
    }
    for name, within in {"EG": 1e-3, "VAE": 1e-3, "score": 0.02}.items():
        assert fits[name].evidence == pytest.approx(fits["EM"].evidence, abs=within)
        assert fits[name].bound == pytest.approx(fits["EM"].bound, abs=max(within, 2e-3))
    gaps = [r.gap for r in fits["VAE"].trace if r.after == "E"]
    assert min(gaps[:20]) > 0


def test_em_equals_scikit_learn_from_the_same_start() -> None:
    from sklearn.mixture import GaussianMixture

    y = ob.data.old_faithful().values
    weights, means = np.array([0.3, 0.7]), np.array([[2.5, 60.0], [4.0, 75.0]])
    covariance = np.stack([np.cov(y.T), np.cov(y.T) / 2])
    peer = GaussianMixture(
        2,
        reg_covar=0.0,
        tol=0.0,
        max_iter=25,
        weights_init=weights,
        means_init=means,
        precisions_init=np.linalg.inv(covariance),
    )
    with pytest.warns(UserWarning, match="converge"):  # tol=0 never converges: both take 25 steps
        peer.fit(y)
    model = ob.models.Mixture(ob.emissions.Gaussian(2, 2, floor=0.0)).assign(weights, mean=means, covariance=covariance)
    fit = ob.fit(model, y, ob.EM(), max_iter=25, tol=0)
    np.testing.assert_allclose(model.weights, peer.weights_, atol=1e-6)
    np.testing.assert_allclose(model.emission.mean, peer.means_, atol=1e-6)
    np.testing.assert_allclose(model.emission.covariance, peer.covariances_, atol=1e-6)
    assert fit.evidence == pytest.approx(peer.score(y), abs=1e-6)


def test_a_fall_of_the_objective_is_raised_with_the_step_and_the_component(monkeypatch: pytest.MonkeyPatch) -> None:
    y = ob.data.old_faithful().values
    model = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(0))
    right = type(model.emission).maximize

    def wrong(self: ob.emissions.GaussianEmission, statistics: object, **options: object) -> list[str]:
        repairs = right(self, statistics, **options)
        with torch.no_grad():
            self.standard_mean[1] += 0.5
        return repairs

    monkeypatch.setattr(type(model.emission), "maximize", wrong)
    with pytest.raises(ob.errors.NotMonotone, match="M step of iteration 1 in emission, component 1"):
        ob.fit(model, y, ob.EM())


def test_natural_habits_of_the_loop() -> None:
    y = ob.data.old_faithful().values
    start = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(3), "random")
    assert ob.fit(clone(start), y, max_iter=2).reason == "max_iter"
    assert ob.fit(clone(start), y).reason == "relative change"
    assert ob.fit(clone(start), y, ob.EG(), tol=1e-300).reason in ("stationary", "relative change")
    assert ob.fit(clone(start), y, ob.VAE(), max_seconds=0.05).reason == "time"
    assert ob.fit(clone(start), y, callbacks=[lambda r: r.iteration == 3]).reason == "callback"
    assert len(ob.fit(clone(start), y, max_iter=0).trace) == 1
    many = ob.fit(clone(start), y, restarts=4, generator=torch.Generator().manual_seed(0))
    assert len(many.restarts) == 4
    assert many.objective == max(many.restarts)
    assert ob.bound(many.model, y).mean()["bound"] == pytest.approx(many.bound, rel=1e-14)


def test_the_bound_is_continuous_when_a_model_is_handed_from_one_algorithm_to_the_next() -> None:
    y = ob.data.old_faithful().values
    model = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(3), "random")
    first = ob.fit(model, y, ob.EM(), max_iter=2, tol=0)
    second = ob.fit(model, y, ob.EG(), max_iter=2)
    assert second.trace[0].evidence == first.evidence
    third = ob.fit(model, y, ob.VAE(), max_iter=2)
    assert third.trace[0].evidence == pytest.approx(second.evidence, rel=1e-13)


def test_minibatches_report_running_means_and_end_with_a_full_evaluation() -> None:
    y = ob.data.old_faithful().values
    for algorithm in (ob.EG("adam"), ob.VAE(), ob.EG()):
        model = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(3), "random")
        fit = ob.fit(model, y, algorithm, batch_size=50, max_iter=30, tol=0, generator=torch.Generator().manual_seed(0))
        assert all(r.running for r in fit.trace[:-1])
        assert not fit.trace[-1].running
        assert fit.trace[-1].passes == 31
        assert fit.evidence == pytest.approx(ob.bound(model, y).mean()["evidence"], rel=1e-13)
        assert fit.evidence > -4.3
    # A pass that ends lower than its running mean is no broken guarantee: the guarantee is about whole passes.
    model = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(3))
    ob.fit(
        model, y, ob.EG("adam", lr=1.5), batch_size=20, max_iter=3, tol=0, generator=torch.Generator().manual_seed(0)
    )
    with pytest.raises(ob.errors.InputError, match="a line search needs whole passes"):
        ob.fit(model, y, ob.VAE(optimizer="lbfgs"), batch_size=50)


def test_several_gradient_steps_with_q_held_cost_no_more_passes() -> None:
    y = ob.data.old_faithful().values
    start = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(3), "random")
    one = ob.fit(clone(start), y, ob.EG("adam", steps=1), max_iter=10, tol=0)
    five = ob.fit(clone(start), y, ob.EG("adam", steps=5), max_iter=10, tol=0)
    assert one.trace[-1].passes == five.trace[-1].passes == 11
    assert five.evidence > one.evidence


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_em_goes_on_from_a_component_that_a_gradient_has_collapsed(covariance: str) -> None:
    for scale in (1.0, 3000.0):
        y = torch.tensor([[0.0], [scale]], dtype=torch.float64)
        model = ob.models.Mixture(ob.emissions.Gaussian(2, 1, covariance))
        ob.fit(model, y, ob.HardEM(), generator=torch.Generator().manual_seed(0))
        ob.fit(model, y, ob.EG(), max_iter=3, tol=0)
        ob.fit(model, y, ob.EM(), max_iter=3)


def test_a_resumed_climb_obeys_the_limits_it_is_given_now() -> None:
    y = ob.data.old_faithful().values
    model = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(4), "random")
    first = ob.fit(model, y, ob.VAE(), max_seconds=0.01)
    assert first.reason == "time"
    second = ob.fit(model, y, ob.VAE(), max_iter=60, tol=0, resume=first)
    assert second.reason == "max_iter"
    assert second.trace[-1].iteration == 61
    third = ob.fit(model, y, ob.VAE(), max_iter=90, tol=0, callbacks=[lambda r: r.iteration == 70], resume=second)
    assert third.reason == "callback"
    many = ob.fit(model, y, ob.EM(), init="random", restarts=3, max_iter=3, generator=torch.Generator().manual_seed(0))
    more = ob.fit(model, y, ob.EM(), max_iter=9, tol=0, resume=many)
    assert sorted(more.restarts)[:2] == sorted(many.restarts)[:2]
    assert more.objective == max(more.restarts)
