"""From the words of a command line to a model and the data that it is to be fitted to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onebound.cli.options import model_options
from onebound.data import Column, Table, read_table
from onebound.data.table import number_text
from onebound.errors import InputError, did_you_mean
from onebound.observations import Observations


@dataclass(frozen=True)
class Task:
    """A model, not yet started, and its data; `options` are those that the model was built with."""

    name: str
    model: Any
    table: Table
    observations: Observations
    options: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        """What travels with the model so that tomorrow's command knows today's columns."""
        columns = self.table.columns
        return {
            "model": self.name,
            "options": dict(self.options),
            "data": Path(self.table.path).name,
            "columns": list(self.table.names),
            "kinds": {column.name: column.kind for column in columns},
            "categories": {
                column.name: list(column.as_category().categories or ())
                for column, values in zip(columns, self.observations.y.numpy().T, strict=True)
                if is_coded(column, values)
            },
        }


def is_coded(column: Column, values: np.ndarray) -> bool:
    """Whether the model reads codes of categories in this column, because it holds text or because the model wants so."""
    return column.kind == "category" or not np.array_equal(column.values, values, equal_nan=True)


def entry_named(name: str) -> Any:
    """The registry's entry for a model; InputError for a name that it lacks."""
    from onebound.models.registry import REGISTRY

    if name not in REGISTRY:
        raise InputError(
            f"no model {name!r}.{did_you_mean(name, REGISTRY) or ' There are ' + ', '.join(REGISTRY) + '.'}"
        )
    return REGISTRY[name]


def load_task(
    name: str,
    data: str,
    *,
    components: int,
    columns: tuple[str, ...] | None,
    types: Mapping[str, str] | None,
    missing: str,
    **options: Any,
) -> Task:
    """Read the data and build the model for them; InputError for whatever does not fit."""
    entry = entry_named(name)
    wanted = model_options(entry, **options)
    table = read_table(data, columns, types)
    refuse_impossible(table, missing)
    model = entry.build(table, components, **wanted)
    values = entry.observations(table)
    task = Task(name, model, table, Observations.of(values, names=table.names), wanted)
    model.about = task.about()
    return task


def refuse_impossible(table: Table, missing: str) -> None:
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
        if gaps[column.name].size == table.n_rows:
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


def stand_in_model(name: str, components: int, **options: Any) -> Any:
    """The model on two columns of every kind that it takes: what a plan needs when there are no data."""
    entry = entry_named(name)
    wanted = model_options(entry, **options)
    refusal: InputError | None = None
    for kinds in (("real", "count", "binary", "category"), ("real",), ("count",), ("binary",), ("category",)):
        try:
            return entry.build(_stand_in(kinds), components, **wanted)
        except InputError as error:
            # The last refusal is kept: where every kind of column is refused, the options are at fault.
            refusal = error
    assert refusal is not None
    raise refusal


def _stand_in(kinds: tuple[str, ...]) -> Table:
    cells = np.array([0.0, 1.0] * 8)
    real = np.linspace(-1.5, 1.5, len(cells))
    columns = []
    for kind in kinds:
        values = real if kind == "real" else cells
        text = (1, "a") if kind == "category" else None
        categories = ("a", "b") if kind == "category" else None
        columns += [Column(f"{kind}{i}", kind, values, categories, text) for i in (1, 2)]  # type: ignore[arg-type]
    return Table(tuple(columns), "a table of two columns")
