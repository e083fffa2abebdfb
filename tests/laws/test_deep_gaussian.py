"""z under a network: everything that is sampled agrees with a linear Gaussian model, whose algebra is known."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onebound as ob
from onebound.algorithms.sampled import importance_weighted
from onebound.bound import log_weights
from onebound.emissions.likelihoods import (
    FLOOR,
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    ModelLikelihood,
)
from onebound.errors import InputError, InputTypeError, NoExactPosterior, NonFinite, StoreError, Unsupported
from onebound.models import HMM, DeepGaussian, FactorAnalysis, Mixture
from onebound.structures.gaussian import DiagonalGaussian

D, L = 4, 2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truth(correlated: bool = False) -> FactorAnalysis:
    """A factor model, whose posterior is diagonal unless `correlated`."""
    rng = np.random.default_rng(3)
    noise = rng.uniform(0.2, 0.8, D)
    w, _ = np.linalg.qr(rng.normal(size=(D, L)))
    w = w * np.array([1.5, 0.7]) * np.sqrt(noise)[:, None]
    if correlated:
        w = w @ np.array([[1.0, 0.8], [0.0, 0.6]])
    model = FactorAnalysis(D, L).assign(mean=rng.normal(size=D), components=w, noise_variance=noise)
    assert isinstance(model, FactorAnalysis)
    return model


def linear(of: FactorAnalysis, shift: float = 0.0, widen: float = 0.0) -> DeepGaussian:
    """The same model with linear networks; q is the diagonal Gaussian with the posterior's means and precisions' diagonal.

    `shift` moves its means, `widen` is added to its ln sd: an encoder that is wrong by a known amount.
    """
    encoder, decoder = nn.Linear(D, 2 * L), nn.Linear(L, D)
    model = DeepGaussian("gaussian", L, n_features=D, encoder=encoder, decoder=decoder).double()
    w, noise = of.components, of.noise_variance
    precision = torch.eye(L, dtype=torch.float64) + w.T / noise @ w
    gain = torch.linalg.solve(precision, w.T / noise)
    with torch.no_grad():
        assert isinstance(model.likelihood, GaussianLikelihood)
        model.likelihood.raw.copy_((noise - FLOOR).log())
        decoder.weight.copy_(w)
        decoder.bias.copy_(of.mean)
        encoder.weight[:L] = gain
        encoder.weight[L:] = 0
        encoder.bias[:L] = shift - gain @ of.mean
        encoder.bias[L:] = widen - 0.5 * precision.diagonal().log()
    model.initialized.fill_(True)
    model.prepared.fill_(True)
    return model


def data(n: int = 6, seed: int = 1) -> Tensor:
    y, _ = truth().sample(n, seeded(seed))
    return y


def z_score(draws: Tensor, wanted: Tensor | float) -> float:
    """The largest distance of means over dim 0 from what they should be, in standard errors."""
    error = draws.std(0) / math.sqrt(len(draws))
    return float(((draws.mean(0) - wanted) / error.clamp_min(1e-12)).abs().max())


# --- the numbers -------------------------------------------------------------------------------------------------------


def test_with_the_exact_posterior_every_draw_says_ln_p() -> None:
    fa = truth()
    model, y = linear(fa), data()
    found = ob.bound(model, y, samples=7, generator=seeded())
    wanted = fa.evidence(y).detach()
    torch.testing.assert_close(found.evidence, wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.evidence_half, wanted, rtol=1e-10, atol=1e-10)
    z = model.q(model.observe(y)).sample(5, seeded(2))
    torch.testing.assert_close(model.log_joint(y, z), fa.posterior(y).log_prob(z) + wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("correlated", [False, True])
def test_both_readings_agree_with_the_linear_truth(correlated: bool) -> None:
    fa = truth(correlated)
    model, y = linear(fa, shift=0.3, widen=0.2), data()
    q, exact = model.encode(y), fa.posterior(y)
    wanted = fa.evidence(y).detach() - exact_kl(q, exact)
    draws = torch.stack([ob.bound(model, y, samples=50, generator=seeded(s)).value for s in range(200)])
    assert z_score(draws, wanted) < 5
    # and the closed-form and the sampled entropy agree
    obs = model.observe(y)
    z = q.sample(20_000, seeded(5))
    assert z_score(-q.log_prob(z).detach(), q.entropy.detach()) < 5
    # the sampled reading of (3), term by term, is the same number
    assert z_score(log_weights(model, obs, q, z).detach(), wanted) < 5


def exact_kl(q: DiagonalGaussian, exact: ob.structures.FullGaussian) -> Tensor:
    """KL of diagonal from full Gaussians, by torch's own distributions."""
    mine = torch.distributions.MultivariateNormal(q.mean, torch.diag_embed(q.variance.expand_as(q.mean)))
    other = torch.distributions.MultivariateNormal(exact.mean, exact.covariance)
    return torch.distributions.kl_divergence(mine, other).detach()


def test_more_draws_climb_towards_the_evidence_from_below() -> None:
    fa = truth(correlated=True)
    model, y = linear(fa, shift=0.5, widen=0.3), data(40)
    evidence = fa.evidence(y).detach().mean()
    means = []
    for k in (2, 8, 64):
        draws = torch.stack([ob.bound(model, y, samples=k, generator=seeded(s)).evidence.mean() for s in range(60)])
        error = draws.std() / math.sqrt(60)
        assert draws.mean() < evidence + 5 * error
        means.append((draws.mean(), error))
    value = ob.bound(model, y, samples=200, generator=seeded(9)).value.mean()
    assert value < means[0][0] - 5 * means[0][1]
    for (low, a), (high, b) in pairwise(means):
        assert low < high - 3 * torch.hypot(a, b)
    assert means[-1][0] > evidence - 0.05


