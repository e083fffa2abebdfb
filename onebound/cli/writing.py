"""Where output goes: files that appear whole or not at all, and JSON that every parser reads."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from onebound.errors import InputError


def check_writable(path: str | Path, *inputs: str | Path) -> Path:
    """The path, if a file can be written there; asked before the work, not after it."""
    if not str(path):
        raise InputError("the name of the file to write is empty; give one.")
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target}: is a folder; name the file to write.")
    if target.exists() and not target.is_file():
        # A file is renamed into place, which would put an end to /dev/null.
        raise InputError(f"{target}: is a device or a pipe; name a file to write.")
    folder = target.parent
    if not folder.is_dir():
        raise InputError(f"{target}: there is no folder {folder} to write to.")
    for source in map(Path, inputs):
        if target.exists() and source.exists() and target.samefile(source):
            raise InputError(f"{target}: is the data file itself; write somewhere else.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}).") from error
    if target.exists() and not os.access(target, os.W_OK):
        raise InputError(f"{target}: is there already and cannot be overwritten.")
    return target


def check_outputs(data: str, files: Mapping[str, str | None]) -> None:
    """All that a command will write, by option: each can be written, and no two are one file."""
    given = {option: check_writable(path, data).resolve() for option, path in files.items() if path is not None}
    options = list(given)
    for i, option in enumerate(options):
        twin = next((other for other in options[:i] if given[other] == given[option]), None)
        if twin is not None:
            raise InputError(f"{files[option]}: {twin} and {option} must be two files; give one another name.")


def strict(value: Any) -> Any:
    """The value with null for what JSON cannot say (NaN, ±∞)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [strict(entry) for entry in value]
    return value


def print_json(value: Any) -> None:
    """One object, one line, strict."""
    click.echo(json.dumps(strict(value), allow_nan=False, ensure_ascii=False, default=str))


def fit_as_dict(name: str, fit: Any) -> dict[str, Any]:
    """A fit for machines: numbers in nats per item, of the returned parameters."""
    return {"model": name, **fit.summary(), "plan": fit.plan.rows}
