"""Ctrl-C and SIGTERM: a fit ends after the step that it is in, and the shell says how to go on."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}  # Exit codes as shells have them: 128 + the signal.


class Stopped(click.ClickException):
    """Somebody asked the program to stop."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.code = INTERRUPTED[signal.Signals(number)]


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends the program as Ctrl-C does: with a word, and without half a file."""


class Stop:
    """A callback of `ob.fit` that ends the climb once somebody has asked for it."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.iteration = 0

    def __call__(self, record: Any) -> bool:
        """After each step: whether to stop."""
        self.iteration = record.iteration
        return self.number is not None

    def ask(self, number: int, _frame: Any) -> None:
        """The signal's handler: the first one waits for the step, the second does not; nor does one before any step."""
        if self.number is not None or not self.iteration:
            raise _at_once(number)
        self.number = number
        if sys.stderr.isatty():
            click.echo("\nstopping after this step; once more to stop at once", err=True)


def _at_once(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _raise_at_once(number: int, _frame: Any) -> None:
    raise _at_once(number)


@contextmanager
def _handling(numbers: tuple[int, ...], handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers there only.
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """While a fit runs: what to give it as a callback."""
    stop = Stop()
    with _handling((signal.SIGINT, signal.SIGTERM), stop.ask):
        yield stop


@contextmanager
def terminable() -> Iterator[None]:
    """While a command runs: SIGTERM raises, so that temporary files are taken away."""
    with _handling((signal.SIGTERM,), _raise_at_once):
        yield
