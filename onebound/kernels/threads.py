"""Threads outside, kernels that release the interpreter inside."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from functools import cache


@cache
def processors() -> int:
    """How many this machine has; asking takes longer than a small kernel does."""
    return os.cpu_count() or 1


def run(work: Callable[[int], bool], count: int, threads: int) -> bool:
    """work(0) … work(count − 1), each in one of `threads` threads; whether all said True. The first False ends it.

    Plain threads, that end with the call: no pool is left spinning beside BLAS, and nothing forks.
    """
    if min(count, threads) <= 1:
        return all(work(i) for i in range(count))
    order = itertools.count()
    verdicts: list[bool] = []
    failures: list[BaseException] = []

    def labour() -> None:
        try:
            for i in order:
                if i >= count or not all(verdicts):
                    return
                verdicts.append(work(i))
        except BaseException as error:
            failures.append(error)
            verdicts.append(False)

    helpers = [threading.Thread(target=labour, daemon=True) for _ in range(min(count, threads) - 1)]
    for helper in helpers:
        helper.start()
    labour()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]
    return all(verdicts)
