"""The scaled chain kernel is the chain in log space: on random and on nasty chains, in any company, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onebound.kernels import chain, chain_log
from onebound.kernels.chain_log import Potentials

INF = math.inf


def potentials(k: int, lengths: list[int], *, holes: float = 0.0, gaps: float = 0.0, scale: float = 3.0) -> Potentials:
    rng = np.random.default_rng(k + 7 * sum(lengths))
    unary = scale * rng.normal(size=(sum(lengths), k))
    unary[rng.random(unary.shape) < holes] = -INF
    transition = rng.normal(size=(1, k, k))
    transition[rng.random(transition.shape) < gaps] = -INF
    return Potentials(rng.normal(size=k), transition, unary, np.concatenate([[0], np.cumsum(lengths)]))


def assert_same(p: Potentials, weights: np.ndarray | None = None, rtol: float = 1e-10) -> None:
    """Scaled and in log space, all that both say."""
    weights = np.linspace(0.5, 2.0, len(p.ends) - 1) if weights is None else weights
    fast, slow = chain.marginals(p, weights, 2), chain_log.marginals(p, weights, 2)
    np.testing.assert_array_equal(np.isneginf(fast.log_partition), np.isneginf(slow.log_partition))
    np.testing.assert_allclose(fast.log_partition, slow.log_partition, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(fast.states, slow.states, rtol=0, atol=rtol)
    np.testing.assert_allclose(fast.first, slow.first, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(fast.edges, slow.edges, rtol=rtol, atol=rtol)


def trusted(p: Potentials) -> np.ndarray:
    """Which sequences the scaled kernel answers for itself."""
    weights = np.ones(len(p.ends) - 1)
    found = chain.sums(chain.of_unary(p.unary), p.start, p.transition[0], p.ends, weights, states=True)
    return ~np.isnan(found.log_partition)


RAGGED = [[4, 1, 0, 7], [3] * 30, [500, 480, 3], [250] * 14, [19, 18, 17, 36, 37] * 3, [0]]


@pytest.mark.parametrize(("k", "lengths"), [*((k, ell) for k in (1, 2, 5, 13) for ell in RAGGED), (2, [70_000])])
def test_scaled_equals_log_space(k: int, lengths: list[int]) -> None:
    assert_same(potentials(k, lengths))
    assert trusted(potentials(k, lengths)).all()


@pytest.mark.parametrize("lengths", [[1000, 700], [2000], [1000, 900, 700, 650, 433, 216, 217, 5, 3], [500] * 14])
def test_long_sequences_have_the_same_bits_in_segments(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which only the α between them are kept, and everything else is made again on the way back."""
    p, weights = potentials(5, lengths, holes=0.01, gaps=0.1), np.linspace(0.5, 2.0, len(lengths))
    whole = chain.marginals(p, weights)
    monkeypatch.setattr(chain, "SEGMENT_BYTES", 1)  # a block of steps each
    segments = chain.marginals(p, weights)
    for name in ("log_partition", "states", "first", "edges"):
        np.testing.assert_array_equal(getattr(segments, name), getattr(whole, name))


@pytest.mark.parametrize("lengths", [[30] * 20, [40, 3, 60], [5] * 13])
def test_what_is_forbidden_stays_zero(lengths: list[int]) -> None:
    p = potentials(4, lengths, holes=0.05, gaps=0.3)
    assert_same(p)
    fast = chain.marginals(p, np.ones(len(lengths)))
    slow = chain_log.marginals(p, np.ones(len(lengths)))
    np.testing.assert_array_equal(fast.states == 0, slow.states == 0)
    np.testing.assert_array_equal(fast.edges == 0, slow.edges == 0)


def test_an_item_has_the_same_bits_in_any_company_and_with_any_threads() -> None:
    lengths = [300, 5, 41, 300, 18, 1, 77, 36, 299, 40, 120, 19, 55, 200, 9, 301]
    p = potentials(5, lengths, holes=0.01, gaps=0.1)
    whole = chain.marginals(p, np.ones(len(lengths)), 1)
    several = chain.marginals(p, np.ones(len(lengths)), 3)
    for name in ("log_partition", "states", "first", "edges"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(several, name))
    for picked in ([0], [3, 4], [0, 1, 2, 3, 4, 5, 6], list(range(0, 16, 2)), [15, 14, 13, 12, 11]):
        rows = np.concatenate([np.arange(p.ends[n], p.ends[n + 1]) for n in picked])
        ends = np.concatenate([[0], np.cumsum([lengths[n] for n in picked])])
        part = chain.marginals(p._replace(unary=p.unary[rows], ends=ends), np.ones(len(picked)), 2)
        np.testing.assert_array_equal(part.log_partition, whole.log_partition[picked])
        np.testing.assert_array_equal(part.states, whole.states[rows])


def _one(start: np.ndarray, transition: np.ndarray, unary: np.ndarray) -> Potentials:
    return Potentials(start, transition[None], unary, np.array([0, len(unary)]))


