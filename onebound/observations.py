"""What everything above takes: the data y with weights, context and known parts of z, in blocks of items."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebound.errors import InputError, InputTypeError
from onebound.moments import Moments

COLUMN_CELLS = 2**17  # in a block while the columns are looked at


@dataclass(frozen=True)
class Observations:
    """N items: `y` (N, D), or with `lengths` the rows of all sequences one below the other (ΣT, D).

    `weights` (N,) ≥ 0, one each by default; `context` x (rows as y) for conditional models, or with `context_lengths` (N,)
    sequences of their own (labels y of a recording x: see `paired`); `allowed` (rows as y), a boolean mask on the parts of z
    (the component or state of a row: K columns), for labels that are known. NaN in a float y is a missing cell.
    `names` are the columns' names, for messages; `first` is the number of the first item in the whole data.

    >>> Observations.of([[1.0, 2.0], [3.0, 4.0]], weights=[1.0, 2.0]).total_weight
    3.0
    """

    y: Tensor
    weights: Tensor
    lengths: Tensor | None = None
    context: Tensor | None = None
    context_lengths: Tensor | None = None
    allowed: Tensor | None = None
    names: tuple[str, ...] | None = None
    first: int = 0
    numbers: Tensor | None = None  # of the items in the whole data, where they are not first, first + 1, …
    checked_by: object = None  # the model that has looked at these data already

    @staticmethod
    def of(
        y: Any,
        *,
        weights: Any = None,
        lengths: Any = None,
        context: Any = None,
        context_lengths: Any = None,
        allowed: Any = None,
        names: Sequence[str] | None = None,
    ) -> Observations:
        """Wrap arrays. `y`: (N, D), or (N,) for one column, or a list of sequences (T_n, D), or rows with `lengths`; or
        a stream of blocks (`ob.data.open_stream`), which is read anew in each pass, `weights` then naming its column.

        Raises InputError (a ValueError) for an empty table, ragged rows, sizes that disagree or weights below 0,
        InputTypeError for things that are no numbers.
        """
        if isinstance(y, Observations):
            given = {"weights": weights, "context": context, "allowed": allowed, "names": names}
            if lengths is None and all(v is None for v in given.values()):
                return y
            raise InputError(
                "Observations: y is an Observations already, and what it holds cannot be changed here. Pass its .y instead."
            )
        if _is_stream(y):
            from onebound.streamed import Streamed  # Which is one of these.

            if context is not None or allowed is not None:
                raise InputError(
                    "Observations: of a stream only lengths and weights (the name of a column) can be given; context and "
                    "allowed need the data in memory. Read them: ob.data.read_table(path)."
                )
            return Streamed.over(y, lengths=lengths, weights=weights, names=names)
        if lengths is None and is_ragged(y):
            parts = [_rows(part, f"y[{i}]") for i, part in enumerate(y)]
            lengths = [len(part) for part in parts]
            if len({part.shape[1] for part in parts}) != 1:
                widths = sorted({part.shape[1] for part in parts})
                raise InputError(
                    f"Observations: every row must have the same number of columns, got {widths}. Pad or fix the rows."
                )
            y = torch.cat(parts)
        rows = _rows(y, "y", empty=context_lengths is not None)
        n_items = len(rows) if lengths is None else len(lengths)
        obs = Observations(
            y=rows,
            weights=_weights(weights, n_items),
            lengths=None if lengths is None else lengths_of(lengths, len(rows)),
            context=None
            if context is None
            else _tensor(context, "context")
            if context_lengths is not None
            else _matching(_tensor(context, "context"), len(rows), "context", "row"),
            context_lengths=None if context_lengths is None else _context_lengths(context_lengths, context, n_items),
            allowed=None if allowed is None else _mask(allowed, len(rows)),
            names=None if names is None else tuple(names),
        )
        if n_items == 0:
            raise InputError(
                "Observations: expected at least one item, got an empty table. Check the file or the filter."
            )
        return obs

    @staticmethod
    def paired(y: Sequence[Any], context: Sequence[Any], weights: Any = None) -> Observations:
        """Items that are a sequence y_n, (U_n,) or (U_n, D), given another x_n (T_n, F), whose rows are not y's.

        >>> obs = Observations.paired([[1, 2], [3]], [torch.zeros(50, 4), torch.zeros(30, 4)])
        >>> obs.lengths.tolist(), obs.context_lengths.tolist()
        ([2, 1], [50, 30])
        """
        if len(y) != len(context):
            raise InputError(f"Observations.paired: y must have one entry per context, {len(context)}, got {len(y)}.")
        rows = [_tensor(part, f"y[{i}]") for i, part in enumerate(y)]
        whole = any(not part.is_floating_point() for part in rows if part.numel())
        parts = [part.to(torch.int64) if whole and not part.numel() else part for part in rows]
        given = [_tensor(part, f"context[{i}]") for i, part in enumerate(context)]
        widths = {part.shape[1] if part.ndim == 2 else -1 for part in given}
        if len(widths) != 1 or -1 in widths:
            raise InputError(
                f"Observations.paired: every context must be (T, F) with the same F, got shapes "
                f"{sorted({tuple(part.shape) for part in given})[:4]}."
            )
        return Observations.of(
            torch.cat([part.reshape(len(part), -1 if part.numel() else 1) for part in parts]),
            weights=weights,
            lengths=[len(part) for part in parts],
            context=torch.cat(given),
            context_lengths=[len(part) for part in given],
        )

    @property
    def n_items(self) -> int:
        """N: sequences if there are lengths, else rows."""
        return len(self.weights)

    @property
    def n_rows(self) -> int:
        """The rows of y: the steps of all sequences if there are lengths, else N."""
        return self.n_items if self.lengths is None else len(self.y)

    @property
    def n_features(self) -> int:
        """D, the columns of y."""
        return self.y.shape[1]

    @property
    def total_weight(self) -> float:
        """Σ weights; N if none were given."""
        return float(self.weights.sum())

    @property
    def total_row_weight(self) -> float:
        """Σ over rows of the weight of their item; ΣT if none were given."""
        return self.total_weight if self.lengths is None else float(_row_weights(self).sum())

    @cached_property
    def columns(self) -> Columns:
        """What the columns of y are like: one pass, made once however many starts ask."""
        return Columns.of(self, max(64, COLUMN_CELLS // self.n_features))

    @cached_property
    def moments(self) -> Moments:
        """Sum and scatter of the rows, where no cell is missing: one pass, made once."""
        size = max(64, COLUMN_CELLS // self.n_features)
        return Moments.of((block.y, block.weights) for block in self.as_rows().blocks(size))

    @cached_property
    def has_gaps(self) -> bool:
        """Whether any cell is missing."""
        return self.y.is_floating_point() and bool(self.y.isnan().any())

    def apart(self, size: int) -> Iterator[Observations]:
        """The items with no missing cell and those with some, never in one block: `size` of all at a time are looked at.

        Those with gaps come together, at most `size` of them. Each is one row.
        """
        if not self.has_gaps:
            yield self
            return
        waiting = torch.zeros(0, dtype=torch.int64)
        for start in range(0, self.n_items, size):
            here = torch.arange(start, min(start + size, self.n_items))
            gaps = self.y[start : start + size].isnan().any(-1)
            whole, partly = here[~gaps], here[gaps]
            if len(whole):
                yield self.select(whole)
            if len(waiting) + len(partly) > size:
                yield self.select(waiting)
                waiting = waiting[:0]
            waiting = torch.cat([waiting, partly])
        if len(waiting):
            yield self.select(waiting)

    def select(self, index: slice | Tensor) -> Observations:
        """The items in `index` (a slice, or a vector of item numbers)."""
        rows = index if self.lengths is None else rows_of(self.lengths, index)
        contiguous = isinstance(index, slice) and self.numbers is None
        numbers = torch.arange(self.first, self.first + self.n_items) if self.numbers is None else self.numbers
        return replace(
            self,
            y=self.y[rows],
            lengths=None if self.lengths is None else self.lengths[index],
            weights=self.weights[index],
            context=None if self.context is None else self.context[self._context_rows(index, rows)],
            context_lengths=None if self.context_lengths is None else self.context_lengths[index],
            allowed=None if self.allowed is None else self.allowed[rows],
            first=self.first + (index.start or 0) if isinstance(index, slice) else self.first,
            numbers=None if contiguous else numbers[index],
        )

    @property
    def extent(self) -> int:
        """The rows that count as work: of pairs those of the context, which are the many."""
        return self.n_rows if self.context is None or self.context_lengths is None else len(self.context)

    def _context_rows(self, index: slice | Tensor, rows: slice | Tensor) -> slice | Tensor:
        return rows if self.context_lengths is None else rows_of(self.context_lengths, index)

    def number(self, n: int) -> int:
        """The number, in the whole data, of the n-th item here."""
        return self.first + n if self.numbers is None else int(self.numbers[n])

    def place(self, row: int) -> str:
        """How a message names a row: "item 5", or "step 3 of sequence 2", all counted from 0."""
        if self.lengths is None:
            return f"item {self.number(row)}"
        ends = self.lengths.cumsum(0)
        n = int(torch.searchsorted(ends, row, right=True))
        return f"step {row - int(ends[n] - self.lengths[n])} of sequence {self.number(n)}"

    def as_sequences(self) -> Observations:
        """A table taken as one sequence; what has lengths stays as it is."""
        if self.lengths is not None:
            return self
        if not bool((self.weights == 1).all()):
            raise InputError(
                "Observations: weights of sequences are one for each sequence, got one for each row. Pass lengths too, or a "
                "list of sequences."
            )
        one = torch.ones(1, dtype=torch.float64)
        return replace(self, weights=one, lengths=torch.tensor([len(self.y)]), checked_by=None)

    def as_rows(self) -> Observations:
        """Every row an item of its own, with the weight of its sequence."""
        if self.lengths is None:
            return self
        return replace(self, weights=_row_weights(self), lengths=None, first=0, numbers=None, checked_by=None)

    def head(self, rows: int) -> Observations:
        """The first sequences with at most so many rows together, or as much of the first one."""
        if self.lengths is None or self.context_lengths is not None or self.n_rows <= rows:
            return next(self.blocks(rows))
        lengths = head_lengths(self.lengths, rows)
        n, total = len(lengths), int(lengths.sum())
        return replace(
            self,
            y=self.y[:total],
            weights=self.weights[:n],
            lengths=lengths,
            context=None if self.context is None else self.context[:total],
            allowed=None if self.allowed is None else self.allowed[:total],
            numbers=None if self.numbers is None else self.numbers[:n],
        )

    def blocks(self, size: int) -> Iterator[Observations]:
        """The items in order, `size` rows (see `extent`) at a time, but whole sequences; all at once where they fit."""
        lengths = self.lengths if self.context_lengths is None else self.context_lengths
        if self.extent <= size:
            yield self
        elif lengths is None:
            for start in range(0, self.n_items, size):
                yield self.select(slice(start, start + size))
        else:
            ends, start = lengths.cumsum(0), 0
            while start < self.n_items:
                before = int(ends[start - 1]) if start else 0
                stop = max(start + 1, int(torch.searchsorted(ends, before + size, right=True)))
                yield self.select(slice(start, stop))
                start = stop

    def parts(self, size: int) -> Iterator[Observations]:
        """As `blocks`; of a stream, what is too long for memory stays one."""
        return self.blocks(size)

    def column(self, d: int) -> str:
        """How a message names column d."""
        return f"column {self.names[d]!r}" if self.names else f"column {d}"

    def to(self, device: torch.device) -> Observations:
        """The same items on `device`."""
        if self.y.device == device:
            return self
        moved = {
            k: v.to(device)
            for k in ("y", "weights", "lengths", "context", "context_lengths", "allowed")
            if (v := getattr(self, k)) is not None
        }
        return replace(self, **moved)


def weighted_total(weights: Tensor, values: Tensor) -> Tensor:
    """Σ weight · value in float64, an item of weight 0 adding 0 even where its value is −inf."""
    return torch.where(weights > 0, weights * values, 0.0).sum()


def _is_stream(y: Any) -> bool:
    return hasattr(y, "n_rows") and hasattr(y, "names") and hasattr(y, "__iter__")


def is_ragged(y: Any) -> bool:
    """A list of two-dimensional things is a list of sequences; a list of rows is a table."""
    return isinstance(y, list | tuple) and len(y) > 0 and all(_ndim(part) == 2 for part in y)


def _ndim(part: Any) -> int:
    if isinstance(part, list | tuple):
        return 1 + (_ndim(part[0]) if part else 0)
    return int(getattr(part, "ndim", 0))


def _tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        if values.layout is not torch.strided:
            raise InputTypeError(f"Observations: {name} must be dense, got {values.layout}. Pass {name}.to_dense().")
        return _plain(values)
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(
            f"Observations: {name} must be a rectangular table, every row with as many cells as the first ({error}). "
            "Fix the rows; sequences are a list of arrays (T, D)."
        ) from None
    if array.dtype == object:
        with contextlib.suppress(TypeError, ValueError):
            array = array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise InputTypeError(
            f"Observations: {name} must hold numbers, got {array.dtype}. Code categories as 0, 1, 2, … first."
        )
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if not array.flags.writeable or not array.dtype.isnative or any(s < 0 for s in array.strides):
        array = np.array(array, dtype=array.dtype.newbyteorder("="))
    return _plain(torch.from_numpy(array))


def _plain(values: Tensor) -> Tensor:
    """A dtype that comparisons know: torch's kernels are incomplete for booleans and wide unsigned integers."""
    if values.dtype == torch.bool:
        return values.to(torch.uint8)
    if values.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return values.to(torch.int64)
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _mask(allowed: Any, n_items: int) -> Tensor:
    mask = _tensor(allowed, "allowed").bool()
    if mask.ndim < 2:
        raise InputError(
            f"Observations: allowed must be a mask (N, K) on the parts of z, got shape {tuple(mask.shape)}."
        )
    return _matching(mask, n_items, "allowed", "item")


