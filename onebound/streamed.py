"""Observations that stay where they are, for data larger than memory: rows come in blocks, once more for every pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from onebound.errors import InputError
from onebound.observations import Observations


class RowSource(Protocol):
    """Blocks of rows (n, D), the same ones in every iteration, for instance what `ob.data.open_stream` returns."""

    names: tuple[str, ...]
    n_rows: int

    def __iter__(self) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class Streamed(Observations):
    """N items of which only a block at a time is in memory: `y` and `weights` are empty, `blocks` and `select` read.

    `weight_column`: the place of the source's column that holds the weights, which is not part of y. What needs an array
    over all items (labels, mini-batches in random order) needs the data in memory.
    """

    source: RowSource | None = None
    weight_column: int | None = None
    weight_sum: float = 0.0

    @staticmethod
    def over(source: RowSource, *, weights: str | None = None, names: Sequence[str] | None = None) -> Streamed:
        """Observations over `source`; `weights` names one of its columns. With weights: a pass, to add them up.

        Raises InputError for a column that is not there, for weights that are not finite and ≥ 0, or that are all 0.
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
        )
        return streamed if place is None else replace(streamed, weight_sum=streamed._added_up())

    def _added_up(self) -> float:
        total = sum(float(block.weights.sum()) for block in self.blocks(self.n_items))
        if total == 0:
            raise InputError("Observations: at least one weight must be above 0, got all zeros.")
        return total

    @property
    def n_items(self) -> int:
        """N, the rows of the source."""
        assert self.source is not None
        return self.source.n_rows

    @property
    def total_weight(self) -> float:
        """Σ weights; N if there are none."""
        return self.weight_sum

    def blocks(self, size: int) -> Iterator[Observations]:
        """The items in order, at most `size` at a time; the source's own blocks where these are smaller."""
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
            rows = torch.cat([rows[:, :place], rows[:, place + 1 :]], 1)
        return Observations(y=rows, weights=weights, names=self.names, first=first, checked_by=self.checked_by)

    def select(self, index: slice | Tensor) -> Observations:
        """The items in `index` (a slice, or a vector of item numbers), read into memory."""
        if isinstance(index, slice):
            index = torch.arange(*index.indices(self.n_items))
        order = index.argsort(stable=True)
        wanted = index[order]
        parts = []
        for block in self.blocks(self.n_items):
            here = slice(*torch.searchsorted(wanted, torch.tensor([block.first, block.first + block.n_items])).tolist())
            if here.stop > here.start:
                parts.append(block.select(wanted[here] - block.first))
            if here.stop == len(wanted):
                break
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        y, weights = (torch.cat([getattr(part, name) for part in parts])[back] for name in ("y", "weights"))
        return Observations(y=y, weights=weights, names=self.names, numbers=index, checked_by=self.checked_by)

    def to(self, device: torch.device) -> Observations:
        """Refused: blocks are read into the memory of the processor."""
        if device.type == "cpu":
            return self
        raise InputError(f"Observations.to: a stream is read block by block on the CPU, got {device}. Move the blocks.")


class _read_ahead:
    """Reads the next block in a thread of its own while the present one is worked on; a with statement ends it."""

    def __init__(self, chunks: Iterator[np.ndarray]) -> None:
        self._chunks = chunks
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Iterator[np.ndarray]:
        return self._run()

    def _run(self) -> Iterator[np.ndarray]:
        coming = self._pool.submit(next, self._chunks, None)
        while (chunk := coming.result()) is not None:
            coming = self._pool.submit(next, self._chunks, None)
            yield chunk

    def __exit__(self, *exception: Any) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
