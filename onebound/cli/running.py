"""One fit from the shell: the live line, Ctrl-C, the checkpoint, and what is said and saved at the end."""

import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
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
    fit: Callable[..., Any],
    label: str,
    *,
    max_iter: int | None,
    max_seconds: float | None,
    go_on: str | None,
    lead: Callable[[], str] = lambda: "it",
) -> Any:
    """Call fit(callbacks=…) with a live line. Stopped, once Ctrl-C or SIGTERM has ended it after a step.

    `go_on` is the command line that goes on from the checkpoint, if there is one; `lead` is how the live line begins.
    """
    from onebound.cli.progress import live_line

    with stoppable() as stop, live_line(label, lead, max_iter, max_seconds) as shown:
        fitted = fit(callbacks=(*shown, stop))
    if stop.number is None:
        return fitted
    hint = "nothing was written. --checkpoint FILE keeps the state." if go_on is None else f"go on with: {go_on}"
    raise Stopped(f"stopped after iteration {stop.iteration}; {hint}", signal.Signals(stop.number))


def run_choice(
    task: Any, sizes: Sequence[int], algorithm: Any, criterion: str, seed: int, climb: dict[str, Any]
) -> Any:
    """Fit the model with each number of components, under one live line; the Choice among them."""
    import torch

    import onebound as ob
    from onebound.cli.loading import entry_named
    from onebound.report.terms import terms_of

    entry = entry_named(task.name)
    done: list[Any] = []

    def choose(callbacks: Any) -> Any:
        models = [task.model, *(entry.build(task.table, k, **task.options) for k in sizes[1:])]
        return ob.choose(
            models,
            task.observations,
            algorithm,
            criterion=criterion,
            generator=torch.Generator().manual_seed(seed),
            names=[str(k) for k in sizes],
            after_each=done.append,
            callbacks=callbacks,
            **climb,
        )

    def lead() -> str:
        return f"{terms_of(task.model).parts(sizes[min(len(done), len(sizes) - 1)])}, it"

    return run(choose, task.name, max_iter=None, max_seconds=None, go_on=None, lead=lead)


def continuing(checkpoint: str | None, data: str, output: str | None) -> str | None:
    """The command line that goes on from a checkpoint."""
    if checkpoint is None:
        return None
    return shlex.join(["onebound", "continue", checkpoint, data, *(() if output is None else ("-o", output))])


def finish(
    task: Any,
    fitted: Any,
    output: str | None,
    report: str | None,
    as_json: bool,
    choice: Mapping[str, Any] | None = None,
) -> None:
    """Keep the fit with the model, save it and write its page where asked, and tell.

    `choice`: what else was tried, if the model is the best of several.
    """
    from onebound.cli.kinds import kind_of
    from onebound.cli.writing import fit_as_dict, print_json
    from onebound.report.terms import rows_per_item

    chosen: dict[str, Any] = {} if choice is None else {"choice": dict(choice)}
    if task.observations.lengths is not None:
        chosen["rows_per_item"] = rows_per_item(task.observations)
    chosen |= kind_of(fitted.model).estimated(task, fitted)
    fitted.model.about["fit"] = fitted.summary() | chosen
    if output is not None:
        import onebound as ob

        ob.save(fitted.model, output)
    if report is not None:
        from onebound.report import write_report

        name = f"{task.name} fitted to {Path(task.table.path).name}"
        about = fitted.model.about["fit"]
        write_report(report, fitted.model, about, task.observations, task.table.names, name, labels=task.extras.labels)
    if as_json:
        print_json(fit_as_dict(task.name, fitted) | chosen)
        return
    from onebound.cli.summaries import show_fit

    show_fit(task, fitted, output, report, choice)
