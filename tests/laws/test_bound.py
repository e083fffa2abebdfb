"""Laws 1 and 2: both readings agree; everything that a structure says equals brute force."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from zoo import DISCRETE, MIXTURES, ZOO, Case

import onebound as ob
from onebound.bound import mean_bound
from onebound.numerics import to_tril
from onebound.structures import Categorical, Chain, ChainPotentials, FullGaussian, Quadratic, Structure

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def random_q(case: Case, model: ob.models.Model, obs: ob.Observations) -> Structure:
    """Any q, not only the best one, inside what the model allows."""
    w, generator = model.log_potentials(obs), case.generator()
    if isinstance(w, Quadratic):
        n, size = w.mean.shape
        root = 0.3 * torch.randn(n, size, size, dtype=torch.float64, generator=generator)
        return FullGaussian.of(torch.randn(n, size, dtype=torch.float64, generator=generator), to_tril(root))
    if isinstance(w, ChainPotentials):
        logits = w.with_parts(torch.randn(part.shape, dtype=torch.float64, generator=generator) for part in w.parts)
        return Chain(logits).restrict(w.detach())
    return Categorical(torch.randn(w.shape, dtype=torch.float64, generator=generator)).restrict(w.detach())


def probabilities(q: Structure, model: ob.models.Model, obs: ob.Observations) -> np.ndarray:
    """q(z) for every item and every z that it can have.  (N, Z)"""
    z, counted = oracles.all_z(model, obs)
    return (q.log_prob(torch.from_numpy(z)).detach().exp().numpy() * counted).T


@pytest.mark.parametrize("case", ZOO, ids=repr)
def test_evidence_equals_brute_force(case: Case) -> None:
    model, obs = case.model(), case.observations()
    wanted = oracles.log_evidence(model, obs)
    np.testing.assert_allclose(model.evidence(obs).detach(), wanted, **EXACT)


@pytest.mark.parametrize("case", ZOO, ids=repr)
def test_the_means_of_all_items_are_those_of_each(case: Case) -> None:
    model, obs = case.model(), case.observations()
    each, together = ob.bound(model, obs).mean(), mean_bound(model, model.observe(obs)).mean()
    assert together == pytest.approx(each, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("case", DISCRETE, ids=repr)
def test_both_readings_of_the_bound_agree_for_any_q(case: Case) -> None:
    model, obs = case.model(), case.observations()
    q = random_q(case, model, obs)
    joint = oracles.log_joint(model, obs)
    r = probabilities(q, model, obs)
    bound = ob.bound(model, obs, q)
    np.testing.assert_allclose(bound.value, oracles.evidence(joint) - oracles.kl(r, oracles.posterior(joint)), **EXACT)
    np.testing.assert_allclose(bound.value, oracles.expected(r, joint) + oracles.entropy(r), **EXACT)
    np.testing.assert_allclose(bound.gap, oracles.kl(r, oracles.posterior(joint)), **EXACT)
    np.testing.assert_allclose(bound.evidence - bound.gap, bound.value, **EXACT)
    assert bool((bound.value <= bound.evidence + 1e-12 * bound.evidence.abs()).all())


@pytest.mark.parametrize("case", ZOO, ids=repr)
def test_the_gap_closes_exactly_at_the_posterior(case: Case) -> None:
    model, obs = case.model(), case.observations()
    exact = ob.bound(model, obs)
    assert torch.equal(exact.gap, torch.zeros_like(exact.gap))
    np.testing.assert_allclose(exact.value, exact.evidence, **EXACT)
    if case not in DISCRETE or (model.n_components > 1 and obs.allowed is None):  # some freedom is left
        assert bool((ob.bound(model, obs, random_q(case, model, obs)).gap > 1e-8).any())


@pytest.mark.parametrize("case", DISCRETE, ids=repr)
def test_posterior_marginals_entropy_and_argmax_equal_brute_force(case: Case) -> None:
    model, obs = case.model(), case.observations()
    joint = oracles.log_joint(model, obs)
    p = model.posterior(obs)
    every = oracles.posterior(joint)
    np.testing.assert_allclose(probabilities(p, model, obs), every, **EXACT)
    np.testing.assert_allclose(p.entropy.detach(), oracles.entropy(every), **EXACT)
    np.testing.assert_allclose(p.log_prob(p.argmax).detach().exp(), every.max(-1), **EXACT)
    z, counted = oracles.all_z(model, obs)
    np.testing.assert_allclose(
        model.log_joint(obs, torch.from_numpy(z)).detach().T[counted.T], joint[counted.T], **EXACT
    )
    marginals = p.marginals.detach()
    states = marginals.unary if isinstance(marginals, ChainPotentials) else marginals  # (rows, K)
    np.testing.assert_allclose(states, oracles.row_posterior(model, obs), **EXACT)


@pytest.mark.parametrize("case", ZOO, ids=repr)
def test_entropy_from_factors_equals_log_partition_less_expected_potentials(case: Case) -> None:
    model, obs = case.model(), case.observations()
    p = model.posterior(obs)
    other = p.log_partition - p.expected(p.log_potentials)
    assert bool(((p.entropy - other).abs() <= 1e-10 * (1 + p.log_partition.abs())).all())


@pytest.mark.parametrize("case", DISCRETE[:12], ids=repr)
def test_sampling_frequencies_equal_the_marginals(case: Case) -> None:
    model, obs = case.model(), case.observations()
    p = model.posterior(obs)
    n = 20_000
    z = p.sample(n, case.generator())
    share = torch.nn.functional.one_hot(z, model.n_components).double().mean(0)
    m = p.marginals.detach()
    error = (m * (1 - m) / n).sqrt()
    assert bool(((share - m).abs() <= 5 * error + 1e-12).all())


@pytest.mark.parametrize("case", [c for c in MIXTURES if c.name != "regressions" and "zeros" not in c.name], ids=repr)
def test_model_samples_have_the_models_own_moments(case: Case) -> None:
    model = case.model()
    n = 20_000
    y, z = model.sample(n, case.generator())
    share = torch.bincount(z, minlength=model.n_components) / n
    assert bool(((share - model.weights).abs() <= 5 * (model.weights * (1 - model.weights) / n).sqrt() + 1e-12).all())
    # E ∇ ln p(y) = 0 under the model's own samples: the score test of the sampler against the density.
    loss = model.evidence(y[:4000]) if model.emission.n_features else None
    assert loss is not None
    grads = [torch.zeros(0)]
    parameters = list(model.parameters())
    total = torch.autograd.grad(loss.sum(), parameters, retain_graph=True)
    for i, p in enumerate(parameters):
        rows = torch.stack([torch.autograd.grad(loss[j], p, retain_graph=True)[0].flatten() for j in range(300)])
        sd = rows.std(0) * math.sqrt(len(loss))
        grads.append((total[i].flatten().abs() / sd.clamp_min(1e-9 * len(loss)))[sd > 1e-9])
    worst = torch.cat(grads)
    assert bool((worst < 6).all()), worst.max()


def test_infeasible_items_contribute_nothing_and_never_touch_their_neighbours() -> None:
    w = torch.tensor([[0.3, -0.2], [-math.inf, -math.inf], [0.0, -math.inf]], dtype=torch.float64, requires_grad=True)
    p = Categorical(w)
    assert p.log_partition[1] == -math.inf
    assert p.entropy.tolist()[1:] == [0.0, 0.0]
    assert p.marginals[1].tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(p.log_partition[[0, 2]].sum() + p.entropy.sum() + p.expected(w)[[0, 2]].sum(), w)
    assert gradient[1].tolist() == [0.0, 0.0]
    assert not gradient.isnan().any()
    assert p.kl(Categorical(torch.zeros(3, 2, dtype=torch.float64)))[1] == 0


def test_models_raise_infeasible_naming_the_items_unless_told_to_keep_them() -> None:
    model = ob.models.Mixture(ob.emissions.Bernoulli(1, 1)).assign([1.0], probability=[[0.0]])
    with pytest.raises(ob.errors.Infeasible, match=r"1 of 3 items \(1\)"):
        model.evidence([[0.0], [1.0], [0.0]])
    model.keep_infeasible = True
    assert model.evidence([[0.0], [1.0], [0.0]]).tolist() == [0.0, -math.inf, 0.0]


def test_a_q_outside_the_model_has_a_bound_of_minus_infinity_and_an_infinite_gap() -> None:
    q = Categorical(torch.zeros(1, 2, dtype=torch.float64))
    p = Categorical(torch.tensor([[0.0, -math.inf]], dtype=torch.float64))
    assert q.expected(p.log_potentials).item() == -math.inf
    assert q.kl(p).item() == math.inf


def test_a_nan_is_an_error_that_names_the_site() -> None:
    with pytest.raises(ob.errors.NonFinite, match=r"Categorical.log_partition.*\[1\]"):
        _ = Categorical(torch.tensor([[0.0, 1.0], [math.nan, 0.0]])).log_partition


def test_an_item_that_cannot_be_has_a_bound_of_minus_infinity_like_its_evidence() -> None:
    model = ob.models.Mixture(ob.emissions.Bernoulli(1, 1), keep_infeasible=True).assign([1.0], probability=[[0.0]])
    b = ob.bound(model, [[0.0], [1.0]])
    assert b.value.tolist() == b.evidence.tolist() == [0.0, -math.inf]
    assert b.gap.tolist() == [0.0, 0.0]


def test_a_given_q_is_taken_at_its_word_and_a_network_is_kept_to_what_the_model_allows() -> None:
    model = ob.models.Mixture(ob.emissions.Bernoulli(2, 1))
    obs = ob.Observations.of([[1.0]], allowed=[[False, True]])
    half = Categorical(torch.zeros(1, 2, dtype=torch.float64))
    assert ob.bound(model, obs, half).value.item() == -math.inf
    assert ob.bound(model, obs, half).gap.item() == math.inf
    assert ob.bound(model, obs, lambda block: half).gap.item() == 0.0
    nowhere = Categorical(torch.full((1, 2), -math.inf, dtype=torch.float64))
    assert ob.bound(model, [[1.0]], nowhere).value.item() == -math.inf
    assert ob.bound(model, [[1.0]], nowhere).gap.item() == math.inf