def _rows(values: Any, name: str, *, empty: bool = False) -> Tensor:
    rows = _tensor(values, name)
    if rows.is_complex():
        raise InputTypeError(f"Observations: {name} must hold real numbers, got {rows.dtype}.")
    if rows.ndim == 1:
        rows = rows[:, None]
    if rows.ndim != 2:
        raise InputError(
            f"Observations: {name} must be (N, D), got {tuple(rows.shape)}. "
            "Flatten each item to one row: y.reshape(len(y), -1)."
        )
    if rows.numel() == 0 and not (empty and rows.shape[1]):
        raise InputError(
            f"Observations: {name} must have at least one row and one column, got an empty table {tuple(rows.shape)}."
        )
    return rows


def _weights(weights: Any, n_items: int) -> Tensor:
    if weights is None:
        return torch.ones(n_items, dtype=torch.float64)
    w = _matching(_tensor(weights, "weights").to(torch.float64).reshape(-1), n_items, "weights", "item")
    bad = ~(torch.isfinite(w) & (w >= 0))
    if bool(bad.any()):
        n = int(bad.nonzero()[0])
        raise InputError(f"Observations: weights must be finite and ≥ 0, got {w[n].item()} for item {n}.")
    if not bool((w > 0).any()):
        raise InputError("Observations: at least one weight must be above 0, got all zeros.")
    return w


