"""A live line on the terminal while something takes long; nothing at all where nobody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from onebound.report import numbers


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Show `what` is being done, if standard error is a terminal; yields a function that says something else."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True, highlight=False).status(what) as status:
        # One line, whatever the terminal's width: a second one would be left behind at each update.
        yield lambda text: status.update(Text(text, no_wrap=True, overflow="ellipsis"))


@contextmanager
def live_line(
    label: str,
    lead: Callable[[], str],
    max_iter: int | None = None,
    max_seconds: float | None = None,
) -> Iterator[tuple[Callable[[Any], None], ...]]:
    """Callbacks for `ob.fit` that show where the climb is, if standard error is a terminal."""
    with waiting(f"{label}: choosing a start, first look at the data") as say:
        if not sys.stderr.isatty():
            yield ()
            return

        def show(record: Any) -> None:
            if record.bound is not None:  # After the M step of a network: the next E step knows.
                say(f"{lead()} {progress(record, max_iter, max_seconds)}")

        yield (show,)


def progress(record: Any, max_iter: int | None = None, max_seconds: float | None = None) -> str:
    """Where a climb is, in less than one line of a terminal, and how long it may still take.

    >>> from types import SimpleNamespace
    >>> r = SimpleNamespace(iteration=5, bound=-4.2, evidence=-4.1, gap=0.1, passes=5.0, seconds=10.0)
    >>> progress(r, max_iter=20)
    '5: L −4.2000  ln p −4.1000  gap 0.1000  passes 5  10 s  30 s left'
    """
    parts = [f"{record.iteration}: L {numbers.nats(record.bound)}"]
    if record.gap is not None:
        parts += [f"ln p {numbers.nats(record.evidence)}", f"gap {numbers.gap(record.gap)}"]
    parts += [f"passes {numbers.count(record.passes)}", f"{numbers.seconds(record.seconds)} s"]
    left = []
    if max_iter is not None:
        left.append(record.seconds / record.iteration * (max_iter - record.iteration))
    if max_seconds is not None:
        left.append(max_seconds - record.seconds)
    if left:
        parts.append(f"{numbers.count(round(max(min(left), 0.0)))} s left")
    return "  ".join(parts)
