"""A live line on the terminal while a model is being fitted; nothing at all where nobody looks."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onebound.report import numbers


@contextmanager
def live_line(label: str) -> Iterator[tuple[Any, ...]]:
    """Callbacks for `ob.fit` that show where the climb is, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield ()
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False).status(label) as status:

        def show(record: Any) -> None:
            if record.bound is None:  # After the M step of a network: the next E step knows.
                return
            parts = [f"iteration {record.iteration}", f"L {numbers.nats(record.bound)}"]
            if record.gap is not None:
                parts.append(f"gap {numbers.gap(record.gap)}")
            status.update(f"{label}: {', '.join(parts)}, {record.seconds:.1f} s")

        yield (show,)
