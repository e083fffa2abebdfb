"""Which format a file has: by its name, by what the caller says, else by how it begins."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onebound.data.arrow_reader import read_arrow, read_parquet
from onebound.data.csv_reader import read_csv, read_tsv
from onebound.data.jsonl_reader import read_jsonl
from onebound.data.numpy_reader import read_npy, read_npz
from onebound.data.options import Options
from onebound.data.source import GZIP, STANDARD_INPUT, Source
from onebound.data.table import Table
from onebound.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Format:
    """A format that is read: how its files are called, how they begin (text: anyhow), and who reads them."""

    name: str
    what: str
    endings: tuple[str, ...]
    signatures: tuple[bytes, ...]
    read: Callable[[Source, Options], Table]


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("csv", "a csv", (".csv",), (), read_csv),
        Format("tsv", "a tsv", (".tsv", ".tab"), (), read_tsv),
        Format("jsonl", "lines of JSON", (".jsonl", ".ndjson"), (), read_jsonl),
        Format("parquet", "a parquet file", (".parquet", ".pq"), (b"PAR1",), read_parquet),
        Format(
            "arrow", "an Arrow file", (".arrow", ".feather", ".ipc", ".arrows"), (b"ARROW1", b"\xff" * 4), read_arrow
        ),
        Format("npy", "a NumPy array", (".npy",), (b"\x93NUMPY",), read_npy),
        Format("npz", "a NumPy archive", (".npz",), (b"PK\x03\x04", b"PK\x05\x06"), read_npz),
    )
}
TEXTS = ("csv", "tsv", "jsonl")
BY_ENDING = {ending: f for f in FORMATS.values() for ending in f.endings}
MODEL_ENDING = ".safetensors"

# How files begin that are no data at all: what a wrong name hides most often.
STRANGERS: dict[bytes, str] = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive (npz and xlsx files are)",
    b"FEA1": "a Feather file of version 1 (write it again as version 2)",
    b"SQLite format 3\0": "an SQLite database",
    b"(\xb5/\xfd": "zstd-compressed (unpack it first)",
    b"BZh": "bzip2-compressed (unpack it first)",
    b"\xfd7zXZ": "xz-compressed (unpack it first)",
    b"<!doctype html": "an HTML page (fetched from a link that is not the file's?)",
    b"<html": "an HTML page (fetched from a link that is not the file's?)",
    b"version https://git-lfs": "a pointer of Git LFS (fetch the file itself: git lfs pull)",
}


def format_named(name: str) -> Format:
    """The format that the caller asks for: a name, or an ending without its point."""
    key = name.casefold().lstrip(".")
    found = FORMATS.get(key) or BY_ENDING.get(f".{key}")
    if found is None:
        raise InputError(
            f"{name!r} is no format that is read.{did_you_mean(key, FORMATS) or f' There are {known_formats()}.'}"
        )
    return found


def known_formats() -> str:
    """csv, tsv, …"""
    return ", ".join(FORMATS)


def ending_of(path: Path) -> str | None:
    """The ending of the name that says the format, .gz apart; None where it says none."""
    name = path.name.casefold().removesuffix(".gz")
    return next((ending for ending in BY_ENDING if name.endswith(ending)), None)


def format_of(path: Path, source: Source) -> Format:
    """The format by the file's name; what is only called .gz is looked into; standard input is a csv."""
    if source.name == STANDARD_INPUT:
        return FORMATS["csv"]
    ending = ending_of(path)
    if ending is not None:
        return BY_ENDING[ending]
    if source.packed:
        head = source.head()
        return next((f for f in FORMATS.values() if f.signatures and head.startswith(f.signatures)), _text_format(head))
    came = f"{path.suffix} is" if path.suffix else "a name without ending is"
    if path.suffix.casefold() == MODEL_ENDING or is_model(source.head()):
        raise _is_a_model(source)
    raise InputError(f"{path}: {came} not read. Give {known_formats()}; or say what it holds with --format.")


def _text_format(head: bytes) -> Format:
    return FORMATS["jsonl" if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") else "csv"]


def is_model(head: bytes) -> bool:
    """Whether these are the first bytes of a safetensors file: the length of a header, and the header."""
    return len(head) > 9 and head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 2**40


def _is_a_model(source: Source) -> InputError:
    return InputError(f"{source.name}: is a fitted model; data are wanted here ({known_formats()}).")


def refuse_other_format(source: Source, expected: Format, claim: str) -> None:
    """InputError where the first bytes contradict the format; `claim` is where that was said: "is called .csv"."""
    head = source.head()
    if not head:
        raise InputError(f"{source.name}: the file is empty, once unpacked.")
    if is_model(head):
        raise _is_a_model(source)
    if expected.signatures and head.startswith(expected.signatures):
        return
    readable = next((f for f in FORMATS.values() if f.signatures and head.startswith(f.signatures)), None)
    if readable is not None and readable.name != "npz":
        raise InputError(f"{source.name}: {claim} but is {readable.what}; give --format {readable.name}, or rename it.")
    if head.startswith(GZIP):
        raise InputError(f"{source.name}: {claim} but is gzip-compressed; give --format {expected.name}, or add .gz.")
    lowered = head.lstrip().lower()
    found = next((what for start, what in STRANGERS.items() if head.startswith(start) or lowered.startswith(start)), "")
    if not found and not expected.signatures and b"\0" in head:
        found = "UTF-16 text" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "a binary file"
    if found:
        raise InputError(f"{source.name}: {claim} but is {found}.")
    if expected.signatures:
        raise InputError(f"{source.name}: {claim} but is not {expected.what}.")
