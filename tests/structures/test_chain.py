"""Chains: everything that they say equals the sum over all paths, and every derivative that they promise is right."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from onebound.errors import InputError, NonFinite, Unsupported
from onebound.structures import Categorical, Chain, ChainPotentials, chain_loops

INF = math.inf
EXACT = {"rtol": 1e-10, "atol": 1e-10}
SHAPES = [(3, (4, 1, 0, 5)), (1, (3, 1)), (2, (6,)), (4, (1, 1, 1)), (3, (0, 0, 2))]


def potentials(k: int, lengths: tuple[int, ...], *, stepwise: bool = False, forbid: float = 0.0) -> ChainPotentials:
    """Random ones, a share `forbid` of them −inf."""
    g = torch.Generator().manual_seed(17 * k + sum(lengths) + stepwise)
    rows = sum(lengths)

    def some(*shape: int) -> Tensor:
        x = 2 * torch.randn(*shape, dtype=torch.float64, generator=g)
        return x.masked_fill(torch.rand(shape, generator=g) < forbid, -INF)

    return ChainPotentials(some(k), some(*((rows,) if stepwise else ()), k, k), some(rows, k), torch.tensor(lengths))


def paths_of(w: ChainPotentials, n: int) -> list[tuple[tuple[int, ...], float]]:
    """Every path of sequence n with its potential, by plain sums."""
    a, b, k = int(w.ends[n]), int(w.ends[n + 1]), len(w.start)
    found = []
    for z in itertools.product(range(k), repeat=b - a):
        score = 0.0 if not z else float(w.start[z[0]]) + float(w.unary[a, z[0]])
        for t in range(1, b - a):
            step = w.transition if w.transition.ndim == 2 else w.transition[a + t]
            score += float(step[z[t - 1], z[t]]) + float(w.unary[a + t, z[t]])
        found.append((z, score))
    return found


def brute(w: ChainPotentials, n: int) -> tuple[float, list[tuple[tuple[int, ...], float]]]:
    """ln Z, and the paths with their probabilities."""
    paths = paths_of(w, n)
    top = max(score for _, score in paths)
    if top == -INF:
        return -INF, [(z, 0.0) for z, _ in paths]
    log_z = top + math.log(math.fsum(math.exp(score - top) for _, score in paths))
    return log_z, [(z, math.exp(score - log_z)) for z, score in paths]


CASES = [
    pytest.param(k, lengths, stepwise, forbid, id=f"K{k}-{lengths}-{'steps' if stepwise else 'shared'}-{forbid}")
    for k, lengths in SHAPES
    for stepwise in (False, True)
    for forbid in (0.0, 0.3)
]


@pytest.mark.parametrize(("k", "lengths", "stepwise", "forbid"), CASES)
def test_what_a_chain_says_equals_the_sum_over_all_paths(
    k: int, lengths: tuple[int, ...], stepwise: bool, forbid: float
) -> None:
    w = potentials(k, lengths, stepwise=stepwise, forbid=forbid)
    other = potentials(k, lengths, stepwise=not stepwise)
    q, m = Chain(w), Chain(w).marginals
    start, transition, states = (torch.zeros_like(part) for part in w.parts)
    for n in range(len(lengths)):
        log_z, paths = brute(w, n)
        a = int(w.ends[n])
        np.testing.assert_allclose(q.log_partition[n], log_z, **EXACT)
        np.testing.assert_allclose(q.entropy[n], -math.fsum(p * math.log(p) for _, p in paths if p > 0), **EXACT)
        scores = dict(paths_of(other, n))
        np.testing.assert_allclose(q.expected(other)[n], math.fsum(p * scores[z] for z, p in paths if p > 0), **EXACT)
        best = max(p for _, p in paths)
        if log_z > -INF and lengths[n] > 0:
            z = tuple(q.argmax[a : a + lengths[n]].tolist())
            np.testing.assert_allclose(dict(paths)[z], best, **EXACT)
        for z, p in paths:
            for t, i in enumerate(z):
                states[a + t, i] += p
                if t == 0:
                    start[i] += p
                else:
                    (transition if transition.ndim == 2 else transition[a + t])[z[t - 1], i] += p
    for found, wanted in zip(m.parts, (start, transition, states), strict=True):
        np.testing.assert_allclose(found, wanted, **EXACT)


@pytest.mark.parametrize(("k", "lengths", "stepwise", "forbid"), CASES)
def test_the_loops_in_torch_say_what_the_kernels_say(
    k: int, lengths: tuple[int, ...], stepwise: bool, forbid: float
) -> None:
    w = potentials(k, lengths, stepwise=stepwise, forbid=forbid)
    other = potentials(k, lengths)
    q, loops = Chain(w), chain_loops.summary(w, other)
    np.testing.assert_allclose(loops.log_partition, q.log_partition, **EXACT)
    np.testing.assert_allclose(loops.entropy, q.entropy, **EXACT)
    np.testing.assert_allclose(loops.expected, q.expected(other), **EXACT)
    weights = torch.arange(len(lengths), dtype=torch.float64)
    pairs = zip(chain_loops.marginals(w, weights).parts, q.weighted_marginals(weights).parts, strict=True)
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted, **EXACT)


def test_entropy_from_factors_equals_log_partition_less_expected_potentials() -> None:
    for k, lengths in SHAPES:
        q = Chain(potentials(k, lengths, forbid=0.2))
        other = (q.log_partition - q.expected(q.log_potentials)).masked_fill(q.infeasible, 0.0)
        assert bool(
            ((q.entropy - other).abs() <= 1e-10 * (1 + q.log_partition.masked_fill(q.infeasible, 0.0).abs())).all()
        )


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("forbid", [0.0, 0.3])
def test_derivatives_are_right_twice_for_log_partition_and_once_for_the_rest(stepwise: bool, forbid: float) -> None:
    w = potentials(2, (3, 1, 4, 0), stepwise=stepwise, forbid=forbid)
    finite = [part > -INF for part in w.parts]
    leaves = [part[mask].clone().requires_grad_() for part, mask in zip(w.parts, finite, strict=True)]
    weights = torch.tensor([0.5, 2.0, 1.0, 1.0], dtype=torch.float64)

    def chain(*given: Tensor) -> Chain:
        parts = [part.masked_scatter(mask, x) for part, mask, x in zip(w.parts, finite, given, strict=True)]
        return Chain(ChainPotentials(*parts, w.lengths))

    def value(q: Chain, x: Tensor) -> Tensor:
        return x.masked_fill(q.infeasible, 0.0)

    other = potentials(2, (3, 1, 4, 0), stepwise=stepwise)
    check = [
        lambda *x: value(chain(*x), chain(*x).log_partition),
        lambda *x: chain(*x).entropy,
        lambda *x: chain(*x).expected(other),
        lambda *x: Chain(other).expected(chain(*x).log_potentials) if forbid == 0 else x[0],
        lambda *x: chain(*x).weighted_marginals(weights).parts,
    ]
    for function in check:
        assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(check[0], leaves)


def test_a_third_derivative_raises() -> None:
    w = potentials(2, (3,))
    leaf = w.unary.clone().requires_grad_()
    log_z = Chain(ChainPotentials(w.start, w.transition, leaf, w.lengths)).log_partition
    (first,) = torch.autograd.grad(log_z.sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first[0, 0], leaf, create_graph=True)
    with pytest.raises(Unsupported, match="a further one was asked for"):
        torch.autograd.grad(second[1, 1], leaf)


def test_the_best_paths_come_in_order_and_are_all_there() -> None:
    w = potentials(3, (4, 2, 0, 1))
    paths, log_q = Chain(w).best(12)
    for n, length in enumerate(w.lengths.tolist()):
        _, probabilities = brute(w, n)
        wanted = sorted((p for _, p in probabilities), reverse=True)[:12]
        np.testing.assert_allclose(log_q[: len(wanted), n].exp(), wanted, **EXACT)
        assert log_q[len(wanted) :, n].tolist() == [-INF] * (12 - len(wanted))
        a = int(w.ends[n])
        drawn = {tuple(z[a : a + length].tolist()) for z in paths[: len(wanted)]}
        assert len(drawn) == len(wanted)
    np.testing.assert_allclose(Chain(w).log_prob(paths)[:1], log_q[:1], **EXACT)


@pytest.mark.parametrize("count", [0, -1, 1.5, "two"])
def test_a_number_of_paths_that_is_none_is_refused(count: object) -> None:
    with pytest.raises(InputError, match=r"Chain\.best: count must be a whole number ≥ 1"):
        Chain(potentials(2, (3,))).best(count)  # type: ignore[arg-type]


def test_what_a_fixed_chain_says_takes_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from onebound.kernels import chain

    made, once = [], chain.sums
    monkeypatch.setattr(chain, "sums", lambda *given, **options: made.append(1) or once(*given, **options))
    q = Chain(potentials(3, (4, 2)))
    _ = q.infeasible, q.log_partition, q.marginals, q.marginals
    assert len(made) == 1


def test_samples_have_the_marginals_and_the_pairs_of_the_chain() -> None:
    w = potentials(3, (4, 1, 3), stepwise=True, forbid=0.2)
    q, n = Chain(w), 20_000
    z = q.sample(n, torch.Generator().manual_seed(0))
    drawn = q.empirical(z).weighted_marginals(torch.ones(3, dtype=torch.float64))
    for found, wanted in zip(drawn.parts, q.marginals.parts, strict=True):
        shares, wanted = (
            (found / 3, wanted / 3) if wanted.ndim == 1 else (found, wanted)
        )  # three sequences share a start
        error = (wanted * (1 - wanted).clamp_min(0.0) / n).sqrt()
        assert bool(((shares - wanted).abs() <= 5 * error + 1e-12).all())


def test_draws_as_a_distribution_of_their_own() -> None:
    w = potentials(2, (3, 0, 2))
    q = Chain(w)
    z = q.sample(50, torch.Generator().manual_seed(1))
    p = q.empirical(z)
    mass = p.log_masses.exp()
    for n in (0, 2):
        a, b = int(w.ends[n]), int(w.ends[n + 1])
        counts: dict[tuple[int, ...], int] = {}
        for row in z[:, a:b].tolist():
            counts[tuple(row)] = counts.get(tuple(row), 0) + 1
        np.testing.assert_allclose(mass[:, n], [counts[tuple(row)] / 50 for row in z[:, a:b].tolist()])
        np.testing.assert_allclose(p.entropy[n], -sum(c / 50 * math.log(c / 50) for c in counts.values()))
    np.testing.assert_allclose(p.expected(w) + p.entropy, q.log_partition - p.kl(q), **EXACT)
    single = q.empirical(q.argmax.unsqueeze(0))
    np.testing.assert_allclose(single.kl(q), -q.log_prob(q.argmax), **EXACT)
    assert single.entropy.tolist() == [0.0, 0.0, 0.0]


def test_a_sequence_that_cannot_be_touches_nobody() -> None:
    w = potentials(2, (2, 3, 2))
    w.unary[3] = -INF
    alone = Chain(potentials(2, (2, 3, 2)))
    q = Chain(w)
    assert q.infeasible.tolist() == [False, True, False]
    assert q.entropy[1] == 0
    assert q.expected(w)[1] == 0
    assert not bool(q.marginals.unary[2:5].any())
    assert torch.equal(q.log_partition[[0, 2]], alone.log_partition[[0, 2]])
    assert torch.equal(q.marginals.unary[[0, 1, 5, 6]], alone.marginals.unary[[0, 1, 5, 6]])


def test_a_nan_names_its_site() -> None:
    w = potentials(2, (2, 3))
    w.unary[1, 0] = math.nan
    with pytest.raises(NonFinite, match=r"Chain\.log_partition"):
        _ = Chain(w).log_partition


def test_a_chain_of_one_step_is_a_categorical() -> None:
    w = potentials(3, (1, 1, 1), forbid=0.2)
    q, flat = Chain(w), Categorical(w.start + w.unary)
    np.testing.assert_allclose(q.log_partition, flat.log_partition, **EXACT)
    np.testing.assert_allclose(q.marginals.unary, flat.marginals, **EXACT)
    np.testing.assert_allclose(q.entropy, flat.entropy, **EXACT)


def test_kl_of_two_chains_equals_the_sum_over_paths() -> None:
    w, other = potentials(2, (3, 1, 4)), potentials(2, (3, 1, 4), stepwise=True)
    for n, kl in enumerate(Chain(w).kl(Chain(other)).tolist()):
        mine, theirs = dict(brute(w, n)[1]), dict(brute(other, n)[1])
        np.testing.assert_allclose(kl, math.fsum(p * math.log(p / theirs[z]) for z, p in mine.items()), **EXACT)
