"""The page about one model: its numbers are the model's, and what it cannot know it says."""

import copy
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from page_reader import Reader
from sklearn.mixture import GaussianMixture
from small_fits import HOLES, NAMES, TABLE, ZOO, fits_of, geyser_fits, geyser_rows

import onebound as ob
from onebound.algorithms.choose import Criteria
from onebound.emissions import Gaussian, Poisson
from onebound.errors import InputError
from onebound.models import Mixture
from onebound.report import numbers, write_report
from onebound.report.parameters import array, coded_columns, quantities
from onebound.report.sections import WHY
from onebound.report.single import report_page
from onebound.report.survey import BINS, SURE, survey
from onebound.report.words import NOTICED, differences, sentences

pytestmark = pytest.mark.xdist_group("report")

NASTY = ('<b>&"waiting" $x_{', "</svg><script>alert(1)</script>")


@cache
def zoo_fit(name: str) -> ob.Fit:
    emission, y = ZOO[name]
    return fits_of(Mixture(copy.deepcopy(emission)), y, [ob.EM()], max_iter=5)[0]


def columns_of(y: np.ndarray) -> list[str]:
    return [f"column {d}" for d in range(y.shape[1])]


@cache
def zoo_page(name: str) -> str:
    fit, y = zoo_fit(name), ZOO[name][1]
    return report_page(fit.model, fit, y, columns_of(y))


@cache
def geyser_page() -> str:
    fit = geyser_fits()[0]
    return report_page(fit.model, fit, geyser_rows(), NAMES, "every fourth eruption")


def brute_force(model: Mixture, y: np.ndarray) -> np.ndarray:
    """Responsibilities, all at once, from ln p(z, y) alone.  (N, K)"""
    log_joint = array(model.log_potentials(y))
    r = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    return r / r.sum(axis=1, keepdims=True)


