"""Observations: what goes in, in blocks and selections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onebound as ob
from onebound.observations import Columns, Observations


def test_a_list_of_arrays_and_rows_with_lengths_are_the_same_sequences() -> None:
    parts = [np.arange(6.0).reshape(3, 2), np.ones((1, 2)), np.zeros((2, 2))]
    a = Observations.of(parts)
    b = Observations.of(np.concatenate(parts), lengths=[3, 1, 2])
    assert torch.equal(a.y, b.y)
    assert a.lengths.tolist() == b.lengths.tolist() == [3, 1, 2]
    assert a.n_items == 3
    picked = a.select(torch.tensor([2, 0]))
    assert picked.y.tolist() == [[0.0, 0.0]] * 2 + parts[0].tolist()
    assert [block.y.shape[0] for block in a.blocks(2)] == [3, 1, 2]  # whole sequences, at least one
    assert [block.y.shape[0] for block in a.blocks(5)] == [4, 2]


def test_blocks_carry_weights_context_allowed_and_their_place() -> None:
    n = 5
    obs = Observations.of(
        np.arange(n)[:, None], weights=np.arange(n), context=np.arange(2 * n).reshape(n, 2), allowed=np.ones((n, 2))
    )
    last = list(obs.blocks(2))[-1]
    assert (last.first, last.n_items, last.total_weight) == (4, 1, 4.0)
    assert last.context.tolist() == [[8, 9]]
    assert last.allowed.shape == (1, 2)
    assert obs.select(slice(1, 3)).select(slice(1, 2)).first == 2


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, bool, ">f8"])
def test_every_plain_dtype_is_taken(dtype: object) -> None:
    y = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    assert ob.models.Mixture(ob.emissions.Bernoulli(1, 2)).evidence(y).dtype == torch.float64
    frozen = y.copy()
    frozen.flags.writeable = False
    assert torch.equal(Observations.of(frozen).y, Observations.of(y).y)
    assert torch.equal(Observations.of(y[::-1]).y, Observations.of(y.copy()).y.flip(0))


def test_one_axis_is_one_column() -> None:
    assert Observations.of([1.0, 2.0, 3.0]).y.shape == (3, 1)


def test_columns_are_summarised_without_cancellation_over_blocks_gaps_and_weights() -> None:
    generator = np.random.default_rng(0)
    y = 1e9 + generator.normal(size=(1000, 2))
    y[generator.random(y.shape) < 0.1] = np.nan
    w = generator.integers(0, 3, 1000)
    columns = Columns.of(Observations.of(y, weights=w), 64)
    for d in range(2):
        cells = np.repeat(y[:, d], w)
        cells = cells[~np.isnan(cells)]
        assert columns.count[d] == len(cells)
        assert float(columns.mean[d]) == pytest.approx(cells.mean(), rel=1e-15)
        assert float(columns.variance[d]) == pytest.approx((cells - cells.mean()).var(), rel=1e-6)


def test_expected_counts_that_underflow_are_not_zero() -> None:
    """A count of 5e-324 over a total of 10 is no 0: its symbol stays in the support, and L stays finite."""
    tiny = 5e-324
    emission = ob.emissions.Bernoulli(1, 1)
    s = ob.statistics.Statistics(
        {"counts": torch.tensor([[[10.0, tiny]]], dtype=torch.float64), "base": torch.zeros(1, dtype=torch.float64)}
    )
    emission.maximize(s)
    assert bool(emission.table.support.all())
    assert bool(torch.isfinite(emission.expected_log_prob(s)).all())
    poisson = ob.emissions.Poisson(1, 1)
    s = ob.statistics.Statistics(
        {k: torch.tensor([[v]], dtype=torch.float64) for k, v in {"count": 10.0, "sum": tiny}.items()}
        | {"base": torch.zeros(1, dtype=torch.float64)}
    )
    poisson.maximize(s)
    assert bool(poisson.support.all())
    assert bool(torch.isfinite(poisson.expected_log_prob(s)).all())
    exact = ob.emissions.Poisson(1, 1)
    exact.maximize(ob.statistics.Statistics({**s.sums, "sum": torch.zeros(1, 1, dtype=torch.float64)}))
    assert not bool(exact.support.any())


def test_masked_cells_are_missing_and_wide_unsigned_numbers_are_counts() -> None:
    masked = np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[False, True], [False, False]])
    assert Observations.of(masked).y.isnan().tolist() == [[False, True], [False, False]]
    for dtype in (np.uint16, np.uint32, np.uint64, np.longdouble, np.float16, bool):
        y = np.array([[1, 0], [0, 1]]).astype(dtype)
        assert bool(torch.isfinite(ob.models.Mixture(ob.emissions.Poisson(1, 2)).evidence(y)).all())


def test_items_keep_their_numbers_through_selections() -> None:
    obs = Observations.of(np.arange(20)[:, None])
    picked = obs.select(torch.tensor([7, 3, 11, 5]))
    assert [picked.number(n) for n in range(4)] == [7, 3, 11, 5]
    assert [b.number(0) for b in picked.blocks(2)] == [7, 11]
    assert obs.select(slice(4, 9)).select(torch.tensor([2])).number(0) == 6


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_items_with_gaps_come_apart_from_those_without_and_none_is_lost(size: int) -> None:
    g = np.random.default_rng(0)
    y = np.where(g.random((40, 3)) < 0.15, np.nan, np.arange(120.0).reshape(40, 3))
    obs = Observations.of(y, weights=np.arange(1.0, 41.0))
    pieces = list(obs.apart(size))
    assert all(piece.n_items <= size for piece in pieces)
    for piece in pieces:
        gaps = piece.y.isnan().any(-1)
        assert bool(gaps.all()) or not bool(gaps.any())
    found = sorted(piece.number(n) for piece in pieces for n in range(piece.n_items))
    assert found == list(range(40))
    assert sum(piece.total_weight for piece in pieces) == obs.total_weight
    whole = Observations.of(np.nan_to_num(y))
    assert list(whole.apart(size)) == [whole]


def test_the_head_of_sequences_has_rows_whatever_comes_first() -> None:
    obs = ob.Observations.of(np.arange(10.0), lengths=[0, 7, 3])
    assert [obs.head(n).lengths.tolist() for n in (4, 7, 9, 10)] == [[0, 4], [0, 7], [0, 7], [0, 7, 3]]
    np.testing.assert_array_equal(obs.head(4).y[:, 0], np.arange(4.0))