def test_the_gradient_of_draws_is_that_of_the_bound() -> None:
    fa = truth(correlated=True)
    model, y = linear(fa, shift=0.4, widen=0.3), data(3)
    obs, parameters = model.observe(y), [p for p in model.parameters() if p.requires_grad]
    exact = fa.posterior(y)
    q = model.q(obs)
    wanted = torch.autograd.grad(
        torch.distributions.kl_divergence(
            torch.distributions.MultivariateNormal(q.mean, torch.diag_embed(q.variance.expand_as(q.mean))),
            torch.distributions.MultivariateNormal(exact.mean.detach(), exact.covariance.detach()),
        ).sum(),
        list(model.recognition.parameters()),
    )
    batches = []
    for s in range(100):
        q = model.q(obs)
        parts = model.sampled_parts(obs, q, q.sample(1000, seeded(s)))
        total = sum(part.sum() for part in parts.values())
        found = torch.autograd.grad(total, parameters, retain_graph=False)
        batches.append(torch.cat([g.reshape(-1) for g in found]))
    names = {id(p): i for i, p in enumerate(parameters)}
    sizes = [p.numel() for p in parameters]
    draws = torch.stack(batches)
    for p, g in zip(model.recognition.parameters(), wanted, strict=True):
        start = sum(sizes[: names[id(p)]])
        assert z_score(draws[:, start : start + p.numel()], -g.reshape(-1)) < 5


def test_the_doubly_reparameterised_gradient_is_that_of_the_weighted_bound() -> None:
    fa = truth(correlated=True)
    model, y = linear(fa, shift=0.4, widen=0.3), data(3)
    obs, parameters = model.observe(y), [p for p in model.parameters() if p.requires_grad]

    def gradients(doubly: bool, seed: int) -> Tensor:
        q = model.q(obs)
        z = q.sample(5, seeded(seed))
        w = log_weights(model, obs, q, z, held=doubly)
        value = importance_weighted(obs, z, w)[1] if doubly else w.logsumexp(0)
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value.sum(), parameters)])

    ours = torch.stack([gradients(True, s) for s in range(3000)])
    plain = torch.stack([gradients(False, s) for s in range(3000, 6000)])
    error = ((ours.var(0) + plain.var(0)) / 3000).sqrt().clamp_min(1e-12)
    assert float(((ours.mean(0) - plain.mean(0)) / error).abs().max()) < 5
    encoder = sum(p.numel() for p in model.recognition.parameters())
    names = [name for name, p in model.named_parameters() if p.requires_grad for _ in range(p.numel())]
    mine = torch.tensor([name.startswith("recognition") for name in names])
    assert int(mine.sum()) == encoder
    assert float(ours.var(0)[mine].sum()) < 0.5 * float(plain.var(0)[mine].sum())


def test_the_value_that_is_climbed_is_the_weighted_bound() -> None:
    model, y = linear(truth(), shift=0.4), data()
    obs = model.observe(y)
    q = model.q(obs)
    z = q.sample(5, seeded())
    w = log_weights(model, obs, q, z)
    value, climbed = importance_weighted(obs, z, w)
    torch.testing.assert_close(climbed, w.logsumexp(0) - math.log(5))
    torch.testing.assert_close(value, w.mean(0))


# --- the gap, and where it comes from -----------------------------------------------------------------------------------


def test_the_gap_is_split_as_algebra_says() -> None:
    fa = truth(correlated=True)
    model, y = linear(fa, shift=0.4), data(30)
    exact = fa.posterior(y)
    best = DiagonalGaussian.of(exact.mean, -0.5 * torch.linalg.inv(exact.covariance).diagonal(dim1=1, dim2=2).log())
    family = exact_kl(best, exact).mean()
    encoder = exact_kl(model.encode(y), exact).mean() - family
    report = ob.gap_report(model, y, samples=2000, steps=400, generator=seeded())
    assert report.evidence == pytest.approx(float(fa.evidence(y).detach().mean()), abs=0.02)
    assert report.approximation == pytest.approx(float(family), abs=0.03)
    assert report.amortization == pytest.approx(float(encoder), abs=0.03)
    assert float(encoder) > 0.1 < float(family)
    assert report.gap == pytest.approx(report.evidence - report.bound, abs=1e-9)
    assert all(p.requires_grad for p in model.parameters())
    assert f"{report.amortization:.3f}" in str(report)


def test_a_bracket_holds_the_evidence() -> None:
    fa = truth(correlated=True)
    model = linear(fa, shift=0.5)
    few = ob.bracket(model, 300, samples=4, generator=seeded(4))
    y, _ = model.sample(300, seeded(4))
    evidence = float(fa.evidence(y.double()).detach().mean())
    assert few["lower"] < evidence < few["upper"]
    many = ob.bracket(model, 300, samples=400, generator=seeded(4))
    assert many["upper"] - many["lower"] < 0.2 * (few["upper"] - few["lower"])
    assert many["lower"] - 5 * many["width_error"] < evidence < many["upper"] + 5 * many["width_error"]


def test_a_dead_dimension_is_seen() -> None:
    fa = truth()
    model = linear(fa)
    with torch.no_grad():
        model.recognition.network.weight[1] = 0
        model.recognition.network.bias[1] = 0
        model.recognition.network.bias[3] = 0
    use = ob.latent_use(model, data(500))
    assert use.active == 1
    assert use.kl[1] == pytest.approx(0, abs=1e-12)
    assert "1 of 2" in use.advice
    q = model.encode(data(500))
    assert float(use.kl.sum()) == pytest.approx(float(q.detach().kl_from_standard().mean()), rel=1e-10)
    assert use.variance[0] == pytest.approx(
        float((q.mean[:, 0].var(correction=0) + q.variance[0, 0]).detach()), rel=1e-10
    )


def test_advice_knows_whether_the_prior_is_learned_and_counts_from_one() -> None:
    y = data(200)
    for model in (linear(truth()), DeepGaussian("gaussian", L, n_features=D, hidden=(4,), prior=mixture_prior())):
        use = ob.latent_use(model, y)
        learned = model.prior is not None
        off = replace(
            use, activity=torch.ones(L), mean=use.prior_mean + torch.tensor([0.0, 9.0]) * use.prior_variance.sqrt()
        )
        off = replace(off, variance=use.prior_variance)
        assert "(z2)" in off.advice
        assert ("prior=Mixture(...)" in off.advice) == (not learned)
        assert ("take a richer prior" in off.advice) == learned


# --- any exact model as a prior ------------------------------------------------------------------------------------------


def mixture_prior() -> Mixture:
    rng = np.random.default_rng(0)
    prior = Mixture(ob.emissions.Gaussian(3, L))
    return prior.initialize(rng.normal(size=(200, L)) * 2, seeded(), "random")


