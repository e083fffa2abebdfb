"""What the shell says of a saved model is what Python says, on the data it was fitted on and on others."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from told import DATA, Shell, ok

import onebound as ob
from onebound.data import read_table

# Model, file below the data folder, options: every model on a real file.
REAL = [
    ("gaussian-mixture", "old_faithful/faithful.csv", ()),
    ("gaussian-mixture", "iris/iris.csv", ("--columns", "sepal_length,petal_width", "--covariance", "tied")),
    ("mixed-mixture", "penguins/penguins.csv", ("--missing", "marginalize")),
    ("categorical-mixture", "latent_class/carcinoma.csv", ()),
    ("bernoulli-mixture", "latent_class/carcinoma.csv", ("--columns", "A,B")),
    ("poisson-mixture", "old_faithful/faithful.csv", ("--columns", "waiting")),
]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def column(table: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in table])


@pytest.fixture
def saved(shell: Shell, faithful: str) -> str:
    """A model of Old Faithful in the current folder."""
    ok(shell("fit", "gaussian-mixture", faithful, "-o", "m.safetensors"))
    return "m.safetensors"


@pytest.fixture
def saved_mixed(shell: Shell, mixed: str) -> str:
    ok(shell("fit", "mixed-mixture", mixed, "-o", "m.safetensors"))
    return "m.safetensors"


def test_score_and_predict_agree_with_python(shell: Shell, faithful: str, saved: str) -> None:
    model, y = ob.load(saved), read_table(faithful).values
    bound = ob.bound(model, y)
    result = json.loads(ok(shell("score", saved, faithful, "--bits", "--json")))
    assert result["total"]["evidence"] == pytest.approx(float(bound.evidence.sum()), rel=1e-12)
    assert result["mean"]["bound"] == pytest.approx(float(bound.value.mean()), rel=1e-12)
    assert result["bits_per_item"]["evidence"] == pytest.approx(-float(bound.evidence.mean()) / math.log(2), rel=1e-12)
    assert result["bits_per_dimension"]["bound"] == pytest.approx(result["bits_per_item"]["bound"] / 2, rel=1e-12)
    items = rows(ok(shell("score", saved, faithful, "--items")))
    np.testing.assert_array_equal(column(items, "evidence"), bound.evidence.numpy())
    predicted = rows(ok(shell("predict", saved, faithful)))
    with torch.no_grad():
        r = model.posterior(y).marginals.numpy()
    np.testing.assert_array_equal(np.stack([column(predicted, "p_1"), column(predicted, "p_2")], 1), r)
    np.testing.assert_array_equal(column(predicted, "class"), r.argmax(1) + 1)
    np.testing.assert_array_equal(column(predicted, "row"), np.arange(1, 273))


@pytest.mark.parametrize(("name", "file", "options"), REAL, ids=[f"{name} {file}" for name, file, _ in REAL])
def test_real_files_score_as_they_were_fitted(shell: Shell, name: str, file: str, options: tuple[str, ...]) -> None:
    if not (DATA / file).is_file():
        pytest.skip(f"{DATA / file} is not there; set ONEBOUND_DATA")
    data = str(DATA / file)
    if name == "bernoulli-mixture":  # Its file says 1 and 2 where zeros and ones are wanted.
        table = read_table(data, ["A", "B"])
        Path("y.csv").write_text("A,B\n" + "\n".join(f"{a:.0f},{b:.0f}" for a, b in table.values - 1) + "\n")
        data = "y.csv"
    fitted = json.loads(ok(shell("fit", name, data, *options, "-o", "m.safetensors", "--json")))
    scored = json.loads(ok(shell("score", "m.safetensors", data, "--json")))
    assert scored["mean"]["bound"] == pytest.approx(fitted["bound"], abs=1e-10)
    predicted = rows(ok(shell("predict", "m.safetensors", data)))
    assert len(predicted) == fitted["n_items"]
    total = sum(column(predicted, f"p_{k}") for k in (1, 2))
    np.testing.assert_allclose(total, 1, atol=1e-12)
    drawn = shell("sample", "m.safetensors", "-n", "20", "-o", "drawn.csv")
    assert drawn.exit_code == 0, drawn.output
    assert np.isfinite(json.loads(ok(shell("score", "m.safetensors", "drawn.csv", "--json")))["mean"]["evidence"])


def test_columns_are_found_by_name_and_kinds_are_those_of_the_fit(shell: Shell, saved_mixed: str, mixed: str) -> None:
    whole = ok(shell("predict", saved_mixed, mixed)).splitlines()
    lines = Path(mixed).read_text().splitlines()
    cells = [line.split(",") for line in lines]
    names = cells[0]
    # The columns turned around, one more column, and only rows of one colour: the codes must stay the same.
    red = [n for n, row in enumerate(cells) if n and row[names.index("colour")] == "red"]
    turned = [",".join([*reversed(names), "more"])] + [",".join([*reversed(cells[n]), "7"]) for n in red]
    Path("red.csv").write_text("\n".join(turned) + "\n")
    assert [line.split(",", 1)[1] for line in ok(shell("predict", saved_mixed, "red.csv")).splitlines()[1:]] == [
        whole[n].split(",", 1)[1] for n in red
    ]


def test_numeric_categories_keep_their_codes(shell: Shell) -> None:
    Path("y.csv").write_text("a,b\n" + "0,0\n1,1\n" * 10 + "1,0\n")
    ok(shell("fit", "categorical-mixture", "y.csv", "-o", "m.safetensors"))
    Path("ones.csv").write_text("a,b\n1,1\n")
    one = rows(ok(shell("predict", "m.safetensors", "ones.csv")))[0]
    third = rows(ok(shell("predict", "m.safetensors", "y.csv")))[1]
    assert {k: one[k] for k in ("class", "p_1", "p_2")} == {k: third[k] for k in ("class", "p_1", "p_2")}


def test_known_classes_name_the_components(shell: Shell, mixed: str) -> None:
    lines = Path(mixed).read_text().splitlines()
    labels = ["kind", *("early" if n % 2 == 0 else "" if n % 5 == 0 else "late" for n in range(40))]
    pairs = zip(lines, labels, strict=True)
    Path("known.csv").write_text("\n".join(f"{line},{label}" for line, label in pairs) + "\n")
    text = ok(shell("fit", "mixed-mixture", "known.csv", "--label", "kind", "-k", "3", "-o", "m.safetensors"))
    assert "known for 36 of 40 rows" in text
    assert "kind =" not in text
    text = ok(shell("show", "m.safetensors"))
    assert text.index("early") < text.index("late") < text.index("  3\n")
    predicted = rows(ok(shell("predict", "m.safetensors", "known.csv")))
    assert list(predicted[0]) == ["row", "class", "p_early", "p_late", "p_3"]
    again = json.loads(ok(shell("continue", "m.safetensors", "known.csv", "--json")))
    assert again["bound"] >= ob.load("m.safetensors").about["fit"]["bound"] - 1e-10


def test_weights_are_replications(shell: Shell) -> None:
    generator = np.random.default_rng(0)
    y = np.round(generator.normal([0.0, 5.0], 1, (30, 2)).reshape(-1), 3)
    w = generator.integers(0, 4, len(y))
    Path("weighted.csv").write_text("a,n\n" + "".join(f"{a},{n}\n" for a, n in zip(y, w, strict=True)))
    Path("repeated.csv").write_text("a\n" + "".join(f"{a}\n" * n for a, n in zip(y, w, strict=True)))
    ok(shell("fit", "gaussian-mixture", "repeated.csv", "-o", "m.safetensors"))
    score = ("score", "m.safetensors", "weighted.csv", "--json")
    repeated = json.loads(ok(shell("score", "m.safetensors", "repeated.csv", "--json")))
    weighted = json.loads(ok(shell(*score, "--weights", "n")))
    assert weighted["total"]["evidence"] == pytest.approx(repeated["total"]["evidence"], rel=1e-12)
    fit = ("gaussian-mixture", "weighted.csv", "--weights", "n", "--json")
    assert json.loads(ok(shell("fit", *fit)))["bound"] == pytest.approx(repeated["mean"]["bound"], abs=0.05)


def test_a_sample_is_that_of_python_with_categories_by_name(shell: Shell, saved_mixed: str) -> None:
    text = ok(shell("sample", saved_mixed, "-n", "50", "--seed", "3", "--with-class"))
    assert text == ok(shell("sample", saved_mixed, "-n", "50", "--seed", "3", "--with-class"))
    table = rows(text)
    y, z = ob.load(saved_mixed).sample(50, torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(column(table, "length"), y[:, 0].numpy())
    np.testing.assert_array_equal(column(table, "class"), z.numpy() + 1)
    assert {row["colour"] for row in table} == {"red", "blue"}
    assert all(row["eggs"].isdigit() and row["alive"] in "01" for row in table)


def test_parquet_holds_what_csv_holds(shell: Shell, saved_mixed: str, mixed: str) -> None:
    ok(shell("predict", saved_mixed, mixed, "-o", "p.parquet"))
    table = pq.read_table("p.parquet")
    printed = rows(ok(shell("predict", saved_mixed, mixed)))
    assert table.column_names == list(printed[0])
    np.testing.assert_array_equal(table["p_2"].to_numpy(), column(printed, "p_2"))
    ok(shell("sample", saved_mixed, "-o", "s.parquet"))
    assert set(pq.read_table("s.parquet")["colour"].to_pylist()) == {"red", "blue"}


def test_a_row_that_cannot_be_is_scored_as_such(shell: Shell) -> None:
    Path("y.csv").write_text("a,b\n" + "0,0\n1,0\n" * 10)
    ok(shell("fit", "bernoulli-mixture", "y.csv", "-o", "m.safetensors"))
    Path("other.csv").write_text("a,b\n1,0\n1,1\n")
    assert "cannot come from this model" in ok(shell("score", "m.safetensors", "other.csv"))
    assert rows(ok(shell("score", "m.safetensors", "other.csv", "--items")))[1]["evidence"] == "-inf"
    assert rows(ok(shell("predict", "m.safetensors", "other.csv")))[1]["class"] == ""


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_gaps_are_read_as_at_fitting(shell: Shell, saved: str, faithful: str, covariance: str) -> None:
    Path("y.csv").write_text(Path(faithful).read_text() + ",80\n")
    gaps = ("--covariance", covariance, "--missing", "marginalize")
    ok(shell("fit", "gaussian-mixture", "y.csv", *gaps, "-o", "d.safetensors"))
    ok(shell("score", "d.safetensors", "y.csv"))
    assert "row 273" in shell("score", saved, "y.csv").stderr


def test_show_holds_every_parameter_for_machines(shell: Shell, saved: str) -> None:
    shown: dict[str, Any] = json.loads(ok(shell("show", saved, "--json")))
    model = ob.load(saved)
    np.testing.assert_array_equal(shown["weights"], model.weights.numpy())
    assert [row["values"] for row in shown["parameters"] if row["what"] == "mean"] == model.emission.mean.T.tolist()
    assert shown["fit"]["algorithm"] == "EM"
    assert "trace" not in shown["fit"]
    assert model.about["fit"]["trace"][0]["after"] == "E"


def test_the_report_is_one_page(shell: Shell, saved: str, faithful: str) -> None:
    assert "Wrote report.html" in ok(shell("report", saved, faithful))
    assert Path("report.html").read_text().lower().startswith("<!doctype html>")
    ok(shell("report", saved, "-o", "alone.html"))
    told = ok(shell("fit", "gaussian-mixture", faithful, "--report", "fit.html"))
    assert "Wrote fit.html" in told
    assert "The climb" in Path("fit.html").read_text()
    told = ok(shell("compare", "gaussian-mixture", faithful, "--max-iter", "3", "--report", "all.html"))
    assert "Wrote all.html" in told
    assert all(name in Path("all.html").read_text() for name in ("EM", "EG", "VAE", "MCEM", "HardEM"))
    ok(shell("continue", saved, faithful, "--report", "again.html", "--json"))
    assert Path("again.html").exists()


@pytest.mark.parametrize("args", [("show",), ("score", "y.csv"), ("predict", "y.csv"), ("fit", "y.csv")])
def test_piped_lines_end_without_blanks(shell: Shell, saved: str, faithful: str, args: tuple[str, ...]) -> None:
    command, *data = args
    first = "gaussian-mixture" if command == "fit" else saved
    text = ok(shell(command, first, *([faithful] if data else [])))
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_a_long_path_breaks_no_line(shell: Shell, faithful: str) -> None:
    folder = Path("a_folder_with_a_rather_long_name" * 3)
    folder.mkdir()
    data = folder / ("a_file_of_eruptions_with_a_long_name" * 2 + ".csv")
    data.write_text(Path(faithful).read_text())
    output = str(folder / "m.safetensors")
    lines = ok(shell("fit", "gaussian-mixture", str(data), "-o", output)).splitlines()
    assert len(lines[0]) <= 80
    assert lines[0].endswith(".csv")
    assert lines[-1] == f"Saved to {output}"
