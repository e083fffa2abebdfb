"""`onebound report`: one page, for a browser, about a saved model and the data that it explains."""

from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.files import check_data
from onebound.cli.options import FILE, NEW_DATA, OF_RECORDINGS
from onebound.cli.writing import check_writable
from onebound.errors import InputError

EXAMPLE = """onebound report m.safetensors faithful.csv -o report.html"""
PAGE = "report.html"


@click.command(cls=Command, name="report", example=EXAMPLE)
@FILE
@click.argument("data", type=click.Path(), required=False)
@NEW_DATA
@click.option("--label", metavar="COLUMN", help="Where z is a vector: classes that colour the rows.")
@click.option("--output", "-o", type=click.Path(), metavar="FILE", default=PAGE, show_default=True, help="The page.")
def command(file: str, data: str | None, output: str, **how: Any) -> None:
    """Write a page about the model in FILE, with pictures.

    With DATA the page also shows the rows and what the model makes of them. It needs nothing but itself.
    """
    page = check_writable(output, file, *(() if data is None else (data,)))
    if data is not None:
        check_data(data)
    from onebound.cli.loading import entry_named
    from onebound.cli.saved import load_both, load_saved, open_model_file

    about = open_model_file(file).about
    if about["model"] in OF_RECORDINGS:
        from onebound.cli.fit import refuse_given
        from onebound.cli.recordings import report_recogniser

        refuse_given("ctc", *how)
        report_recogniser(file, data, str(page))
        click.echo(f"Wrote {page}, a page for a browser.")
        return
    entry_named(about["model"])
    if how["label"] is not None:
        _check_label(file, about["model"], data)
    task = None if data is None else load_both(file, data, **how)
    model = load_saved(file) if task is None else task.model
    from onebound.report import write_report

    write_report(
        page,
        model,
        about.get("fit"),
        None if task is None else task.observations,
        tuple(about["columns"]),
        f"{about['model']} fitted to {about['data']}" if data is None else f"{about['model']}, with the rows of {data}",
        labels=None if task is None else task.extras.labels,
    )
    click.echo(f"Wrote {page}, a page for a browser.")


def _check_label(file: str, name: str, data: str | None) -> None:
    from onebound.cli.loading import entry_named

    if not entry_named(name).is_vector:
        raise InputError(f"{file}: is a {name}, whose own classes colour the rows; leave --label out.")
    if data is None:
        raise InputError(f"{file}: --label names a column of DATA; give that too.")
