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
    from onebound.cli.saved import load_saved

    model = load_saved(file)
    about = model.about or {}
    names = about.get("columns") or [f"c{d}" for d in range(model.emission.n_features)]
    if as_json:
        from onebound.cli.writing import print_json

        print_json(model_as_dict(model, names))
        return
    from onebound.cli.summaries import show_model

    show_model(file, model, names)


def model_as_dict(model: Any, names: Any) -> dict[str, Any]:
    """Everything that the table shows and what it leaves out, for machines."""
    from onebound.cli.extras import component_names
    from onebound.report.moves import moves_of
    from onebound.report.parameters import array, quantities

    about, moves = model.about or {}, moves_of(model)
    rows = [{"column": q.column, "what": q.what, "values": array(q.values).tolist()} for q in quantities(model, names)]
    return {
        "model": about.get("model"),
        "title": model.title(),
        "columns": list(names),
        "n_components": model.n_components,
        "components": component_names(about, model.n_components),
        "weights": array(model.weights).tolist(),
        **({} if moves is None else _moves(moves)),
        "parameters": rows,
        "fit": {key: value for key, value in (about.get("fit") or {}).items() if key != "trace"},
    }


def _moves(moves: Any) -> dict[str, Any]:
    """Of a model of sequences: from each state, to each state. JSON has no infinity: such a duration is null."""
    return {
        "initial": moves.initial.tolist(),
        "transition": moves.transition.tolist(),
        "expected_duration": moves.duration.tolist(),
    }