def lengths_of(lengths: Any, n_rows: int, name: str = "lengths", of: str = "y") -> Tensor:
    """The lengths of sequences (N,) int64; InputError where they do not add up."""
    ell = torch.as_tensor(np.asarray(lengths)).reshape(-1)
    if ell.is_floating_point() or bool((ell < 0).any()) or int(ell.sum()) != n_rows:
        raise InputError(
            f"Observations: {name} must be whole numbers ≥ 0 that add up to the {n_rows} rows of {of}, "
            f"got a sum of {ell.sum().item()}."
        )
    return ell.to(torch.int64)


def _context_lengths(lengths: Any, context: Any, n_items: int) -> Tensor:
    if context is None:
        raise InputError("Observations: context_lengths belong to a context, got none.")
    found = lengths_of(lengths, len(context), "context_lengths", "context")
    return _matching(found, n_items, "context_lengths", "item")


def _matching(values: Tensor, n: int, name: str, per: str) -> Tensor:
    if len(values) != n:
        raise InputError(f"Observations: {name} must have one entry per {per}, {n} in all, got {len(values)}.")
    return values


def rows_of(lengths: Tensor, index: slice | Tensor) -> Tensor:
    """The rows of the sequences in `index`."""
    begins, counts = (lengths.cumsum(0) - lengths)[index], lengths[index]
    places = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return begins.repeat_interleave(counts) + places


