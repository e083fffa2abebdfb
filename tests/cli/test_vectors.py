"""Models whose z is a vector, from the shell: linear ones, and those under a network."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_saved_models import column, rows
from told import Shell, ok, refused

import onebound as ob
from onebound.cli.kinds import as_typed
from onebound.data import read_table

FEW = ("--hidden", "6", "--passes", "3")
NETWORKS = ("vae", "gmm-vae", "hmm-vae")


def table(path: str, y: np.ndarray) -> str:
    """y as a csv with columns a, b, …"""
    names = [chr(ord("a") + d) for d in range(y.shape[1])]
    text = "\n".join(",".join(f"{v:g}" for v in row) for row in y)
    Path(path).write_text(",".join(names) + "\n" + text + "\n")
    return path


@pytest.fixture
def measures(shell: Shell) -> str:
    """Four columns on two factors, with a column of classes."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(60, 4)) + [0, 1, 2, 3]
    lines = Path(table("y.csv", y)).read_text().splitlines()
    Path("y.csv").write_text(
        "\n".join(f"{line},{w}" for line, w in zip(lines, ["kind", *"uv" * 30], strict=True)) + "\n"
    )
    return "y.csv"


# --- linear ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "made"), [("factor-analysis", "FactorAnalysis"), ("ppca", "ProbabilisticPCA")])
def test_the_shells_factors_are_pythons(shell: Shell, measures: str, name: str, made: str) -> None:
    y = read_table(measures, ["a", "b", "c", "d"]).values
    model = getattr(ob.models, made)(4, 2)
    fit = ob.fit(model, y)
    told = json.loads(ok(shell("fit", name, measures, "--label", "kind", "--json", "-o", "m.safetensors")))
    assert told["evidence"] == pytest.approx(fit.evidence, abs=1e-12)
    assert told["gap"] == pytest.approx(0, abs=1e-12)
    shown = json.loads(ok(shell("show", "m.safetensors", "--json")))
    np.testing.assert_allclose(shown["loadings"], model.components, rtol=1e-10)
    np.testing.assert_allclose(shown["noise_variance"], model.noise_variance, rtol=1e-10)
    scored = json.loads(ok(shell("score", "m.safetensors", measures, "--json")))
    assert scored["mean"]["evidence"] == pytest.approx(fit.evidence, abs=1e-12)
    found = rows(ok(shell("predict", "m.safetensors", measures)))
    assert list(found[0]) == ["row", "z1", "z2"]
    np.testing.assert_allclose(column(found, "z2"), model.posterior(y).mean[:, 1].detach(), rtol=1e-8)
    drawn = rows(ok(shell("sample", "m.safetensors", "-n", "3", "--seed", "5", "--with-latent")))
    y_drawn, z_drawn = ob.load("m.safetensors").sample(3, torch.Generator().manual_seed(5))
    np.testing.assert_array_equal(column(drawn, "c"), y_drawn[:, 2])
    np.testing.assert_array_equal(column(drawn, "z1"), z_drawn[:, 0])


def test_factors_are_shown_with_what_they_explain(shell: Shell, measures: str) -> None:
    text = ok(shell("fit", "factor-analysis", measures, "--label", "kind", "-o", "m.safetensors"))
    assert text.startswith("factor-analysis, 2 factors: 60 rows × 4 columns of y.csv")
    assert "factor 2" in text
    assert "explained" in text
    assert "up to a rotation" in ok(shell("show", "m.safetensors"))
    again = json.loads(ok(shell("continue", "m.safetensors", measures, "--json")))
    assert again["bound"] >= ob.load("m.safetensors").about["fit"]["bound"] - 1e-10


def test_missing_cells_are_integrated_out_of_factors_too(shell: Shell, measures: str) -> None:
    text = Path(measures).read_text().splitlines()
    text[5] = "," + text[5].partition(",")[2]
    Path("gaps.csv").write_text("\n".join(text) + "\n")
    assert "1 cell is missing" in refused(shell("fit", "ppca", "gaps.csv", "--label", "kind"))
    told = ok(shell("fit", "ppca", "gaps.csv", "--label", "kind", "--missing", "marginalize"))
    assert "1 cells, left out of the likelihood" in told


def test_algorithms_are_compared_on_factors(shell: Shell, measures: str) -> None:
    few = ("--columns", "a,b,c,d", "--max-iter", "3")
    told = json.loads(ok(shell("compare", "factor-analysis", measures, *few, "--json", "--report", "all.html")))
    assert [fit["algorithm"] for fit in told["results"]] == ["EM", "EG", "VAE"]
    assert "The factors" in Path("all.html").read_text()


