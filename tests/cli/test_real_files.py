"""Every command, on every format, with every mixture, on real files, says to ten digits what Python says."""

import copy
import csv
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch

import onebound as ob
from onebound.emissions import Gaussian
from onebound.models import Mixture

sys.path.insert(0, str(Path(__file__).parent))
from real_tables import FORMATS, NUMBERS, OTHERS, WITHOUT_WORDS, WORDS, Case, real_file, written
from told import Shell, ok

ITERATIONS = 3
CLOSE = {"rtol": 1e-10, "atol": 1e-10}

GRID = [(case, form) for case in NUMBERS for form in FORMATS]
GRID += [(case, form) for case in WORDS for form in FORMATS if form not in WITHOUT_WORDS]
GRID += [(case, ".csv") for case in OTHERS]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def close(came: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(came, float), np.asarray(expected, float), **CLOSE)


def table_of(text: str) -> dict[str, list[str]]:
    names, *rows = csv.reader(io.StringIO(text))
    return dict(zip(names, zip(*rows, strict=True), strict=True))  # type: ignore[arg-type]


class Session:
    """The commands on one file, beside the same calls in Python."""

    def __init__(self, shell: Shell, case: Case, form: str) -> None:
        self.case = case
        self.columns = case.columns()
        data, self.stdin = written(self.columns, form, Path())
        self.data, *self.reading = data
        self.shell = shell
        self.fresh, self.y = case.python()
        self.fitted = copy.deepcopy(self.fresh)
        self.fit = ob.fit(self.fitted, self.y, max_iter=ITERATIONS, generator=seeded())

    def run(self, command: str, first: str, *options: str) -> str:
        """The output of one command that reads the data."""
        return ok(self.shell(command, first, self.data, *self.reading, *options, stdin=self.stdin))

    def fits(self) -> None:
        options = (*self.case.options, "-k", str(self.case.n_components))
        found = json.loads(
            self.run("fit", self.case.model, *options, "--max-iter", str(ITERATIONS), "-o", "m.safetensors", "--json")
        )
        close([found["bound"], found["evidence"]], [self.fit.bound, self.fit.evidence])
        close([record["bound"] for record in found["trace"]], [record.bound for record in self.fit.trace])
        for came, expected in zip(ob.load("m.safetensors").parameters(), self.fitted.parameters(), strict=True):
            close(came.detach(), expected.detach())

    def compares(self) -> None:
        options = (*self.case.options, "-k", str(self.case.n_components), "--algorithms", "em,eg")
        found = json.loads(self.run("compare", self.case.model, *options, "--max-iter", "2", "--json"))["results"]
        start = copy.deepcopy(self.fresh)
        start.initialize(self.y, seeded())
        for result, algorithm in zip(found, (ob.EM(), ob.EG()), strict=True):
            fit = ob.fit(copy.deepcopy(start), self.y, algorithm, max_iter=2, generator=seeded())
            close([result["bound"], result["evidence"]], [fit.bound, fit.evidence])

    def plans(self) -> None:
        options = (*self.case.options, "-k", str(self.case.n_components))
        found = json.loads(self.run("plan", self.case.model, *options, "--json"))
        assert found["plan"] == json.loads(json.dumps(ob.plan(self.fresh).rows))

    def shows(self) -> None:
        found = json.loads(ok(self.shell("show", "m.safetensors", "--json")))
        close(found["weights"], self.fitted.weights.detach())
        assert found["columns"] == self.names
        assert found["fit"]["n_items"] == len(self.y)

    def scores(self) -> None:
        found = json.loads(self.run("score", "m.safetensors", "--json"))
        bound = ob.bound(self.fitted, self.y)
        close(found["total"]["evidence"], bound.evidence.sum())
        items = table_of(self.run("score", "m.safetensors", "--items"))
        close(items["bound"], bound.value)

    def predicts(self) -> None:
        found = table_of(self.run("predict", "m.safetensors"))
        expected = self.fitted.posterior(self.y).marginals.detach().numpy()
        close(np.array([found[f"p_{k + 1}"] for k in range(self.case.n_components)], float).T, expected)
        close(found["class"], expected.argmax(1) + 1)

    def samples(self) -> None:
        found = table_of(ok(self.shell("sample", "m.safetensors", "-n", "9", "--with-class")))
        y, z = self.fitted.sample(9, seeded())
        close(found.pop("class"), z.numpy() + 1)
        assert list(found) == self.names
        coded = self.case.model == "categorical-mixture"
        for name, cells, expected in zip(self.names, self.columns.values(), y.numpy().T, strict=True):
            known = sorted({cell for cell in cells if cell is not None})  # type: ignore[type-var]
            if any(isinstance(cell, str) for cell in cells):
                assert list(found[name]) == [known[int(code)] for code in expected]
            else:
                close(found[name], [known[int(code)] for code in expected] if coded else expected)

    def reports(self) -> None:
        self.run("report", "m.safetensors", "-o", "page.html")
        page = Path("page.html").read_text()
        assert f"{self.fit.bound:.4f}".replace("-", "−") in page
        assert all(name in page for name in self.names)

    def continues(self) -> None:
        options = ("--max-iter", "2", "-o", "more.safetensors", "--json")
        found = json.loads(self.run("continue", "m.safetensors", *options))
        further = ob.fit(self.fitted, self.y, max_iter=2, generator=seeded())
        close([found["bound"], found["evidence"]], [further.bound, further.evidence])
        assert found["n_items"] == len(self.y)

    @property
    def names(self) -> list[str]:
        """The columns as the file names them; an array has no names."""
        return [f"c{d}" for d in range(len(self.columns))] if self.data == "y.npy" else list(self.columns)


