"""Real tables, written in every format that is read, and the model that Python would build for them by hand."""

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from told import DATA

from onebound.emissions import Bernoulli, Categorical, DiagonalGaussian, Emission, Gaussian, Poisson, Product
from onebound.models import Mixture

Columns = dict[str, list[float | str | None]]


def real_file(name: str) -> Path:
    """The path of a real data file; the test is skipped where it is not there."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not there; set ONEBOUND_DATA")
    return path


def cell_of(text: str) -> float | str | None:
    """A cell as it was meant, by the rules of the csv module and `float`: not by the reader that is under test."""
    try:
        return float(text) if text else None
    except ValueError:
        return text


@cache
def columns_of(name: str) -> Columns:
    """A real csv, plain or gzip-compressed, as columns by name."""
    path = real_file(name)
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        names, *rows = csv.reader(stream)
    return {key: [cell_of(row[place]) for row in rows] for place, key in enumerate(names)}


def coded(cells: list[float | str | None]) -> np.ndarray:
    """Codes by sorted distinct values, NaN where empty.  (N,)"""
    known = sorted({cell for cell in cells if cell is not None})  # type: ignore[type-var]
    return np.array([np.nan if cell is None else known.index(cell) for cell in cells])


def numbers(columns: Columns) -> np.ndarray:
    """The columns side by side, words as codes.  (N, D)"""
    words = {name: any(isinstance(cell, str) for cell in cells) for name, cells in columns.items()}
    return np.column_stack(
        [
            coded(cells) if words[name] else np.array([np.nan if c is None else c for c in cells], float)
            for name, cells in columns.items()
        ]
    )


def codes(columns: Columns) -> np.ndarray:
    """Every column as codes.  (N, D)"""
    return np.column_stack([coded(cells) for cells in columns.values()])


def sizes(y: np.ndarray) -> list[int]:
    return [int(size) + 1 for size in np.nanmax(y, axis=0)]


def penguin_parts(y: np.ndarray) -> Emission:
    """Measurements as Gaussians, words as categories: columns in the file's order, two words first, one last."""
    measured, words = list(range(2, y.shape[1] - 1)), [0, 1, y.shape[1] - 1]
    return Product([(measured, DiagonalGaussian(3, len(measured))), (words, Categorical(3, sizes(y[:, words])))])


@dataclass(frozen=True)
class Case:
    """A model's name, a real table, the options of the shell that read it, and the emission that Python builds."""

    model: str
    file: str
    emission: Callable[[np.ndarray], Emission]
    options: tuple[str, ...] = ()
    keep: Callable[[Columns], Columns] = dict
    y: Callable[[Columns], np.ndarray] = numbers
    n_components: int = 2

    def columns(self) -> Columns:
        """The cells that are written to the files of the test."""
        return self.keep(columns_of(self.file))

    def python(self) -> tuple[Mixture, np.ndarray]:
        """The model, not yet started, and its data, without any help of the readers or the registry."""
        y = self.y(self.columns())
        return Mixture(self.emission(y)), y

    @property
    def has_words(self) -> bool:
        return any(isinstance(cell, str) for cells in self.columns().values() for cell in cells)


def first_rows(columns: Columns, n_rows: int, names: list[str]) -> Columns:
    return {name: columns[name][:n_rows] for name in names}


PIXELS = [f"p{i}{j}" for i in range(2, 5) for j in range(2, 6)]


def ink(columns: Columns) -> Columns:
    """Twelve pixels of the first 400 digits as ink or none: 8 of 16 grey levels and more are ink."""
    grey = first_rows(columns, 400, PIXELS)
    return {name: [float(cell >= 8) for cell in cells] for name, cells in grey.items()}  # type: ignore[operator]


def measured(columns: Columns) -> Columns:
    return {name: columns[name] for name in list(columns)[:4]}


def iris_with_classes(y: np.ndarray) -> Emission:
    return Product([([0, 1, 2, 3], DiagonalGaussian(3, 4)), ([4], Categorical(3, [3]))])


def latent_classes(n_components: int) -> Callable[[np.ndarray], Emission]:
    return lambda y: Categorical(n_components, sizes(y))


BILL = ("bill_length_mm", "bill_depth_mm")
GAPS = ("--missing", "marginalize")

