"""The pictures: they show what the trace says, and leave matplotlib as they found it."""

import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from small_fits import NAMES, TABLE, ZOO, fits_of, geyser_fits, geyser_rows

import onebound as ob
from onebound.emissions import Gaussian
from onebound.models import Mixture
from onebound.report import profile_figure, scatter_figure, trace_figure
from onebound.report.parameters import array, quantities
from onebound.report.pictures import most_different, most_telling
from onebound.report.style import ALGORITHMS, COMPONENTS, VARIABLES, colours
from onebound.report.svg import inline_svg
from onebound.report.traces import NEAREST

pytestmark = pytest.mark.xdist_group("report")


@pytest.fixture
def geyser() -> np.ndarray:
    return geyser_rows()


@pytest.fixture
def fits() -> list[ob.Fit]:
    return geyser_fits()


def upper(figure: Figure) -> dict[str, list[np.ndarray]]:
    """The upper panel's lines by colour: evidence, then L, then the mark at L's end."""
    lines: dict[str, list[np.ndarray]] = {}
    for line in figure.axes[0].lines:
        lines.setdefault(line.get_color(), []).append(line.get_xydata())
    return lines


def stand_in(bounds: list[float]) -> SimpleNamespace:
    """A fit with a trace of our own making: L = ln p(y), one E record an iteration."""
    records = [
        SimpleNamespace(iteration=i, after="E", passes=i + 1.0, seconds=0.1 * i, bound=b, evidence=b, gap=0.0)
        for i, b in enumerate(bounds)
    ]
    return SimpleNamespace(algorithm="EM", trace=records, bound=bounds[-1], evidence=bounds[-1])


@pytest.mark.parametrize("x", ["passes", "seconds"])
def test_the_lines_are_the_trace(fits: list[ob.Fit], x: str) -> None:
    lines = upper(trace_figure(fits, x))
    for fit in fits:
        records = [r for r in fit.trace if r.bound is not None]
        evidence, bound, _ = lines[ALGORITHMS[fit.algorithm]]
        np.testing.assert_array_equal(bound, [[getattr(r, x), r.bound] for r in records])
        known = [r for r in records if r.evidence is not None]
        np.testing.assert_array_equal(evidence, [[getattr(r, x), r.evidence] for r in known])


def test_every_end_is_in_sight_and_a_terrible_start_does_not_flatten_it() -> None:
    climb = [-1e6, -1e3, -50.0, *np.linspace(-5.0, -4.0, 40)]
    figure = trace_figure([stand_in(climb), stand_in([-4.2] * 30)])
    low, high = figure.axes[0].get_ylim()
    assert low < -4.2
    assert -4.0 < high < -3.8
    assert low > -10
    assert max(figure.axes[1].get_ylim()) >= 1e6 - 10  # below, on the log axis, the start shows
    assert min(figure.axes[1].get_ylim()) == NEAREST


def test_a_long_trace_is_thinned_but_keeps_both_ends() -> None:
    long = upper(trace_figure([stand_in(list(-1.0 / np.arange(1, 20001)))]))[ALGORITHMS["EM"]][1]
    assert len(long) < 400
    assert long[0, 0] == 1
    assert long[-1, 0] == 20000


def test_records_without_a_value_are_left_out() -> None:
    fit = stand_in([-3.0, -2.0, -1.0])
    fit.trace[1].bound = fit.trace[0].evidence = None
    evidence, bound, _ = upper(trace_figure([fit]))[ALGORITHMS["EM"]]
    assert bound[:, 1].tolist() == [-3.0, -1.0]
    assert evidence[:, 1].tolist() == [-1.0]


def test_points_are_coloured_by_responsibility_and_ellipses_are_the_covariances(
    fits: list[ob.Fit], geyser: np.ndarray
) -> None:
    model = fits[0].model
    (axes,) = scatter_figure(model, geyser, NAMES).axes
    clouds = [c for c in axes.collections if isinstance(c, PathCollection)]
    r = array(model.posterior(geyser).marginals)
    assert [len(c.get_offsets()) for c in clouds] == [int((r[:, k] > 0.02).sum()) for k in range(2)]
    ellipses = [p for p in axes.patches if isinstance(p, Ellipse)]
    for k, (one, two) in enumerate(zip(ellipses[::2], ellipses[1::2], strict=True)):
        angle = np.radians(one.angle)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        rebuilt = turn @ np.diag([one.width**2, one.height**2]) @ turn.T / 4
        np.testing.assert_allclose(rebuilt, array(model.emission.covariance)[k], rtol=1e-9)
        assert two.width == 2 * one.width
    assert (axes.get_xlabel(), axes.get_ylabel()) == NAMES


