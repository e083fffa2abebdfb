"""Pictures from Python: on axes of their own or on yours, to a file, and in a notebook."""

import copy
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from page_reader import Reader
from small_fits import NAMES, TABLE, ZOO, fits_of, geyser_fits, geyser_rows

import onebound as ob
from onebound.emissions import Gaussian
from onebound.errors import InputError
from onebound.models import Mixture
from onebound.report import (
    ConfidenceDisplay,
    RestartsDisplay,
    ScatterDisplay,
    TraceDisplay,
    confidence_figure,
    numbers,
    pair_figure,
    restarts_figure,
)
from onebound.report.displays import Display
from onebound.report.notebook import fit_html
from onebound.report.survey import survey

pytestmark = pytest.mark.xdist_group("report")

SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml"}


def remembering() -> Mixture:
    fit = copy.deepcopy(geyser_fits()[0])
    fit.model.about["fit"] = fit.summary()
    return fit.model


DISPLAYS = {
    "trace": lambda: TraceDisplay.from_fit(*geyser_fits()),
    "trace of a saved model": lambda: TraceDisplay.from_estimator(remembering(), geyser_rows(), x="seconds"),
    "restarts": lambda: RestartsDisplay.from_fit(geyser_fits()[0]),
    "restarts of a saved model": lambda: RestartsDisplay.from_estimator(remembering()),
    "confidence": lambda: ConfidenceDisplay.from_fit(geyser_fits()[0], geyser_rows()),
    "scatter": lambda: ScatterDisplay.from_fit(geyser_fits()[0], geyser_rows(), names=NAMES),
    "scatter of a model": lambda: ScatterDisplay.from_estimator(geyser_fits()[0].model, geyser_rows()),
}


@pytest.mark.parametrize("name", DISPLAYS)
def test_a_display_has_its_figure_and_draws_on_given_axes(name: str) -> None:
    display: Display = DISPLAYS[name]()
    assert isinstance(display.figure_, Figure)
    axes = Figure().subplots()
    assert display.plot(ax=axes) is display
    assert display.figure_ is axes.figure
    assert axes.has_data()
    assert axes.get_xlabel()


@pytest.mark.parametrize("ending", SIGNATURES)
def test_a_display_is_saved_as_what_its_name_says(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"picture{ending}"
    DISPLAYS["confidence"]().savefig(path)
    assert path.read_bytes().startswith(SIGNATURES[ending])


@pytest.mark.parametrize("target", ["picture.pdfx", "missing/picture.png"])
def test_other_endings_and_missing_folders_are_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(InputError, match=r"must end in \.png or \.svg, in a folder that exists"):
        DISPLAYS["confidence"]().savefig(tmp_path / target)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_forgot_its_fit_is_told_apart() -> None:
    with pytest.raises(InputError, match="does not remember its fit"):
        TraceDisplay.from_estimator(geyser_fits()[0].model)
    with pytest.raises(InputError, match="at least one fit"):
        TraceDisplay.from_fit()


def test_discrete_models_are_drawn_as_profiles() -> None:
    emission, y = ZOO["bernoulli"]
    (fit,) = fits_of(Mixture(copy.deepcopy(emission)), y, [ob.EM()], max_iter=2)
    axes = Figure().subplots()
    ScatterDisplay.from_fit(fit, y, names=["alive"]).plot(ax=axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["alive"]


def test_all_pairs_are_drawn_and_only_of_few_columns() -> None:
    y = TABLE[:, :3]
    (fit,) = fits_of(Mixture(Gaussian(2, 3)), y, [ob.EM()], max_iter=2)
    assert len(pair_figure(fit.model, y, ["a", "b", "c"]).axes) == 6
    display = ScatterDisplay.from_fit(fit, y, pairs=True)
    assert len(display.figure_.axes) == 6
    with pytest.raises(InputError, match="needs a figure of its own"):
        display.plot(ax=Figure().subplots())
    with pytest.raises(InputError, match="3 to 6 Gaussian columns, got 2"):
        pair_figure(geyser_fits()[0].model, geyser_rows(), NAMES)


def test_the_bars_are_the_histogram() -> None:
    seen = survey(geyser_fits()[0].model, geyser_rows())
    (axes,) = confidence_figure(seen).axes
    heights = np.array([bar.get_height() for bar in axes.patches]).reshape(seen.histogram.shape)
    np.testing.assert_allclose(heights * seen.total_weight, seen.histogram)


def test_the_strip_shows_every_start_and_marks_the_best() -> None:
    (axes,) = restarts_figure([-3.0, -1.0, -2.0]).axes
    others, best = (c.get_offsets()[:, 0].tolist() for c in axes.collections)
    assert (others, best) == ([-3.0, -2.0], [-1.0])
    low, high = axes.get_xlim()
    assert low < -3.0 < -1.0 < high
    with pytest.raises(InputError, match="at least one"):
        restarts_figure([])


def test_a_notebook_shows_fit_plan_and_bound() -> None:
    fit = geyser_fits()[0]
    shown = Reader(fit._repr_html_())
    assert f"L, nats per row{numbers.nats(fit.bound)}" in shown.text
    assert len(shown.all("svg")) == 1
    assert all(row["why"] in Reader(fit.plan._repr_html_()).text for row in fit.plan.rows)
    b = ob.bound(fit.model, geyser_rows())
    text = Reader(b._repr_html_()).text
    assert numbers.nats(b.mean()["evidence"]) in text
    assert f"item {int(b.evidence.argmin())}: {numbers.nats(float(b.evidence.min()))}" in text


def test_two_fits_in_one_notebook_share_no_ids() -> None:
    pages = [fit_html(fit) for fit in geyser_fits()[:2]]
    ids = [{a["id"] for _, a in Reader(page).tags if "id" in a} for page in pages]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])
