"""`onebound predict`: the most probable class of every row, and how sure that is."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.files import check_table_output
from onebound.cli.options import DATA, FILE, NEW_DATA, OUTPUT_TABLE

EXAMPLE = """onebound predict m.safetensors faithful.csv -o classes.csv"""


@click.command(cls=Command, name="predict", example=EXAMPLE)
@FILE
@DATA
@NEW_DATA
@OUTPUT_TABLE
def command(file: str, data: str, output: str | None, **how: Any) -> None:
    """Say which class each row of DATA belongs to.

    Writes csv: the row, its class, and the probability of every class given the row (its responsibilities). Classes are
    numbered from 1, as in `onebound show`, or carry the names of fit's --label.
    """
    check_table_output(output, file, data)
    from onebound.cli.extras import component_names
    from onebound.cli.rows import write_rows
    from onebound.cli.saved import load_both

    task = load_both(file, data, **how)
    names = component_names(task.model.about, task.model.n_components)
    write_rows(classified(task.model, task.observations, names), output)
    if output is not None:
        click.echo(f"Wrote the classes of {task.table.n_rows:,} rows to {output}; they are numbered from 1.")
    elif sys.stdout.isatty() and sys.stderr.isatty():
        click.echo("Classes are numbered from 1, as in onebound show.", err=True)


def classified(model: Any, observations: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows with their classes, block by block."""
    from onebound.cli.rows import BLOCK_ROWS

    for block in observations.blocks(BLOCK_ROWS):
        yield class_columns(responsibilities(model, block), names, block.first)


def responsibilities(model: Any, observations: Any) -> Any:
    """p(z | y), (N, K), in blocks; NaN for a row that the model cannot make."""
    import torch

    model.keep_infeasible = True
    parts = []
    with torch.no_grad():
        for block in observations.blocks(model.block_rows):
            posterior = model.posterior(block)
            parts.append(posterior.marginals.masked_fill(posterior.infeasible.unsqueeze(-1), float("nan")))
    return torch.cat(parts).numpy()


def class_columns(probability: Any, names: Sequence[str], first: int) -> dict[str, Any]:
    """The number of the row and its class, then a column for each class; `first` rows came before."""
    known = (probability == probability).all(1)
    best = probability.argmax(1).tolist()
    numbered = [str(k + 1) for k in range(len(names))] == list(names)
    classes = [(k + 1 if numbered else names[k]) if is_known else None for k, is_known in zip(best, known, strict=True)]
    columns: dict[str, Any] = {"row": range(first + 1, first + len(best) + 1), "class": classes}
    return columns | {f"p_{name}": probability[:, k] for k, name in enumerate(names)}
