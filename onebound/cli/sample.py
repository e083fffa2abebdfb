"""`onebound sample`: new rows from a saved model, in the columns that it was fitted on."""

from collections.abc import Mapping
from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.files import check_table_output
from onebound.cli.options import FILE, OUTPUT_TABLE, SEED

EXAMPLE = """onebound sample m.safetensors -n 5 --seed 1"""


@click.command(cls=Command, name="sample", example=EXAMPLE)
@FILE
@click.option("--number", "-n", metavar="N", type=click.IntRange(min=1), default=100, show_default=True, help="Rows.")
@SEED
@click.option("--with-class", is_flag=True, help="Add the class that each row was drawn from.")
@OUTPUT_TABLE
def command(file: str, number: int, seed: int, with_class: bool, output: str | None) -> None:
    """Draw new rows from the model in FILE.

    Writes csv, with the columns of the data that the model was fitted to and categories by name.
    """
    check_table_output(output, file)
    from onebound.cli.saved import load_saved, open_model_file

    about = open_model_file(file).about
    model = load_saved(file)
    import torch

    from onebound.cli.extras import component_names
    from onebound.cli.rows import whole_numbers, write_rows

    y, z = model.sample(number, torch.Generator().manual_seed(seed))
    columns = named_cells(y.numpy(), about)
    if with_class:
        names = component_names(about, model.n_components)
        columns["class"] = [names[k] for k in z.tolist()]
    write_rows([{name: whole_numbers(values) for name, values in columns.items()}], output)
    if output is not None:
        click.echo(f"Wrote {number:,} rows to {output}.")


def named_cells(y: Any, about: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of y by name, codes as the categories that they stand for."""
    columns: dict[str, Any] = {}
    for name, values in zip(about["columns"], y.T, strict=True):
        known = about["categories"].get(name)
        columns[name] = values if known is None else [known[int(code)] for code in values.tolist()]
    return columns
