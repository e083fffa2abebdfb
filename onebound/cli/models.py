"""`onebound models`: what can be fitted, one line each."""

import click

from onebound.cli.command import Command
from onebound.cli.options import JSON, OF_RECORDINGS
from onebound.models.registry import REGISTRY


@click.command(cls=Command, name="models", example="onebound models")
@JSON
def command(as_json: bool) -> None:
    """List what can be fitted, one line each."""
    from onebound.cli.writing import print_json

    if as_json:
        entries = [
            {"model": e.name, "summary": e.summary, "options": [o.name for o in e.options]} for e in REGISTRY.values()
        ]
        entries += [{"model": name, "summary": what, "options": ["hidden"]} for name, what in OF_RECORDINGS.items()]
        print_json({"models": entries})
        return
    from rich.text import Text

    from onebound.cli.layout import grid, show

    table = grid("MODEL", "what it is", "its own options", left=(0, 1, 2))
    table.columns[0].no_wrap = True
    for entry in REGISTRY.values():
        own = " ".join(f"--{option.name}" for option in entry.options)
        table.add_row(Text(entry.name, style="cyan"), entry.summary, own)
    for name, what in OF_RECORDINGS.items():
        table.add_row(Text(name, style="cyan"), what, "--hidden --heldout --units")
    show(table)