def hmm_prior() -> HMM:
    rng = np.random.default_rng(0)
    return HMM(ob.emissions.Gaussian(3, L)).initialize(rng.normal(size=(200, L)) * 2, seeded(), "random")


def test_a_mixture_of_one_component_is_no_mixture() -> None:
    plain = linear(truth())
    standard = Mixture(ob.emissions.Gaussian(1, L)).assign([1.0], mean=torch.zeros(1, L), covariance=torch.eye(L)[None])
    under = linear(truth())
    under.prior = standard
    y = data()
    obs = plain.observe(y)
    q = plain.q(obs)
    z = q.sample(4000, seeded())
    torch.testing.assert_close(under.log_prior_of(obs, z), plain.log_prior_of(obs, z), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_weights(under, obs, q, z), log_weights(plain, obs, q, z), rtol=1e-10, atol=1e-10)
    sums = [sum(m.sampled_parts(obs, q, z).values()) for m in (plain, under)]
    spread = plain.log_prior_of(obs, z).std(0) / math.sqrt(4000)
    assert float(((sums[0] - sums[1]) / spread).detach().abs().max()) < 5  # closed-form against sampled ln p(z)


def test_ln_p_of_z_is_the_priors_own_evidence() -> None:
    for prior, lengths in ((mixture_prior(), None), (hmm_prior(), [3, 1, 2])):
        model = DeepGaussian("gaussian", L, n_features=D, hidden=(5,), prior=prior).double()
        obs = model.observe(ob.Observations.of(data(6), lengths=lengths))
        z = model.q(obs).sample(3, seeded())
        found = model.log_prior_of(obs, z)
        for s in range(3):
            wanted = prior.evidence(ob.Observations.of(z[s].detach(), lengths=lengths))
            torch.testing.assert_close(found[s], wanted, rtol=1e-12, atol=1e-12)
        assert found.shape == (3, 6 if lengths is None else 3)
        assert found.requires_grad


@pytest.mark.parametrize("kind", ["none", "mixture", "hmm"])
def test_an_item_does_not_know_its_neighbours(kind: str) -> None:
    prior = {"none": lambda: None, "mixture": mixture_prior, "hmm": hmm_prior}[kind]()
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(5,), prior=prior, generator=seeded()).double()
    lengths = [3, 1, 2] if kind == "hmm" else None
    whole = model.observe(ob.Observations.of(data(6), lengths=lengths))
    q = model.q(whole)
    z = q.sample(2, seeded())
    together = sum(model.sampled_parts(whole, q, z).values())
    rows = torch.arange(6).split(lengths or [1] * 6)
    for n in range(whole.n_items):
        alone = whole.select(slice(n, n + 1))
        mine = sum(model.sampled_parts(alone, model.q(alone), z[:, rows[n]]).values())
        torch.testing.assert_close(mine[0], together[n], rtol=1e-12, atol=1e-12)


def test_what_is_no_prior_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"tractable evidence \(Mixture, HMM, FactorAnalysis, ProbabilisticPCA\), got Deep"
    ):
        DeepGaussian("gaussian", 2, n_features=3, prior=DeepGaussian("gaussian", 2, n_features=2))
    with pytest.raises(InputError, match="2 columns, those of z, got 3"):
        DeepGaussian("gaussian", 2, n_features=3, prior=Mixture(ob.emissions.Gaussian(2, 3)))


def three_clouds(n: int = 300) -> tuple[Tensor, Tensor]:
    """Rows about three centres in the plane, mapped linearly to D columns."""
    rng = np.random.default_rng(5)
    label = torch.arange(n) % 3
    centres = torch.tensor([[0.0, 6.0], [5.0, -3.0], [-5.0, -3.0]])
    z = centres[label] + torch.from_numpy(rng.normal(size=(n, 2))).float()
    return z @ torch.from_numpy(rng.normal(size=(2, D))).float() + 0.3 * torch.randn(n, D, generator=seeded()), label


@pytest.mark.parametrize(
    "options", [{}, {"closed_form": True}, {"estimator": "importance", "samples": 3, "closed_form": True}]
)
def test_a_prior_without_parameters_starts_on_draws_of_q(options: dict[str, object]) -> None:
    y, label = three_clouds()
    model = DeepGaussian(
        "gaussian", 2, n_features=D, hidden=(16,), prior=Mixture(ob.emissions.Gaussian(3, 2)), generator=seeded(1)
    )
    assert not model.prior_started
    assert model.active_prior is None
    fit = ob.fit(model, y, ob.VAE(lr=5e-3, **options), batch_size=50, max_iter=60, generator=seeded(2))
    assert model.prior_started
    assert [text for text in fit.repairs if text.startswith("prior: N(0, 1) until here")] == [
        "prior: N(0, 1) until here, then fitted on draws of q, and trained from there (iteration 16)"
    ]
    found = model.prior.posterior(model.encode(y).mean.double()).argmax
    table = torch.zeros(3, 3).index_put((label, found), torch.ones(len(y)), accumulate=True)
    assert float(table.max(1).values.sum()) / len(y) > 0.95
    plain = DeepGaussian("gaussian", 2, n_features=D, hidden=(16,), generator=seeded(1))
    ob.fit(plain, y, ob.VAE(lr=5e-3), batch_size=50, max_iter=60, generator=seeded(2))
    mine, other = (ob.bound(m, y, samples=100, generator=seeded()).mean()["evidence"] for m in (model, plain))
    assert mine > other + 0.3
    how = next(row for row in fit.plan.rows if row["name"] == "prior")
    assert ("closed form" in how["step"]) == ("closed_form" in options)