# Each model on a file of numbers, which every format can hold; the formats that hold words get more below.
NUMBERS = [
    Case("gaussian-mixture", "old_faithful/faithful.csv", lambda y: Gaussian(2, 2, "full")),
    Case("bernoulli-mixture", "digits8x8/optdigits_train.csv.gz", lambda y: Bernoulli(2, 12), keep=ink),
    Case(
        "poisson-mixture",
        "digits8x8/optdigits_test.csv.gz",
        lambda y: Poisson(2, 12),
        keep=lambda columns: first_rows(columns, 300, PIXELS),
    ),
    Case("categorical-mixture", "latent_class/cheating.csv", latent_classes(2), GAPS, y=codes),
    Case(
        "mixed-mixture",
        "penguins/penguins.csv",
        lambda y: Product([([0, 1], DiagonalGaussian(2, 2))]),
        GAPS,
        keep=lambda columns: {name: columns[name] for name in BILL},
    ),
]
WORDS = [
    Case(
        "mixed-mixture",
        "penguins/penguins.csv",
        penguin_parts,
        GAPS,
        # Two measurements, because the report draws every pair of more, which takes longer than all else together.
        keep=lambda columns: {name: columns[name] for name in ("species", "island", *BILL, "sex")},
        n_components=3,
    ),
    Case("categorical-mixture", "latent_class/gss82.csv", latent_classes(2), y=codes),
]
# Read in one format, so that every table of the collection is fitted by somebody.
OTHERS = [
    Case("mixed-mixture", "penguins/penguins.csv", penguin_parts, GAPS, n_components=3),
    Case(
        "gaussian-mixture",
        "iris/iris.csv",
        lambda y: Gaussian(3, 4, "tied"),
        ("--covariance", "tied"),
        measured,
        n_components=3,
    ),
    Case("mixed-mixture", "iris/iris.csv", iris_with_classes, n_components=3),
    Case("categorical-mixture", "latent_class/carcinoma.csv", latent_classes(3), y=codes, n_components=3),
    Case("categorical-mixture", "latent_class/election.csv", latent_classes(3), GAPS, y=codes, n_components=3),
    Case(
        "gaussian-mixture",
        "old_faithful/geyser299.csv",
        lambda y: Gaussian(2, 2, "spherical"),
        ("--covariance", "spherical"),
    ),
]


def _text(columns: Columns, delimiter: str) -> bytes:
    rows = zip(*columns.values(), strict=True)
    lines = [list(columns), *(["" if c is None else c if isinstance(c, str) else repr(c) for c in row] for row in rows)]
    return "".join(delimiter.join(line) + "\n" for line in lines).encode()


def _lines_of_json(columns: Columns) -> bytes:
    rows = zip(*columns.values(), strict=True)
    return "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows).encode()


def _arrow_stream(columns: Columns, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, pa.table(columns).schema) as writer:
        writer.write_table(pa.table(columns))


WRITERS: dict[str, Callable[[Columns, Path], object]] = {
    ".csv": lambda columns, path: path.write_bytes(_text(columns, ",")),
    ".csv.gz": lambda columns, path: path.write_bytes(gzip.compress(_text(columns, ","))),
    ".tsv": lambda columns, path: path.write_bytes(_text(columns, "\t")),
    ".jsonl": lambda columns, path: path.write_bytes(_lines_of_json(columns)),
    ".parquet": lambda columns, path: pq.write_table(pa.table(columns), path),
    ".feather": lambda columns, path: feather.write_feather(pa.table(columns), str(path)),
    ".arrow": lambda columns, path: _arrow_stream(columns, path),
    ".npy": lambda columns, path: np.save(path, numbers(columns)),
    ".npz": lambda columns, path: np.savez(path, **dict(zip(columns, numbers(columns).T, strict=True))),  # type: ignore[arg-type]
}
WITHOUT_WORDS = (".npy", ".npz")
FORMATS = (*WRITERS, "-", "- as parquet")  # "-": csv on standard input.


def written(columns: Columns, form: str, folder: Path) -> tuple[tuple[str, ...], bytes | None]:
    """The words of a command line that read the columns in this format, and what goes to its standard input."""
    ending = {"-": ".csv", "- as parquet": ".parquet"}.get(form, form)
    path = folder / f"y{ending}"
    WRITERS[ending](columns, path)
    if not form.startswith("-"):
        return (path.name,), None
    content = path.read_bytes()
    path.unlink()
    return ("-",) if form == "-" else ("-", "--format", "parquet"), content
