"""One fit from the shell: the live line, Ctrl-C, the checkpoint, and what is said and saved at the end."""

import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from onebound.cli.stopping import Stopped, stoppable

EVERY = 60.0  # Seconds between two checkpoints where nothing is said.


def checkpoint_of(path: str | None, every: float | None) -> Any:
    """What `ob.fit` takes as `checkpoint`; None where nobody asked for one."""
    if path is None:
        if every is not None:
            raise click.UsageError("--every says how often --checkpoint FILE is written; give that too.")
        return None
    import onebound as ob

    return ob.Checkpoint(path, EVERY if every is None else every)


def run(
    fit: Callable[..., Any], label: str, *, max_iter: int | None, max_seconds: float | None, go_on: str | None
) -> Any:
    """Call fit(callbacks=…) with a live line. Stopped, once Ctrl-C or SIGTERM has ended it after a step.

    `go_on` is the command line that goes on from the checkpoint, if there is one.
    """
    from onebound.cli.progress import live_line

    with stoppable() as stop, live_line(label, max_iter=max_iter, max_seconds=max_seconds) as shown:
        fitted = fit(callbacks=(*shown, stop))
    if stop.number is None:
        return fitted
    hint = "nothing was written. --checkpoint FILE keeps the state." if go_on is None else f"go on with: {go_on}"
    raise Stopped(f"stopped after iteration {stop.iteration}; {hint}", signal.Signals(stop.number))


def continuing(checkpoint: str | None, data: str, output: str | None) -> str | None:
    """The command line that goes on from a checkpoint."""
    if checkpoint is None:
        return None
    return shlex.join(["onebound", "continue", checkpoint, data, *(() if output is None else ("-o", output))])


def finish(task: Any, fitted: Any, output: str | None, report: str | None, as_json: bool) -> None:
    """Keep the fit with the model, save it and write its page where asked, and tell."""
    from onebound.cli.writing import fit_as_dict, print_json

    fitted.model.about["fit"] = fitted.summary()
    if output is not None:
        import onebound as ob

        ob.save(fitted.model, output)
    if report is not None:
        from onebound.report import write_report

        name = f"{task.name} fitted to {Path(task.table.path).name}"
        write_report(report, fitted.model, fitted, task.observations, task.table.names, name)
    if as_json:
        print_json(fit_as_dict(task.name, fitted))
        return
    from onebound.cli.summaries import show_fit

    show_fit(task, fitted, output, report)
