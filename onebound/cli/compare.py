"""`onebound compare`: the algorithms side by side, on one model and the same data, from one start."""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.options import (
    ALGORITHMS,
    CLIMB,
    COMPARED,
    COMPARED_ON_VECTORS,
    DATA,
    JSON,
    MODEL,
    REPORT,
    STORY,
    TABLE,
    algorithm_names,
    algorithm_of,
)
from onebound.cli.writing import check_outputs
from onebound.errors import InputError, OneboundError

EXAMPLE = """onebound compare gaussian-mixture faithful.csv --components 2
onebound compare bernoulli-mixture votes.csv -k 3 --algorithms em,eg,vae"""


def fits_from_one_start(
    model: Any, observations: Any, algorithms: Iterable[Any], climb: Mapping[str, Any], seed: int
) -> list[Any]:
    """Each algorithm's fit of its own copy of the model, all with the same seed."""
    import torch

    import onebound as ob
    from onebound.cli.progress import live_line

    fits = []
    for algorithm in algorithms:
        name = algorithm.name
        with live_line(name, name.__str__, climb.get("max_iter"), climb.get("max_seconds")) as callbacks:
            generator = torch.Generator().manual_seed(seed)
            start = copy.deepcopy(model)
            fits.append(ob.fit(start, observations, algorithm, generator=generator, callbacks=callbacks, **climb))
    return fits


def split_by_plan(model: Any, names: Iterable[str]) -> tuple[list[Any], dict[str, str]]:
    """The algorithms that the plan allows, and the others with the reason."""
    import onebound as ob

    allowed, refused = [], {}
    for name in names:
        algorithm = algorithm_of(name)
        try:
            ob.plan(model, algorithm)
            allowed.append(algorithm)
        except OneboundError as error:
            refused[algorithm.name] = str(error)
    return allowed, refused


@click.command(cls=Command, name="compare", example=EXAMPLE)
@MODEL
@DATA
@STORY
@click.option(
    "--algorithms",
    metavar="A,B",
    callback=algorithm_names,
    help=f"Which of {', '.join(ALGORITHMS)}; default: {', '.join(COMPARED)}.",
)
@TABLE
@CLIMB
@REPORT
@JSON
def command(model: str, data: str, algorithms: tuple[str, ...], report: str | None, as_json: bool, **how: Any) -> None:
    """Put the algorithms side by side, from one start.

    MODEL is fitted to DATA by each of them. Those that
    the model does not support are named with the reason.
    """
    from onebound.cli.loading import entry_named, load_task
    from onebound.cli.writing import fit_as_dict, print_json

    if entry_named(model).under_network:
        raise InputError(
            f"{model}: only vae goes with it, for its z is under a network, so there is nothing to compare. Use onebound fit "
            f"{model}, whose report says how far L is from ln p(y); factor-analysis is its linear relative."
        )
    check_outputs(data, {"--report": report})
    climb = {key: how.pop(key) for key in ("max_iter", "tol", "batch_size", "max_seconds")}
    seed, init = how.pop("seed"), how.pop("init")
    task = load_task(model, data, **how)
    import torch

    usual = COMPARED_ON_VECTORS if entry_named(model).is_vector else COMPARED
    allowed, refused = split_by_plan(task.model, algorithms or usual)
    if not allowed:
        raise InputError(f"{model}: none of these algorithms goes with it: {'; '.join(refused.values())}")
    task.model.initialize(task.observations, torch.Generator().manual_seed(seed), init)
    fits = fits_from_one_start(task.model, task.observations, allowed, climb, seed)
    if report is not None:
        from onebound.report import write_comparison

        source = Path(task.table.path).name
        title = f"{task.name}, {len(fits)} algorithm{'s' * (len(fits) != 1)}"
        write_comparison(report, title, fits, task.observations, task.table.names, source)
    if as_json:
        print_json({"results": [fit_as_dict(model, fitted) for fitted in fits]})
        for name, reason in refused.items():
            click.echo(f"onebound: {name} was left out: {' '.join(reason.split())}", err=True)
        return
    from onebound.cli.tables import show_comparison

    show_comparison(task, fits, refused, report)
