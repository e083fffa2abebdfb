"""From a file to a Table: the door where a file that is not what its name says is refused, in one line."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from onebound.data.csv_reader import read_csv
from onebound.data.table import Table, check_names, numeric_column
from onebound.errors import InputError, did_you_mean

# How a file of another format begins: what a wrong extension hides most often.
SIGNATURES: dict[bytes, str] = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive (npz and xlsx files are)",
    b"PAR1": "a parquet file",
    b"ARROW1": "an Arrow file",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "gzip-compressed",
}


def read_table(path: str | Path, columns: Iterable[str] | None = None, kinds: Mapping[str, str] | None = None) -> Table:
    """Read a csv, csv.gz or npy file as a table of named, typed columns.

    A csv has commas and a header; empty cells, NA, NaN, nan and null are missing. An npy holds one or two dimensions
    of numbers, and its columns are called c0, c1, … `columns` chooses and orders; `kinds` overrides what was inferred
    (real, count, binary, category). Raises InputError for whatever the user can mend.
    """
    file = _existing_file(Path(path))
    extension, read = _reader_of(file)
    _refuse_other_format(file, extension)
    table = read(file, None if columns is None else tuple(columns))
    return table.with_kinds(kinds) if kinds else table


def read_npy(path: Path, columns: tuple[str, ...] | None = None) -> Table:
    """Read a NumPy array of numbers, (N,) or (N, D)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        objects = "Object arrays" in str(error)
        what = "holds Python objects, which may run code when read" if objects else "is damaged or cut short"
        raise InputError(f"{path}: {what}; save the numbers again with numpy.save.") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path}: an npy file must hold real numbers, got an array of {array.dtype}.")
    if array.ndim not in (1, 2):
        shape = "×".join(map(str, array.shape)) or "a single number"
        raise InputError(f"{path}: an array must be (N,) or (N, D), got {array.ndim} dimensions ({shape}). Reshape it.")
    if array.size == 0:
        raise InputError(f"{path}: the array is empty, its shape is {array.shape}.")
    values = np.asarray(array, dtype=np.float64).reshape(len(array), -1)  # (N, D)
    names = [f"c{d}" for d in range(values.shape[1])]
    chosen = check_names(names if columns is None else columns, names, str(path))
    picked = (numeric_column(name, values[:, names.index(name)].copy()) for name in chosen)
    return Table(tuple(picked), str(path))


READERS: dict[str, Callable[[Path, tuple[str, ...] | None], Table]] = {
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".npy": read_npy,
}


def _existing_file(path: Path) -> Path:
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name one file in it.")
    if not path.exists():
        here = path.parent
        if not here.is_dir():
            raise InputError(f"{path}: no such file; there is no folder {here}.")
        readable = [file.name for file in here.iterdir() if file.is_file() and _extension(file)]
        raise InputError(f"{path}: no such file.{did_you_mean(path.name, readable)}")
    return path


def _extension(path: Path) -> str | None:
    name = path.name.casefold()
    return next((extension for extension in READERS if name.endswith(extension)), None)


def _reader_of(path: Path) -> tuple[str, Callable[[Path, tuple[str, ...] | None], Table]]:
    extension = _extension(path)
    if extension is None:
        came = "".join(path.suffixes[-1:]) or "a name without extension"
        raise InputError(f"{path}: {came} is not read. Give {', '.join(READERS)}.")
    return extension, READERS[extension]


def _refuse_other_format(path: Path, extension: str) -> None:
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    if not head:
        raise InputError(f"{path}: the file is empty.")
    expected = {".npy": b"\x93NUMPY", ".csv.gz": b"\x1f\x8b"}.get(extension)
    if expected is not None and head.startswith(expected):
        return
    found = next((what for signature, what in SIGNATURES.items() if head.startswith(signature)), None)
    if found is None and expected is None and b"\0" in head:
        found = "UTF-16 text" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "a binary file"
    if found is not None:
        raise InputError(f"{path}: is called {extension} but is {found}.")
    if expected is not None:
        name = {".npy": "a NumPy array", ".csv.gz": "gzip-compressed"}[extension]
        raise InputError(f"{path}: is called {extension} but is not {name}.")
