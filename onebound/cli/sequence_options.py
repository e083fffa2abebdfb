"""How a command line says where sequences end: the options, and what is refused before the data are read."""

from collections.abc import Sequence
from typing import Any

import click

from onebound.errors import InputError


def parse_lengths(_ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """ "100,200" → (100, 200)."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise click.BadParameter(f"expected whole numbers from 1 with commas between them, got {text!r}", param=param)
    return tuple(int(part) for part in parts)


LENGTHS = click.option("--lengths", metavar="N,N,...", callback=parse_lengths, help="The rows of each sequence.")
COLUMN = click.option(
    "--sequence-column",
    metavar="COLUMN",
    help="For a model of sequences: where its value changes, the next one begins. Default: all rows are one sequence.",
)


def sequence_options(command: Any) -> Any:
    """--sequence-column and --lengths, in this order."""
    return COLUMN(LENGTHS(command))


def refuse_sequences(name: str, takers: Sequence[str], sequence_column: str | None, lengths: Any) -> None:
    """InputError where a model of rows is told of sequences."""
    given = "--sequence-column" if sequence_column is not None else "--lengths" if lengths is not None else None
    if given is not None:
        raise InputError(f"{name} is no model of sequences; {given} goes with {', '.join(takers)}.")


def refuse_both(sequence_column: str | None, lengths: Any) -> None:
    """InputError where the sequences are said twice."""
    if sequence_column is not None and lengths is not None:
        raise InputError("--sequence-column and --lengths both say where sequences end; give one of them.")
