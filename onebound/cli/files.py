"""What can be said about files before anything heavy is imported, so that a wrong path is answered at once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onebound.cli.writing import check_writable
from onebound.errors import InputError, did_you_mean

MODEL_SUFFIX = ".safetensors"
TABLES = (".csv", ".parquet")  # What a table of results can be written as.
LARGEST_HEADER = 100_000_000  # Bytes; safetensors itself reads no longer header.


def is_model_file(path: str | Path) -> bool:
    """Whether a file begins as safetensors do: the length of a header (8 bytes), and the brace that opens it."""
    try:
        if not Path(path).is_file():  # What is read from a pipe is gone for its reader.
            return False
        with Path(path).open("rb") as stream:
            head = stream.read(9)
    except OSError:
        return False
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= LARGEST_HEADER


def check_data(path: str) -> None:
    """InputError where a model file, or nothing, stands in the place of data; the readers refuse everything else."""
    if not path:
        raise InputError("the name of the data file is empty; give one, or - for standard input.")
    if path != "-" and is_model_file(path):
        raise InputError(f"{path}: is a model file, where data (csv, parquet, …) are expected.")


def check_model_name(name: str) -> None:
    """InputError where a file stands in the place of a model's name."""
    if is_model_file(name):
        raise InputError(
            f"{name}: is a file, where the name of a model is expected (onebound models lists them). "
            f"To go on with a saved model: onebound continue {name} DATA."
        )
    if Path(name).is_file():
        raise InputError(f"{name}: is a file, where the name of a model is expected; onebound models lists them.")


def header_of(path: str) -> dict[str, Any]:
    """What a model file or a checkpoint says about itself; InputError for any other file.

    Reads the header only, and checks nothing in it: `ob.load` holds the whole file to its digest.
    """
    if not path:
        raise InputError("the name of the model file is empty; give what onebound fit -o has written.")
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{path}: is a folder; name the model file in it.")
    if not file.exists():
        raise InputError(f"{path}: no such file.{_near(file)}")
    if not is_model_file(file):
        raise InputError(
            f"{path}: is no model file. The first argument is what onebound fit -o has written, the data come after it."
        )
    try:
        with file.open("rb") as stream:
            text = stream.read(int.from_bytes(stream.read(8), "little"))
        header = json.loads(json.loads(text)["__metadata__"]["onebound"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no model of onebound, or is damaged or cut short; fit it again.") from error
    return dict(header)


def _near(file: Path) -> str:
    if not file.parent.is_dir():
        return f" There is no folder {file.parent}."
    models = [near.name for near in file.parent.glob(f"*{MODEL_SUFFIX}")]
    return did_you_mean(file.name, models) or " onebound fit … -o FILE writes one."


def notes_of(path: str, header: Mapping[str, Any]) -> dict[str, Any]:
    """How the data of a saved model were read; InputError where the file does not say."""
    about = header.get("about") or {}
    lacking = [key for key in ("model", "columns", "kinds", "categories") if key not in about]
    if lacking:
        raise InputError(
            f"{path}: does not say how its data were read (no {', '.join(lacking)}): it was saved from Python or by an "
            "older version. Fit it again with onebound fit -o, or use ob.load in Python."
        )
    return dict(about)


def check_table_output(path: str | None, *inputs: str) -> None:
    """InputError where a table of results cannot be written to `path`; None is standard output."""
    if path is None:
        return
    if path and Path(path).suffix.casefold() not in TABLES:
        raise InputError(f"{path}: a table is written as {' or '.join(TABLES)}, told by the end of its name.")
    check_writable(path, *inputs)
