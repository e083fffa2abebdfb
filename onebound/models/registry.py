"""What can be fitted from a table: each entry turns typed columns into a model. The shell lists what stands here.

Nothing heavy is imported before a model is built: the shell's help, its completion and its list of models read this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from onebound.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from onebound.emissions import Emission
    from onebound.models.base import Model


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
class Option:
    """What one model alone can be told: --`name`, one of `choices`; `help` is its line in the shell's help."""

    name: str
    choices: tuple[str, ...]
    help: str
    metavar: str


@dataclass(frozen=True)
class Entry:
    """One line of `onebound models`. `takes_stream`: the cells themselves are y, so they can be read in blocks."""

    name: str
    summary: str
    options: tuple[Option, ...]
    build: Callable[..., Model]
    observations: Callable[[Any], np.ndarray]
    takes_stream: bool


REGISTRY: dict[str, Entry] = {}


def register(
    name: str,
    summary: str,
    *,
    options: tuple[Option, ...] = (),
    observations: Callable[[Any], np.ndarray] = lambda table: table.values,
    takes_stream: bool = True,
) -> Callable[[Callable[..., Model]], Callable[..., Model]]:
    """Decorator: `build(table, n_components, **options) -> Model` becomes the model `name` of the shell."""

    def add(build: Callable[..., Model]) -> Callable[..., Model]:
        def checked(table: Any, n_components: int, **chosen: Any) -> Model:
            unknown = set(chosen) - {option.name for option in options}
            if unknown:
                known = ", ".join(option.name for option in options) or "none"
                raise InputError(f"{name}: option {', '.join(sorted(unknown))} is not understood; known: {known}.")
            return build(table, n_components, **chosen)

        REGISTRY[name] = Entry(name, summary, options, checked, observations, takes_stream)
        return build

    return add


def _numeric(name: str, table: TableLike) -> int:
    """The number of columns, all of numbers; else InputError naming the first text."""
    for column in table.columns:
        if column.kind == "category" and column.text is None:
            raise InputError(
                f"{name}: column {column.name!r} must hold numbers, and is read as categories. Give --types "
                f"{column.name}=real, or use mixed-mixture, which takes categories."
            )
        if column.kind == "category" and column.text is not None:
            row, text = column.text
            raise InputError(
                f"{name}: column {column.name!r} must hold numbers, got {text!r} in row {row}. Leave the column out "
                "(--columns), mend the cell, or use mixed-mixture, which takes text as categories."
            )
    return len(table.columns)


COVARIANCE = Option("covariance", ("full", "tied", "diag", "spherical"), "of Gaussian columns", "FORM")


@register("gaussian-mixture", "real columns; covariance full, tied, diag or spherical", options=(COVARIANCE,))
def gaussian(table: TableLike, n_components: int, covariance: str = "full") -> Model:
    """Gaussian components."""
    from onebound.emissions import Gaussian
    from onebound.models.mixture import Mixture

    return Mixture(Gaussian(n_components, _numeric("gaussian-mixture", table), covariance))


@register("bernoulli-mixture", "columns of zeros and ones")
def bernoulli(table: TableLike, n_components: int) -> Model:
    """Independent Bernoulli columns."""
    from onebound.emissions import Bernoulli
    from onebound.models.mixture import Mixture

    return Mixture(Bernoulli(n_components, _numeric("bernoulli-mixture", table)))


@register("poisson-mixture", "columns of counts 0, 1, 2, …")
def poisson(table: TableLike, n_components: int) -> Model:
    """Independent Poisson columns."""
    from onebound.emissions import Poisson
    from onebound.models.mixture import Mixture

    return Mixture(Poisson(n_components, _numeric("poisson-mixture", table)))


def _side_by_side(columns: Sequence[Any]) -> np.ndarray:
    import numpy as np

    return np.column_stack([c.values for c in columns])


def _codes(table: TableLike) -> np.ndarray:
    return _side_by_side([c.as_category() for c in table.columns])


def _sizes(columns: Sequence[Any]) -> list[int]:
    return [max(len(c.as_category().categories), 1) for c in columns]


@register(
    "categorical-mixture",
    "columns of categories (latent class analysis)",
    observations=_codes,
    takes_stream=False,
)
def categorical(table: TableLike, n_components: int) -> Model:
    """Independent categorical columns."""
    from onebound.emissions import Categorical
    from onebound.models.mixture import Mixture

    return Mixture(Categorical(n_components, _sizes(table.columns)))


def _mixed_values(table: TableLike) -> np.ndarray:
    return _side_by_side([c.as_category() if c.kind == "category" else c for c in table.columns])


@register("mixed-mixture", "real, count, binary and category columns together", observations=_mixed_values)
def mixed(table: TableLike, n_components: int) -> Model:
    """One part for each type of column."""
    from onebound.emissions import Bernoulli, Categorical, DiagonalGaussian, Poisson, Product
    from onebound.models.mixture import Mixture

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
    return Mixture(Product(parts))
