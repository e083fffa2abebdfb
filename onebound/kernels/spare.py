"""Memory for kernels to work in, kept for the next call: fresh memory costs more than a small kernel does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

# float64 numbers in a piece that is kept, and how many pieces.
MOST, PIECES = 2**22, 8
_kept: list[Any] = []


@contextlib.contextmanager
def borrowed(numbers: int, wholes: int) -> Iterator[tuple[Any, Any]]:
    """Uninitialised float64 (numbers,) and int64 (wholes,), this thread's alone until the block ends."""
    size = numbers + wholes
    try:
        piece = _kept.pop()  # one operation: no other thread can get the same
    except IndexError:
        piece = np.empty(0)
    if len(piece) < size:
        piece = np.empty(size)
    try:
        yield piece[:numbers], piece[numbers:size].view(np.int64)
    finally:
        if len(piece) <= MOST and len(_kept) < PIECES:
            _kept.append(piece)
