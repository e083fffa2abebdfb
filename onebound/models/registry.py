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
    """What some models can be told: --`name`, one of `choices`, or a whole number from 1 where there are none.

    `help` is its line in the shell's help.
    """

    name: str
    choices: tuple[str, ...]
    help: str
    metavar: str


@dataclass(frozen=True)
class Entry:
    """One line of `onebound models`.

    `takes_stream`: the cells themselves are y, so they can be read in blocks. `of_sequences`: an item is a sequence of
    rows, and its components are states.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    build: Callable[..., Model]
    observations: Callable[[Any], np.ndarray]
    takes_stream: bool
    of_sequences: bool


REGISTRY: dict[str, Entry] = {}


def register(
    name: str,
    summary: str,
    *,
    options: tuple[Option, ...] = (),
    observations: Callable[[Any], np.ndarray] = lambda table: table.values,
    takes_stream: bool = True,
    of_sequences: bool = False,
) -> Callable[[Callable[..., Model]], Callable[..., Model]]:
    """Decorator: `build(table, n_components, **options) -> Model` becomes the model `name` of the shell."""

    def add(build: Callable[..., Model]) -> Callable[..., Model]:
        def checked(table: Any, n_components: int, **chosen: Any) -> Model:
            unknown = set(chosen) - {option.name for option in options}
            if unknown:
                known = ", ".join(option.name for option in options) or "none"
                raise InputError(f"{name}: option {', '.join(sorted(unknown))} is not understood; known: {known}.")
            return build(table, n_components, **chosen)

        REGISTRY[name] = Entry(name, summary, options, checked, observations, takes_stream, of_sequences)
        return build

    return add


def _numeric(name: str, table: TableLike) -> int:
    """The number of columns, all of numbers; else InputError naming the first text."""
    mixed = f"mixed-{name.rpartition('-')[2]}"
    for column in table.columns:
        if column.kind == "category" and column.text is None:
            raise InputError(
                f"{name}: column {column.name!r} must hold numbers, and is read as categories. Give --types "
                f"{column.name}=real, or use {mixed}, which takes categories."
            )
        if column.kind == "category" and column.text is not None:
            row, text = column.text
            raise InputError(
                f"{name}: column {column.name!r} must hold numbers, got {text!r} in row {row}. Leave the column out "
                f"(--columns), mend the cell, or use {mixed}, which takes text as categories."
            )
    return len(table.columns)


def _mixture(emission: Emission) -> Model:
    from onebound.models.mixture import Mixture

    return Mixture(emission)


def _hmm(emission: Emission) -> Model:
    from onebound.models.hmm import HMM

    return HMM(emission)


# --- real columns, counts, zeros and ones --------------------------------------------------------------------------------

COVARIANCE = Option("covariance", ("full", "tied", "diag", "spherical"), "of Gaussian columns", "FORM")
MIXTURES = Option("mixtures", (), "Gaussians in each state", "M")


def _gaussian(name: str, table: TableLike, n_components: int, covariance: str) -> Emission:
    from onebound.emissions import Gaussian

    return Gaussian(n_components, _numeric(name, table), covariance)


@register("gaussian-mixture", "real columns; covariance full, tied, diag or spherical", options=(COVARIANCE,))
def gaussian(table: TableLike, n_components: int, covariance: str = "full") -> Model:
    """Gaussian components."""
    return _mixture(_gaussian("gaussian-mixture", table, n_components, covariance))


def _bernoulli(name: str, table: TableLike, n_components: int) -> Emission:
    from onebound.emissions import Bernoulli

    return Bernoulli(n_components, _numeric(name, table))


@register("bernoulli-mixture", "columns of zeros and ones")
def bernoulli(table: TableLike, n_components: int) -> Model:
    """Independent Bernoulli columns."""
    return _mixture(_bernoulli("bernoulli-mixture", table, n_components))


def _poisson(name: str, table: TableLike, n_components: int) -> Emission:
    from onebound.emissions import Poisson

    return Poisson(n_components, _numeric(name, table))


@register("poisson-mixture", "columns of counts 0, 1, 2, …")
def poisson(table: TableLike, n_components: int) -> Model:
    """Independent Poisson columns."""
    return _mixture(_poisson("poisson-mixture", table, n_components))


# --- categories, and columns of several kinds ----------------------------------------------------------------------------


def _side_by_side(columns: Sequence[Any]) -> np.ndarray:
    import numpy as np

    return np.column_stack([c.values for c in columns])


def _codes(table: TableLike) -> np.ndarray:
    return _side_by_side([c.as_category() for c in table.columns])


def _sizes(columns: Sequence[Any]) -> list[int]:
    return [max(len(c.as_category().categories), 1) for c in columns]


def _categorical(table: TableLike, n_components: int) -> Emission:
    from onebound.emissions import Categorical

    return Categorical(n_components, _sizes(table.columns))


@register(
    "categorical-mixture",
    "columns of categories (latent class analysis)",
    observations=_codes,
    takes_stream=False,
)
def categorical(table: TableLike, n_components: int) -> Model:
    """Independent categorical columns."""
    return _mixture(_categorical(table, n_components))


def _mixed_values(table: TableLike) -> np.ndarray:
    return _side_by_side([c.as_category() if c.kind == "category" else c for c in table.columns])


def _mixed(table: TableLike, n_components: int) -> Emission:
    from onebound.emissions import Bernoulli, Categorical, DiagonalGaussian, Poisson, Product

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


@register("mixed-mixture", "real, count, binary and category columns together", observations=_mixed_values)
def mixed(table: TableLike, n_components: int) -> Model:
    """One part for each type of column."""
    return _mixture(_mixed(table, n_components))


# --- sequences of the same: a state for each row, and each state leads to the next ---------------------------------------


@register("gaussian-hmm", "sequences of real columns: hidden Markov", options=(COVARIANCE,), of_sequences=True)
def gaussian_hmm(table: TableLike, n_components: int, covariance: str = "full") -> Model:
    """A Gaussian in each state."""
    return _hmm(_gaussian("gaussian-hmm", table, n_components, covariance))


@register(
    "gmm-hmm", "the same, a mixture of Gaussians in each state", options=(MIXTURES, COVARIANCE), of_sequences=True
)
def gmm_hmm(table: TableLike, n_components: int, mixtures: int = 2, covariance: str = "full") -> Model:
    """A mixture of Gaussians in each state."""
    from onebound.emissions import MixtureOf

    return _hmm(MixtureOf(_gaussian("gmm-hmm", table, n_components * mixtures, covariance), mixtures))


@register("poisson-hmm", "sequences of counts", of_sequences=True)
def poisson_hmm(table: TableLike, n_components: int) -> Model:
    """A rate for each column in each state."""
    return _hmm(_poisson("poisson-hmm", table, n_components))


@register("bernoulli-hmm", "sequences of zeros and ones", of_sequences=True)
def bernoulli_hmm(table: TableLike, n_components: int) -> Model:
    """A probability for each column in each state."""
    return _hmm(_bernoulli("bernoulli-hmm", table, n_components))


@register("categorical-hmm", "sequences of categories", observations=_codes, takes_stream=False, of_sequences=True)
def categorical_hmm(table: TableLike, n_components: int) -> Model:
    """A distribution over the symbols of each column in each state."""
    if max(_sizes(table.columns)) < 2:
        column = table.columns[0]
        only = ", ".join(column.as_category().categories)
        raise InputError(
            f"categorical-hmm: column {column.name!r} holds one symbol only ({only}), so no state differs from another. "
            "Choose --columns that vary."
        )
    return _hmm(_categorical(table, n_components))


@register("mixed-hmm", "sequences of columns of several kinds", observations=_mixed_values, of_sequences=True)
def mixed_hmm(table: TableLike, n_components: int) -> Model:
    """One part for each type of column, in each state."""
    return _hmm(_mixed(table, n_components))
