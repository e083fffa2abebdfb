"""When a fit stops, and what it prints on the way: both read the records that `onebound.fit` hands to its callbacks."""

from __future__ import annotations

import math
import time

from onebound.algorithms import Record


class Progress:
    """scikit-learn's messages: `verbose` 1 names starts and iterations, 2 adds seconds and the change of L."""

    def __init__(self, verbose: int, interval: int) -> None:
        self.verbose, self.interval = int(verbose), interval
        self._began = self._last = 0.0

    def begin(self, start: int) -> None:
        """Start number `start` begins."""
        if self.verbose:
            self._began = self._last = time.perf_counter()
            print(f"Initialization {start}")

    def iteration(self, n: int, change: float) -> None:
        """M step number n is done; its E step changed L by `change`."""
        if not self.verbose or n % self.interval:
            return
        now = time.perf_counter()
        more = f"\t time lapse {now - self._last:.5f}s\t ll change {change:.5f}" if self.verbose > 1 else ""
        self._last = now
        print(f"  Iteration {n}{more}")

    def end(self, bound: float, converged: bool) -> None:
        """The climb is over, at L = `bound`."""
        if self.verbose:
            seconds = time.perf_counter() - self._began
            more = f" time lapse {seconds:.5f}s\t lower bound {bound:.5f}." if self.verbose > 1 else ""
            print(f"Initialization {'converged' if converged else 'did not converge'}.{more}")


class LastTwo:
    """scikit-learn's rule: stop after the M step whose E step changed the objective by less than `tol` nats per item.

    A callback of `onebound.fit`. `last` is the objective of the last E step that an M step came after: what a warm start
    compares its own first E step with.
    """

    def __init__(self, tol: float, last: float, progress: Progress) -> None:
        self.tol, self.last, self.progress = tol, last, progress
        self.converged = False
        self._here = -math.inf

    def __call__(self, record: Record) -> bool:
        """Whether to stop now. The E record only is noted: the M step that belongs to it is still to come."""
        if record.after == "E":
            self._here = -math.inf if record.objective is None else record.objective
            return False
        change, self.last = self._here - self.last, self._here
        self.progress.iteration(record.iteration, change)
        self.converged = abs(change) < self.tol
        return self.converged
