"""Observations that stay where they are, for data larger than memory: rows come in blocks, once more for every pass.

Sequences are read by the place of their rows, which their lengths tell: many short ones together, a long one in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from onebound.errors import InputError
from onebound.observations import Observations, head_lengths, lengths_of

Block = TypeVar("Block")


class RowSource(Protocol):
    """Blocks of rows (n, D), the same ones in every iteration, for instance what `ob.data.open_stream` returns.

    For sequences it also has `block_rows`, the most rows to be read at once, and `read`, the rows from `start` to `stop`.
    """

    names: tuple[str, ...]
    n_rows: int

    def __iter__(self) -> Iterator[np.ndarray]: ...


class PlacedSource(RowSource, Protocol):
    """Rows that can be read from any place."""

    block_rows: int

    def read(self, start: int, stop: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Streamed(Observations):
    """N items of which only a block at a time is in memory: `y` is empty, `blocks` and `select` read.

    Rows are the items, or with `lengths` (N,) sequences. `weights` (N,) of sequences are in memory; those of rows are read
    from `weight_column`, the place of a column of the source that is not part of y. What needs an array over all rows
    (labels, mini-batches in random order) needs the data in memory. `begin`, `end`: the rows of the source that it holds.
    """

    source: RowSource | None = None
    weight_column: int | None = None
    weight_sum: float = 0.0
    begin: int = 0
    end: int = 0

    @staticmethod
    def over(
        source: RowSource, *, lengths: Any = None, weights: str | None = None, names: Sequence[str] | None = None
    ) -> Streamed:
        """Observations over `source`; `weights` names one of its columns. With weights: a pass, to add them up.

        `lengths`: of its sequences, each of which has one weight, that of its rows. Raises InputError for lengths that do
        not add up, for a column that is not there, for weights that are not finite and ≥ 0, or that are all 0.
        """
        place = None
        if weights is not None:
            if weights not in source.names:
                raise InputError(
                    f"Observations: weights must name a column of the stream ({', '.join(source.names[:8])}), got {weights!r}."
                )
            place = source.names.index(weights)
        known = tuple(name for i, name in enumerate(source.names) if i != place)
        empty = torch.zeros(0, len(known), dtype=torch.float64)
        streamed = Streamed(
            y=empty,
            weights=torch.zeros(0, dtype=torch.float64),
            names=known if names is None else tuple(names),
            source=source,
            weight_column=place,
            weight_sum=float(source.n_rows),
            end=source.n_rows,
        )
        streamed = streamed if place is None else replace(streamed, weight_sum=streamed._added_up())
        return streamed if lengths is None else streamed._in_sequences(lengths_of(lengths, source.n_rows))

    def _added_up(self) -> float:
        total = sum(float(block.weights.sum()) for block in self.blocks(self.n_items))
        if total == 0:
            raise InputError("Observations: at least one weight must be above 0, got all zeros.")
        return total

    def _in_sequences(self, lengths: Tensor) -> Streamed:
        if not hasattr(self.source, "read") or not hasattr(self.source, "block_rows"):
            raise InputError(
                "Observations: sequences are read from any place of a stream, and this one has no read(start, stop) and "
                "block_rows. Open the file: ob.data.open_stream(path)."
            )
        if len(lengths) == 0:
            raise InputError("Observations: expected at least one sequence, got no lengths.")
        weights = torch.ones(len(lengths), dtype=torch.float64)
        found = replace(self, lengths=lengths, weights=weights)
        return found if self.weight_column is None else replace(found, weights=self._of_sequences(lengths))

    def _of_sequences(self, lengths: Tensor) -> Tensor:
        """The weight of each sequence, which all its rows must say.  (N,)"""
        ends, number = lengths.cumsum(0), torch.arange(len(lengths))
        weights = torch.full((len(lengths),), torch.nan, dtype=torch.float64)
        for block in self.blocks(self.n_rows):
            rows = torch.arange(block.first, block.first + block.n_rows)
            of = number[torch.searchsorted(ends, rows, right=True)]
            fresh = weights[of].isnan()
            weights[of[fresh].flip(0)] = block.weights[fresh].flip(0)  # the first of each is written last
            wrong = (weights[of] != block.weights).nonzero().flatten()
            if len(wrong):
                n, row = int(of[wrong[0]]), int(rows[wrong[0]])
                raise InputError(
                    f"Observations: a sequence has one weight, got {block.weights[wrong[0]].item():g} in row {row} and "
                    f"{weights[n].item():g} where its sequence {n} begins (from 0). Write the same weight in all its rows."
                )
        return weights.nan_to_num(nan=1.0)  # an empty sequence has no row to say it

    @property
    def n_items(self) -> int:
        """N, the sequences or the rows."""
        return self.n_rows if self.lengths is None else len(self.lengths)

    @property
    def n_rows(self) -> int:
        """The rows of all items."""
        return self.end - self.begin

    @property
    def total_weight(self) -> float:
        """Σ weights; N if there are none."""
        return self.weight_sum if self.lengths is None else float(self.weights.sum())

    @property
    def total_row_weight(self) -> float:
        """Σ over rows of the weight of their item."""
        return self.weight_sum if self.lengths is None else float((self.weights * self.lengths).sum())

    def as_sequences(self) -> Observations:
        """The rows taken as one sequence, if they are not in sequences yet."""
        if self.lengths is not None:
            return self
        if self.weight_column is not None:
            raise InputError(
                "Observations: weights of sequences are one for each sequence, got one for each row. Pass lengths too."
            )
        return replace(self._in_sequences(torch.tensor([self.n_rows])), checked_by=None)

    def as_rows(self) -> Observations:
        """Every row an item of its own, with the weight of its sequence."""
        if self.lengths is None:
            return self
        return replace(
            self,
            weights=torch.zeros(0, dtype=torch.float64),
            lengths=None,
            weight_sum=self.total_row_weight,
            checked_by=None,
        )

    def head(self, rows: int) -> Observations:
        """The first sequences with at most so many rows together, or as much of the first one."""
        if self.lengths is None:
            return super().head(rows)
        lengths = head_lengths(self.lengths, rows)
        return self._read(self.begin, self.begin + int(lengths.sum()), slice(0, len(lengths)), lengths)

    def blocks(self, size: int) -> Iterator[Observations]:
        """The items in order, at most `size` rows at a time, but whole sequences; the source's blocks if these are smaller."""
        if self.lengths is None:
            yield from self._row_blocks(size)
            return
        for part in self.parts(size):
            yield from part.in_memory().blocks(size) if isinstance(part, Streamed) else part.blocks(size)

    def parts(self, size: int) -> Iterator[Observations]:
        """As `blocks`, but a sequence longer than the source's blocks stays `Streamed`, alone."""
        if self.lengths is None:
            yield from self._row_blocks(size)
            return
        with _read_ahead(self._parts(size)) as parts:
            yield from parts

    def _parts(self, size: int) -> Iterator[Observations]:
        assert self.lengths is not None
        most = self._placed().block_rows
        ends, n = self.begin + self.lengths.cumsum(0), 0
        while n < self.n_items:
            before = int(ends[n - 1]) if n else self.begin
            stop = max(n + 1, int(torch.searchsorted(ends, before + min(size, most), right=True)))
            here, last = slice(n, stop), int(ends[stop - 1])
            if last - before > most:
                yield replace(
                    self,
                    lengths=self.lengths[here],
                    weights=self.weights[here],
                    begin=before,
                    end=last,
                    first=self.first + n,
                )
            else:
                yield self._read(before, last, here, self.lengths[here])
            n = stop

    def pieces(self, backwards: bool = False) -> Iterator[Observations]:
        """The rows of one long sequence, each piece as if it were a sequence; from the last to the first on demand."""
        size = self._placed().block_rows
        starts = range(self.begin, self.end, size)
        spans = [(start, min(start + size, self.end)) for start in (reversed(starts) if backwards else starts)]
        with _read_ahead(self._read(a, b, slice(0, 1), torch.tensor([b - a])) for a, b in spans) as pieces:
            yield from pieces

    def in_memory(self) -> Observations:
        """All of it at once."""
        assert self.lengths is not None
        return self._read(self.begin, self.end, slice(0, None), self.lengths)

    def _placed(self) -> PlacedSource:
        return cast(PlacedSource, self.source)

    def _read(self, start: int, stop: int, index: slice, lengths: Tensor) -> Observations:
        """The rows from `start` to `stop` of the source, which are those of the sequences in `index`."""
        rows = torch.from_numpy(self._placed().read(start, stop))
        return Observations(
            y=self._modelled(rows),
            weights=self.weights[index],
            lengths=lengths,
            names=self.names,
            first=self.first + (index.start or 0),
            checked_by=self.checked_by,
        )

    def _modelled(self, rows: Tensor) -> Tensor:
        """Without the column of weights."""
        place = self.weight_column
        return rows if place is None else torch.cat([rows[:, :place], rows[:, place + 1 :]], 1)

    def _row_blocks(self, size: int) -> Iterator[Observations]:
        assert self.source is not None
        first = 0
        with _read_ahead(iter(self.source)) as chunks:
            for chunk in chunks:
                block = self._in_memory(chunk, first)
                first += len(chunk)
                yield from block.blocks(size)

    def _in_memory(self, chunk: np.ndarray, first: int) -> Observations:
        rows = torch.from_numpy(chunk)
        place = self.weight_column
        if place is None:
            weights = torch.ones(len(rows), dtype=torch.float64)
        else:
            weights = rows[:, place].to(torch.float64)
            bad = ~(torch.isfinite(weights) & (weights >= 0))
            if bool(bad.any()):
                n = int(bad.nonzero()[0])
                raise InputError(
                    f"Observations: weights must be finite and ≥ 0, got {weights[n].item()} for item {first + n}."
                )
        rows = self._modelled(rows)
        return Observations(y=rows, weights=weights, names=self.names, first=first, checked_by=self.checked_by)

    def select(self, index: slice | Tensor) -> Observations:
        """The items in `index` (a slice, or a vector of item numbers), read into memory."""
        if isinstance(index, slice):
            index = torch.arange(*index.indices(self.n_items))
        order = index.argsort(stable=True)
        wanted = index[order]
        parts = []
        for block in self.blocks(self.n_rows):
            here = slice(*torch.searchsorted(wanted, torch.tensor([block.first, block.first + block.n_items])).tolist())
            if here.stop > here.start:
                parts.append(block.select(wanted[here] - block.first))
            if here.stop == len(wanted):
                break
        found = Observations(
            y=torch.cat([part.y for part in parts]),
            weights=torch.cat([part.weights for part in parts]),
            lengths=None if self.lengths is None else self.lengths[wanted],
            names=self.names,
            numbers=wanted,
            checked_by=self.checked_by,
        )
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return found.select(back)

    def to(self, device: torch.device) -> Observations:
        """Refused: blocks are read into the memory of the processor."""
        if device.type == "cpu":
            return self
        raise InputError(f"Observations.to: a stream is read block by block on the CPU, got {device}. Move the blocks.")


class _read_ahead(Generic[Block]):
    """Reads the next block in a thread of its own while the present one is worked on; a with statement ends it."""

    def __init__(self, chunks: Iterator[Block]) -> None:
        self._chunks = chunks
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Iterator[Block]:
        return self._run()

    def _run(self) -> Iterator[Block]:
        coming = self._pool.submit(next, self._chunks, None)
        while (chunk := coming.result()) is not None:
            coming = self._pool.submit(next, self._chunks, None)
            yield chunk

    def __exit__(self, *exception: Any) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
