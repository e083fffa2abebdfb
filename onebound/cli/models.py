"""`onebound models`: what can be fitted, one line each."""

import click

from onebound.cli.command import Command
from onebound.cli.options import JSON


@click.command(cls=Command, name="models", example="onebound models")
@JSON
def command(as_json: bool) -> None:
    """List what can be fitted, one line each."""
    from onebound.cli.writing import print_json
    from onebound.models.registry import REGISTRY

    if as_json:
        entries = [{"model": e.name, "summary": e.summary, "options": list(e.options)} for e in REGISTRY.values()]
        print_json({"models": entries})
        return
    from onebound.cli.layout import show
    from onebound.cli.tables import models_table

    show(models_table(REGISTRY.values()))
