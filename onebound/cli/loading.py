"""From the words of a command line to a model and the data that it is to be fitted to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from onebound.cli.checks import refuse_crowd, refuse_impossible
from onebound.cli.extras import DEFAULT_COMPONENTS, NO_EXTRAS, Extras, take_extras
from onebound.cli.files import check_data, check_model_name
from onebound.cli.options import OF_RECORDINGS, model_options
from onebound.cli.progress import waiting
from onebound.cli.sequence_options import refuse_both, refuse_sequences
from onebound.cli.sequences import by_column, by_lengths, one_sequence
from onebound.data import Column, Table, read_table
from onebound.data.stream import large_stream, look_through, open_stream
from onebound.errors import InputError, did_you_mean
from onebound.models.registry import REGISTRY


@dataclass(frozen=True)
class Task:
    """A model, not yet started, and its data.

    `options` are those that the model was built with, `settings` those of its climb.
    """

    name: str
    model: Any
    table: Table
    observations: Any
    options: Mapping[str, Any]
    missing: str = "error"
    extras: Extras = NO_EXTRAS
    settings: Mapping[str, Any] = field(default_factory=dict)

    def of(self, model: Any) -> "Task":
        """The same data with another model for them."""
        model.about = self.about()
        return replace(self, model=model)

    def about(self) -> dict[str, Any]:
        """What travels with the model so that tomorrow's command reads tomorrow's data as today's were read."""
        columns = self.table.columns
        coded = coded_columns(entry_named(self.name), self.table)
        return {
            "model": self.name,
            "options": dict(self.options),
            "data": Path(self.table.path).name,
            "rows": self.table.n_rows,
            "columns": list(self.table.names),
            "kinds": {column.name: column.kind for column in columns},
            "categories": {c.name: list(c.as_category().categories or ()) for c in columns if c.name in coded},
            "missing": self.missing,
            **({"settings": dict(self.settings)} if self.settings else {}),
            **self.extras.about(),
        }


def coded_columns(entry: Any, table: Table) -> set[str]:
    """The columns that the model reads as codes of categories, because they hold text or because the model wants so."""
    numbers = np.array([0.5, 7.5])  # No codes, so a model that wants codes gives something else back.
    stand_ins = [
        replace(c, values=np.array([0.0, 1.0]), categories=("a", "b"))
        if c.kind == "category"
        else replace(c, values=numbers)
        for c in table.columns
    ]
    seen = entry.observations(Table(tuple(stand_ins), table.path)).T
    return {
        c.name for c, v in zip(stand_ins, seen, strict=True) if c.kind == "category" or not np.array_equal(v, numbers)
    }


def entry_named(name: str) -> Any:
    """The registry's entry for a model; InputError for a name that it lacks, or that is a file's."""
    check_model_name(name)
    if name in OF_RECORDINGS:
        raise InputError(
            f"{name} is of recordings, not of a table: onebound fit, show, score, decode, align and report take it."
        )
    if name not in REGISTRY:
        raise InputError(
            f"no model {name!r}.{did_you_mean(name, REGISTRY) or ' There are ' + ', '.join(REGISTRY) + '.'}"
        )
    return REGISTRY[name]


def load_table(
    data: str,
    *,
    columns: tuple[str, ...] | None,
    types: Mapping[str, str] | None,
    missing: str,
    weights: str | None,
    label: str | None,
    sequence_column: str | None,
    **reading: Any,
) -> tuple[Table, Extras]:
    """Read the data, the weights, the known classes and the sequences; InputError for whatever no model could take."""
    check_data(data)
    with waiting(f"reading {Path(data).name}"):
        beside = (n for n in (weights, label, sequence_column) if n is not None and n not in (columns or ()))
        wanted = None if columns is None else (*columns, *beside)
        whole = read_table(data, wanted, types, **reading_options(**reading))
    table, extras = take_extras(whole, weights, label, columns, sequence_column)
    refuse_impossible(table, missing)
    return table, extras


def stream_table(
    entry: Any,
    data: str,
    *,
    columns: tuple[str, ...] | None,
    missing: str,
    weights: str | None,
    file_format: str | None,
    sequence_column: str | None = None,
    **given: Any,
) -> tuple[Table, Extras] | None:
    """A file larger than what one reads at once, as blocks; None where it is none, or where more was asked than that."""
    if not entry.takes_stream or any(value is not None for value in given.values()):
        return None
    beside = [name for name in (weights, sequence_column) if name is not None]
    stream = large_stream(data, None if columns is None else (*columns, *beside), file_format)
    if stream is None:
        return None
    if any(name not in stream.names or (columns is not None and name in columns) for name in beside):
        return None  # The reader of tables says it.
    rest = [name for name in stream.names if name != sequence_column]
    if len(rest) == (weights is not None):
        return None
    with waiting(f"looking through {Path(data).name}"):
        extras = replace(NO_EXTRAS, weights_name=weights)
        if sequence_column is not None:
            place = stream.names.index(sequence_column)
            values = np.concatenate([block[:, place] for block in stream])
            extras = replace(extras, sequences=by_column(Column(sequence_column, "real", values), stream.path))
            stream = open_stream(data, rest)
        table = look_through(stream, weights)
    refuse_impossible(table, missing)
    return table, extras


