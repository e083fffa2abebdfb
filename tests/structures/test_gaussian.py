"""z as a vector: what the quadratic log-potentials say equals SciPy's densities and plain linear algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats as st
import torch
from torch.autograd import gradcheck, gradgradcheck

import onebound as ob
from onebound.numerics import to_tril
from onebound.structures import DiagonalGaussian, FullGaussian, Gaussian, Quadratic

EXACT = {"rtol": 1e-10, "atol": 1e-10}
N, L = 4, 3


def parts(seed: int, form: str, shared: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    n = 1 if shared else N
    return draw(N, L), draw(n, L) if form == "diagonal" else to_tril(0.5 * draw(n, L, L)), draw(N)


def gaussian(seed: int, form: str, shared: bool = False) -> Gaussian:
    w = Quadratic(*parts(seed, form, shared))
    return DiagonalGaussian(w) if form == "diagonal" else FullGaussian(w)


FORMS = [(form, shared) for form in ("diagonal", "full") for shared in (False, True)]


@pytest.mark.parametrize(("form", "shared"), FORMS)
def test_density_entropy_and_partition_are_scipys(form: str, shared: bool) -> None:
    q, z = gaussian(0, form, shared), torch.randn(5, N, L, dtype=torch.float64)
    w = q.log_potentials
    for n in range(N):
        peer = st.multivariate_normal(q.mean[n].numpy(), q.covariance[n].numpy())
        np.testing.assert_allclose(q.log_prob(z)[:, n], peer.logpdf(z[:, n]), **EXACT)
        np.testing.assert_allclose(q.entropy[n], peer.entropy(), **EXACT)
        np.testing.assert_allclose(q.variance[n], np.diag(q.covariance[n]), **EXACT)
        # exp w is the density times Z, at any point
        np.testing.assert_allclose(w.at(z)[:, n] - q.log_prob(z)[:, n], float(q.log_partition[n]), **EXACT)
    assert torch.equal(q.argmax, q.mean)


@pytest.mark.parametrize(("other", "other_shared"), FORMS)
@pytest.mark.parametrize(("form", "shared"), FORMS)
def test_expectations_and_divergence_are_those_of_their_moments(
    form: str, shared: bool, other: str, other_shared: bool
) -> None:
    q, p = gaussian(0, form, shared), gaussian(1, other, other_shared)
    w = p.log_potentials
    for n in range(N):
        precision, apart = np.linalg.inv(p.covariance[n].numpy()), (q.mean[n] - p.mean[n]).numpy()
        square = np.trace(precision @ q.covariance[n].numpy()) + apart @ precision @ apart
        np.testing.assert_allclose(q.expected(w)[n], float(w.peak[n]) - 0.5 * square, **EXACT)
        volumes = np.linalg.slogdet(p.covariance[n])[1] - np.linalg.slogdet(q.covariance[n])[1]
        np.testing.assert_allclose(q.kl(p)[n], 0.5 * (square - L + volumes), **EXACT)
    first, second = q.marginals
    np.testing.assert_allclose(second - first.unsqueeze(-1) * first.unsqueeze(-2), q.covariance, **EXACT)
    # both readings: E_q w + H(q) = ln Z − KL
    torch.testing.assert_close(q.expected(w) + q.entropy, p.log_partition - q.kl(p), **EXACT)
    assert torch.equal(q.kl(q), torch.zeros(N, dtype=torch.float64))
    if isinstance(q, DiagonalGaussian):
        nothing = torch.zeros(1, L, dtype=torch.float64)
        standard = DiagonalGaussian.of(nothing, nothing)
        torch.testing.assert_close(q.kl_from_standard(), q.kl(standard), **EXACT)
        torch.testing.assert_close(standard.log_partition, torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize(("form", "shared"), FORMS)
def test_draws_have_the_moments_of_the_density_and_carry_its_gradient(form: str, shared: bool) -> None:
    """Equation (3): z = g(η). The gradient of E f(z) for f quadratic is known; drawn, it must be that within its error."""
    n = 100_000
    mean, root, peak = parts(2, form, shared)
    mean.requires_grad_()
    root.requires_grad_()
    q = type(gaussian(2, form, shared))(Quadratic(mean, root, peak))
    z = q.sample(n, torch.Generator().manual_seed(3))
    error = (q.variance / n).sqrt()
    assert bool(((z.mean(0) - q.mean).abs() < 5 * error).all())
    p = gaussian(4, "full").log_potentials
    each = p.at(z)  # (S, N)
    exact = torch.autograd.grad(q.expected(p).sum(), (mean, root), retain_graph=True)
    batches = [torch.autograd.grad(part.mean(0).sum(), (mean, root), retain_graph=True) for part in each.split(2000)]
    for i, wanted in enumerate(exact):
        drawn = torch.stack([b[i] for b in batches])
        se = drawn.std(0) / math.sqrt(len(drawn))
        assert bool(((drawn.mean(0) - wanted).abs() <= 5 * se + 1e-9).all())


@pytest.mark.parametrize("form", ["diagonal", "full"])
def test_sampled_and_closed_entropy_agree(form: str) -> None:
    q = gaussian(5, form)
    n = 50_000
    surprise = -q.log_prob(q.sample(n, torch.Generator().manual_seed(6)))
    assert bool(((surprise.mean(0) - q.entropy).abs() < 5 * surprise.std(0) / math.sqrt(n)).all())


@pytest.mark.parametrize("form", ["diagonal", "full"])
def test_derivatives(form: str) -> None:
    given = tuple(t.requires_grad_() for t in parts(7, form))
    make = type(gaussian(7, form))
    other = gaussian(8, "full")

    def lower(root: torch.Tensor) -> torch.Tensor:
        return root if form == "diagonal" else root.tril()

    def of(mean: torch.Tensor, root: torch.Tensor, peak: torch.Tensor) -> Gaussian:
        return make(Quadratic(mean, lower(root), peak))

    assert gradcheck(lambda *g: of(*g).log_partition, given)
    assert gradgradcheck(lambda *g: of(*g).log_partition, given)
    assert gradcheck(lambda *g: of(*g).entropy, given)
    assert gradcheck(lambda *g: of(*g).expected(other.log_potentials), given)
    assert gradcheck(lambda *g: of(*g).kl(other), given)


def test_selection_and_refusal() -> None:
    for form, shared in FORMS:
        q = gaussian(9, form, shared)
        part = q.select(torch.tensor([2, 0]))
        torch.testing.assert_close(part.entropy, q.entropy[[2, 0]])
        torch.testing.assert_close(part.mean, q.mean[[2, 0]])
        torch.testing.assert_close(part.log_partition, q.log_partition[[2, 0]])
        with pytest.raises(ob.errors.Unsupported, match="no density"):
            q.empirical(q.sample(2))
        assert q.restrict(q.log_potentials) is q
