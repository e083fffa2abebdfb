"""The commands do what their help says, and can be read at 80 columns."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import onebound as ob
from onebound.cli import main

Shell = Callable[..., Result]

FIT_KEYS = [
    "model",
    "algorithm",
    "plan",
    "trace",
    "bound",
    "evidence",
    "gap",
    "n_items",
    "converged",
    "reason",
    "seconds",
    "restarts",
    "repairs",
]
RECORD_KEYS = [
    "iteration",
    "after",
    "passes",
    "bound",
    "evidence",
    "gap",
    "objective",
    "seconds",
    "running",
    "repairs",
    "trained",
    "active_units",
    "kl",
]


def strict_json(result: Result) -> Any:
    """The one object that was printed, by a parser that takes no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    return json.loads(result.stdout, parse_constant=refuse)


def readable(result: Result) -> str:
    """What was printed, if no line is longer than 80 columns."""
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if len(line) > 80] == []
    assert "\x1b" not in result.stdout
    return result.stdout


@pytest.mark.parametrize(
    ("option", "algorithm"),
    [("auto", "EM"), ("em", "EM"), ("eg", "EG"), ("vae", "VAE"), ("mcem", "MCEM"), ("hard-em", "HardEM")],
)
def test_fit_prints_json_for_machines(shell: Shell, faithful: str, option: str, algorithm: str) -> None:
    result = strict_json(shell("fit", "gaussian-mixture", faithful, "--algorithm", option, "--max-iter", "3", "--json"))
    assert set(result) == set(FIT_KEYS)
    assert (result["model"], result["algorithm"], result["n_items"]) == ("gaussian-mixture", algorithm, 272)
    assert all(list(record) == RECORD_KEYS for record in result["trace"])
    assert result["evidence"] == pytest.approx(result["bound"] + result["gap"], abs=1e-9)


def test_tol_0_leaves_max_iter_as_the_only_stop(shell: Shell, faithful: str) -> None:
    result = strict_json(shell("fit", "gaussian-mixture", faithful, "--tol", "0", "--max-iter", "60", "--json"))
    assert [r["iteration"] for r in result["trace"] if r["after"] == "M"][-1:] == [60]
    assert [r["after"] for r in result["trace"]] == ["E", "M"] * 60 + ["E"]
    assert result["reason"] == "max_iter"


def test_the_shell_and_python_agree(shell: Shell, faithful: str, tmp_path: Path) -> None:
    args = ("fit", "gaussian-mixture", faithful, "--restarts", "3", "--seed", "1", "-o", "m.safetensors", "--json")
    result = strict_json(shell(*args))
    assert strict_json(shell(*args))["bound"] == result["bound"]
    model = ob.load(tmp_path / "m.safetensors")
    values = np.loadtxt(tmp_path / faithful, delimiter=",", skiprows=1)
    assert float(ob.bound(model, values).value.mean()) == pytest.approx(result["bound"], abs=1e-12)
    assert model.about["columns"] == ["eruptions", "waiting"]
    assert model.about["fit"]["bound"] == result["bound"]


def test_compare_puts_the_algorithms_side_by_side_from_one_start(shell: Shell, faithful: str) -> None:
    results = strict_json(shell("compare", "gaussian-mixture", faithful, "--max-iter", "5", "--json"))["results"]
    assert [set(result) for result in results] == [set(FIT_KEYS)] * 5
    assert [result["algorithm"] for result in results] == ["EM", "EG", "VAE", "MCEM", "HardEM"]
    starts = [result["trace"][0]["evidence"] for result in results]
    assert starts == pytest.approx([starts[0]] * 5, abs=1e-12)


def test_compare_runs_the_chosen_algorithms(shell: Shell, faithful: str) -> None:
    args = ("compare", "gaussian-mixture", faithful, "--algorithms", "hard-em,em", "--json")
    assert [result["algorithm"] for result in strict_json(shell(*args))["results"]] == ["HardEM", "EM"]


MODELS = [
    ("gaussian-mixture", "length"),
    ("poisson-mixture", "eggs"),
    ("bernoulli-mixture", "alive"),
    ("categorical-mixture", "alive,colour"),
    ("mixed-mixture", "length,eggs,alive,colour"),
]


@pytest.mark.parametrize(("model", "columns"), MODELS, ids=[model for model, _ in MODELS])
def test_every_model_is_fitted_and_read_at_80_columns(shell: Shell, mixed: str, model: str, columns: str) -> None:
    text = readable(shell("fit", model, mixed, "--columns", columns, "-o", "m.safetensors"))
    assert all(column in text for column in columns.split(","))
    assert "Saved to m.safetensors" in text
    assert "eggs" not in readable(shell("fit", model, mixed, "--columns", columns)) or "eggs" in columns
    readable(shell("plan", model, mixed, "--columns", columns))
    readable(shell("plan", model))
    readable(shell("compare", model, mixed, "--columns", columns, "--max-iter", "3"))
    assert model in readable(shell("models"))


