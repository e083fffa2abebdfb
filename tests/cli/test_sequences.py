"""Models of sequences at the shell: every command on small data made here, with the numbers that Python gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from told import Shell, ok, refused

import onebound as ob
from onebound.emissions import Categorical, Gaussian, MixtureOf, Poisson
from onebound.models import Mixture
from onebound.models.hmm import HMM
from onebound.report.moves import moves_of

NAMES, LENGTHS = ("a", "b", "c"), (30, 50, 40)
MODELS = {
    "poisson-hmm": ("eggs", []),
    "gaussian-hmm": ("x,y", ["--covariance", "diag"]),
    "gmm-hmm": ("x,y", ["--covariance", "diag", "--mixtures", "2"]),
    "bernoulli-hmm": ("alive", []),
    "categorical-hmm": ("colour", []),
    "mixed-hmm": ("x,eggs,alive,colour", []),
}


def simulated() -> dict[str, Any]:
    """Three sequences with two sticky states, in columns of every kind."""
    rng = np.random.default_rng(0)
    z = np.concatenate([np.cumsum(rng.random(n) < 0.1) % 2 for n in LENGTHS])
    n = len(z)
    return {
        "id": np.repeat(NAMES, LENGTHS),
        "x": np.round(rng.normal(4 * z, 1), 3),
        "y": np.round(rng.normal(-3 * z, 1), 3),
        "eggs": rng.poisson(2 + 7 * z),
        "alive": (rng.random(n) < 0.2 + 0.6 * z).astype(int),
        "colour": np.where(rng.random(n) < 0.1 + 0.8 * z, "red", "blue"),
        "w": np.repeat([1.0, 2.0, 0.5], LENGTHS),
        "known": np.where(np.arange(n) % 10 == 0, np.where(z == 1, "high", "low"), ""),
    }


def write(name: str, columns: dict[str, Any]) -> None:
    rows = zip(*columns.values(), strict=True)
    text = "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)])
    Path(name).write_text(text + "\n")


@pytest.fixture
def data(shell: Shell) -> dict[str, Any]:
    """y.csv in the current folder, and its columns."""
    columns = simulated()
    write("y.csv", columns)
    return columns


def table(result: Any) -> list[dict[str, str]]:
    head, *rows = [line.split(",") for line in ok(result).splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def readable(result: Any) -> str:
    text = ok(result)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    return text


EGGS = ("y.csv", "--columns", "eggs")
FIT = ("fit", "poisson-hmm", *EGGS, "--sequence-column", "id", "-o", "m.safetensors")


# --- the shell says what Python says -------------------------------------------------------------------------------------


def test_fit_score_predict_and_decode_are_those_of_python(shell: Shell, data: dict[str, Any]) -> None:
    result = json.loads(ok(shell(*FIT, "--states", "2", "--seed", "3", "--json")))
    y = ob.Observations.of(data["eggs"][:, None].astype(float), lengths=LENGTHS)
    model = HMM(Poisson(2, 1))
    fit = ob.fit(model, y, generator=torch.Generator().manual_seed(3))
    assert (result["bound"], result["n_items"]) == (pytest.approx(fit.bound, abs=1e-10), 3)
    assert result["rows_per_item"] == pytest.approx(40)

    found = ob.bound(model, y)
    scores = table(shell("score", "m.safetensors", "y.csv", "--items"))
    assert [row["sequence"] for row in scores] == list(NAMES)
    assert [int(row["rows"]) for row in scores] == list(LENGTHS)
    np.testing.assert_allclose([float(row["evidence"]) for row in scores], found.evidence, rtol=1e-10)
    np.testing.assert_allclose(
        [float(row["evidence_per_row"]) for row in scores], found.evidence / y.lengths, rtol=1e-10
    )
    told = json.loads(ok(shell("score", "m.safetensors", "y.csv", "--bits", "--json")))
    assert told["mean"]["evidence"] == pytest.approx(float(found.evidence.mean()), rel=1e-10)
    assert told["per_row"]["evidence"] == pytest.approx(float(found.evidence.sum()) / 120, rel=1e-10)
    assert told["bits_per_row"]["bound"] == pytest.approx(-told["per_row"]["bound"] / np.log(2))

    q = model.posterior(y)
    states = q.marginals.unary.detach()
    for command, path in (("predict", states.argmax(-1)), ("decode", q.argmax)):
        rows = table(shell(command, "m.safetensors", "y.csv"))
        assert [int(row["row"]) for row in rows] == list(range(1, 121))
        assert [row["sequence"] for row in rows] == data["id"].tolist()
        assert [int(row["state"]) for row in rows] == (path + 1).tolist()
        np.testing.assert_allclose([float(row["p_1"]) for row in rows], states[:, 0], atol=1e-10)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_sequences_goes_through_every_command(shell: Shell, data: dict[str, Any], model: str) -> None:
    columns, own = MODELS[model]
    given = ("y.csv", "--columns", columns, "--sequence-column", "id", *own)
    text = readable(shell("fit", model, *given, "--max-iter", "20", "--restarts", "2", "-o", "m.safetensors"))
    assert "2 states" in text
    assert "120 rows in 3 sequences" in text
    assert "nats per row" in text
    assert "component" not in text
    assert "state" in readable(shell("show", "m.safetensors"))
    assert "per sequence" in readable(shell("score", "m.safetensors", "y.csv"))
    assert "exact posterior" in readable(shell("plan", model, *given))
    readable(shell("plan", model))
    readable(shell("compare", model, *given, "--max-iter", "3", "--algorithms", "em,eg,hard-em", "--report", "c.html"))
    assert len(table(shell("decode", "m.safetensors", "y.csv"))) == 120
    drawn = table(shell("sample", "m.safetensors", "--lengths", "4,3", "--with-state"))
    assert [row["id"] for row in drawn] == ["1"] * 4 + ["2"] * 3
    assert set(drawn[0]) == {"id", *columns.split(","), "state"}
    ok(shell("report", "m.safetensors", "y.csv"))
    page = Path("report.html").read_text()
    assert "The states over the series" in page
    assert "How it moves between states" in page
    assert (
        "The states over the series" not in (ok(shell("report", "m.safetensors")), Path("report.html").read_text())[1]
    )
    ok(shell("continue", "m.safetensors", "y.csv", "--max-iter", "2", "-o", "n.safetensors"))
    assert ob.load("n.safetensors").about["sequence_column"] == "id"
    assert model in readable(shell("models"))


def test_emissions_are_what_the_names_say(shell: Shell, data: dict[str, Any]) -> None:
    kinds = {"gmm-hmm": MixtureOf, "poisson-hmm": Poisson, "categorical-hmm": Categorical}
    for name, kind in kinds.items():
        ok(shell("fit", name, "y.csv", "--columns", MODELS[name][0], "--max-iter", "2", "-o", "m.safetensors"))
        model = ob.load("m.safetensors")
        assert (type(model), type(model.emission)) == (HMM, kind)
    ok(shell("fit", "gmm-hmm", "y.csv", "--columns", "x", "--mixtures", "3", "--max-iter", "2", "-o", "m.safetensors"))
    assert ob.load("m.safetensors").emission.n_inner == 3


# --- sequences -----------------------------------------------------------------------------------------------------------


def test_lengths_and_a_column_that_say_the_same_fit_the_same(shell: Shell, data: dict[str, Any]) -> None:
    by_column = json.loads(ok(shell(*FIT, "--json")))
    numbers = ",".join(map(str, LENGTHS))
    by_lengths = json.loads(
        ok(shell("fit", "poisson-hmm", *EGGS, "--lengths", numbers, "-o", "n.safetensors", "--json"))
    )
    assert by_column["bound"] == by_lengths["bound"]
    whole = json.loads(ok(shell("fit", "poisson-hmm", *EGGS, "--json")))
    assert (whole["n_items"], whole["rows_per_item"]) == (1, 120)
    # Remembered where they add up, asked for where they do not.
    assert len({row["sequence"] for row in table(shell("decode", "n.safetensors", "y.csv"))}) == 3
    write("short.csv", {name: values[:30] for name, values in data.items()})
    assert "--lengths 30 makes them one" in refused(shell("decode", "n.safetensors", "short.csv"))
    assert len(table(shell("decode", "n.safetensors", "short.csv", "--lengths", "10,20"))) == 30
    # A column of the fit is not needed where the lengths are given.
    write("bare.csv", {"eggs": data["eggs"]})
    assert "no column 'id', which says where sequences end" in refused(shell("score", "m.safetensors", "bare.csv"))
    ok(shell("score", "m.safetensors", "bare.csv", "--lengths", numbers))


def test_weights_count_sequences(shell: Shell, data: dict[str, Any]) -> None:
    result = json.loads(ok(shell(*FIT, "--weights", "w", "--max-iter", "5", "--json")))
    y = ob.Observations.of(data["eggs"][:, None].astype(float), lengths=LENGTHS, weights=[1.0, 2.0, 0.5])
    model = HMM(Poisson(2, 1))
    fit = ob.fit(model, y, max_iter=5, generator=torch.Generator().manual_seed(0))
    assert result["bound"] == pytest.approx(fit.bound, abs=1e-10)
    assert result["rows_per_item"] == pytest.approx((30 + 2 * 50 + 0.5 * 40) / 3.5)
    told = json.loads(ok(shell("score", "m.safetensors", "y.csv", "--weights", "w", "--json")))
    assert told["mean"]["bound"] == pytest.approx(fit.bound, abs=1e-10)


def test_known_states_keep_their_names(shell: Shell, data: dict[str, Any]) -> None:
    assert "low" in readable(shell(*FIT, "--label", "known"))
    rows = table(shell("decode", "m.safetensors", "y.csv"))
    assert {row["state"] for row in rows} == {"low", "high"}
    high = np.array([row["state"] == "high" for row in rows])
    assert data["eggs"][high].mean() > data["eggs"][~high].mean()


def test_missing_cells_are_marginalised_when_told(shell: Shell, data: dict[str, Any]) -> None:
    gappy = [value if i % 7 else "" for i, value in enumerate(data["eggs"])]
    write("y.csv", {**data, "eggs": gappy})
    assert "18 cells are missing" in refused(shell(*FIT))
    assert "18 cells, left out" in readable(shell(*FIT, "--missing", "marginalize"))
    assert len(table(shell("decode", "m.safetensors", "y.csv"))) == 120


# --- more than one fit ---------------------------------------------------------------------------------------------------


def test_the_number_of_states_is_chosen_and_bic_counts_rows(shell: Shell, data: dict[str, Any]) -> None:
    result = json.loads(ok(shell(*FIT, "--states", "1..3", "--criterion", "bic", "--json")))
    tried = result["choice"]["candidates"]
    assert [c["name"] for c in tried] == ["1", "2", "3"]
    for c in tried:
        assert c["bic"] == pytest.approx(-2 * 3 * c["evidence"] + c["n_parameters"] * np.log(120))
    assert result["choice"]["best"] == "2"
    text = readable(shell(*FIT, "-k", "1,2", "--criterion", "heldout", "--report", "r.html"))
    assert "per sequence of those kept" in " ".join(text.split())
    assert "How many states" in Path("r.html").read_text()
    assert "at least 3 items" in refused(shell("fit", "poisson-hmm", *EGGS, "-k", "1,2", "--criterion", "heldout"))


def test_a_stopped_fit_goes_on_from_its_checkpoint(shell: Shell, data: dict[str, Any]) -> None:
    given = ("--states", "3", "--tol", "0")
    whole = json.loads(ok(shell(*FIT, *given, "--max-iter", "9", "--json")))
    ok(shell(*FIT, *given, "--max-iter", "4", "--checkpoint", "c", "--every", "0s"))
    rest = json.loads(ok(shell("continue", "c", "y.csv", "--max-iter", "9", "-o", "n.safetensors", "--json")))
    assert rest["bound"] == whole["bound"]
    ob.save(ob.load("n.safetensors"), "again.safetensors")
    other = shell("continue", "c", "y.csv", "--lengths", "60,60", "--max-iter", "9", "-o", "o.safetensors")
    assert "belongs to other data" in refused(other)


def test_show_tells_how_the_chain_moves(shell: Shell, data: dict[str, Any]) -> None:
    ok(shell(*FIT))
    model = ob.load("m.safetensors")
    told = json.loads(ok(shell("show", "m.safetensors", "--json")))
    np.testing.assert_allclose(told["transition"], model.transition_matrix, rtol=1e-12)
    stay = np.diag(told["transition"])
    np.testing.assert_allclose(told["expected_duration"], 1 / (1 - stay), rtol=1e-8)
    weights = np.array(told["weights"])
    np.testing.assert_allclose(weights @ np.array(told["transition"]), weights, rtol=1e-10)


def test_a_state_that_is_never_left_lasts_for_ever(shell: Shell, data: dict[str, Any]) -> None:
    ok(shell(*FIT))
    model = ob.load("m.safetensors").assign([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]])
    moves = moves_of(model)
    assert moves is not None
    assert moves.duration.tolist() == [2.0, np.inf]
    ob.save(model, "left.safetensors")
    assert "∞" in readable(shell("show", "left.safetensors"))
    assert json.loads(ok(shell("show", "left.safetensors", "--json")))["expected_duration"] == [2.0, None]
    ok(shell("report", "left.safetensors", "y.csv"))
    assert "is never left" in Path("report.html").read_text()


def test_a_sequence_that_the_model_cannot_make_has_no_states(shell: Shell, data: dict[str, Any]) -> None:
    ok(shell(*FIT))
    model = ob.load("m.safetensors")
    model.emission.assign(rate=[[0.0], [0.0]])
    ob.save(model, "zero.safetensors")
    write("zeros.csv", {"id": ["a", "a", "b"], "eggs": [0, 0, 3]})
    rows = table(shell("decode", "zero.safetensors", "zeros.csv"))
    assert [row["state"] == "" for row in rows] == [False, False, True]
    assert "Some sequences cannot come from this model" in readable(shell("score", "zero.safetensors", "zeros.csv"))


# --- what is wrong is said in one line -----------------------------------------------------------------------------------

HMM_FIT = ["fit", "poisson-hmm", "y.csv", "--columns", "eggs"]
WRONG: list[tuple[list[str], str]] = [
    ([*HMM_FIT, "--lengths", "100,19"], "--lengths must add up to its 120 rows, got 100, 19: 119 in all"),
    ([*HMM_FIT, "--lengths", "120,0"], "whole numbers from 1"),
    ([*HMM_FIT, "--lengths", "a"], "whole numbers from 1 with commas between them, got 'a'"),
    ([*HMM_FIT, "--lengths", "120", "--sequence-column", "id"], "give one of them"),
    ([*HMM_FIT, "--sequence-column", "ID"], "no column 'ID'"),
    ([*HMM_FIT, "--sequence-column", "eggs"], "cannot be data and weight, label or sequence at once"),
    ([*HMM_FIT, "--sequence-column", "alive"], "comes back in row"),
    ([*HMM_FIT, "--sequence-column", "alive"], "sort the rows by alive"),
    ([*HMM_FIT, "--sequence-column", "known"], "names each row's sequence, and is empty in row 2"),
    ([*HMM_FIT, "--sequence-column", "id", "--weights", "alive"], "a sequence has one weight"),
    ([*HMM_FIT, "--states", "121"], "at least one row a state, 121 in all, got 120. Ask for fewer --states"),
    ([*HMM_FIT, "--states", "0"], "or 2,4,8, got '0'"),
    ([*HMM_FIT, "--covariance", "diag"], "poisson-hmm does not take --covariance"),
    ([*HMM_FIT, "--mixtures", "2"], "poisson-hmm does not take --mixtures"),
    (["fit", "gmm-hmm", "y.csv", "--columns", "x", "--mixtures", "0"], "--mixtures"),
    (["fit", "poisson-hmm", "y.csv", "--columns", "x"], "column 'x' must hold counts"),
    (["fit", "poisson-hmm", "y.csv", "--columns", "colour"], "use mixed-hmm, which takes text as categories"),
    (["fit", "categorical-hmm", "one.csv"], "column 'base' holds one symbol only (A)"),
    (["fit", "gaussian-mixture", "y.csv", "--columns", "x", "--lengths", "120"], "is no model of sequences"),
    (["fit", "gaussian-mixture", "y.csv", "--columns", "x", "--sequence-column", "id"], "goes with gaussian-hmm"),
    (["plan", "gaussian-hmm", "y.csv", "--columns", "x", "--lengths", "1"], "add up"),
    (["score", "m.safetensors", "y.csv", "--lengths", "1,2"], "add up to its 120 rows"),
    (["decode", "m.safetensors", "y.csv", "--sequence-column", "alive"], "comes back"),
    (["decode", "mixture.safetensors", "y.csv"], "onebound predict says the class of each"),
    (["decode", "mixture.safetensors", "y.csv", "--lengths", "120"], "onebound predict"),
    (["decode", "y.csv", "y.csv"], "is no model file"),
    (["decode", "m.safetensors", "y.csv", "-o", "y.txt"], ".csv or .parquet"),
    (["score", "mixture.safetensors", "y.csv", "--lengths", "120"], "is no model of sequences"),
    (["sample", "mixture.safetensors", "--lengths", "3"], "is no model of sequences"),
    (["sample", "m.safetensors", "--lengths", "3", "-n", "3"], "give one of them"),
]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.safetensors, an HMM whose sequences are by column id, and mixture.safetensors."""
    folder = tmp_path_factory.mktemp("fitted")
    about: dict[str, Any] = {"columns": ["eggs"], "kinds": {"eggs": "count"}, "categories": {}}
    hmm = HMM(Poisson(2, 1)).assign([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], rate=[[2.0], [9.0]])
    hmm.about = {"model": "poisson-hmm", "sequence_column": "id", **about}
    mixture = Mixture(Poisson(2, 1)).assign([0.5, 0.5], rate=[[2.0], [9.0]])
    mixture.about = {"model": "poisson-mixture", **about}
    ob.save(hmm, folder / "m.safetensors")
    ob.save(mixture, folder / "mixture.safetensors")
    return folder


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(("args", "message"), WRONG, ids=[" ".join(args)[:70] for args, _ in WRONG])
def test_a_wrong_line_is_refused_with_what_helps(shell: Shell, fitted: Path, args: list[str], message: str) -> None:
    for file in fitted.iterdir():
        Path(file.name).write_bytes(file.read_bytes())
    write("one.csv", {"base": ["A"] * 9})
    before = sorted(map(str, Path().iterdir()))
    assert message in refused(shell(*args))
    assert sorted(map(str, Path().iterdir())) == before


def test_the_row_of_a_wrong_cell_is_named_in_any_sequence(shell: Shell, fitted: Path) -> None:
    Path("m.safetensors").write_bytes((fitted / "m.safetensors").read_bytes())
    write("bad.csv", {"id": ["a", "a", "b", "b"], "eggs": [1, 2, 3, -4]})
    fit = ("fit", "poisson-hmm", "bad.csv", "--columns", "eggs", "--sequence-column", "id")
    for line in (fit, ("decode", "m.safetensors", "bad.csv")):
        assert "got -4 in row 4" in refused(shell(*line))


def test_numbers_hold_at_one_sequence_and_one_state(shell: Shell) -> None:
    y = ob.data.old_faithful().values[:40]
    write("f.csv", {"eruptions": y[:, 0], "waiting": y[:, 1]})
    args = ("fit", "gaussian-hmm", "f.csv", "--states", "1", "--json")
    bound = json.loads(ok(shell(*args)))["bound"]
    alone = ob.fit(Mixture(Gaussian(1, 2)), y).bound
    assert bound == pytest.approx(40 * alone, rel=1e-10)