def two_chains_that_never_meet(back: float) -> Potentials:
    """State 0 is e^1000 ahead, then state 1 by e^5000, then state 0 by e^`back`: a mass that is lost long before it decides."""
    unary = np.zeros((170, 2))
    unary[:10, 1] = -100.0
    unary[10:110, 0] = -50.0
    unary[110:, 1] = -back / 60
    return _one(np.log([0.5, 0.5]), np.array([[0.0, -INF], [-INF, 0.0]]), unary)


def left_to_right(k: int, steps: int, stay: float, tilt: float) -> Potentials:
    """Steps ahead have probability 1 − `stay`; emissions hold back the later states first, then the earlier ones."""
    transition = np.full((k, k), -INF)
    for i in range(k):
        transition[i, i] = math.log(stay)
        if i + 1 < k:
            transition[i, i + 1] = math.log1p(-stay) if stay < 0.5 else math.log(1 - stay)
    start = np.full(k, -INF)
    start[0] = 0.0
    t, states = np.arange(steps)[:, None], np.arange(k)
    unary = -tilt * np.abs(states - k * t / steps)
    unary[-1, :-1] = -INF  # it must end in the last state
    return _one(start, transition, unary)


NASTY = {
    "never meet, 0 wins": two_chains_that_never_meet(6000.0),
    "never meet, 1 wins": two_chains_that_never_meet(3000.0),
    "left to right, near-zero steps": left_to_right(100, 1000, 1 - 1e-5, 0.0),
    "left to right, steps of 1e-30": left_to_right(40, 200, 1 - 1e-16, 0.0),
    "left to right, tilted": left_to_right(100, 1000, 0.9, 16.0),
    "left to right, steep": left_to_right(60, 300, 0.9, 200.0),
    "one tiny way out": _one(
        np.zeros(2), np.array([[0.0, -800.0], [-INF, 0.0]]), np.array([[0.0, -INF]] * 5 + [[-INF, 0.0]] * 5)
    ),
    "tiny potentials everywhere": _one(np.full(3, -900.0), np.full((3, 3), -2000.0), np.full((50, 3), -1e5)),
    "huge spread in every step": _one(
        np.zeros(4), np.zeros((4, 4)), 2000.0 * np.random.default_rng(0).normal(size=(80, 4))
    ),
    "huge spread, sticky": _one(
        np.zeros(3), np.where(np.eye(3) > 0, 0.0, -300.0), 400.0 * np.random.default_rng(1).normal(size=(400, 3))
    ),
    "the last step decides": _one(
        np.log([1e-300, 1.0]), np.where(np.eye(2) > 0, 0.0, -INF), np.array([[0.0, 0.0]] * 40 + [[0.0, -1e4]])
    ),
}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_chains_are_right_whatever_way_they_take(name: str) -> None:
    assert_same(NASTY[name], rtol=1e-8)


def test_a_mass_that_is_lost_before_it_decides_is_noticed() -> None:
    """Without the bound the scaled answer would be finite, self-consistent and wrong by thousands of nats."""
    for name in ("never meet, 0 wins", "never meet, 1 wins", "left to right, steps of 1e-30", "one tiny way out"):
        exact = chain_log.marginals(NASTY[name], np.ones(1)).log_partition
        assert np.isfinite(exact).all()
    assert not trusted(NASTY["never meet, 1 wins"]).any()
    assert not trusted(NASTY["never meet, 0 wins"]).any()


def test_ordinary_chains_are_not_sent_to_log_space() -> None:
    """Emissions a thousand nats apart, as far-away Gaussians have them, are no reason where every state can be reached."""
    for scale in (1.0, 30.0, 300.0):
        assert trusted(potentials(5, [200] * 15, scale=scale)).all()


def test_a_lost_sequence_leaves_its_neighbours_alone() -> None:
    bad = two_chains_that_never_meet(3000.0)
    rng = np.random.default_rng(3)
    lengths = [60] * 20 + [170]
    unary = np.concatenate([rng.normal(size=(1200, 2)), bad.unary])
    p = Potentials(bad.start, bad.transition, unary, np.concatenate([[0], np.cumsum(lengths)]))
    assert trusted(p).tolist() == [True] * 20 + [False]
    assert_same(p, rtol=1e-9)


def test_lengths_of_a_million_steps_add_up() -> None:
    """ln Z of n independent steps is n times that of one, to 1e-13."""
    k, n = 3, 300_000
    rng = np.random.default_rng(0)
    row, unary = rng.normal(size=k), np.repeat(rng.normal(size=(1, k)), n, 0)
    one = np.log(np.exp(row + unary[0]).sum())
    p = Potentials(row, np.repeat(row[None], k, 0)[None], unary, np.array([0, n]))
    assert chain.marginals(p, np.ones(1)).log_partition[0] == pytest.approx(n * one, rel=1e-13)
    assert chain_log.marginals(p, np.ones(1)).log_partition[0] == pytest.approx(n * one, rel=1e-13)