def test_the_closed_form_of_a_prior_is_its_m_step_on_the_draws_of_the_pass() -> None:
    y, _ = three_clouds(60)
    prior = mixture_prior()
    model = DeepGaussian("gaussian", 2, n_features=D, hidden=(4,), prior=prior, generator=seeded(1))
    assert model.prior_started  # it came with parameters
    alone = Mixture(ob.emissions.Gaussian(3, L))
    alone.load_state_dict(prior.state_dict())
    drawn: list[Tensor] = []
    sample = DiagonalGaussian.sample

    def spy(self: DiagonalGaussian, *args: object) -> Tensor:
        z = sample(self, *args)
        drawn.append(z.detach())
        return z

    DiagonalGaussian.sample = spy
    try:
        ob.fit(model, y, ob.VAE(closed_form=True, samples=2), batch_size=25, max_iter=1, generator=seeded(2))
    finally:
        DiagonalGaussian.sample = sample
    z = torch.cat([d.reshape(-1, 2) for d in drawn[:3]]).double()  # the pass; then comes the last evaluation
    assert len(z) == 120
    alone.maximize(alone.statistics(alone.observe(z), alone.posterior(z)))
    torch.testing.assert_close(prior.emission.mean, alone.emission.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(prior.weights, alone.weights, rtol=1e-9, atol=1e-9)


def test_an_hmm_starts_on_draws_too_and_closed_forms_are_left_to_those_who_ask() -> None:
    y, _ = three_clouds(120)
    model = DeepGaussian(
        "gaussian", 2, n_features=D, hidden=(8,), prior=HMM(ob.emissions.Gaussian(3, 2)), generator=seeded(1)
    )
    obs = ob.Observations.of(y, lengths=[40, 40, 40])
    fit = ob.fit(model, obs, ob.VAE(lr=5e-3, closed_form=True), batch_size=1, max_iter=12, generator=seeded(2))
    assert model.prior_started
    assert fit.n_items == 3
    # the states follow each other as the rows did: 0, 1, 2, 0, 1, 2, …
    assert float(model.prior.transition_matrix.max(1).values.min()) > 0.6
    short = DeepGaussian("gaussian", 2, n_features=D, hidden=(8,), prior=HMM(ob.emissions.Gaussian(3, 2)))
    ob.fit(short, obs, ob.VAE(), max_iter=0, generator=seeded(2))
    assert short.prior_started


def test_networks_in_bfloat16_and_sums_that_are_not() -> None:
    y, _ = three_clouds(120)
    bounds = []
    for autocast in (False, True):
        model = DeepGaussian("gaussian", 2, n_features=D, hidden=(8,), generator=seeded(1))
        fit = ob.fit(model, y, ob.VAE(autocast=autocast), batch_size=40, max_iter=10, generator=seeded(2))
        assert all(p.dtype == torch.float32 for p in model.parameters())
        bounds.append(fit.bound)
    assert bounds[0] != bounds[1]
    assert bounds[0] == pytest.approx(bounds[1], abs=0.1)


# --- the climb ---------------------------------------------------------------------------------------------------------


def test_a_linear_vae_reaches_what_factor_analysis_does() -> None:
    y = truth().sample(400, seeded(7))[0]
    best = FactorAnalysis(D, L)
    top = ob.fit(best, y, ob.EM(accelerate="squarem"), tol=1e-12, max_iter=2000).evidence
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(), generator=seeded(1))
    fit = ob.fit(model, y, ob.VAE(lr=1e-2), batch_size=50, max_iter=150, generator=seeded(2))
    assert fit.reason == "max_iter"
    assert math.isnan(fit.evidence)
    assert "ln p(y)" not in repr(fit)
    found = ob.bound(model, y, samples=500, generator=seeded(3)).mean()
    assert found["evidence"] == pytest.approx(top, abs=0.03)
    assert found["evidence"] < top + 0.01
    assert found["bound"] == pytest.approx(top, abs=0.05)  # rotated so that the posterior is diagonal
    assert fit.bound == pytest.approx(found["bound"], abs=0.1)
    assert fit.trace[-1].active_units == 2


def test_few_items_get_more_passes() -> None:
    y = truth().sample(40, seeded(7))[0]
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(), generator=seeded(1))
    fit = ob.fit(model, y, batch_size=8, generator=seeded(), callbacks=[lambda r: r.iteration == 2])
    assert fit.climb is not None
    assert fit.climb.limits.max_iter == 1000  # of 5 steps each
    assert ob.fit(model, y, max_iter=3, generator=seeded()).trace[-1].passes == 4  # the last one only looks


def test_what_is_climbed_in_place_of_the_bound_is_logged_beside_it() -> None:
    y = truth().sample(64, seeded(7))[0]

    def climbed(**options: object) -> list[ob.Record]:
        model = DeepGaussian("gaussian", L, n_features=D, hidden=(4,), generator=seeded(1))
        fit = ob.fit(model, y, ob.VAE(**options), batch_size=16, max_iter=4, generator=seeded(2))
        return [r for r in fit.trace if r.after == "E" and r.running]

    assert [r.trained for r in climbed()] == [None] * 4
    warm = climbed(warm_up=8)  # two passes of four steps
    assert [r.trained is None for r in warm] == [False, False, True, True]
    assert all(r.trained > r.bound for r in warm[:2])  # the KL counts for less
    weighted = climbed(estimator="importance", samples=5)
    assert all(r.trained > r.bound for r in weighted)


def test_networks_of_your_own_a_context_and_images() -> None:
    y = torch.rand(40, 16, generator=seeded()).round()
    encoder = ob.networks.convolutional((1, 4, 4), (4,), 2 * L, generator=seeded())
    model = DeepGaussian("bernoulli", L, n_features=16, encoder=encoder, decoder=nn.Linear(L, 16))
    assert math.isfinite(ob.fit(model, y, ob.VAE(), max_iter=2, generator=seeded()).bound)
    x = torch.randn(40, 3, generator=seeded(1))
    given = DeepGaussian("bernoulli", L, n_features=16, hidden=(5,), context_features=3, generator=seeded())
    obs = ob.Observations.of(y, context=x)
    ob.fit(given, obs, ob.VAE(), max_iter=3, generator=seeded())
    assert math.isfinite(ob.bound(given, obs, samples=10, generator=seeded()).mean()["gap"])
    assert given.sample(40, seeded(), context=x)[0].shape == (40, 16)
    assert float(given._rows_prior(given.observe(obs), torch.zeros(1, L)).mean.std()) > 0
    with pytest.raises(InputError, match="expected a context of 3 columns for every row, got none"):
        given.encode(y)
    with pytest.raises(InputError, match="context of 5 rows, got None"):
        given.sample(5)


