"""Laws 3 and 4: Fisher's identity, derivatives, and closed-form M steps that are stationary."""

from __future__ import annotations

import math

import pytest
import torch
from test_bound import random_q
from torch.autograd import gradcheck, gradgradcheck
from zoo import CLOSED, ZOO, Case

import onebound as ob
from onebound.numerics import from_tril, logsumexp, to_tril, weighted
from onebound.structures import Categorical, Structure


@pytest.mark.parametrize("case", ZOO, ids=repr)
def test_fishers_identity(case: Case) -> None:
    """∇ ln p(y) = E_posterior ∇ ln p(z, y): with q held, and from the statistics where they suffice."""
    model, obs = case.model(), case.observations()
    parameters = list(model.parameters())
    weights = obs.weights

    def gradient(value: torch.Tensor) -> list[torch.Tensor]:
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    wanted = gradient((weights * model.evidence(obs)).sum())
    q = model.posterior(obs).detach()
    held = gradient((weights * q.expected(model.log_potentials(obs))).sum())
    for a, b in zip(wanted, held, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    if all(p.sufficient for p in model.parts()):
        from_statistics = gradient(model.expected_log_joint(model.statistics(obs, q)))
        for a, b in zip(wanted, from_statistics, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("case", ZOO, ids=repr)
def test_evidence_has_the_gradient_that_finite_differences_have(case: Case) -> None:
    model, obs = case.model(), case.observations()
    for name, p in model.named_parameters():

        def evidence(value: torch.Tensor, name: str = name) -> torch.Tensor:
            return torch.func.functional_call(_Evidence(model), {f"model.{name}": value}, (obs,))

        assert gradcheck(evidence, (p.detach().clone().requires_grad_(),), atol=1e-5, rtol=1e-4)


class _Evidence(torch.nn.Module):
    def __init__(self, model: ob.models.Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, obs: ob.Observations) -> torch.Tensor:
        return self.model.evidence(obs)


@pytest.mark.parametrize("case", [c for c in CLOSED if c.name.startswith(("full", "tied", "diag", "spher"))], ids=repr)
def test_evidence_is_differentiable_in_y(case: Case) -> None:
    model, obs = case.model(), case.observations()
    y = obs.y[~obs.y.isnan().any(-1)].clone().requires_grad_()
    assert gradcheck(lambda rows: model.emission.log_prob(rows), (y,), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("forbid", [False, True])
def test_the_log_partition_is_twice_differentiable_and_the_rest_once(forbid: bool) -> None:
    w = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(4, 3, dtype=torch.bool)
    if forbid:
        mask[0, 0] = mask[1, 1:] = True

    def structure(w: torch.Tensor) -> Categorical:
        return Categorical(w.masked_fill(mask, -math.inf))

    w.requires_grad_()
    assert gradcheck(lambda w: structure(w).log_partition, (w,))
    assert gradgradcheck(lambda w: structure(w).log_partition, (w,))
    assert gradcheck(lambda w: structure(w).marginals, (w,))
    assert gradcheck(lambda w: structure(w).entropy, (w,))
    other = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert gradcheck(lambda w, v: structure(w).expected(v), (w, other))
    assert gradcheck(lambda w, v: structure(w).kl(structure(v)), (w, other))


def test_marginals_that_follow_from_the_log_partition_are_the_structures_own() -> None:
    q = Categorical(torch.tensor([[0.1, -2.0, 3.0], [-math.inf, 0.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(Structure.marginals.fget(q), q.marginals, rtol=1e-14, atol=1e-15)  # type: ignore[attr-defined]
    p = Categorical(torch.tensor([[1.0, 0.0, 0.5], [-math.inf, 3.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(Structure.kl(q, p), q.kl(p), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_after_a_closed_form_m_step_the_gradient_is_zero(case: Case) -> None:
    model, obs = case.model(), case.observations()
    with torch.no_grad():
        statistics = model.statistics(obs, random_q(case, model, obs))
        repairs = model.maximize(statistics)
    objective = model.expected_log_joint(statistics) + model.log_prior()
    found = torch.autograd.grad(objective, list(model.parameters()), allow_unused=True)
    if not any("floor" in r for r in repairs):
        for g in found:
            assert g is None or float(g.abs().max()) < 1e-8 * (1 + obs.total_weight)


@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_no_parameters_nearby_beat_the_closed_form(case: Case) -> None:
    model, obs = case.model(), case.observations()
    generator = case.generator()
    with torch.no_grad():
        statistics = model.statistics(obs, random_q(case, model, obs))
        model.maximize(statistics)
        best = float(model.expected_log_joint(statistics) + model.log_prior())
        start = [p.clone() for p in model.parameters()]
        for scale in (1e-3, 1e-2, 0.1):
            for p, s in zip(model.parameters(), start, strict=True):
                p.copy_(s + scale * torch.randn(p.shape, dtype=p.dtype, generator=generator))
            assert float(model.expected_log_joint(statistics) + model.log_prior()) <= best + 1e-9 * abs(best)


@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_statistics_evaluate_the_bound_without_another_pass(case: Case) -> None:
    """Where q covers z alone, under any parameters; cells that q completes make it a lower bound once they move."""
    model, obs = case.model(), case.observations()
    q = random_q(case, model, obs)

    def bound() -> torch.Tensor:
        each = obs.weights * (q.expected(model.log_potentials(obs)) + q.entropy)
        return each[obs.weights > 0].sum()

    with torch.no_grad():
        s = model.statistics(obs, q)
        torch.testing.assert_close(model.expected_log_joint(s) + s.tensor("entropy"), bound(), rtol=1e-11, atol=1e-9)
        before = model.expected_log_joint(s)
        model.maximize(s)  # and under parameters that have moved since
        if s.tensor("entropy") == (obs.weights * q.entropy).sum():
            wanted = bound() - s.tensor("entropy")
            torch.testing.assert_close(model.expected_log_joint(s), wanted, rtol=1e-10, atol=1e-8)
        else:
            assert before + s.tensor("entropy") < model.expected_log_joint(s) + s.tensor("entropy") < bound()


@pytest.mark.parametrize("samples", [2, 8])
def test_the_score_estimator_is_unbiased(samples: int) -> None:
    """z-score of the sampled gradient against the enumerated one, in Ψ and in Θ."""
    logits = torch.randn(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    w = torch.randn(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    exact = ob.Amortized(estimator="enumerated").surrogate(Categorical(logits), w, None)
    wanted = torch.autograd.grad(exact.sum(), (logits, w))
    n = 20_000
    many, potentials = (
        logits.detach().expand(n, -1).clone().requires_grad_(),
        w.detach().expand(n, -1).clone().requires_grad_(),
    )
    e = ob.Amortized(estimator="score", samples=samples)
    value = e.surrogate(Categorical(many), potentials, torch.Generator().manual_seed(5))
    for estimate, truth in zip(torch.autograd.grad(value.sum(), (many, potentials)), wanted, strict=True):
        error = estimate.std(0) / math.sqrt(n)
        assert bool(((estimate.mean(0) - truth[0]).abs() <= 5 * error).all())


def test_the_leave_one_out_baseline_lowers_the_variance() -> None:
    """Against the plain score function, which the same draws give without the baseline."""
    logits = torch.zeros(5000, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64).expand(5000, 3)
    q = Categorical(logits)
    value = ob.Amortized(estimator="score", samples=4).surrogate(q, w, torch.Generator().manual_seed(0))
    (with_baseline,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
    z = q.sample(4, torch.Generator().manual_seed(0))
    f = (w.gather(-1, z.T).T - q.log_prob(z)).detach()
    (without,) = torch.autograd.grad((f * q.log_prob(z)).mean(0).sum(), logits)
    assert float(with_baseline.var(0).sum()) < 0.2 * float(without.var(0).sum())


def test_numerics_equal_their_plain_twins() -> None:
    rows = [[0.0, -1.0, 800.0], [-math.inf, -1000.0, -1000.5], [-math.inf] * 3, [-745.0, -746.0, -math.inf]]
    for row in rows:
        top = max(row)
        plain = top if top == -math.inf else top + math.log(math.fsum(math.exp(x - top) for x in row))
        assert math.isclose(float(logsumexp(torch.tensor(row, dtype=torch.float64))), plain, rel_tol=1e-15)
    p, x = [0.0, 0.5, 0.0, 1.0], [-math.inf, 2.0, math.inf, -math.inf]
    wanted = [0.0 if a == 0 else a * b for a, b in zip(p, x, strict=True)]
    assert weighted(torch.tensor(p), torch.tensor(x)).tolist() == wanted
    raw = torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(from_tril(to_tril(raw)), raw.tril(), rtol=1e-14, atol=1e-14)
