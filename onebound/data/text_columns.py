"""Cells of text to columns: numbers where every cell is one, else categories."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onebound.data.table import Column, numeric_column, text_number

MISSING = ("", "NA", "NaN", "nan", "null")
TRUTH = {"true": 1.0, "false": 0.0}


def clean(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """The cells without blanks around them, null where they say that nothing was observed."""
    cells = pc.utf8_trim_whitespace(cells)
    return pc.if_else(pc.is_in(cells, value_set=pa.array(MISSING)), pa.scalar(None, pa.string()), cells)


def text_column(name: str, cells: pa.ChunkedArray, decimal: str = ".") -> Column:
    """A column from clean cells of text, (N,): numbers, else true and false, else categories."""
    try:
        return numeric_column(name, floats(pc.cast(_with_points(cells, decimal), pa.float64())))
    except pa.ArrowInvalid:
        return _column_of_words(name, cells, decimal)


def category_column(name: str, words: list[str], codes: np.ndarray, text: tuple[int, str] | None) -> Column:
    """A category from distinct words and, for each row, the place of its word (NaN: missing); sorted."""
    order = sorted(words)
    place = {word: code for code, word in enumerate(order)}
    values = look_up(np.array([place[word] for word in words], dtype=np.float64), codes)
    return Column(name, "category", values, categories=tuple(order), text=text)


def has_decimal_commas(cells: pa.ChunkedArray) -> bool:
    """Whether all the cells would be numbers, were a comma the decimal mark, and some have one."""
    if not pc.any(pc.match_substring(cells, ",")).as_py():
        return False
    return all(text_number(word, ",") is not None for word in pc.unique(cells.drop_null()).to_pylist())


def has_points(cells: pa.ChunkedArray) -> bool:
    """Whether the cells are numbers and some have a decimal point."""
    if not pc.any(pc.match_substring(cells, ".")).as_py():
        return False
    return all(text_number(word) is not None for word in pc.unique(cells.drop_null()).to_pylist())


def _with_points(cells: pa.ChunkedArray, decimal: str) -> pa.ChunkedArray:
    if decimal == ".":
        return cells
    if pc.any(pc.match_substring(cells, ".")).as_py():
        # A point is no part of a number here: word by word is slower and finds the cell.
        raise pa.ArrowInvalid("a point among decimal commas")
    return pc.replace_substring(cells, decimal, ".")


def _column_of_words(name: str, cells: pa.ChunkedArray, decimal: str) -> Column:
    """A column in which some cell is not a number that pyarrow reads: a category, unless only spellings differ."""
    coded = pc.dictionary_encode(cells.combine_chunks())
    words = coded.dictionary.to_pylist()
    codes = floats(coded.indices.cast(pa.float64()))
    if words and all(word.casefold() in TRUTH for word in words):
        return Column(name, "binary", look_up(np.array([TRUTH[word.casefold()] for word in words]), codes))
    numbers = [text_number(word, decimal) for word in words]
    if None not in numbers:
        return numeric_column(name, look_up(np.array(numbers, dtype=np.float64), codes))
    no_number = look_up(np.array([number is None for number in numbers], dtype=np.float64), codes)
    first = int(np.argmax(no_number == 1))
    return category_column(name, words, codes, (first + 1, words[int(codes[first])]))


def look_up(entries: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """entries[codes], (N,); NaN where the code is NaN."""
    present = ~np.isnan(codes)
    values = np.full(codes.shape, np.nan)
    values[present] = entries[codes[present].astype(np.intp)]
    return values


def floats(array: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(N,) float64, writable, NaN where null."""
    chunks = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    return np.array(chunks.to_numpy(), dtype=np.float64)
