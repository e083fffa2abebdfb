"""The columns that are not modelled but say something about the rows: weights, known classes, and whose sequence they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onebound.cli.sequences import Sequences, by_column
from onebound.data import Column, Table
from onebound.data.table import check_names, number_text
from onebound.errors import InputError

DEFAULT_COMPONENTS = 2


@dataclass(frozen=True)
class Extras:
    """Weights of rows or sequences, known classes: codes of rows into `classes`, NaN where unknown; and the sequences."""

    weights_name: str | None = None
    weights: np.ndarray | None = None
    label_name: str | None = None
    codes: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    sequences: Sequences | None = None

    def about(self) -> dict[str, Any]:
        """What travels with the model."""
        told = {"weights": self.weights_name, "label": self.label_name, "classes": list(self.classes)}
        return told if self.sequences is None else told | self.sequences.about()

    def in_sequences(self, sequences: Sequences, path: str) -> "Extras":
        """The same with the rows split so, and one weight a sequence."""
        of_rows = self.weights
        weights = None if of_rows is None else sequences.weights(of_rows, self.weights_name or "", path)
        return replace(self, sequences=sequences, weights=weights)

    def components(self, asked: int | None) -> int:
        """How many components: as asked, else one for each class, else the default."""
        n_classes = len(self.classes)
        if asked is not None and asked < n_classes:
            raise InputError(
                f"column {self.label_name} holds {n_classes} classes ({', '.join(self.classes[:8])}), which need as many "
                f"components (or states), got {asked}."
            )
        return asked or n_classes or DEFAULT_COMPONENTS

    @property
    def labels(self) -> list[str | None] | None:
        """The known classes of the rows by name, None where unknown.  (N,)"""
        if self.codes is None:
            return None
        return [None if np.isnan(code) else self.classes[int(code)] for code in self.codes]

    def allowed(self, n_components: int) -> np.ndarray | None:
        """Which components each row may come from, (N, K); class c is component c."""
        if self.codes is None:
            return None
        return np.isnan(self.codes)[:, None] | (self.codes[:, None] == np.arange(n_components))


NO_EXTRAS = Extras()


def take_extras(
    whole: Table,
    weights: str | None,
    label: str | None,
    columns: Sequence[str] | None,
    sequence_column: str | None = None,
) -> tuple[Table, Extras]:
    """The modelled columns, and apart from them the weights, the known classes and the sequences."""
    taken = [name for name in (weights, label, sequence_column) if name is not None]
    check_names(taken, whole.names, whole.path)
    for name in taken:
        if columns is not None and name in columns:
            raise InputError(f"{whole.path}: column {name!r} cannot be data and weight, label or sequence at once.")
    rest = [name for name in whole.names if name not in taken]
    if not rest:
        raise InputError(f"{whole.path}: no column is left for the model beside {' and '.join(taken)}.")
    by_name = {column.name: column for column in whole.columns}
    extras = NO_EXTRAS
    if weights is not None:
        extras = replace(extras, weights_name=weights, weights=_weights(by_name[weights], whole.path))
    if label is not None:
        known = _label(by_name[label], whole.path)
        extras = replace(extras, label_name=label, codes=known.values, classes=known.categories or ())
    if sequence_column is not None:
        extras = replace(extras, sequences=by_column(by_name[sequence_column], whole.path))
    return (whole.select(rest) if taken else whole), extras


def _weights(column: Column, path: str) -> np.ndarray:
    if column.kind == "category":
        row, text = column.text or (1, "a category")
        raise InputError(f"{path}: the weights in column {column.name} must be numbers, got {text!r} in row {row}.")
    bad = np.flatnonzero(~(np.isfinite(column.values) & (column.values >= 0)))
    if bad.size:
        value = column.values[bad[0]]
        came = "an empty cell" if np.isnan(value) else number_text(value)
        raise InputError(
            f"{path}: the weights in column {column.name} must be 0 or more, got {came} in row {bad[0] + 1}."
        )
    if not column.values.any():
        raise InputError(f"{path}: the weights in column {column.name} are all 0; one at least must be more.")
    with np.errstate(over="ignore"):
        total = column.values.sum()
    if not np.isfinite(total):
        raise InputError(f"{path}: the weights in column {column.name} add up to more than 1e308; divide them all.")
    return column.values


def _label(column: Column, path: str) -> Column:
    known = column.as_category()
    if not known.categories:
        raise InputError(f"{path}: column {column.name} knows no class at all; leave --label out.")
    return known


def component_names(about: Mapping[str, Any], n_components: int) -> list[str]:
    """What the components are called: the known classes by name, the others by number from 1.

    >>> component_names({"classes": ["setosa", "virginica"]}, 3)
    ['setosa', 'virginica', '3']
    """
    classes = list(about.get("classes") or ())[:n_components]
    return classes + [str(k + 1) for k in range(len(classes), n_components)]
