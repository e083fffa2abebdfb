"""`onebound predict`: the most probable class of every row, and how sure that is."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.files import check_table_output
from onebound.cli.options import DATA, FILE, NEW_DATA, OUTPUT_TABLE

EXAMPLE = """onebound predict m.safetensors faithful.csv -o classes.csv"""

# The states of all rows of a block (R,), from its posterior and the probabilities (R, K).
Choose = Callable[[Any, Any], Any]


@click.command(cls=Command, name="predict", example=EXAMPLE)
@FILE
@DATA
@NEW_DATA
@OUTPUT_TABLE
def command(file: str, data: str, output: str | None, **how: Any) -> None:
    """Say which class each row of DATA belongs to.

    Writes csv: the row, its class, and the probability of every class given the row (its responsibilities). Classes are
    numbered from 1, as in `onebound show`, or carry the names of fit's --label. Of a model of sequences: the sequence, and
    the most probable state of each row given its whole sequence (`onebound decode` has the most probable path).
    """
    check_table_output(output, file, data)
    from onebound.cli.saved import load_both

    task = load_both(file, data, **how)
    tell(task, output, lambda posterior, probability: probability.argmax(-1))


def tell(task: Any, output: str | None, choose: Choose) -> None:
    """Write the rows with what `choose` says of them, and say where."""
    from onebound.cli.extras import component_names
    from onebound.cli.rows import write_rows
    from onebound.report.terms import terms_of

    names = component_names(task.model.about, task.model.n_components)
    called = "state" if terms_of(task.model).is_chain else "class"
    plural = "states" if called == "state" else "classes"
    write_rows(classified(task, names, called, choose), output)
    if output is not None:
        click.echo(f"Wrote the {plural} of {task.table.n_rows:,} rows to {output}; they are numbered from 1.")
    elif sys.stdout.isatty() and sys.stderr.isatty():
        click.echo(f"{plural.capitalize()} are numbered from 1, as in onebound show.", err=True)


def classified(task: Any, names: Sequence[str], called: str, choose: Choose) -> Iterator[dict[str, Any]]:
    """The rows with their classes, or their sequences and states, block by block."""
    from onebound.cli.rows import BLOCK_ROWS

    first = 0
    for block in task.observations.blocks(BLOCK_ROWS):
        heads: dict[str, Any] = {"row": range(first + 1, first + block.n_rows + 1)}
        if block.lengths is not None:
            numbers = range(block.first, block.first + block.n_items)
            pairs = zip(numbers, block.lengths.tolist(), strict=True)
            heads["sequence"] = [task.extras.sequences.name(n) for n, length in pairs for _ in range(length)]
        yield heads | class_columns(*responsibilities(task.model, block, choose), names, called)
        first += block.n_rows


def responsibilities(model: Any, observations: Any, choose: Choose) -> tuple[Any, Any]:
    """p(z | y) of each row, (R, K), in blocks, NaN where the model cannot make its item; and what is chosen, (R,)."""
    import torch

    model.keep_infeasible = True
    parts, chosen = [], []
    with torch.no_grad():
        for block in observations.blocks(model.block_rows):
            posterior = model.posterior(block)
            probability = model.row_responsibilities(posterior)
            lost = posterior.infeasible
            lost = lost if block.lengths is None else lost.repeat_interleave(block.lengths)
            chosen.append(choose(posterior, probability))
            parts.append(probability.masked_fill(lost.unsqueeze(-1), float("nan")))
    return torch.cat(parts).numpy(), torch.cat(chosen).numpy()


def class_columns(probability: Any, best: Any, names: Sequence[str], called: str) -> dict[str, Any]:
    """What each row is, then a column for each class; an empty cell where the model cannot make it."""
    known = (probability == probability).all(1)
    numbered = [str(k + 1) for k in range(len(names))] == list(names)
    chosen = zip(best.tolist(), known, strict=True)
    classes = [(k + 1 if numbered else names[k]) if is_known else None for k, is_known in chosen]
    return {called: classes} | {f"p_{name}": probability[:, k] for k, name in enumerate(names)}