# --- under a network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_fitted_shown_scored_and_sampled(shell: Shell, faithful: str, name: str) -> None:
    text = ok(shell("fit", name, faithful, "--latent", "1", *FEW, "-o", "m.safetensors"))
    assert "ln p(y)    ≥" in text
    assert "(IWAE, K = 1000;" in text
    assert "gap        ≥" in text
    assert "a network may want more: --passes" in text
    about = ob.load("m.safetensors").about
    estimate = about["fit"]["estimate"]
    assert estimate["gap"] == pytest.approx(estimate["evidence"] - estimate["bound"], abs=1e-9)
    assert estimate["items"] == (1 if name == "hmm-vae" else 200)
    assert about["options"] == {"latent": 1, "hidden": [6]}
    shown = json.loads(ok(shell("show", "m.safetensors", "--json")))
    assert (shown["n_latent"], shown["hidden"], shown["likelihood"]) == (1, [6], "gaussian")
    assert ("prior" in shown) == (name != "vae")
    assert "prior of z" in ok(shell("show", "m.safetensors"))
    score = ("score", "m.safetensors", faithful, "--draws", "20", "--json")
    scored = json.loads(ok(shell(*score)))
    assert scored["draws"] == 20
    assert scored["mean"]["bound"] < scored["mean"]["evidence"]
    assert scored == json.loads(ok(shell(*score)))
    drawn = rows(ok(shell("sample", "m.safetensors", "-n", "4", "--with-latent")))
    assert list(drawn[0]) == ["eruptions", "waiting", "z1"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_means_of_z_are_the_encoders_and_the_prior_says_their_class(shell: Shell, faithful: str, name: str) -> None:
    ok(shell("fit", name, faithful, *FEW, "-o", "m.safetensors"))
    model, y = ob.load("m.safetensors"), read_table(faithful).values
    z = model.encode(y).mean.detach().double()
    found = rows(ok(shell("predict", "m.safetensors", faithful)))
    np.testing.assert_allclose(column(found, "z2"), z[:, 1], rtol=1e-5, atol=1e-6)
    if name == "gmm-vae":
        np.testing.assert_array_equal(column(found, "component"), model.prior.posterior(z).argmax + 1)
    if name == "hmm-vae":
        path = rows(ok(shell("decode", "m.safetensors", faithful)))
        np.testing.assert_array_equal(column(path, "state"), model.prior.posterior(z).argmax + 1)


def test_the_likelihood_is_as_the_columns_are(shell: Shell) -> None:
    rng = np.random.default_rng(0)
    bits, counts = rng.integers(0, 2, (30, 3)), rng.poisson(4, (30, 3))
    kinds = {"bernoulli": bits, "poisson": counts, "gaussian": counts + 0.5}
    for wanted, y in kinds.items():
        ok(shell("fit", "vae", table(f"{wanted}.csv", y), "--hidden", "3", "--passes", "1", "-o", "m.safetensors"))
        assert json.loads(ok(shell("show", "m.safetensors", "--json")))["likelihood"] == wanted
    Path("words.csv").write_text("a,b\n" + "red,yes\nblue,no\nred,no\n" * 8)
    ok(shell("fit", "vae", "words.csv", "--hidden", "3", "--passes", "1", "-o", "m.safetensors"))
    assert json.loads(ok(shell("show", "m.safetensors", "--json")))["likelihood"] == "categorical"
    assert {row["a"] for row in rows(ok(shell("sample", "m.safetensors")))} == {"red", "blue"}
    ok(shell("fit", "vae", "poisson.csv", "--likelihood", "negative-binomial", "--hidden", "3", "--passes", "1"))


def test_the_same_seed_gives_the_same_network(shell: Shell, faithful: str) -> None:
    def bound(*seed: str) -> float:
        found: float = json.loads(ok(shell("fit", "vae", faithful, *FEW, "--json", *seed)))["bound"]
        return found

    assert bound() == bound()
    assert bound("--seed", "3") == bound("--seed", "3") != bound()


def test_a_config_file_holds_the_options_and_the_line_wins(shell: Shell, faithful: str) -> None:
    Path("vae.toml").write_text("latent = 3\nhidden = [4, 5]\npasses = 2\nbatch-size = 50\ndraws = 2\niwae = true\n")
    ok(shell("fit", "vae", faithful, "--config", "vae.toml", "--latent", "1", "-o", "m.safetensors"))
    about = ob.load("m.safetensors").about
    assert about["options"] == {"latent": 1, "hidden": [4, 5]}
    assert about["settings"] == {"draws": 2, "iwae": True, "batch_size": 50}
    assert "2 samples, IWAE" in about["fit"]["plan"]
    again = json.loads(ok(shell("continue", "m.safetensors", faithful, "--passes", "1", "--json")))
    assert "2 samples, IWAE" in str(again["plan"])
    assert again["estimate"]["steps"] == 6


def test_a_network_goes_on_from_its_checkpoint(shell: Shell, faithful: str) -> None:
    few = ("fit", "vae", faithful, "--hidden", "4")
    ok(shell(*few, "--passes", "2", "--checkpoint", "run.ckpt", "--every", "0s"))
    text = ok(shell("continue", "run.ckpt", faithful, "--passes", "4", "-o", "m.safetensors"))
    assert "ln p(y)    ≥" in text
    assert ob.load("m.safetensors").about["options"] == {"hidden": [4]}


def test_sequences_of_vectors_are_split_as_told(shell: Shell, faithful: str) -> None:
    few = ("--latent", "1", *FEW)
    ok(shell("fit", "hmm-vae", faithful, "--lengths", "100,172", "--states", "3", *few, "-o", "m.safetensors"))
    assert json.loads(ok(shell("score", "m.safetensors", faithful, "--json", "--draws", "5")))["n_items"] == 2
    drawn = rows(ok(shell("sample", "m.safetensors", "--lengths", "2,3")))
    assert [row["sequence"] for row in drawn] == ["1", "1", "2", "2", "2"]


def test_advice_is_in_the_shells_words() -> None:
    assert as_typed("or let a prior learn it: prior=Mixture(...).") == "or let a prior learn it: gmm-vae."


# --- reports -----------------------------------------------------------------------------------------------------------------


def test_a_page_comes_with_the_fit_and_after_it(shell: Shell, measures: str) -> None:
    label = ("--label", "kind")
    ok(shell("fit", "vae", measures, *label, *FEW, "-o", "m.safetensors", "--report", "fit.html"))
    for page, line in (("fit.html", ()), ("again.html", (measures, *label)), ("alone.html", ())):
        if page != "fit.html":
            ok(shell("report", "m.safetensors", *line, "-o", page))
        assert ("How far L is from ln p(y)" in Path(page).read_text()) == (page != "alone.html")
    assert "known class (kind)" in Path("again.html").read_text()


# --- refusals ----------------------------------------------------------------------------------------------------------------

BAD = [
    ("components of a vae", ["fit", "vae", "y.csv", "-k", "3"], "vae has no components; --latent"),
    ("several factors", ["fit", "ppca", "y.csv", "-k", "1..3"], "ppca has no components"),
    ("more factors than columns", ["fit", "ppca", "y.csv", "--columns", "a,b", "--latent", "3"], "at most the 2 columns"),
    ("words as factors", ["fit", "factor-analysis", "y.csv"], "must hold numbers, got 'u' in row 1"),
    ("words beside numbers", ["fit", "vae", "y.csv"], "one likelihood serves all columns"),
    ("no factors", ["fit", "vae", "y.csv", "--latent", "0"], "--latent"),
    ("no layers", ["fit", "vae", "y.csv", "--hidden", "8,x"], "whole numbers from 1"),
    ("a wrong likelihood", ["fit", "vae", "y.csv", "--likelihood", "gausian"], "Did you mean gaussian?"),
    ("no counts", ["fit", "vae", "y.csv", "--label", "kind", "--likelihood", "poisson"], "must hold counts"),
    ("draws of a mixture", ["fit", "gaussian-mixture", "y.csv", "--draws", "2"], "it goes with vae, gmm-vae, hmm-vae"),
    ("one draw", ["fit", "vae", "y.csv", "--label", "kind", "--iwae"], "--iwae needs --draws 2 or more"),
    ("several sizes", ["fit", "gmm-vae", "y.csv", "-k", "1..3"], "no criterion can choose"),
    ("a start", ["fit", "vae", "y.csv", "--label", "kind", "--init", "random"], "leave --init out"),
    ("draws of EM", ["fit", "vae", "y.csv", "--label", "kind", "--algorithm", "em", "--draws", "2"], "--algorithm em"),
    ("EM", ["fit", "vae", "y.csv", "--label", "kind", "--algorithm", "em"], "no exact posterior"),
    ("sequences of rows", ["fit", "vae", "y.csv", "--lengths", "30,30"], "no model of sequences"),
    ("nothing to compare", ["compare", "vae", "y.csv"], "nothing to compare"),
    ("no such config", ["fit", "vae", "y.csv", "--config", "no.toml"], "no.toml: cannot be read"),
    ("a wrong key", ["fit", "vae", "y.csv", "--config", "key.toml"], "'hiden' is no option of onebound fit. Did you mean hid"),
    ("a number for a switch", ["fit", "vae", "y.csv", "--config", "flag.toml"], "iwae = 2: expected true or false"),
    ("no toml", ["fit", "vae", "y.csv", "--config", "broken.toml"], "broken.toml: is no TOML"),
    ("half a dimension", ["fit", "vae", "y.csv", "--config", "half.toml"], "'2.5' is no whole number"),
    ("a path", ["decode", "f.safetensors", "y.csv"], "have no path; onebound predict"),
    ("draws of an exact ln p", ["score", "f.safetensors", "y.csv", "--draws", "9"], "ln p(y) is exact"),
    ("labels without data", ["report", "f.safetensors", "--label", "kind"], "names a column of DATA"),
]  # fmt: skip


@pytest.fixture
def configs(shell: Shell, measures: str) -> None:
    texts = {"key": "hiden = [3]", "flag": "iwae = 2", "broken": "latent =", "half": "latent = 2.5"}
    for name, text in texts.items():
        Path(f"{name}.toml").write_text(text + "\n")
    ok(shell("fit", "factor-analysis", measures, "--label", "kind", "--max-iter", "2", "-o", "f.safetensors"))


@pytest.mark.parametrize(("line", "message"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
@pytest.mark.usefixtures("configs")
def test_what_makes_no_sense_for_a_vector_is_refused(shell: Shell, line: list[str], message: str) -> None:
    assert message in refused(shell(*line))
