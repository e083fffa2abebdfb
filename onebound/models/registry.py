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

    `several`: whole numbers with commas between them. `help` is its line in the shell's help, `default` what it says there.
    """

    name: str
    choices: tuple[str, ...]
    help: str
    metavar: str
    default: str = "2"
    several: bool = False


@dataclass(frozen=True)
class Entry:
    """One line of `onebound models`.

    `takes_stream`: the cells themselves are y, so they can be read in blocks. `of_sequences`: an item is a sequence of
    rows, and its components are states. `is_vector`: z is a vector for each row, no class, and the model has no components
    unless `has_components` says that its prior has. `under_network`: z is decoded by a network, so q is one too, and what is
    random in it at the start is drawn from a `seed`.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    build: Callable[..., Model]
    observations: Callable[[Any], np.ndarray]
    takes_stream: bool
    of_sequences: bool
    is_vector: bool = False
    has_components: bool = True
    under_network: bool = False


REGISTRY: dict[str, Entry] = {}


def register(
    name: str,
    summary: str,
    *,
    options: tuple[Option, ...] = (),
    observations: Callable[[Any], np.ndarray] = lambda table: table.values,
    takes_stream: bool = True,
    of_sequences: bool = False,
    is_vector: bool = False,
    has_components: bool = True,
    under_network: bool = False,
) -> Callable[[Callable[..., Model]], Callable[..., Model]]:
    """Decorator: `build(table, n_components, **options) -> Model` becomes the model `name` of the shell.

    One `under_network` is built with a `seed` besides.
    """

    def add(build: Callable[..., Model]) -> Callable[..., Model]:
        def checked(table: Any, n_components: int, seed: int = 0, **chosen: Any) -> Model:
            unknown = set(chosen) - {option.name for option in options}
            if unknown:
                known = ", ".join(option.name for option in options) or "none"
                raise InputError(f"{name}: option {', '.join(sorted(unknown))} is not understood; known: {known}.")
            random = {"seed": seed} if under_network else {}
            return build(table, n_components, **random, **chosen)

        kind = (takes_stream, of_sequences, is_vector, has_components, under_network)
        REGISTRY[name] = Entry(name, summary, options, checked, observations, *kind)
        return build

    return add


def _numeric(name: str, table: TableLike) -> int:
    """The number of columns, all of numbers; else InputError naming the first text."""
    mixed = f"mixed-{name.rpartition('-')[2]}"
    mixed = mixed if mixed in REGISTRY else "mixed-mixture"
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


# --- a vector for each row, in place of a class: linear, or under a network ----------------------------------------------

LATENT = Option("latent", (), "dimensions of z", "L")
LIKELIHOOD = Option(
    "likelihood",
    ("gaussian", "network-gaussian", "bernoulli", "poisson", "negative-binomial", "categorical"),
    "of a column given z; default: as its cells are",
    "NAME",
)
HIDDEN = Option("hidden", (), "sizes of the networks' layers", "N,N", "200,200", several=True)

# What a network makes of columns of these kinds where nothing is said.
USUAL = {"binary": "bernoulli", "count": "poisson", "category": "categorical", "real": "gaussian"}


def likelihood_for(name: str, table: TableLike, asked: str | None) -> str:
    """As asked, else by the kinds of the columns, those together that one likelihood takes: bits are counts are numbers."""
    kinds = {column.kind for column in table.columns}
    if asked is None:
        together = next(kind for kind in ("category", "real", "count", "binary") if kind in kinds)
        asked = USUAL[together]
    if asked != "categorical":
        _numeric(name, table)
    elif kinds != {"category"}:
        other = next(column for column in table.columns if column.kind != "category")
        text = next((column for column in table.columns if column.kind == "category"), None)
        beside = "" if text is None else f" beside the categories of {text.name!r}"
        raise InputError(
            f"{name}: column {other.name!r} is read as {other.kind}{beside}, and one likelihood serves all columns. Give "
            f"--types {other.name}=category, or leave columns out (--columns); mixed-mixture takes several kinds."
        )
    return asked


def _linear(name: str, table: TableLike, latent: int) -> tuple[int, int]:
    columns = _numeric(name, table)
    if latent > columns:
        raise InputError(f"{name}: --latent must be at most the {columns} columns, got {latent}.")
    return columns, latent


@register(
    "factor-analysis",
    "real columns on few factors; noise of its own in each",
    options=(LATENT,),
    is_vector=True,
    has_components=False,
)
def factor_analysis(table: TableLike, n_components: int, latent: int = 2) -> Model:
    """Factors, and noise of its own in each column."""
    from onebound.models.factor_analysis import FactorAnalysis

    return FactorAnalysis(*_linear("factor-analysis", table, latent))


@register(
    "ppca",
    "the same, equal noise: probabilistic PCA",
    options=(LATENT,),
    is_vector=True,
    has_components=False,
)
def ppca(table: TableLike, n_components: int, latent: int = 2) -> Model:
    """Principal axes, and equal noise in all columns."""
    from onebound.models.factor_analysis import ProbabilisticPCA

    return ProbabilisticPCA(*_linear("ppca", table, latent))


def _deep(name: str, table: TableLike, prior: Model | None, seed: int, latent: int, **sizes: Any) -> Model:
    import torch

    from onebound.emissions.likelihoods import CategoricalLikelihood, likelihood_from
    from onebound.models.deep_gaussian import DeepGaussian

    chosen = likelihood_for(name, table, sizes.pop("likelihood", None))
    made = (
        CategoricalLikelihood(_sizes(table.columns))
        if chosen == "categorical"
        else likelihood_from(chosen, {"n_features": len(table.columns)})
    )
    return DeepGaussian(made, latent, prior=prior, generator=torch.Generator().manual_seed(seed), **sizes)


VECTOR: dict[str, Any] = {
    "options": (LATENT, LIKELIHOOD, HIDDEN),
    "observations": _mixed_values,
    "takes_stream": False,
    "is_vector": True,
    "under_network": True,
}


@register("vae", "columns of one kind from a vector by a network; z ~ N(0, 1)", has_components=False, **VECTOR)
def vae(table: TableLike, n_components: int, seed: int, latent: int = 2, **sizes: Any) -> Model:
    """A network from N(0, 1)."""
    return _deep("vae", table, None, seed, latent, **sizes)


def _latent_gaussian(n_components: int, latent: int) -> Emission:
    from onebound.emissions import Gaussian

    return Gaussian(n_components, latent)


@register("gmm-vae", "the same, z from a mixture of Gaussians", **VECTOR)
def gmm_vae(table: TableLike, n_components: int, seed: int, latent: int = 2, **sizes: Any) -> Model:
    """A network from a mixture, whose component is summed exactly."""
    return _deep("gmm-vae", table, _mixture(_latent_gaussian(n_components, latent)), seed, latent, **sizes)


@register("hmm-vae", "sequences, z from a hidden Markov model", of_sequences=True, **VECTOR)
def hmm_vae(table: TableLike, n_components: int, seed: int, latent: int = 2, **sizes: Any) -> Model:
    """A network from a chain of states, whose path is summed exactly."""
    return _deep("hmm-vae", table, _hmm(_latent_gaussian(n_components, latent)), seed, latent, **sizes)
