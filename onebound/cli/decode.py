"""`onebound decode`: the most probable path of states through every sequence."""

from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.files import check_table_output
from onebound.cli.options import DATA, FILE, NEW_DATA, OUTPUT_TABLE
from onebound.errors import InputError

EXAMPLE = """onebound decode hmm.safetensors series.csv -o states.csv"""


@click.command(cls=Command, name="decode", example=EXAMPLE)
@FILE
@DATA
@NEW_DATA
@OUTPUT_TABLE
@click.option("--beam", metavar="N", type=click.IntRange(min=1), help="Prefixes that a recogniser keeps; default: 1.")
def command(file: str, data: str, output: str | None, beam: int | None, **how: Any) -> None:
    """Find the most probable path of states in DATA, or what is said in recordings.

    For a model of sequences (Viterbi). Writes csv: the row, its sequence, its state on the path, and the probability of
    every state given the whole sequence. States are numbered from 1, as in `onebound show`, or carry the names of fit's
    --label. `onebound predict` chooses each row's state by itself. Of an hmm-vae the states are those of the encoder's means.

    Of a recogniser (ctc) DATA is a csv with a column audio, and the table has the text of each recording: that of the
    best path, or with --beam of the best prefix, summed over its alignments.
    """
    check_table_output(output, file, data)
    from onebound.cli.fit import refuse_given
    from onebound.cli.recordings import decode_recordings, is_recogniser

    if is_recogniser(file):
        refuse_given("ctc", *how)
        decode_recordings(file, data, output, beam or 1)
        return
    from onebound.cli.saved import open_model_file

    refuse_given(open_model_file(file).about["model"], "beam")
    from onebound.cli.loading import entry_named
    from onebound.cli.predict import tell
    from onebound.cli.saved import load_both

    name = open_model_file(file).about["model"]
    entry = entry_named(name)
    if not entry.of_sequences:
        what = "the mean of z" if entry.is_vector else "the class"
        raise InputError(
            f"{file}: is a {name}, whose rows are no sequences and have no path; onebound predict says {what} of each."
        )
    tell(load_both(file, data, **how), output, path=True)
