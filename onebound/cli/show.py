"""`onebound show`: the parameters of a saved model."""

from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.options import FILE, JSON

EXAMPLE = """onebound show m.safetensors"""


@click.command(cls=Command, name="show", example=EXAMPLE)
@FILE
@JSON
def command(file: str, as_json: bool) -> None:
    """Show the parameters of the model in FILE, and how it was fitted."""
    from onebound.cli.recordings import is_recogniser, show_recogniser

    if is_recogniser(file):
        show_recogniser(file, as_json)
        return
    from onebound.cli.saved import load_saved

    model = load_saved(file)
    about = model.about or {}
    from onebound.report.terms import n_columns

    names = about.get("columns") or [f"c{d}" for d in range(n_columns(model))]
    if as_json:
        from onebound.cli.writing import print_json

        print_json(model_as_dict(model, names))
        return
    from onebound.cli.summaries import show_model

    show_model(file, model, names)


def model_as_dict(model: Any, names: Any) -> dict[str, Any]:
    """Everything that the table shows and what it leaves out, for machines."""
    from onebound.cli.kinds import kind_of

    about = model.about or {}
    return {
        "model": about.get("model"),
        "title": model.title(),
        "columns": list(names),
        **kind_of(model).as_dict(model, names),
        "fit": {key: value for key, value in (about.get("fit") or {}).items() if key != "trace"},
    }
