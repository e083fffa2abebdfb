"""Kernels are compiled on a machine's first use of them; whoever waits at a terminal is told so."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

# Seconds after which waiting needs a reason. What was compiled before loads in less.
PATIENCE = 1.5


@contextlib.contextmanager
def announced(*kernels: Any) -> Iterator[None]:
    """Around the first calls of compiled functions: one line on a terminal's standard error if one is being compiled."""
    if all(kernel.signatures for kernel in kernels) or not sys.stderr.isatty():
        yield
        return

    def tell() -> None:
        if not all(kernel.signatures for kernel in kernels):
            print("onebound: compiling for this machine, once: about half a minute …", file=sys.stderr, flush=True)

    timer = threading.Timer(PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