def test_a_model_that_takes_a_context_is_a_likelihood() -> None:
    torch.manual_seed(0)
    inner = Mixture(ob.emissions.NeuralGaussian(nn.Linear(L, 2 * D), 2, D))
    model = DeepGaussian(ModelLikelihood(inner, L), L, hidden=(8,), decoder=nn.Identity(), generator=seeded(1))
    y, _ = three_clouds(120)
    fit = ob.fit(model, y, ob.VAE(lr=1e-2), batch_size=40, max_iter=30, generator=seeded(2))
    e_records = [r.bound for r in fit.trace if r.after == "E"]
    assert e_records[-1] > e_records[0] + 1
    obs = model.observe(y)
    z = model.q(obs).sample(2, seeded())
    found = model.log_likelihood(obs, z)
    own = inner.evidence(ob.Observations.of(y, context=z[1].detach()))
    torch.testing.assert_close(found[1].detach(), own.detach(), rtol=1e-12, atol=1e-12)
    assert model.reconstruct(y).shape == (120, D)
    assert model.sample(5, seeded())[0].shape == (5, D)
    assert math.isfinite(ob.gap_report(model, y[:10], samples=20, steps=3, generator=seeded()).gap)


def test_training_on_missing_cells_and_weights() -> None:
    y = truth().sample(60, seeded(7))[0]
    y[::3, 0] = math.nan
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(4,), generator=seeded(1))
    obs = ob.Observations.of(y, weights=torch.arange(60.0))
    fit = ob.fit(model, obs, ob.VAE(), max_iter=3, batch_size=16, generator=seeded())
    assert math.isfinite(fit.bound)
    bound = ob.bound(model, obs, samples=50, generator=seeded())
    assert bound.mean()["bound"] == pytest.approx(fit.bound, abs=0.3)
    # a weight is a repetition
    twice = ob.bound(model, torch.cat([y[:1], y[:1]]), samples=2000, generator=seeded()).mean()["bound"]
    once = ob.bound(model, ob.Observations.of(y[:1], weights=[2.0]), samples=2000, generator=seeded()).mean()["bound"]
    assert twice == pytest.approx(once, abs=0.2)


@pytest.mark.parametrize("options", [{}, {"estimator": "importance", "samples": 3, "warm_up": 5}])
@pytest.mark.parametrize("kind", ["none", "mixture", "fresh"])
def test_interrupted_and_resumed_is_uninterrupted(options: dict[str, object], kind: str, tmp_path: Path) -> None:
    y = truth().sample(60, seeded(7))[0]

    def model() -> DeepGaussian:
        new = Mixture(ob.emissions.Gaussian(2, L))
        prior = {"none": None, "mixture": mixture_prior(), "fresh": new}[kind]
        return DeepGaussian("gaussian", L, n_features=D, hidden=(4,), prior=prior, generator=seeded(1))

    def run(into: DeepGaussian, **more: object) -> ob.Fit:
        return ob.fit(into, y, ob.VAE(**options), batch_size=16, max_iter=6, generator=seeded(3), **more)

    whole = model()
    fit = run(whole)
    half = model()
    stopped = run(half, callbacks=[lambda r: r.iteration == 3], checkpoint=ob.Checkpoint(tmp_path / "c"))
    assert stopped.reason == "callback"
    going = ob.fit(half, y, resume=stopped, max_iter=6)
    from_file = ob.resume(tmp_path / "c", y)
    for other, found in ((half, going), (from_file.model, from_file)):
        assert found.bound == fit.bound
        for (name, a), b in zip(whole.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b), name


def recorded(y: Tensor, every: int | None, **more: object) -> ob.Fit:
    """Four steps of 16 rows a pass, three passes."""
    prior = Mixture(ob.emissions.Gaussian(2, L))
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(4,), prior=prior, generator=seeded(1))
    algorithm = ob.VAE(record_every=every)
    return ob.fit(model, y, algorithm, **{"batch_size": 16, "max_iter": 3, "generator": seeded(3), **more})


