"""`onebound align`: where the labels of a text are in its recording."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.options import DATA, FILE
from onebound.cli.writing import check_writable, strict
from onebound.errors import InputError

EXAMPLE = """onebound align ctc.safetensors valid.csv -o valid.ctm
onebound align ctc.safetensors valid.csv --format json"""
FORMATS = ("ctm", "json")


@click.command(cls=Command, name="align", example=EXAMPLE)
@FILE
@DATA
@click.option(
    "--format",
    "file_format",
    metavar="NAME",
    type=click.Choice(FORMATS),
    help="ctm or json; default: as -o ends, else ctm.",
)
@click.option("--output", "-o", type=click.Path(), metavar="FILE", help="Write there: a .ctm or a .json file.")
def command(file: str, data: str, file_format: str | None, output: str | None) -> None:
    """Find where the labels of each text are in its recording.

    FILE is a recogniser (onebound fit ctc), DATA a csv with the columns audio and text. A line of CTM has the recording,
    a 1, the start and the length in seconds, the label, and its confidence: the mean over its frames of the probability
    that the label is there, given sound and text and summed over all alignments. Memory grows with the length of a
    recording and with that of its text, not with their product.
    """
    chosen = file_format or ("json" if output is not None and Path(output).suffix == ".json" else "ctm")
    if output is not None:
        if Path(output).suffix[1:] not in FORMATS and file_format is None:
            raise InputError(
                f"{output}: spans are written as .ctm or .json, told by the end of its name or by --format."
            )
        check_writable(output, file, data)
    from onebound.cli.recordings import align_recordings, is_recogniser

    if not is_recogniser(file):
        raise InputError(f"{file}: is no recogniser; onebound fit ctc makes one.")
    text = _written(align_recordings(file, data)[0], chosen)
    if output is None:
        sys.stdout.write(text)
        return
    from onebound.store import write_atomically

    write_atomically(output, text.encode())


def _written(spans: Sequence[dict[str, Any]], chosen: str) -> str:
    if chosen == "json":
        return json.dumps(strict(list(spans)), ensure_ascii=False, indent=1) + "\n"
    lines = (
        f"{Path(s['recording']).stem} 1 {s['start']:.3f} {s['duration']:.3f} {s['label']} {s['confidence']:.4f}\n"
        for s in spans
    )
    return "".join(lines)
