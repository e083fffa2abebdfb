"""Sequences that are read from a file, short ones together and long ones in pieces, give what they give in memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from zoo import clone

import onebound as ob
from onebound.data import TableStream, open_stream
from onebound.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from onebound.errors import Infeasible, InputError, NonFinite
from onebound.kernels import chain_pieces
from onebound.models import HMM, Mixture
from onebound.streamed import Streamed

LENGTHS = [30, 0, 207, 5, 65, 50, 1, 142]  # against blocks of 50 rows
ROWS = sum(LENGTHS)


def series(kind: str) -> np.ndarray:
    g = np.random.default_rng(3)
    level = np.repeat(g.integers(0, 3, ROWS // 4 + 1), 4)[:ROWS]
    if kind == "real":
        return np.column_stack([3.0 * level + g.normal(size=ROWS), g.normal(size=ROWS)])
    return g.poisson(1.0 + 4.0 * level)[:, None].astype(float) if kind == "count" else (level[:, None] == 1) * 1.0


def stored(folder: Path, y: np.ndarray, form: str, block_rows: int = 50) -> TableStream:
    if form == "npy":
        np.save(folder / "y.npy", y)
    else:
        table = pa.table({f"c{d}": column for d, column in enumerate(y.T)})
        pq.write_table(table, folder / "y.parquet", row_group_size=120)
    return open_stream(folder / f"y.{form}", block_rows=block_rows)


CASES: dict[str, tuple[str, Emission]] = {
    "full": ("real", Gaussian(3, 2)),
    "diagonal": ("real", Gaussian(3, 2, "diag")),
    "poisson": ("count", Poisson(3, 1)),
    "bernoulli": ("binary", Bernoulli(3, 1)),
}


@pytest.mark.parametrize("form", ["npy", "parquet"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("gaps", [False, True])
def test_a_fit_of_streamed_sequences_is_the_fit_of_the_same_in_memory(
    tmp_path: Path, form: str, case: str, gaps: bool
) -> None:
    kind, emission = CASES[case]
    y = series(kind)
    if gaps:
        y[np.random.default_rng(4).random(y.shape) < 0.1] = np.nan
    memory = ob.Observations.of(y, lengths=LENGTHS)
    stream = ob.Observations.of(stored(tmp_path, y, form), lengths=LENGTHS)
    model = HMM(clone(emission))
    fits = [
        ob.fit(clone(model), obs, ob.EM(), max_iter=6, tol=0, generator=torch.Generator().manual_seed(1))
        for obs in (memory, stream)
    ]
    for a, b in zip(fits[0].trace, fits[1].trace, strict=True):
        assert (a.iteration, a.after, a.passes) == (b.iteration, b.after, b.passes)
        assert b.bound == pytest.approx(a.bound, rel=1e-10)
    for p, q in zip(fits[0].model.parameters(), fits[1].model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-8)
    assert fits[1].n_items == len(LENGTHS)


@pytest.mark.parametrize("algorithm", ["eg", "mcem", "hard-em"])
def test_what_needs_a_whole_sequence_reads_it(tmp_path: Path, algorithm: str) -> None:
    y = series("real")
    bounds = []
    for data in (y, stored(tmp_path, y, "npy")):
        model = HMM(Gaussian(3, 2)).initialize(ob.Observations.of(y, lengths=LENGTHS), torch.Generator().manual_seed(0))
        obs = ob.Observations.of(data, lengths=LENGTHS)
        fit = ob.fit(model, obs, algorithm, max_iter=2, tol=0, generator=torch.Generator().manual_seed(0))
        bounds.append(fit.bound)
    assert bounds[1] == pytest.approx(bounds[0], rel=0.02 if algorithm == "mcem" else 1e-10)


def test_a_table_that_is_streamed_is_one_sequence(tmp_path: Path) -> None:
    y = series("real")
    model = HMM(Gaussian(3, 2)).initialize(y, torch.Generator().manual_seed(0))
    fits = [ob.fit(clone(model), data, max_iter=3, tol=0) for data in (y, stored(tmp_path, y, "npy"))]
    assert fits[1].bound == pytest.approx(fits[0].bound, rel=1e-11)
    assert fits[1].n_items == 1
    means = [ob.bound(fits[0].model, data).mean() for data in (y, stored(tmp_path, y, "npy"))]
    assert means[1] == pytest.approx(means[0], rel=1e-10)


def test_one_weight_a_sequence_comes_from_a_column(tmp_path: Path) -> None:
    y = series("real")
    each = np.array([2.0, 1.0, 0.5, 0.0, 3.0, 1.0, 1.0, 2.0])
    rows = np.column_stack([y, np.repeat(each, LENGTHS)])
    stream = ob.Observations.of(stored(tmp_path, rows, "parquet"), lengths=LENGTHS, weights="c2")
    memory = ob.Observations.of(y, lengths=LENGTHS, weights=each)
    np.testing.assert_array_equal(stream.weights, each)
    assert stream.total_row_weight == pytest.approx(memory.total_row_weight)
    model = HMM(Gaussian(3, 2)).initialize(memory, torch.Generator().manual_seed(0))
    bounds = [ob.fit(clone(model), obs, max_iter=3, tol=0).bound for obs in (memory, stream)]
    assert bounds[1] == pytest.approx(bounds[0], rel=1e-11)
    rows[40, 2] = 7.0
    with pytest.raises(InputError, match=r"one weight, got 7 in row 40 and 0.5 where its sequence 2 begins"):
        ob.Observations.of(stored(tmp_path, rows, "parquet"), lengths=LENGTHS, weights="c2")


def test_sequences_are_selected_in_the_order_asked_for(tmp_path: Path) -> None:
    y = series("real")
    stream, memory = (ob.Observations.of(data, lengths=LENGTHS) for data in (stored(tmp_path, y, "npy"), y))
    index = torch.tensor([7, 2, 1, 3])
    picked, wanted = stream.select(index), memory.select(index)
    np.testing.assert_array_equal(picked.y, wanted.y)
    assert picked.lengths.tolist() == wanted.lengths.tolist() == [142, 207, 0, 5]
    assert [picked.number(n) for n in range(4)] == index.tolist()
    for rows in (20, 100, 300):
        few, wanted = stream.head(rows), memory.head(rows)
        np.testing.assert_array_equal(few.y, wanted.y)
        assert few.lengths.tolist() == wanted.lengths.tolist()
    assert [type(part).__name__ for part in stream.parts(ROWS)].count("Streamed") == 3


def test_states_that_look_dead_for_pieces_and_turn_out_to_be_the_only_ones_are_kept(tmp_path: Path) -> None:
    """Left to right over pieces whose rows say e⁻²⁰⁰⁰ against the state that the end demands."""
    y = np.concatenate([np.zeros(150), np.full(60, 30.0), [1e3]])[:, None]
    model = HMM(Gaussian(3, 1)).assign(
        [0.5, 0.5, 0.0],
        [[1.0, 0.0, 0.0], [0.0, 0.99, 0.01], [0.0, 0.0, 1.0]],
        mean=[[0.0], [4.0], [1e3]],
        covariance=[[[1.0]], [[1.0]], [[1.0]]],
    )
    whole = ob.bound(model, y).mean()
    stream = ob.Observations.of(stored(tmp_path, y, "npy"), lengths=[len(y)])
    (part,) = stream.parts(len(y))
    found = model.exact_pass(part, statistics=True)
    assert whole["evidence"] < -1000
    assert found.evidence == pytest.approx(whole["evidence"], rel=1e-12)
    in_memory = model.exact_pass(model.observe(ob.Observations.of(y, lengths=[len(y)])), statistics=True)
    assert in_memory.statistics is not None
    for name in ("initial", "transition"):
        torch.testing.assert_close(
            found.statistics.tensor(name), in_memory.statistics.tensor(name), rtol=1e-9, atol=1e-9
        )


def test_where_a_long_sequence_dies_is_said(tmp_path: Path) -> None:
    y = np.zeros((120, 1))
    y[77] = 1.0
    model = HMM(Categorical(2, [2])).assign([1.0, 0.0], np.eye(2), probabilities=[[[1.0, 0.0]], [[0.0, 1.0]]])
    stream = ob.Observations.of(stored(tmp_path, y, "npy"), lengths=[120])
    with pytest.raises(Infeasible, match="sequence 0, where everything has died at step 77"):
        ob.fit(model, stream, max_iter=1)
    model.keep_infeasible = True
    (part,) = stream.parts(120)
    assert model.exact_pass(part, statistics=False).evidence == -np.inf


def test_a_parameter_that_is_nan_is_no_death(tmp_path: Path) -> None:
    y = series("count")
    model = HMM(Poisson(2, 1)).initialize(y, torch.Generator().manual_seed(0))
    with torch.no_grad():
        next(model.emission.parameters()).fill_(torch.nan)
    (part,) = ob.Observations.of(stored(tmp_path, y, "npy"), lengths=[ROWS]).parts(ROWS)
    with pytest.raises(NonFinite, match=r"Chain.log_partition: expected finite numbers"):
        model.exact_pass(part, statistics=True)


def test_messages_are_the_sums_that_they_say() -> None:
    g = np.random.default_rng(0)
    unary, log_matrix = 300.0 * g.normal(size=(9, 4)), 50.0 * g.normal(size=(4, 4))
    log_matrix[1, 2] = -np.inf
    message = g.normal(size=4)
    want = message.copy()
    for row in unary:
        want = np.logaddexp.reduce(want + row + log_matrix, axis=1)
    got, last, added = chain_pieces.carried(message, unary, log_matrix)
    np.testing.assert_allclose(got + added, want, rtol=1e-12)
    again, x = message.copy(), np.empty(4)
    assert chain_pieces._carried.py_func(again, unary, log_matrix, np.exp(log_matrix), x) == pytest.approx(added)
    np.testing.assert_allclose(again, got, rtol=1e-12)
    np.testing.assert_allclose(x, last, rtol=1e-12)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    y = series("real")
    stream = stored(tmp_path, y, "npy")
    with pytest.raises(InputError, match="must be whole numbers ≥ 0 that add up to the 500 rows"):
        ob.Observations.of(stream, lengths=[3])
    with pytest.raises(InputError, match="expected one row an item, got sequences"):
        ob.fit(Mixture(Gaussian(2, 2)), ob.Observations.of(stream, lengths=LENGTHS))
    bad = series("binary")
    bad[300] = 0.5
    with pytest.raises(InputError, match=r"zeros and ones.*item 300"):
        ob.fit(HMM(Bernoulli(2, 1)), ob.Observations.of(stored(tmp_path, bad, "npy"), lengths=LENGTHS))

    class Forwards:
        names, n_rows = ("a", "b"), ROWS

        def __iter__(self):
            yield y

    with pytest.raises(InputError, match=r"has no read\(start, stop\)"):
        Streamed.over(Forwards(), lengths=LENGTHS)