def test_records_within_a_pass_change_no_step() -> None:
    y = truth().sample(60, seeded(7))[0]
    whole, often = recorded(y, None), recorded(y, 3)
    for (name, a), b in zip(whole.model.state_dict().items(), often.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert whole.bound == often.bound
    running = [r for r in often.trace if r.running and r.after == "E"]
    assert [r.passes for r in running] == [0.8, 1, 1.8, 2, 2.8, 3]
    assert [r.iteration for r in running] == [1, 1, 2, 2, 3, 3]
    assert often.trace[-1].passes == 4
    passes = [r.bound for r in whole.trace if r.running and r.after == "E"]
    joined = [0.8 * a.bound + 0.2 * b.bound for a, b in zip(running[::2], running[1::2], strict=True)]  # type: ignore[operator]
    assert joined == pytest.approx(passes, rel=1e-12)
    assert [r.passes for r in recorded(y, 100).trace] == [r.passes for r in whole.trace]


def test_a_climb_interrupted_within_a_pass_ends_at_the_same_bits(tmp_path: Path) -> None:
    y = truth().sample(60, seeded(7))[0]
    whole = recorded(y, 1)
    stopped = recorded(y, 1, callbacks=[lambda r: r.passes > 1.5], checkpoint=ob.Checkpoint(tmp_path / "c"))
    assert stopped.reason == "callback"
    assert [r.passes for r in stopped.trace if r.running][-1] == pytest.approx(1 + 32 / 60)
    going = ob.fit(stopped.model, y, resume=stopped, max_iter=3)
    from_file = ob.resume(tmp_path / "c", y)
    for found in (going, from_file):
        assert found.bound == whole.bound
        assert [r.passes for r in found.trace] == [r.passes for r in whole.trace]
        for (name, a), b in zip(whole.model.state_dict().items(), found.model.state_dict().values(), strict=True):
            assert torch.equal(a, b), name


def test_records_come_every_so_many_steps_only_where_steps_are_sampled() -> None:
    with pytest.raises(Unsupported, match="record_every goes with models under a network"):
        ob.fit(Mixture(ob.emissions.Gaussian(2, L)), torch.randn(9, L), ob.VAE(record_every=2))
    with pytest.raises(InputError, match="takes the draws of a whole pass, got record_every=2"):
        ob.VAE(record_every=2, closed_form=True)
    with pytest.raises(InputError, match="record_every must be a whole number ≥ 1, got 0"):
        ob.VAE(record_every=0)


def test_grey_rows_are_drawn_anew_and_a_checkpoint_knows_how(tmp_path: Path) -> None:
    grey = (torch.rand(40, 9, generator=seeded()) * 255).to(torch.uint8)
    algorithm = ob.VAE(augment=ob.data.rebinarized)

    def run(**more: object) -> ob.Fit:
        model = DeepGaussian("bernoulli", L, n_features=9, hidden=(4,), generator=seeded(1))
        return ob.fit(model, grey, algorithm, max_iter=4, batch_size=16, generator=seeded(3), **more)

    fit = run()
    head = fit.model.decoder[-1].bias.detach()
    assert bool(head.isfinite().all())
    run(callbacks=[lambda r: r.iteration == 2], checkpoint=ob.Checkpoint(tmp_path / "c"))
    assert ob.resume(tmp_path / "c", grey).bound == fit.bound
    own = ob.VAE(augment=lambda y, g: ob.data.rebinarized(y, g))
    model = DeepGaussian("bernoulli", L, n_features=9, hidden=(4,))
    with pytest.raises(Unsupported, match="augment is a function of your own"):
        ob.fit(model, grey, own, max_iter=1, checkpoint=ob.Checkpoint(tmp_path / "d", every=0))
    with pytest.raises(InputError, match=r"in \[0, 1\], or integers 0 … 255, got -1 … 0"):
        ob.data.rebinarized(torch.tensor([[-1.0, 0.0]]))
    share = ob.data.rebinarized(torch.full((20_000, 1), 0.3), seeded()).mean()
    assert abs(float(share) - 0.3) < 5 * math.sqrt(0.21 / 20_000)


def test_a_model_file_is_the_model(tmp_path: Path) -> None:
    y = truth().sample(30, seeded(7))[0]
    for model in (
        DeepGaussian("gaussian", L, n_features=D, hidden=(4, 3), prior=hmm_prior()),
        DeepGaussian(BernoulliLikelihood(D), L, hidden=(4,), context_features=2),
        linear(truth()),
    ):
        if model.own_networks:
            ob.save(model, tmp_path / "m")
            other = ob.load(tmp_path / "m")
            assert other.title() == model.title()
        else:
            ob.save(model, tmp_path / "m")
            with pytest.raises(Unsupported, match="networks of your own"):
                ob.load(tmp_path / "m")
            other = ob.load(tmp_path / "m", into=linear(truth(correlated=True)))
            assert torch.equal(other.encode(y).mean, model.encode(y).mean)
        with pytest.raises(StoreError, match="do not fit its DeepGaussian"):
            ob.load(tmp_path / "m", into=DeepGaussian("gaussian", L, n_features=D, hidden=(5, 3)))
        for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
            assert a.dtype == b.dtype, name
            assert torch.equal(a, b), name


# --- what goes wrong -----------------------------------------------------------------------------------------------------


def test_a_step_into_nothing_names_its_site_and_leaves_the_last_good_state() -> None:
    y = truth().sample(60, seeded(7))[0]
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(4,), generator=seeded(1))
    model.initialize(y, seeded())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(
        NonFinite, match=r"VAE: expected finite numbers, got (inf|nan|-inf) in .* in step [1-4] of a pass"
    ):
        ob.fit(model, y, ob.VAE(lr=1e30), max_iter=5, batch_size=16, generator=seeded(3))
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name]), name


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("recognition.network.2.bias", "inf in q's mean in step 3"),
        ("decoder.0.bias", "a parameter after the last step in step 4"),
    ],
)
def test_the_last_good_state_is_that_of_the_last_record(name: str, site: str) -> None:
    y = truth().sample(60, seeded(7))[0]
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(4,), generator=seeded(1))
    kept: dict[str, Tensor] = {}

    def spoil(record: ob.Record) -> None:
        if 1.5 < record.passes < 2 and record.after == "M":
            with torch.no_grad():
                dict(model.named_parameters())[name].fill_(math.inf)
            kept.update({k: v.clone() for k, v in model.state_dict().items()})

    often = ob.VAE(record_every=2)
    with pytest.raises(NonFinite, match=f"{site} of a pass; the parameters are those of the last record"):
        ob.fit(model, y, often, max_iter=3, batch_size=16, generator=seeded(3), callbacks=[spoil])
    for key, t in model.state_dict().items():
        assert torch.equal(t, kept[key]), key


def test_bad_input_is_named() -> None:
    bits = DeepGaussian("bernoulli", L, n_features=3, hidden=(4,))
    table = DeepGaussian("gaussian", L, n_features=3, hidden=(4,))
    y = torch.rand(5, 3, generator=seeded())
    with pytest.raises(InputError, match=r"only 0 and 1, got 0\.\d+ in item 0 .*augment=ob.data.rebinarized"):
        ob.fit(bits, y)
    bad = y.clone()
    bad[2, 1] = math.inf
    with pytest.raises(InputError, match=r"finite numbers, got inf in item 2 .*missing"):
        ob.fit(table, bad)
    with pytest.raises(InputError, match="3 columns, got 2"):
        ob.fit(table, y[:, :2])
    wrong = DeepGaussian("gaussian", L, n_features=3, encoder=nn.Linear(7, 4))
    with pytest.raises(
        InputError, match=r"the encoder Linear cannot take inputs of shape \(5, 3\).*map \(…, 3\) to \(…, 4\)"
    ):
        ob.fit(wrong, y)
    short = DeepGaussian("gaussian", L, n_features=3, decoder=nn.Linear(2, 7))
    with pytest.raises(
        InputError, match=r"the decoder Linear must return \(1, 5, 3\) for inputs \(1, 5, 2\), got \(1, 5, 7\)"
    ):
        ob.fit(short, y, init=None)
    with pytest.raises(NoExactPosterior, match=r"ob\.VAE"):
        ob.fit(table, y, ob.EM())
    with pytest.raises(Unsupported, match="'reparameterized' or 'importance'"):
        ob.fit(table, y, ob.VAE(estimator="score", samples=2))
    with pytest.raises(NoExactPosterior, match=r"model\.encode"):
        table.posterior(y)
    with pytest.raises(InputError, match=r"likelihood must be one of .*Did you mean bernoulli"):
        DeepGaussian("bernouli", L, n_features=3)
    with pytest.raises(InputError, match="line search needs an exact L"):
        ob.fit(table, y, ob.VAE(optimizer="lbfgs"))
    with pytest.raises(InputError, match="got 40 of 20 steps"):
        ob.fit(table, y.repeat(40, 1), ob.VAE(warm_up=40), batch_size=20, max_iter=2)
    with pytest.raises(InputError, match="is exact"):
        ob.gap_report(truth(), data())
    with pytest.raises(Unsupported, match="nothing to weight"):
        ob.fit(truth(), data(), ob.VAE(estimator="importance"))


