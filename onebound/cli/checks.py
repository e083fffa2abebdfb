"""What the shell looks for in the cells before a model sees them, so that a message can name the row, counted from 1."""

import numpy as np

from onebound.data import Table
from onebound.data.table import number_text
from onebound.errors import InputError


def refuse_impossible(table: Table, missing: str, *, empty_columns: bool = False) -> None:
    """InputError for infinite cells, for columns without a single value, and for gaps nobody allowed."""
    gaps = {column.name: np.flatnonzero(np.isnan(column.values)) for column in table.columns}
    for column in table.columns:
        infinite = np.flatnonzero(np.isinf(column.values))
        if infinite.size:
            value = number_text(column.values[infinite[0]])
            raise InputError(
                f"{table.path}: column {column.name} holds {value} in row {infinite[0] + 1}; "
                "remove the row, or leave the cell empty."
            )
        if gaps[column.name].size == table.n_rows and not empty_columns:
            raise InputError(f"{table.path}: column {column.name} has no value at all; leave it out with --columns.")
    gappy = {name: rows for name, rows in gaps.items() if rows.size}
    if gappy and missing == "error":
        first = next(iter(gappy))
        n_cells = sum(rows.size for rows in gappy.values())
        cells = "1 cell is" if n_cells == 1 else f"{n_cells} cells are"
        raise InputError(
            f"{table.path}: {cells} missing, the first in column {first}, row {gappy[first][0] + 1}. "
            "Give --missing marginalize to fit around them, or fill them in."
        )
