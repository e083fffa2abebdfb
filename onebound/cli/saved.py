"""A model of yesterday and data of today, read as at fitting: the same columns by name, kinds and category codes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onebound.cli.checks import refuse_impossible
from onebound.cli.extras import Extras, take_extras
from onebound.cli.files import check_data, header_of, notes_of
from onebound.cli.loading import (
    Task,
    check_rows,
    check_sequences,
    entry_named,
    observations_of,
    reading_options,
    split,
    stream_table,
)
from onebound.cli.progress import waiting
from onebound.cli.sequences import as_fitted
from onebound.data import Column, Table, read_table
from onebound.data.table import check_names
from onebound.errors import InputError


@dataclass(frozen=True)
class ModelFile:
    """A model file by its header: its notes, and whether it is the checkpoint of a fit under way."""

    path: str
    about: dict[str, Any]
    is_checkpoint: bool


def open_model_file(path: str) -> ModelFile:
    """The header and its notes, before anything heavy is imported."""
    header = header_of(path)
    return ModelFile(path, notes_of(path, header), "climb" in header)


def load_saved(path: str) -> Any:
    """The model in a file; whoever has a checkpoint is told what to do with it."""
    header = header_of(path)
    if "climb" in header:
        raise InputError(
            f"{path}: is the checkpoint of a fit under way; finish it: onebound continue {path} DATA -o FILE."
        )
    import onebound as ob

    return ob.load(path)


def table_as_fitted(
    file: ModelFile,
    data: str,
    *,
    missing: str | None,
    weights: str | None = None,
    label: str | None = None,
    sequence_column: str | None = None,
    lengths: tuple[int, ...] | None = None,
    **reading: Any,
) -> tuple[Table, Extras]:
    """The columns that the model was fitted on, by name, coded as they were then, and the rows split as then."""
    check_data(data)
    wanted, entry = tuple(file.about["columns"]), entry_named(file.about["model"])
    check_sequences(entry, sequence_column, lengths)
    if lengths is None and sequence_column is None:
        sequence_column = file.about.get("sequence_column")
    policy = missing or file.about.get("missing", "error")
    if not file.about["categories"]:
        streamed = stream_table(
            entry,
            data,
            columns=wanted,
            missing=policy,
            weights=weights,
            label=label,
            sequence_column=sequence_column,
            **reading,
        )
        if streamed is not None:
            table, extras = streamed
            return table, _split_as_fitted(file, table, extras, lengths) if entry.of_sequences else extras
    beside = (weights, label, sequence_column)
    asked = (*wanted, *(name for name in beside if name is not None and name not in wanted))
    with waiting(f"reading {Path(data).name}"):
        whole = _read(file, data, asked, reading_options(**reading))
    table, extras = take_extras(whole, weights, label, None, sequence_column)
    if entry.of_sequences:
        extras = _split_as_fitted(file, table, extras, lengths)
    try:
        table = replace(table, columns=tuple(_as_fitted(column, file.about) for column in table.select(wanted).columns))
    except InputError as error:
        raise InputError(f"{table.path}: {error}") from error
    refuse_impossible(table, policy, empty_columns=True)
    return table, extras


def _split_as_fitted(file: ModelFile, table: Table, extras: Extras, lengths: tuple[int, ...] | None) -> Extras:
    if extras.sequences is None and lengths is None:
        return extras.in_sequences(as_fitted(file.about, table.path, table.n_rows), table.path)
    return split(table, extras, lengths)


def _read(file: ModelFile, data: str, asked: tuple[str, ...], options: Mapping[str, Any]) -> Table:
    try:
        return read_table(data, asked, **options)
    except InputError:
        if data == "-":  # Gone: standard input is read once.
            raise
        there = read_table(data, **options).names
        lacking = [name for name in asked if name not in there]
        if not lacking:
            raise
    if lacking == [file.about.get("sequence_column")]:
        raise InputError(
            f"{data}: no column {lacking[0]!r}, which says where sequences end. Give another --sequence-column, or --lengths."
        )
    if not set(lacking) & set(file.about["columns"]):  # The weights or the classes: the reader's own words say it best.
        check_names(lacking, there, data)
    raise InputError(
        f"{data}: has other columns than {file.path} was fitted on. The model's: {_listed(file.about['columns'])}. "
        f"The data's: {_listed(there)}. Not there: {_listed(lacking)}."
    )


def _listed(names: Any, at_most: int = 12) -> str:
    shown = list(names)
    return ", ".join(shown[:at_most]) + (f" and {len(shown) - at_most} more" if len(shown) > at_most else "")


def _as_fitted(column: Column, about: Mapping[str, Any]) -> Column:
    """Codes as then; numbers of any kind, for whether they suit is what the model itself knows."""
    if column.name in about["categories"]:
        return column.as_category(about["categories"][column.name])
    return replace(column.as_kind("real"), kind=about["kinds"][column.name])


def _known_labels(extras: Extras, classes: tuple[str, ...], path: str) -> Extras:
    """The labels coded by the classes of the fit."""
    if extras.codes is None:
        return extras
    label = Column(extras.label_name or "", "category", extras.codes, extras.classes)
    try:
        return replace(extras, codes=label.as_category(classes).values, classes=classes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _task(file: ModelFile, model: Any, table: Table, extras: Extras, missing: str | None) -> Task:
    """Model and data together, checked against each other."""
    from onebound.report.terms import n_parts

    entry = entry_named(file.about["model"])
    observations = observations_of(entry, table, extras, n_parts(model))
    policy = missing or file.about.get("missing", "error")
    options, settings = (file.about.get(key) or {} for key in ("options", "settings"))
    task = Task(entry.name, model, table, observations, options, policy, extras, settings)
    check_rows(task)
    return replace(task, observations=model.observe(observations))


def load_both(path: str, data: str, **how: Any) -> Task:
    """A saved model and the data for it; what is wrong with either is said before the model is loaded."""
    file = open_model_file(path)
    if file.is_checkpoint:
        load_saved(path)
    table, extras = table_as_fitted(file, data, **how)
    return _task(file, load_saved(path), table, extras, how.get("missing"))


def load_again(file: ModelFile, data: str, **how: Any) -> Task:
    """The data of the fit once more, with its weights and its known classes, and a model for them.

    The model of a checkpoint is not loaded here: `ob.resume` does that; its place is held by one of the same shape.
    """
    weights, label = file.about.get("weights"), file.about.get("label")
    table, extras = table_as_fitted(file, data, weights=weights, label=label, **how)
    extras = _known_labels(extras, tuple(file.about.get("classes") or ()), table.path)
    model = model_of(file) if file.is_checkpoint else load_saved(file.path)
    task = _task(file, model, table, extras, how.get("missing"))
    model.about = {**file.about, **({} if extras.sequences is None else extras.sequences.about())}
    return task


def model_of(file: ModelFile) -> Any:
    """A model of the shape of a checkpoint's, for its place."""
    from onebound.store import built, read

    header, _ = read(file.path)
    return built(file.path, header)