def test_a_plan_says_what_is_suspicious() -> None:
    y = torch.cat([torch.ones(50, 1), torch.randn(50, 2, generator=seeded())], 1)
    notes = ob.plan(DeepGaussian("gaussian", L, n_features=3), None, y).notes
    assert any("column 0 do not vary" in note for note in notes), notes
    y = torch.randn(50, 2, generator=seeded()) * torch.tensor([1.0, 1000.0])
    shared = DeepGaussian(GaussianLikelihood(2, shared=True), L)
    assert any("shared" in note for note in ob.plan(shared, None, y).notes)
    bits = torch.rand(50, 2, generator=seeded()).round()
    assert any("bernoulli" in note for note in ob.plan(DeepGaussian("gaussian", L, n_features=2), None, bits).notes)
    counts = torch.poisson(torch.rand(50, 2, generator=seeded()) * 100, generator=seeded())
    assert any("poisson" in note for note in ob.plan(DeepGaussian("gaussian", L, n_features=2), None, counts).notes)
    found = ob.plan(DeepGaussian("poisson", L, n_features=2), None, counts)
    assert any("negative-binomial" in note for note in found.notes)
    assert "note" in str(found)
    assert ob.plan(DeepGaussian("gaussian", L, n_features=2), None, torch.randn(50, 2, generator=seeded())).notes == ()


# --- as a user would break it ----------------------------------------------------------------------------------------------


def test_every_likelihood_has_a_model_in_double_precision() -> None:
    codes = torch.arange(30).reshape(10, 3) % 2
    model = DeepGaussian(CategoricalLikelihood([2, 3, 2]), L, hidden=(4,)).double()
    assert math.isfinite(ob.fit(model, codes, max_iter=1, generator=seeded()).bound)
    x = torch.randn(10, 2, generator=seeded())
    given = DeepGaussian("gaussian", L, n_features=3, hidden=(4,), context_features=2).double()
    obs = ob.Observations.of(codes.double(), context=x)
    ob.fit(given, obs, max_iter=1, generator=seeded())
    assert bool(ob.latent_use(given, obs).kl.isfinite().all())


def test_a_column_far_from_0_is_fitted_as_well_as_one_at_0() -> None:
    y = (truth().sample(40, seeded(7))[0] * 100).round()
    bounds = []
    for far in (0.0, 1e12):
        model = DeepGaussian("gaussian", L, n_features=D, hidden=(4,), generator=seeded(1))
        bounds.append(ob.fit(model, y + far, max_iter=3, generator=seeded(2)).bound)
    assert bounds[0] == pytest.approx(bounds[1], abs=0.01)


def test_a_second_start_forgets_the_first() -> None:
    y, x = truth().sample(30, seeded(7))[0], torch.randn(30, 2, generator=seeded())
    for options in ({"context_features": 2}, {"prior": Mixture(ob.emissions.Gaussian(2, L))}):
        model = DeepGaussian("gaussian", L, n_features=D, hidden=(4,), **options)
        obs = ob.Observations.of(y, context=x if "context_features" in options else None)
        states = []
        for seed in (3, 4):
            ob.fit(model, obs, ob.VAE(lr=0.1), max_iter=4, generator=seeded(seed))
            model.initialize(obs, seeded(5))
            states.append({k: v.clone() for k, v in model.state_dict().items() if not k.startswith("prior.")})
        for name, t in states[0].items():
            assert torch.equal(t, states[1][name]), name
        assert model.prior is None or not bool(model.prior.initialized)


def test_a_given_q_covers_the_rows_of_sequences() -> None:
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(5,), prior=hmm_prior()).double()
    y = [data(250), data(3, seed=2), data(40, seed=3)]  # in more than one block
    given = ob.bound(model, y, model.encode(y), samples=4, generator=seeded())
    torch.testing.assert_close(given.value, ob.bound(model, y, samples=4, generator=seeded()).value)
    with pytest.raises(InputError, match="must cover the 293 rows of y, got 250"):
        ob.bound(model, y, model.encode(y[0]))
    with pytest.raises(InputTypeError, match="network or a Posterior over all items, got Tensor"):
        ob.bound(model, y, torch.zeros(293, L))


def test_gaps_are_split_where_gradients_are_off() -> None:
    model, y = linear(truth()), data()
    with torch.no_grad():
        off = ob.gap_report(model, y, samples=10, steps=3, generator=seeded())
    assert off == ob.gap_report(model, y, samples=10, steps=3, generator=seeded())


def test_estimates_are_refused_where_they_mean_nothing() -> None:
    with pytest.raises(InputError, match=r"ln p\(y\) of a FactorAnalysis is exact\. Use model\.evidence"):
        ob.bracket(truth())
    with pytest.raises(InputError, match="latent_use: expected a model whose q is a network, got a FactorAnalysis"):
        ob.latent_use(truth(), data())
    with pytest.raises(InputError, match="expected a model of rows, got one of sequences"):
        ob.bracket(DeepGaussian("gaussian", L, n_features=D, hidden=(4,), prior=hmm_prior()), 5)
    with pytest.raises(InputError, match="items that need no context"):
        ob.bracket(DeepGaussian("gaussian", L, n_features=D, hidden=(4,), context_features=1), 5)
    with pytest.raises(InputError, match="bracket: samples must be a whole number ≥ 1, got 0"):
        ob.bracket(linear(truth()), 5, samples=0)


