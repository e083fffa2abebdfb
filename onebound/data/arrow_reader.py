"""Parquet and Arrow files, and any dataframe that speaks Arrow's protocol, to a Table."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as pa_ipc
import pyarrow.parquet as pq

from onebound.data.options import Options
from onebound.data.source import Source
from onebound.data.table import Column, Table, check_names, numeric_column, refuse_doubled
from onebound.data.text_columns import category_column, floats
from onebound.errors import InputError, InputTypeError

# Where pandas keeps the row labels of a frame; they are no data.
INDEX = "__index_level_"


def read_parquet(source: Source, options: Options) -> Table:
    """Read a parquet file; only the chosen columns are decoded."""
    with source.open_anywhere() as stream, refuse_damaged(source.name, "parquet"):
        file = pq.ParquetFile(stream, pre_buffer=False)
        chosen = choose(file.schema_arrow.names, options.columns, source.name)
        refuse_types(file.schema_arrow, chosen, source.name)
        return _table(file.read(columns=list(chosen)), chosen, source.name)


def read_arrow(source: Source, options: Options) -> Table:
    """Read an Arrow file (Feather version 2 is one) or an Arrow stream."""
    with source.open_anywhere() as stream, refuse_damaged(source.name, "Arrow"):
        is_file = source.head().startswith(b"ARROW1")
        table = (pa_ipc.open_file if is_file else pa_ipc.open_stream)(stream).read_all()
        chosen = choose(table.column_names, options.columns, source.name)
        refuse_types(table.schema, chosen, source.name)
        return _table(table, chosen, source.name)


def table_from(
    data: Any, columns: Iterable[str] | None = None, kinds: Mapping[str, str] | None = None, name: str = "data"
) -> Table:
    """A Table from any dataframe that has `__arrow_c_stream__`: pandas ≥ 2.2, polars, pyarrow, duckdb, …

    Strings and dictionaries (categoricals) become categories, booleans binary, numbers what they look like: binary,
    count or real; null and NaN are missing. `columns` chooses and orders, `kinds` overrides, `name` stands in messages.
    InputError names a column that holds times, lists or structs; InputTypeError says that `data` is no dataframe.

    >>> table_from(pa.table({"legs": [4, 2, 6], "animal": ["cat", "hen", "ant"]})).columns[1].categories
    ('ant', 'cat', 'hen')
    """
    if not (hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")):
        raise InputTypeError(
            f"table_from: data must be a dataframe with __arrow_c_stream__ (pandas from 2.2, polars, pyarrow), "
            f"got {type(data).__name__}. For arrays call pyarrow.table({{name: array}}) first."
        )
    try:
        frame = pa.table(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"{name}: is not a table of columns: {str(error).splitlines()[0]}") from error
    chosen = choose(frame.column_names, None if columns is None else tuple(columns), name)
    refuse_types(frame.schema, chosen, name)
    table = _table(frame, chosen, name)
    return table.with_kinds(kinds) if kinds else table


@contextmanager
def refuse_damaged(path: str, what: str) -> Iterator[None]:
    """InputError instead of what pyarrow says about a file that it cannot decode."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, pa.ArrowNotImplementedError):
            raise InputError(f"{path}: uses a feature that is not read: {str(error).splitlines()[0]}") from error
        raise InputError(
            f"{path}: the {what} file is damaged or cut short (an interrupted download?); fetch it again."
        ) from error


def choose(names: list[str], columns: tuple[str, ...] | None, path: str) -> tuple[str, ...]:
    """The chosen columns; all but the row labels of pandas, where none are."""
    refuse_doubled(names, path)
    chosen = check_names(columns if columns is not None else (n for n in names if not n.startswith(INDEX)), names, path)
    if not chosen:
        raise InputError(f"{path}: has no columns.")
    return chosen


def refuse_types(schema: pa.Schema, chosen: Iterable[str], path: str) -> None:
    """InputError for the first chosen column that holds neither numbers, truth values nor words."""
    for name in chosen:
        kind = schema.field(name).type
        if not (is_numeric(kind) or _is_word(kind)):
            shown = str(kind) if len(str(kind)) <= 40 else f"{str(kind)[:39]}…"
            cure = "turn it into numbers (seconds, say)" if pa.types.is_temporal(kind) else "make it columns of numbers"
            raise InputError(f"{path}: column {name} holds {shown}, which is not read; choose others or {cure}.")


def is_numeric(kind: pa.DataType) -> bool:
    """Whether `numbers` reads this type: numbers, truth values, nothing but nulls."""
    return _is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_word(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        value = kind.value_type
        return _is_number(value) or pa.types.is_boolean(value) or _is_word(value)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _table(table: pa.Table, chosen: tuple[str, ...], path: str) -> Table:
    if table.num_rows == 0:
        raise InputError(f"{path}: has columns and no rows.")
    return Table(tuple(_column(name, table.column(name)) for name in chosen), path)


def _column(name: str, cells: pa.ChunkedArray) -> Column:
    if pa.types.is_boolean(cells.type):
        return Column(name, "binary", numbers(cells))
    if _is_number(cells.type) or pa.types.is_null(cells.type):
        return numeric_column(name, numbers(cells))
    if pa.types.is_dictionary(cells.type):
        cells = pc.cast(cells, cells.type.value_type)
    if not _is_word(cells.type):  # A dictionary of numbers: categories in the order of the numbers.
        return Column(name, "real", numbers(cells)).as_category()
    coded = pc.dictionary_encode(pc.cast(cells, pa.large_string()).combine_chunks())
    words, codes = coded.dictionary.to_pylist(), floats(coded.indices.cast(pa.float64()))
    present = np.flatnonzero(~np.isnan(codes))
    text = (int(present[0]) + 1, words[int(codes[present[0]])]) if present.size else None
    return category_column(name, words, codes, text)


def numbers(cells: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Numbers or truth values as float64, (N,), writable; NaN where null."""
    if pa.types.is_boolean(cells.type):
        cells = pc.cast(cells, pa.uint8())
    # Unsafe, because whole numbers beyond 2^53 are rounded, as they are in text.
    return floats(pc.cast(cells, pa.float64(), safe=False))