# --- the numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_the_survey_is_brute_force_over_all_rows(name: str) -> None:
    model, y = zoo_fit(name).model, ZOO[name][1]
    w = np.random.default_rng(3).integers(1, 4, len(y)).astype(float)
    seen, r = survey(model, y, w), brute_force(model, y)
    largest, best = r.max(axis=1), r.argmax(axis=1)
    k = np.arange(r.shape[1])[:, None]
    np.testing.assert_allclose(seen.held, w @ r, rtol=1e-10)
    np.testing.assert_allclose(seen.assigned, ((best == k) * w).sum(1))
    np.testing.assert_allclose(seen.sure, ((best == k) * w * (largest > SURE)).sum(1))
    counted, _ = np.histogram(np.minimum(largest, 1), BINS, (0, 1), weights=w)
    np.testing.assert_allclose(seen.histogram.sum(0), counted)
    np.testing.assert_allclose(seen.missing, np.isnan(y).sum(0))
    np.testing.assert_allclose(seen.low, np.nanmin(y, axis=0))
    np.testing.assert_allclose(seen.high, np.nanmax(y, axis=0))
    terms = np.where(r > 0, r * np.log(np.where(r > 0, r, 1)), 0)
    np.testing.assert_allclose(seen.entropy, -(w @ terms.sum(1)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ZOO)
def test_the_evidence_is_that_of_the_bound_and_of_the_fit(name: str) -> None:
    fit, y = zoo_fit(name), ZOO[name][1]
    m = ob.bound(fit.model, y).mean()
    seen = survey(fit.model, y)
    assert seen.evidence == pytest.approx(m["evidence"], rel=1e-12)
    assert seen.entropy / seen.total_weight == pytest.approx(m["entropy"], rel=1e-12, abs=1e-15)
    text = Reader(zoo_page(name)).text
    assert f"ln p(y), nats per row{numbers.nats(m['evidence'])}" in text
    assert "not those that it was fitted to" not in text


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, y = zoo_fit("mixed").model, ZOO["mixed"][1]
    whole = survey(model, y)
    monkeypatch.setattr(Mixture, "block_rows", property(lambda _: 7))
    blocked = survey(model, y)
    for name in vars(whole):
        np.testing.assert_allclose(getattr(blocked, name), getattr(whole, name), rtol=1e-10, err_msg=name)


def test_weights_are_replication() -> None:
    model, y = zoo_fit("mixed").model, ZOO["mixed"][1]
    w = np.arange(len(y)) % 3
    weighted, repeated = survey(model, y, w), survey(model, np.repeat(y, w, axis=0))
    for name in ("total_weight", "log_evidence", "entropy", "held", "assigned", "sure", "histogram", "mean", "sd"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("covariance", ["full", "diag", "spherical", "tied"])
def test_the_criteria_are_those_of_scikit_learn_and_of_the_hand_formula(covariance: str) -> None:
    y = TABLE[:, :3] / [6.0, 6.0, 1.0]  # Near enough that the entropy counts.
    y[:, :2] += np.random.default_rng(2).normal(size=(60, 2))
    (fit,) = fits_of(Mixture(Gaussian(2, 3, covariance, floor=0.0)), y, [ob.EM()])
    model, seen = fit.model, survey(fit.model, y)
    n_parameters = {"full": 19, "diag": 13, "spherical": 9, "tied": 13}[covariance]
    c = Criteria.of(model.n_parameters(), seen.log_evidence, seen.entropy, seen.total_weight)
    misfit, n = -2 * float(ob.bound(model, y).evidence.sum()), len(y)
    r = brute_force(model, y)
    assert c.n_parameters == n_parameters
    assert c.aic == pytest.approx(misfit + 2 * n_parameters)
    assert c.bic == pytest.approx(misfit + n_parameters * np.log(n))
    assert c.icl > c.bic + 1
    assert c.icl == pytest.approx(c.bic - 2 * float((r * np.log(np.maximum(r, 1e-300))).sum()))
    peer = _as_scikit_learn(model, covariance, y)
    assert (c.aic, c.bic) == pytest.approx((peer.aic(y), peer.bic(y)), rel=1e-9)


def _as_scikit_learn(model: Mixture, covariance: str, y: np.ndarray) -> GaussianMixture:
    sigma = array(model.emission.covariance)
    of = {"full": sigma, "tied": sigma[0], "diag": np.diagonal(sigma, axis1=1, axis2=2), "spherical": sigma[:, 0, 0]}
    peer = GaussianMixture(2, covariance_type=covariance, init_params="random", random_state=0, max_iter=1000).fit(y)
    peer.weights_, peer.means_, peer.covariances_ = array(model.weights), array(model.emission.mean), of[covariance]
    inverse = {"full": np.linalg.inv, "tied": np.linalg.inv}.get(covariance, np.reciprocal)(of[covariance])
    whole = covariance in ("full", "tied")
    peer.precisions_cholesky_ = np.linalg.cholesky(inverse) if whole else np.sqrt(inverse)
    return peer


def test_the_numbers_are_on_the_page() -> None:
    fit, text = geyser_fits()[0], Reader(geyser_page()).text
    seen = survey(fit.model, geyser_rows())
    c = Criteria.of(fit.model.n_parameters(), seen.log_evidence, seen.entropy, seen.total_weight)
    told = {
        "rows": "68",
        "missing cells": "none",
        "L, nats per row": numbers.nats(fit.bound),
        "gap, nats per row": numbers.gap(fit.gap),
        "passes over the data": numbers.count(fit.trace[-1].passes),
        "why it stopped": WHY[fit.reason],
        "BIC": f"{c.bic:,.2f}",
        "AIC": f"{c.aic:,.2f}",
        "ICL": f"{c.icl:,.2f}",
    }
    for name, value in told.items():
        assert name + value in text, name
    assert "total weight" not in text.split("compared by these")[0]
    assert "lower is better" in text
    assert all(numbers.parameter(v) in text for v in fit.model.emission.mean.flatten().tolist())
    assert " ".join(str(fit.plan).split()) in text


def test_weights_and_gaps_are_counted() -> None:
    fit = zoo_fit("missing cells")
    text = Reader(report_page(fit.model, None, HOLES, columns_of(HOLES), weights=np.full(60, 1.5))).text
    gaps = int(np.isnan(HOLES).sum())
    assert f"missing cells{gaps} of 180" in text
    assert "total weight90" in text
    assert "N = 90 rows" in text


# --- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_model_has_a_report_that_needs_nothing_but_itself(name: str) -> None:
    page = zoo_page(name)
    reader = Reader(page)
    assert len(reader.all("svg")) >= 3 - (name == "one component")
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in reader.tags}
    assert "http" not in page
    assert "nan" not in reader.text
    ids = [str(attributes["id"]) for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_text_that_looks_like_html_is_shown_as_text() -> None:
    fit = copy.deepcopy(geyser_fits()[0])
    fit.model.about = {"model": "<i>&model", "kinds": {NASTY[0]: "<u>real"}}
    reader = Reader(report_page(fit.model, fit, geyser_rows(), NASTY, "</footer>"))
    assert not {"b", "u", "script"} & {tag for tag, _ in reader.tags}
    assert '<b>&"waiting" $x_{: mean' in reader.text
    assert "<i>&model, 2 components" in reader.text


def test_a_saved_models_summary_gives_the_same_page(tmp_path: Path) -> None:
    fit = copy.deepcopy(geyser_fits()[0])
    fit.model.about["fit"] = json.loads(json.dumps(fit.summary()))
    ob.save(fit.model, tmp_path / "m.safetensors")
    again = ob.load(tmp_path / "m.safetensors")
    page = report_page(again, again.about["fit"], geyser_rows(), NAMES, "every fourth eruption")
    assert page == geyser_page()


def test_without_its_data_the_page_says_what_is_left_out() -> None:
    fit = geyser_fits()[0]
    reader = Reader(report_page(fit.model, fit, None, NAMES))
    assert "made without the data" in reader.text
    assert "rows68" in reader.text
    assert "Component 1 holds" in reader.text
    assert "BIC" not in reader.text
    assert len(reader.all("svg")) == 2  # the climb, against passes and against seconds


def test_without_its_climb_the_page_says_so() -> None:
    reader = Reader(report_page(geyser_fits()[0].model, None, geyser_rows(), NAMES))
    assert "is not remembered" in reader.text
    assert "The climb" not in reader.text
    assert "BIC" in reader.text


def test_other_data_than_those_of_the_fit_are_owned_up_to() -> None:
    fit = geyser_fits()[0]
    assert "not those that it was fitted to" in Reader(report_page(fit.model, fit, geyser_rows()[:30], NAMES)).text


def test_restarts_and_repairs_are_told() -> None:
    summary = {**geyser_fits()[0].summary(), "restarts": [-4.2, -4.1, -4.0995], "repairs": ["component 2 was <mended>"]}
    reader = Reader(report_page(geyser_fits()[0].model, summary, None, NAMES))
    assert "3 starts ended between −4.2000 and −4.0995" in reader.text
    assert "2 of them ended within 0.001" in reader.text
    assert "component 2 was <mended>" in reader.text


def test_a_large_table_is_drawn_from_a_sample_and_said_so() -> None:
    y = np.tile(geyser_rows(), (50, 1))
    page = report_page(geyser_fits()[0].model, None, y, NAMES)
    assert "2,000 rows of 3,400, drawn at random." in Reader(page).text
    assert len(page) < 2_000_000


def test_missing_values_in_a_summary_are_dashes() -> None:
    summary = {"algorithm": "EM", "bound": -1.0, "evidence": float("nan"), "trace": [], "restarts": [None, -1.0]}
    text = Reader(report_page(geyser_fits()[0].model, summary, None, NAMES)).text
    assert "ln p(y), nats per row–" in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"names": ["one"]}, "2 columns, got 1"),
        ({"y": np.array([[np.inf, 1.0]])}, "finite numbers"),
        ({"y": np.zeros((3, 5))}, "2 columns, got 5"),
        ({"weights": [1.0]}, "one entry per item"),
        ({"summary": {"algorithm": "EM"}}, r"Fit\.summary\(\)"),
    ],
)
def test_what_does_not_go_together_is_refused_and_leaves_no_file(tmp_path: Path, wrong: dict, complaint: str) -> None:
    fit = geyser_fits()[0]
    given = {"summary": fit, "y": geyser_rows(), "names": NAMES, **wrong}
    with pytest.raises(InputError, match=complaint):
        write_report(tmp_path / "page.html", fit.model, **given)
    assert list(tmp_path.iterdir()) == []