def test_a_context_is_finite_and_has_its_columns() -> None:
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(4,), context_features=1)
    y, x = data(), torch.zeros(6, 1)
    x[4] = math.nan
    with pytest.raises(
        InputError, match=r"context column 0 must hold finite numbers, got nan in item 4 \(counted from 0\)"
    ):
        model.encode(ob.Observations.of(y, context=x))
    with pytest.raises(InputError, match=r"context of 1 columns for every row, got shape \(6,\)"):
        model.encode(ob.Observations.of(y, context=torch.zeros(6)))
    with pytest.raises(InputError, match=r"1 columns of context of 5 rows, got shape \(5, 2\)"):
        model.sample(5, seeded(), context=torch.zeros(5, 2))
    assert model.sample(5, seeded(), context=np.zeros((5, 1)))[0].shape == (5, D)
    with pytest.raises(InputError, match="n must be a whole number ≥ 0, got -1"):
        model.sample(-1)
    blind = DeepGaussian("gaussian", L, n_features=D, hidden=(4,))
    with pytest.raises(InputError, match=r"does not read\. Build it with context_features=3, or leave the context out"):
        ob.fit(blind, ob.Observations.of(y, context=torch.zeros(6, 3)), ob.VAE())
    with pytest.raises(InputError, match=r"got a context, which this model does not read\. Leave it out"):
        blind.sample(5, seeded(), context=torch.zeros(5, 3))


def test_draws_are_sequences_where_the_prior_is_over_sequences() -> None:
    model = DeepGaussian("gaussian", L, n_features=D, hidden=(5,), prior=hmm_prior()).double()
    assert isinstance(model.prior, HMM)
    each = [1] * 12
    _, z = model.sample(12, seeded(), lengths=each)
    torch.testing.assert_close(z, model.prior.sample(12, seeded(), lengths=each)[0])
    assert not torch.equal(z, model.sample(12, seeded())[1])
    with pytest.raises(InputError, match="lengths must add up to the 6 steps asked for"):
        model.sample(6, lengths=[2, 3])
    with pytest.raises(InputError, match="lengths go with a prior over sequences"):
        linear(truth()).sample(6, lengths=[2, 4])


@pytest.mark.parametrize(
    "prior",
    [ob.emissions.Poisson(2, L), ob.emissions.Bernoulli(2, L), ob.emissions.Categorical(2, [2, 2])],
    ids=["poisson", "bernoulli", "categorical"],
)
def test_a_prior_of_whole_numbers_is_none_of_vectors(prior: ob.emissions.Emission) -> None:
    for model in (Mixture(prior), HMM(prior)):
        with pytest.raises(InputError, match="must be a model of real columns, those of z, got"):
            DeepGaussian("gaussian", L, n_features=3, prior=model)


def test_arguments_that_cannot_be_meant_are_named() -> None:
    moving = HMM(ob.emissions.Gaussian(2, L), transition=ob.models.NeuralTransition(nn.Linear(1, 4), 2))
    with pytest.raises(InputError, match="prior must not read a context"):
        DeepGaussian("gaussian", L, n_features=3, prior=moving)
    with pytest.raises(InputError, match=r"hidden must be a size for each layer, such as \(8,\), got 8"):
        DeepGaussian("gaussian", L, n_features=3, hidden=8)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="likelihood must be a Likelihood or the name of one, got None"):
        DeepGaussian(None, L)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="likelihood has 3 columns, got n_features=4"):
        DeepGaussian(BernoulliLikelihood(3), L, n_features=4)
    model, y = DeepGaussian("gaussian", L, n_features=D, hidden=(4,)), data()
    with pytest.raises(InputError, match=r"known parts of z \(allowed\) have no meaning"):
        ob.fit(model, ob.Observations.of(y, allowed=torch.ones(6, 2)))
    with pytest.raises(InputError, match=r"z must be \(6, 2\), or that for each of S draws, got \(5, 2\)"):
        model.log_joint(y, torch.zeros(5, L))
    assert model.log_joint(y, np.zeros((6, L))).shape == (6,)  # type: ignore[arg-type]


def test_what_cannot_work_is_said_before_the_climb() -> None:
    y = torch.randn(5, 3, generator=seeded())
    many = DeepGaussian("gaussian", 2, n_features=3, hidden=(4,), prior=Mixture(ob.emissions.Gaussian(8, 2)))
    with pytest.raises(InputError, match="at least 8 rows here, got 5"):
        ob.fit(many, y, max_iter=20)
    with pytest.raises(InputError, match=r"brings its own recognition network, got Linear.*encoder=network"):
        ob.fit(DeepGaussian("gaussian", 2, n_features=3), y, ob.VAE(nn.Linear(3, 4)))
    with pytest.raises(InputError, match="augment must be a function"):
        ob.VAE(augment=3)  # type: ignore[arg-type]
    with pytest.raises(NoExactPosterior, match="criteria need ln p"):
        ob.choose([DeepGaussian("gaussian", 1, n_features=3), DeepGaussian("gaussian", 2, n_features=3)], y)
    with torch.no_grad():
        assert math.isfinite(ob.fit(DeepGaussian("gaussian", 1, n_features=3, hidden=(4,)), y, max_iter=2).bound)


def test_outside_of_steps_no_item_depends_on_its_company() -> None:
    y = torch.randn(30, 3, generator=seeded())
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 4))
    model = DeepGaussian("gaussian", 2, n_features=3, encoder=encoder)
    ob.fit(model, y, max_iter=3, batch_size=10, generator=seeded())
    assert not model.training
    torch.testing.assert_close(model.encode(y).mean[:1], model.encode(y[:1]).mean)
    with pytest.raises(InputError, match="the encoder Sequential cannot take inputs of shape"):
        ob.fit(model, y, max_iter=2, batch_size=29, generator=seeded())


def test_a_second_start_finds_a_given_prior_as_it_was() -> None:
    y, _ = three_clouds(60)
    prior = mixture_prior()
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    model = DeepGaussian("gaussian", 2, n_features=D, hidden=(4,), prior=prior, generator=seeded(1))
    model.initialize(y, seeded())
    ob.fit(model, y, ob.VAE(lr=1e-2), max_iter=3, batch_size=20, generator=seeded())
    assert any(not torch.equal(v, before[k]) for k, v in prior.state_dict().items())
    model.initialize(y, seeded())
    for name, t in prior.state_dict().items():
        assert torch.equal(t, before[name]), name