def test_a_name_too_long_for_the_screen_still_fits(shell: Shell, tmp_path: Path) -> None:
    name = "the_length_of_the_longest_feather_of_the_left_wing_in_millimetres"
    rows = "\n".join(f"{i % 7}.5,{i}" for i in range(60))
    (tmp_path / "y.csv").write_text(f"{name},b\n{rows}\n")
    readable(shell("fit", "gaussian-mixture", "y.csv", "--components", "8", "--max-iter", "3"))


def test_missing_cells_are_marginalised_when_told(shell: Shell, tmp_path: Path) -> None:
    rows = "\n".join(f"{'' if i % 5 == 0 else i % 2 * 4 + i % 3},{i % 2 * 3 + i % 4}" for i in range(40))
    (tmp_path / "y.csv").write_text(f"a,b\n{rows}\n")
    assert shell("fit", "gaussian-mixture", "y.csv", "--covariance", "diag").exit_code == 2
    text = readable(shell("fit", "gaussian-mixture", "y.csv", "--covariance", "diag", "--missing", "marginalize"))
    assert "8 cells, left out of the likelihood" in text


def test_types_override_what_the_cells_suggest(shell: Shell, mixed: str) -> None:
    args = ("fit", "mixed-mixture", mixed, "--columns", "eggs,length", "--types", "eggs=category")
    text = readable(shell(*args, "--max-iter", "2"))
    assert "eggs = 1" in text


def test_categories_keep_their_names_when_they_are_numbers(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("a,b\n1,x\n2,y\n1,x\n2,y\n2,x\n")
    text = readable(shell("fit", "categorical-mixture", "y.csv", "--max-iter", "2"))
    assert all(label in text for label in ("a = 1", "a = 2", "b = x", "b = y"))
    assert "a = 0" not in text


def test_a_collapsing_component_is_repaired_and_told_once(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("a,b\n1,2\n2,2.5\n3,2\n4,2\n")
    text = readable(shell("fit", "gaussian-mixture", "y.csv", "--max-iter", "5"))
    assert text.count("Repaired: component") == 1
    assert "component 0" not in text


def test_one_component_fits(shell: Shell, faithful: str) -> None:
    assert "100.0 %" in readable(shell("fit", "gaussian-mixture", faithful, "--components", "1"))


def test_the_demo_writes_its_page(shell: Shell, tmp_path: Path) -> None:
    text = readable(shell("demo"))
    assert all(name in text for name in ("EM", "EG", "VAE", "MCEM", "HardEM", "onebound-demo.html"))
    assert "EM, EG, VAE" in text  # They met.
    page = (tmp_path / "onebound-demo.html").read_text()
    assert page.startswith("<!DOCTYPE html>") or page.startswith("<!doctype html>")
    assert "Old Faithful" in page


@pytest.mark.parametrize("command", ["", *main.commands])
def test_every_help_fits_80_columns_and_shows_an_example(shell: Shell, command: str) -> None:
    text = readable(shell(*filter(None, [command]), "--help"))
    assert f"onebound {command}".strip() in text
    assert "Example:" in text or "Start here:" in text


def test_a_closed_pipe_is_silent(faithful: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m onebound fit gaussian-mixture {faithful} --max-iter 2 | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("criterion", ["bic", "heldout"])
def test_the_best_number_of_components_is_kept_and_told(shell: Shell, faithful: str, criterion: str) -> None:
    fit = ("fit", "gaussian-mixture", faithful, "-k", "1..3", "--criterion", criterion, "-o", "m.safetensors")
    text = readable(shell(*fit, "--report", "r.html"))
    assert "2 ←" in text
    assert ob.load("m.safetensors").n_components == 2
    page = Path("r.html").read_text()
    assert "How many components" in page
    result = strict_json(shell(*fit, "--json"))
    assert [tried["name"] for tried in result["choice"]["candidates"]] == ["1", "2", "3"]
    assert result["choice"]["best"] == "2"
    readable(shell("report", "m.safetensors", faithful))
    assert "How many components" in Path("report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-k", "3..1"), "1..10, or 2,4,8"),
        (("-k", "0..2"), "1..10, or 2,4,8"),
        (("-k", "two"), "1..10, or 2,4,8"),
        (("-k", "2", "--criterion", "bic"), "give --components 1..10"),
        (("-k", "1..2", "--checkpoint", "c"), "--checkpoint goes with one number"),
        (("-k", "1..2", "--criterion", "dic"), "'dic' is not one of"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(
    shell: Shell, faithful: str, options: tuple[str, ...], message: str
) -> None:
    result = shell("fit", "gaussian-mixture", faithful, *options)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