@pytest.mark.parametrize(
    ("case", "form"), GRID, ids=[f"{case.model} {Path(case.file).stem} {form}" for case, form in GRID]
)
def test_every_command_says_what_python_says(shell: Shell, case: Case, form: str) -> None:
    session = Session(shell, case, form)
    session.fits()
    session.compares()
    session.plans()
    session.shows()
    session.scores()
    session.predicts()
    session.samples()
    session.reports()
    session.continues()


@pytest.mark.parametrize("form", WITHOUT_WORDS)
def test_an_array_of_words_is_refused(shell: Shell, form: str) -> None:
    words = np.array([["a", "b"], ["b", "a"]])
    np.save("y.npy", words) if form == ".npy" else np.savez("y.npz", words)
    result = shell("fit", "categorical-mixture", f"y{form}")
    assert result.exit_code == 2
    assert "must hold real numbers" in result.stderr


def test_one_array_of_a_large_archive_is_fitted(shell: Shell) -> None:
    skin = real_file("skin_segmentation/skin_segmentation.npz")
    result = shell("fit", "gaussian-mixture", str(skin))
    assert result.exit_code == 2
    assert f"name one: {skin}:X" in result.stderr
    found = json.loads(ok(shell("fit", "gaussian-mixture", f"{skin}:X", "--max-iter", "2", "--json")))
    with np.load(skin) as archive:
        y = archive["X"].astype(float)
    fit = ob.fit(Mixture(Gaussian(2, 3, "full")), y, max_iter=2, generator=seeded())
    assert found["n_items"] == 245_057
    close([found["bound"], found["evidence"]], [fit.bound, fit.evidence])


TEXT, LABEL = ("c1", "c2", "c3"), "c41"  # Of KDD Cup 99's 42 columns; the file has no header.


def test_half_a_million_connections_are_fitted(shell: Shell) -> None:
    kdd = real_file("kddcup99/kddcup.data_10_percent.gz")
    result = shell("fit", "gaussian-mixture", str(kdd))
    assert result.exit_code == 2
    assert "No header line? Add one" in result.stderr
    with gzip.open(kdd) as stream:
        names = [f"c{d}" for d in range(42)]
        table = pa_csv.read_csv(stream, pa_csv.ReadOptions(column_names=names)).drop_columns([*TEXT, LABEL])
    pq.write_table(table, "kdd.parquet")
    assert table.num_columns == 38
    options = ("--covariance", "diag", "--max-iter", "1")
    assert "must vary" in shell("fit", "gaussian-mixture", "kdd.parquet", *options).stderr
    varying = [name for name in table.column_names if len(table[name].unique()) > 1]
    found = json.loads(
        ok(shell("fit", "gaussian-mixture", "kdd.parquet", *options, "--columns", ",".join(varying), "--json"))
    )
    y = np.column_stack([table[name].to_numpy().astype(float) for name in varying])
    fit = ob.fit(Mixture(Gaussian(2, len(varying), "diag")), y, max_iter=1, generator=seeded())
    close([found["bound"], found["evidence"]], [fit.bound, fit.evidence])