def test_of_many_columns_the_two_that_tell_components_apart_are_shown() -> None:
    mean = np.array([[0.0, 0.0, 0.0, 9.0], [0.1, 5.0, 0.0, -9.0]])
    covariance = np.stack([np.diag([1.0, 1.0, 1.0, 2.0])] * 2)
    assert most_different(mean, covariance, np.array([0.5, 0.5])) == (1, 3)
    (fit,) = fits_of(Mixture(Gaussian(2, 3)), TABLE[:, :3], [ob.EM()])
    (axes,) = scatter_figure(fit.model, TABLE[:, :3], ["a", "b", "noise"]).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "b")


def test_a_large_table_is_drawn_from_a_sample() -> None:
    y = np.tile(geyser_rows(), (100, 1))
    (fit,) = fits_of(Mixture(Gaussian(1, 2)), y, [ob.EM()], max_iter=1)
    (axes,) = scatter_figure(fit.model, y, NAMES).axes
    assert len(axes.collections[0].get_offsets()) == 2000


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "poisson", "mixed without Gaussian"])
def test_a_discrete_model_is_shown_as_profiles(name: str) -> None:
    emission, y = ZOO[name]
    (fit,) = fits_of(Mixture(emission), y, [ob.EM()], max_iter=3)
    names = [f"c{d}" for d in range(y.shape[1])]
    (axes,) = profile_figure(fit.model, names).axes
    rows = quantities(fit.model, names)
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.column for row in rows]
    assert len(axes.patches) == 2 * 2 * len(rows)  # a frame and a bar a cell, two components


def test_categories_have_their_own_names() -> None:
    emission, y = ZOO["categorical"]
    (fit,) = fits_of(Mixture(emission), y, [ob.EM()], max_iter=3)
    fit.model.about["categories"] = {"mood": ["bad", "fair", "good"]}
    rows = quantities(fit.model, ["mood", "answer"])
    assert [row.column for row in rows] == ["mood = bad", "mood = fair", "mood = good", "answer = 0", "answer = 1"]
    np.testing.assert_allclose(sum(row.values for row in rows[:3]), 1.0)
    assert [row.column for row in most_telling(rows, 2)] != []


def test_matplotlib_is_left_as_it_was(fits: list[ob.Fit], geyser: np.ndarray) -> None:
    theirs = {"font.size": 23.0, "svg.fonttype": "path", "legend.fontsize": 20.0, "lines.markeredgewidth": 5.0}
    with matplotlib.rc_context(theirs):
        before = dict(matplotlib.rcParams)
        pictures = [trace_figure(fits), scatter_figure(fits[0].model, geyser, NAMES)]
        drawn = [inline_svg(p, "a picture", "p") for p in pictures]
        assert dict(matplotlib.rcParams) == before
    assert Gcf.figs == {}
    # And the user's settings do not get into the page.
    assert drawn == [
        inline_svg(p, "a picture", "p") for p in [trace_figure(fits), scatter_figure(fits[0].model, geyser, NAMES)]
    ]


def test_no_colour_means_two_things() -> None:
    assert set(ALGORITHMS.values()).isdisjoint(COMPONENTS)
    assert len({name for name, _ in VARIABLES.values()}) == len(VARIABLES)
    assert colours(["EM", "home-made"])["EM"] == colours(["EM"])["EM"]
    assert len(set(colours([*ALGORITHMS, "a", "b", "c"]).values())) == len(ALGORITHMS) + 3


def test_numbers_can_be_printed_without_matplotlib_and_pictures_drawn_without_pyplot() -> None:
    light = "import sys; from onebound.report import numbers; assert not {'matplotlib', 'torch'} & set(sys.modules)"
    heavy = "from onebound.report import write_comparison; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", f"{light}; {heavy}"], check=True)