def head_lengths(lengths: Tensor, rows: int) -> Tensor:
    """Of the first sequences, with at most so many rows together; where the first that has any is longer, so much of it."""
    whole = lengths[: int(torch.searchsorted(lengths.cumsum(0), rows, right=True))]
    cut = len(whole) < len(lengths) and not bool(whole.any())
    return torch.cat([whole, whole.new_tensor([rows])]) if cut else whole


@dataclass(frozen=True)
class Columns:
    """What the columns of y are like, each a (D,) float64 tensor over the observed cells, weighted."""

    count: Tensor
    mean: Tensor
    variance: Tensor
    names: tuple[str, ...]

    @staticmethod
    def of(obs: Observations, block_rows: int) -> Columns:
        """One pass in blocks; means and squares are merged pairwise (Chan, Golub & LeVeque 1979), so no cancellation."""
        count = mean = square = torch.zeros(obs.n_features, dtype=torch.float64)
        for block in obs.as_rows().blocks(block_rows):
            y = block.y.to(torch.float64)
            w = torch.where(y.isnan(), 0.0, block.weights.unsqueeze(-1))  # (n, D)
            n = w.sum(0)
            here = (w * y.nan_to_num()).sum(0) / n.clamp_min(1e-300)
            shift, total = here - mean, (count + n).clamp_min(1e-300)
            square = square + (w * (y.nan_to_num() - here) ** 2).sum(0) + shift**2 * count * n / total
            mean = mean + shift * n / total
            count = count + n
        names = tuple(obs.column(d) for d in range(obs.n_features))
        return Columns(count, mean, square / count.clamp_min(1e-300), names)

    def select(self, index: list[int]) -> Columns:
        """The columns in `index`."""
        return Columns(self.count[index], self.mean[index], self.variance[index], tuple(self.names[i] for i in index))


def _row_weights(obs: Observations) -> Tensor:
    return obs.weights if obs.lengths is None else obs.weights.repeat_interleave(obs.lengths)
