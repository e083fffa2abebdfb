"""`onebound sample`: new rows from a saved model, in the columns that it was fitted on."""

from collections.abc import Mapping
from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.files import check_table_output
from onebound.cli.options import FILE, OUTPUT_TABLE, SEED
from onebound.cli.sequence_options import LENGTHS

EXAMPLE = """onebound sample m.safetensors -n 5 --seed 1"""


@click.command(cls=Command, name="sample", example=EXAMPLE)
@FILE
@click.option("--number", "-n", metavar="N", type=click.IntRange(min=1), help="Rows; default: 100.")
@LENGTHS
@SEED
@click.option(
    "--with-class",
    "--with-state",
    "--with-latent",
    "with_class",
    is_flag=True,
    help="Add the class (or state, or vector z1, z2, …) that each row came from.",
)
@OUTPUT_TABLE
def command(
    file: str, number: int | None, lengths: tuple[int, ...] | None, seed: int, with_class: bool, output: str | None
) -> None:
    """Draw new rows from the model in FILE.

    Writes csv, with the columns of the data that the model was fitted to and categories by name. Of a model of sequences
    the rows are one sequence, or, with --lengths, several.
    """
    check_table_output(output, file)
    if number is not None and lengths is not None:
        raise click.UsageError("-n and --lengths both say how many rows; give one of them.")
    from onebound.cli.loading import check_sequences, entry_named
    from onebound.cli.saved import load_saved, open_model_file

    about = open_model_file(file).about
    check_sequences(entry_named(about["model"]), None, lengths)
    model = load_saved(file)
    import torch

    from onebound.cli.kinds import kind_of
    from onebound.cli.rows import whole_numbers, write_rows

    number = sum(lengths) if lengths is not None else number or 100
    y, z = draws(model, number, lengths, torch.Generator().manual_seed(seed))
    columns = named_cells(y.numpy(), about)
    if lengths is not None:
        called = about.get("sequence_column") or "sequence"
        columns = {called: [n + 1 for n, length in enumerate(lengths) for _ in range(length)]} | columns
    if with_class:
        columns |= kind_of(model).drawn(model, z)
    write_rows([{name: whole_numbers(values) for name, values in columns.items()}], output)
    if output is not None:
        click.echo(f"Wrote {number:,} rows to {output}.")


def draws(model: Any, number: int, lengths: tuple[int, ...] | None, generator: Any) -> tuple[Any, Any]:
    """(y, z) of so many rows, or of sequences of these lengths, one after the other."""
    return tuple(model.sample(number, generator, **({} if lengths is None else {"lengths": lengths})))


def named_cells(y: Any, about: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of y by name, codes as the categories that they stand for."""
    columns: dict[str, Any] = {}
    for name, values in zip(about["columns"], y.T, strict=True):
        known = about["categories"].get(name)
        columns[name] = values if known is None else [known[int(code)] for code in values.tolist()]
    return columns