def reading_options(file_format: str | None, delimiter: str | None, decimal: str | None) -> dict[str, Any]:
    """What the reader is told, where something was said."""
    given = {"format": file_format, "delimiter": delimiter, "decimal": decimal}
    return {name: value for name, value in given.items() if value is not None}


READING = ("columns", "types", "missing", "weights", "label", "sequence_column", "file_format", "delimiter", "decimal")


def load_task(
    name: str,
    data: str,
    *,
    components: int | None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    **how: Any,
) -> Task:
    """Read the data and build the model for them; InputError for whatever does not fit.

    The data are read before the models are imported, so that what is wrong with a file is said at once.
    """
    entry = entry_named(name)
    read, lengths = {key: how.pop(key) for key in READING}, how.pop("lengths")
    wanted = model_options(entry, **how)
    refuse_components(entry, components)
    check_sequences(entry, read["sequence_column"], lengths)
    table, extras = stream_table(entry, data, **read) or load_table(data, **read)
    if entry.of_sequences:
        extras = split(table, extras, lengths)
    k = (components or DEFAULT_COMPONENTS) if entry.is_vector else extras.components(components)
    if entry.has_components:
        refuse_crowd(table, k, "state" if entry.of_sequences else "component")
    model = entry.build(table, k, seed, **wanted)
    observations = observations_of(entry, table, extras, k)
    task = Task(name, model, table, observations, wanted, read["missing"], extras, settings or {})
    check_rows(task)
    model.about = task.about()
    return task


def refuse_components(entry: Any, components: Any) -> None:
    """InputError where a model is told how many components it has, and has none."""
    if components is not None and not entry.has_components:
        raise InputError(
            f"{entry.name} has no components; --latent says how many dimensions z has. gmm-vae and hmm-vae have both."
        )


def check_sequences(entry: Any, sequence_column: str | None, lengths: tuple[int, ...] | None) -> None:
    """InputError where what is said of sequences is said twice, or to a model of rows."""
    if not entry.of_sequences:
        takers = [other.name for other in REGISTRY.values() if other.of_sequences]
        refuse_sequences(entry.name, takers, sequence_column, lengths)
    refuse_both(sequence_column, lengths)


def split(table: Table, extras: Extras, lengths: tuple[int, ...] | None) -> Extras:
    """The rows as sequences: by their column, by the lengths, else all as one."""
    n_rows = table.n_rows
    told = one_sequence(n_rows) if lengths is None else by_lengths(lengths, n_rows, table.path)
    return extras.in_sequences(extras.sequences or told, table.path)


def check_rows(task: Task) -> None:
    """InputError that names the row of a cell which the model cannot make; of sequences it would name the step."""
    if task.observations.lengths is not None and task.table.stream is None:  # blocks are looked at as they come
        part = task.model if entry_named(task.name).is_vector else task.model.emission
        part.check(task.observations.as_rows())


def observations_of(entry: Any, table: Table, extras: Extras, n_components: int) -> Any:
    """What a model of this entry takes: the cells, the weights, and which classes each row may have."""
    from onebound.observations import Observations

    lengths = None if extras.sequences is None else extras.sequences.lengths
    if table.stream is not None:
        return Observations.of(table.stream, lengths=lengths, weights=extras.weights_name)
    return Observations.of(
        entry.observations(table),
        weights=extras.weights,
        lengths=lengths,
        allowed=None if entry.is_vector else extras.allowed(n_components),  # A vector is no class, known or not.
        names=table.names,
    )


def stand_in_model(name: str, components: int | None, **options: Any) -> Any:
    """The model on two columns of every kind that it takes: what a plan needs when there are no data."""
    entry = entry_named(name)
    wanted = model_options(entry, **options)
    refuse_components(entry, components)
    refusal: InputError | None = None
    for kinds in (("real", "count", "binary", "category"), ("real",), ("count",), ("binary",), ("category",)):
        try:
            return entry.build(_stand_in(kinds), components or DEFAULT_COMPONENTS, **wanted)
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
