"""`onebound plan`: which step each latent and each parameter gets, and why."""

from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.options import ALGORITHM, JSON, MODEL, STORY, TABLE, algorithm_of, own_options

EXAMPLE = """onebound plan gaussian-mixture --components 3 --algorithm vae
onebound plan mixed-mixture penguins.csv --missing marginalize"""


@click.command(cls=Command, name="plan", example=EXAMPLE)
@MODEL
@click.argument("data", type=click.Path(), required=False)
@STORY
@ALGORITHM
@TABLE
@JSON
def command(model: str, data: str | None, algorithm: str, as_json: bool, **how: Any) -> None:
    """Say which step each latent and each parameter gets, and why.

    Nothing is fitted. Without DATA the plan is that for a small table that suits the MODEL.
    """
    from onebound.cli.loading import load_task, stand_in_model
    from onebound.cli.writing import print_json

    if data is None:
        built = stand_in_model(model, how["components"], **{name: how[name] for name in own_options()})
    else:
        built = load_task(model, data, **how).model
    import onebound as ob

    made = ob.plan(built, algorithm_of(algorithm))
    if as_json:
        print_json({"model": model, "plan": made.rows})
        return
    from onebound.cli.tables import show_plan

    show_plan(made)