def test_writing_replaces_the_old_page_and_leaves_nothing_else(tmp_path: Path) -> None:
    path, fit = tmp_path / "page.html", geyser_fits()[0]
    path.write_text("old")
    write_report(path, fit.model, fit, geyser_rows(), NAMES, "every fourth eruption")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text(encoding="utf-8") == geyser_page()


# --- the words ---------------------------------------------------------------------------------------------------------


def test_a_component_is_told_by_what_sets_it_apart() -> None:
    fit = geyser_fits()[0]
    order = np.argsort(array(fit.model.emission.mean)[:, 0])
    short, long = (sentences(fit.model, NAMES)[k] for k in order)
    assert "low eruptions (" in short
    assert "low waiting (" in short
    assert "high eruptions (" in long


def test_distances_are_those_of_a_large_sample() -> None:
    model = zoo_fit("mixed").model
    y, z = model.sample(200_000, torch.Generator().manual_seed(0))
    y, z, names = array(y), z.numpy(), columns_of(TABLE)
    told = {d.source: d for d in differences(1, array(model.weights), quantities(model, names))}
    for d in (0, 1, 3, 5):  # Columns whose mean a component can be low or high in.
        distance = (y[z == 1, d].mean() - y[:, d].mean()) / y[:, d].std()
        assert (names[d] in told) == (abs(distance) > NOTICED) or len(told) == 4
        if names[d] in told:
            assert told[names[d]].distance == pytest.approx(distance, abs=0.02)


def test_empty_and_single_components_have_a_sentence() -> None:
    gone = Mixture(Poisson(2, 1)).assign([1.0, 0.0], rate=[[1.0], [2.0]])
    assert sentences(gone, ["eggs"])[0].endswith("near the average in every column.")
    assert "holds no rows" in sentences(gone, ["eggs"])[1]
    assert len(sentences(Mixture(Poisson(1, 1)), ["eggs"])) == 1


def test_codes_of_categories_are_known() -> None:
    assert coded_columns(ZOO["mixed"][0]) == {4}
    assert coded_columns(ZOO["categorical"][0]) == {0, 1}
    assert coded_columns(ZOO["bernoulli"][0]) == set()
