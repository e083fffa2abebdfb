"""How things are printed: at 80 columns, with colour and without, on a terminal and into a pipe."""

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from onebound.report.terms import sized

WIDTH = 80  # Of the narrowest terminal that everything must be readable on.


def console() -> Console:
    """Standard output; no highlighting of its own, so that colour always means something."""
    return Console(highlight=False)


def show(*things: Any) -> None:
    """Print, one below the other; piped, without the blanks that end a table's lines."""
    out = console()
    if out.is_terminal:
        for thing in things:
            out.print(thing)
        return
    with out.capture() as captured:
        for thing in things:
            out.print(thing)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def say(text: str, style: str = "") -> None:
    """Print one line that is never broken, because it holds a path or a command that somebody will copy."""
    console().print(Text(text, style=style), soft_wrap=True)


def shortened(text: str, width: int) -> str:
    """The text in at most `width` characters, its middle left out.

    >>> shortened("the_longest_name_of_all.csv", 16)
    'the_lon…_all.csv'
    """
    if len(text) <= width:
        return text
    front = (width - 1) // 2
    return f"{text[:front]}…{text[len(text) - (width - 1 - front) :]}"


def grid(*heads: str, left: Sequence[int] = (0,)) -> Grid:
    """A table with one rule under its heads; the columns in `left` are text, the others numbers."""
    table = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, head in enumerate(heads):
        # Numbers are never folded; words give way.
        is_text = place in left
        table.add_column(head, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    return table


def headline(task: Any) -> str:
    """What was fitted to what, in one line: of a long path only the name, of a long name the ends."""
    rows, columns, sequences = task.table.n_rows, len(task.table.columns), task.extras.sequences
    n = 1 if sequences is None else len(sequences.lengths)
    split = f" in {n:,} sequences" if n > 1 else ""
    given = {name: value for name, value in task.options.items() if name != "latent"}  # The size of z says that.
    options = "".join(f", {name} {_plainly(value)}" for name, value in given.items())
    front = (
        f"{task.name}, {sized(task.model)}{options}: "
        f"{rows:,} row{'s' * (rows != 1)}{split} × {columns} column{'s' * (columns != 1)} of "
    )
    path = str(task.table.path)
    room = max(WIDTH - len(front), 12)
    return front + (path if len(path) <= room else shortened(path.rpartition("/")[2], room))


def _plainly(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def listed(words: Sequence[str]) -> str:
    """The words as in a sentence.

    >>> listed(["1", "2", "4"])
    '1, 2 and 4'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
