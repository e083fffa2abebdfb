"""Recordings with what is said in them: a csv with a file and its text in each row."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebound.data.audio import LogMel, read_audio
from onebound.errors import InputError, did_you_mean
from onebound.observations import Observations

BLANK = "<blank>"
UNITS = ("words", "letters")


@dataclass(frozen=True)
class Recordings:
    """Files, their frames (T, F) each, and their texts, None where the list has no column for them."""

    files: tuple[str, ...]
    frames: tuple[Tensor, ...]
    texts: tuple[str, ...] | None

    def observations(self, alphabet: Alphabet) -> Observations:
        """Labels given frames; InputError naming the file whose text has what the alphabet has not."""
        if self.texts is None:
            raise InputError("recordings: expected a column with the text of each recording, got none.")
        labels = [alphabet.labels(text, file) for text, file in zip(self.texts, self.files, strict=True)]
        return Observations.paired(labels, self.frames)


@dataclass(frozen=True)
class Alphabet:
    """What the classes of a recogniser are called, the blank first; a text is a row of `units`, words or letters.

    >>> a = Alphabet.of(["one two", "two"], "words")
    >>> a.symbols, a.labels("two one"), a.text([2, 2])
    (('<blank>', 'one', 'two'), [2, 1], 'two two')
    """

    symbols: tuple[str, ...]
    units: str

    @staticmethod
    def of(texts: Iterable[str], units: str) -> Alphabet:
        """Every unit of these texts, in order of the alphabet."""
        if units not in UNITS:
            raise InputError(
                f"units: must be one of {', '.join(UNITS)}, got {units!r}.{did_you_mean(str(units), UNITS)}"
            )
        found = sorted({unit for text in texts for unit in _units(text, units)})
        return Alphabet((BLANK, *found), units)

    def labels(self, text: str, file: str = "text") -> list[int]:
        """The classes of a text."""
        numbers = {symbol: i for i, symbol in enumerate(self.symbols)}
        wanted = _units(text, self.units)
        unknown = sorted({unit for unit in wanted if unit not in numbers or unit == BLANK})
        if unknown:
            raise InputError(
                f"{file}: the text has {', '.join(map(repr, unknown[:5]))}, and the model knows {_some(self.symbols[1:])}."
            )
        return [numbers[unit] for unit in wanted]

    def text(self, labels: Iterable[int]) -> str:
        """The text of some classes."""
        return (" " if self.units == "words" else "").join(self.symbols[int(label)] for label in labels)


def read_recordings(
    path: str | os.PathLike[str],
    features: LogMel | None = None,
    *,
    audio: str = "audio",
    text: str = "text",
    need_text: bool = True,
    progress: Callable[[str], Any] = lambda told: None,
) -> Recordings:
    """The recordings in a csv whose column `audio` names sound files, or .npy files of frames (T, F), and `text` what is said.

    Files are looked for from the csv's own folder. `features` None: as `LogMel` has it, at the rate of the first sound.
    InputError names the file and the row for what cannot be read.
    """
    rows = _rows(path, audio, text if need_text else None)
    folder, frames = Path(path).parent, []
    for i, row in enumerate(rows):
        file = folder / row[audio]
        progress(f"reading {i + 1} of {len(rows)} recordings")
        if file.suffix == ".npy":
            frames.append(_array(file))
            continue
        samples, rate = read_audio(file)
        features = features or LogMel(rate)
        frames.append(torch.from_numpy(features(samples, rate)))
    widths = {x.shape[1] for x in frames}
    if len(widths) > 1:
        raise InputError(f"{path}: every recording must have frames of the same width, got {sorted(widths)[:5]}.")
    texts = tuple(row[text] for row in rows) if text in rows[0] else None
    return Recordings(tuple(row[audio] for row in rows), tuple(frames), texts)


def first_rate(path: str | os.PathLike[str], audio: str = "audio") -> int | None:
    """Samples a second of the first recording in a list; None where it holds frames."""
    file = Path(path).parent / _rows(path, audio, None)[0][audio]
    return None if file.suffix == ".npy" else read_audio(file)[1]


def has_texts(path: str | os.PathLike[str], text: str = "text") -> bool:
    """Whether a list says what is said."""
    return text in _rows(path, "audio", None)[0]


def errors(wanted: Sequence[int], got: Sequence[int]) -> int:
    """The edit distance of two label sequences: how many have to be put in, taken out or changed.

    >>> errors([1, 2, 3], [1, 3, 3, 4])
    2
    """
    b = np.asarray(got, np.int64)
    steps = np.arange(len(b) + 1)
    row = steps
    for label in wanted:
        down = np.concatenate([row[:1] + 1, np.minimum(row[1:] + 1, row[:-1] + (b != int(label)))])
        row = np.minimum.accumulate(down - steps) + steps  # taken out, one after the other
    return int(row[-1])


def edits(wanted: Sequence[int], got: Sequence[int]) -> list[tuple[int | None, int | None]]:
    """Pairs of a label that was wanted and what is there in its place, None where one was put in or left out: fewest changes.

    >>> edits([1, 2, 3, 5], [1, 3, 4])
    [(1, 1), (2, None), (3, 3), (5, 4)]
    """
    n, m = len(wanted), len(got)
    cost = [[max(i, j) if not i * j else 0 for j in range(m + 1)] for i in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            change = cost[i - 1][j - 1] + (wanted[i - 1] != got[j - 1])
            cost[i][j] = min(change, cost[i - 1][j] + 1, cost[i][j - 1] + 1)
    pairs: list[tuple[int | None, int | None]] = []
    i, j = n, m
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + (wanted[i - 1] != got[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((wanted[i], got[j]))
        elif i and cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
            pairs.append((wanted[i], None))
        else:
            j -= 1
            pairs.append((None, got[j]))
    return pairs[::-1]


def _rows(path: str | os.PathLike[str], audio: str, text: str | None) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as csv: {getattr(error, 'strerror', None) or error}.") from error
    if not rows:
        raise InputError(f"{path}: expected a csv with a line of names and a recording in each row, got no row.")
    for name in (audio, *(() if text is None else (text,))):
        if name not in rows[0]:
            there = [key for key in rows[0] if key is not None]
            raise InputError(f"{path}: no column {name!r}; there are {_some(there)}.{did_you_mean(name, there)}")
        for i, row in enumerate(rows):
            if row[name] is None or (name == audio and not row[name]):
                raise InputError(f"{path}: row {i + 1} has no {name}.")
    return rows


def _array(file: Path) -> Tensor:
    try:
        frames = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as an npy file of frames (T, F): {error}.") from error
    if frames.ndim != 2 or frames.dtype.kind not in "fiu":
        raise InputError(f"{file}: expected frames (T, F) of numbers, got {frames.dtype} of shape {frames.shape}.")
    return torch.from_numpy(np.ascontiguousarray(frames, np.float32))


def _units(text: str, units: str) -> list[str]:
    return text.split() if units == "words" else list(text)


def _some(names: Sequence[str], at_most: int = 12) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(map(repr, names[:at_most])) + more
