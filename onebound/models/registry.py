"""What can be fitted from a table: each entry turns typed columns into a model. The shell lists what stands here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from onebound.emissions import Bernoulli, Categorical, DiagonalGaussian, Emission, Gaussian, Poisson, Product
from onebound.errors import InputError
from onebound.models.base import Model
from onebound.models.mixture import Mixture


class ColumnLike(Protocol):
    """A named, typed column of a table."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def values(self) -> np.ndarray: ...
    @property
    def categories(self) -> tuple[str, ...] | None: ...
    @property
    def text(self) -> tuple[int, str] | None: ...
    def as_category(self) -> Any: ...


class TableLike(Protocol):
    """Columns side by side."""

    @property
    def columns(self) -> Sequence[Any]: ...
    @property
    def values(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Entry:
    """One line of `onebound models`."""

    name: str
    summary: str
    options: tuple[str, ...]
    build: Callable[..., Model]
    observations: Callable[[Any], np.ndarray]


REGISTRY: dict[str, Entry] = {}


def register(
    name: str,
    summary: str,
    *,
    options: tuple[str, ...] = (),
    observations: Callable[[Any], np.ndarray] = lambda table: table.values,
) -> Callable[[Callable[..., Emission]], Callable[..., Emission]]:
    """Decorator: `build(table, n_components, **options) -> Emission` becomes the mixture `name` of the shell."""

    def add(emission: Callable[..., Emission]) -> Callable[..., Emission]:
        def build(table: Any, n_components: int, **chosen: Any) -> Model:
            unknown = set(chosen) - set(options)
            if unknown:
                raise InputError(
                    f"{name}: option {', '.join(sorted(unknown))} is not understood; known: {options or 'none'}."
                )
            return Mixture(emission(table, n_components, **chosen))

        REGISTRY[name] = Entry(name, summary, options, build, observations)
        return emission

    return add


def _numeric(name: str, table: TableLike) -> int:
    """The number of columns, all of numbers; else InputError naming the first text."""
    for column in table.columns:
        if column.kind == "category" and column.text is not None:
            row, text = column.text
            raise InputError(
                f"{name}: column {column.name!r} must hold numbers, got {text!r} in row {row}. Leave the column out "
                "(--columns), mend the cell, or use mixed-mixture, which takes text as categories."
            )
    return len(table.columns)


@register("gaussian-mixture", "real columns; covariance full, tied, diag or spherical", options=("covariance",))
def gaussian(table: TableLike, n_components: int, covariance: str = "full") -> Emission:
    """Gaussian components."""
    return Gaussian(n_components, _numeric("gaussian-mixture", table), covariance)


@register("bernoulli-mixture", "columns of zeros and ones")
def bernoulli(table: TableLike, n_components: int) -> Emission:
    """Independent Bernoulli columns."""
    return Bernoulli(n_components, _numeric("bernoulli-mixture", table))


@register("poisson-mixture", "columns of counts 0, 1, 2, …")
def poisson(table: TableLike, n_components: int) -> Emission:
    """Independent Poisson columns."""
    return Poisson(n_components, _numeric("poisson-mixture", table))


def _codes(table: TableLike) -> np.ndarray:
    return np.column_stack([c.as_category().values for c in table.columns])


def _sizes(columns: Sequence[Any]) -> list[int]:
    return [max(len(c.as_category().categories), 1) for c in columns]


@register("categorical-mixture", "columns of categories (latent class analysis)", observations=_codes)
def categorical(table: TableLike, n_components: int) -> Emission:
    """Independent categorical columns."""
    return Categorical(n_components, _sizes(table.columns))


def _mixed_values(table: TableLike) -> np.ndarray:
    return np.column_stack([(c.as_category() if c.kind == "category" else c).values for c in table.columns])


@register("mixed-mixture", "real, count, binary and category columns together", observations=_mixed_values)
def mixed(table: TableLike, n_components: int) -> Emission:
    """One part for each type of column."""
    makers: dict[str, Callable[[list[Any]], Emission]] = {
        "real": lambda columns: DiagonalGaussian(n_components, len(columns)),
        "count": lambda columns: Poisson(n_components, len(columns)),
        "binary": lambda columns: Bernoulli(n_components, len(columns)),
        "category": lambda columns: Categorical(n_components, _sizes(columns)),
    }
    parts = []
    for kind, make in makers.items():
        index = [i for i, c in enumerate(table.columns) if c.kind == kind]
        if index:
            parts.append((index, make([table.columns[i] for i in index])))
    return Product(parts)
