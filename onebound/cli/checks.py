"""What the shell looks for in the cells before a model sees them, so that a message can name the row, counted from 1."""

from onebound.data import Table
from onebound.data.table import number_text
from onebound.errors import InputError


def refuse_crowd(table: Table, n_components: int, part: str = "component") -> None:
    """InputError for more components (or states) than rows, before memory is asked for them."""
    if n_components > table.n_rows:
        raise InputError(
            f"{table.path}: expected at least one row a {part}, {n_components} in all, got {table.n_rows}. "
            f"Ask for fewer --{part}s."
        )


def refuse_impossible(table: Table, missing: str, *, empty_columns: bool = False) -> None:
    """InputError for infinite cells, for columns without a single value, and for gaps nobody allowed."""
    for column in table.columns:
        if column.look.first_infinite is not None:
            row, value = column.look.first_infinite
            raise InputError(
                f"{table.path}: column {column.name} holds {number_text(value)} in row {row}; "
                "remove the row, or leave the cell empty."
            )
        if column.look.n_missing == table.n_rows and not empty_columns:
            raise InputError(f"{table.path}: column {column.name} has no value at all; leave it out with --columns.")
    gappy = [column for column in table.columns if column.look.n_missing]
    if gappy and missing == "error":
        n_cells = sum(column.look.n_missing for column in gappy)
        cells = "1 cell is" if n_cells == 1 else f"{n_cells} cells are"
        raise InputError(
            f"{table.path}: {cells} missing, the first in column {gappy[0].name}, row {gappy[0].look.first_missing}. "
            "Give --missing marginalize to fit around them, or fill them in."
        )
