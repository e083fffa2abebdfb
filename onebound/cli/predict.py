"""`onebound predict`: the most probable class of every row, and how sure that is."""

import sys
from collections.abc import Sequence
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
    numbered from 1, as in `onebound show`, or carry the names of fit's --label. Of a model of sequences: the sequence, and
    the most probable state of each row given its whole sequence (`onebound decode` has the most probable path). Where z is
    a vector: its mean, as z1, z2, …, and the most probable component or state of the prior there.
    """
    check_table_output(output, file, data)
    from onebound.cli.saved import load_both

    task = load_both(file, data, **how)
    tell(task, output)


def tell(task: Any, output: str | None, *, path: bool = False) -> None:
    """Write the rows with what z is in each, of chains on the best path or row by row, and say where."""
    from onebound.cli.kinds import kind_of, predictions
    from onebound.cli.rows import write_rows

    what = kind_of(task.model).called(task.model)
    write_rows(predictions(task, path=path), output)
    if output is not None:
        click.echo(f"Wrote the {what} of {task.table.n_rows:,} rows to {output}; they are numbered from 1.")
    elif sys.stdout.isatty() and sys.stderr.isatty():
        click.echo(f"{what.capitalize()} are numbered from 1, as in onebound show.", err=True)


def responsibilities(model: Any, observations: Any, path: bool) -> tuple[Any, Any]:
    """p(z | y) of each row, (R, K), in blocks, NaN where the model cannot make its item; and the likeliest z, (R,).

    `path`: the likeliest of a chain's paths, not of each row by itself.
    """
    import torch

    model.keep_infeasible = True
    parts, chosen = [], []
    with torch.no_grad():
        for block in observations.blocks(model.block_rows):
            posterior = model.posterior(block)
            probability = model.row_responsibilities(posterior)
            lost = posterior.infeasible
            lost = lost if block.lengths is None else lost.repeat_interleave(block.lengths)
            chosen.append(posterior.argmax if path else probability.argmax(-1))
            parts.append(probability.masked_fill(lost.unsqueeze(-1), float("nan")))
    return torch.cat(parts).numpy(), torch.cat(chosen).numpy()


def class_columns(probability: Any, best: Any, names: Sequence[str], called: str) -> dict[str, Any]:
    """What each row is, then a column for each class; an empty cell where the model cannot make it."""
    known = (probability == probability).all(1)
    numbered = [str(k + 1) for k in range(len(names))] == list(names)
    chosen = zip(best.tolist(), known, strict=True)
    classes = [(k + 1 if numbered else names[k]) if is_known else None for k, is_known in chosen]
    return {called: classes} | {f"p_{name}": probability[:, k] for k, name in enumerate(names)}
