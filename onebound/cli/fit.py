"""`onebound fit`: from a file to a fitted model."""

from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.options import ALGORITHM, CLIMB, DATA, JSON, MODEL, STORY, TABLE, algorithm_of

EXAMPLE = """onebound fit gaussian-mixture faithful.csv --components 2 -o m.safetensors
onebound fit mixed-mixture penguins.csv -k 3 --missing marginalize"""


@click.command(cls=Command, name="fit", example=EXAMPLE)
@MODEL
@DATA
@STORY
@ALGORITHM
@TABLE
@click.option(
    "--restarts",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Starts; the best is kept.",
)
@CLIMB
@click.option("--output", "-o", type=click.Path(), metavar="FILE", help="Save the fitted model (safetensors).")
@JSON
def command(model: str, data: str, algorithm: str, output: str | None, as_json: bool, **how: Any) -> None:
    """Fit a MODEL to DATA and say how good it is.

    DATA is a csv, csv.gz or npy file. `onebound models` lists what MODEL can be.
    """
    import torch

    import onebound as ob
    from onebound.cli.loading import load_task
    from onebound.cli.progress import live_line
    from onebound.cli.writing import check_writable, fit_as_dict, print_json

    climb = {key: how.pop(key) for key in ("max_iter", "tol", "batch_size", "max_seconds", "init", "restarts")}
    generator = torch.Generator().manual_seed(how.pop("seed"))
    if output is not None:
        check_writable(output, data)
    task = load_task(model, data, **how)
    with live_line(model) as callbacks:
        fitted = ob.fit(
            task.model, task.observations, algorithm_of(algorithm), generator=generator, callbacks=callbacks, **climb
        )
    result = fit_as_dict(model, fitted)
    if output is not None:
        fitted.model.about["fit"] = {k: v for k, v in result.items() if k not in ("model", "plan", "trace")}
        ob.save(fitted.model, output)
    if as_json:
        print_json(result)
        return
    from onebound.cli.tables import show_fit

    show_fit(task, fitted, output)
