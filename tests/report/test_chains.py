"""The page of a chain: its bands are the path and the probabilities, its numbers per row, its words about states."""

from functools import cache

import numpy as np
import pytest
import torch
from page_reader import Reader

import onebound as ob
from onebound.emissions import Categorical, Gaussian, Poisson
from onebound.models.hmm import HMM
from onebound.report import numbers
from onebound.report.chains import transition_figure
from onebound.report.climbed import climbed
from onebound.report.displays import RestartsDisplay, ScatterDisplay, TraceDisplay
from onebound.report.moves import Moves, moves_of
from onebound.report.notebook import fit_html
from onebound.report.page import comparison_page
from onebound.report.series import ACROSS, first_series, series_figure, telling_columns
from onebound.report.single import report_page
from onebound.report.survey import survey

pytestmark = pytest.mark.xdist_group("report")

LENGTHS = [40, 25, 1, 30]
NAMES = ("signal", "noise")


@cache
def rows() -> np.ndarray:
    """Two columns, of which the first alone knows the state.  (96, 2)"""
    rng = np.random.default_rng(0)
    z = np.concatenate([np.cumsum(rng.random(n) < 0.15) % 2 for n in LENGTHS])
    return np.column_stack([rng.normal(5 * z, 1), rng.normal(size=len(z))])


@cache
def data() -> ob.Observations:
    return ob.Observations.of(rows(), lengths=LENGTHS, weights=[1.0, 2.0, 1.0, 0.5])


@cache
def fitted() -> ob.Fit:
    return ob.fit(HMM(Gaussian(2, 2)), data(), restarts=2, max_iter=30, generator=torch.Generator().manual_seed(0))


@cache
def page() -> str:
    return report_page(fitted().model, fitted(), data(), NAMES)


# --- numbers -------------------------------------------------------------------------------------------------------------


def test_the_survey_counts_rows_with_the_weight_of_their_sequence() -> None:
    model, seen = fitted().model, survey(fitted().model, data())
    w = np.repeat([1.0, 2.0, 1.0, 0.5], LENGTHS)
    r = model.posterior(data()).marginals.unary.detach().numpy()
    np.testing.assert_allclose(seen.held, w @ r)
    assert (seen.n_items, seen.n_rows, seen.total_weight) == (4, 96, pytest.approx(w.sum()))
    mean = ob.bound(model, data()).mean()
    per_item = np.array([1.0, 2.0, 1.0, 0.5]).sum()
    assert seen.evidence == pytest.approx(mean["evidence"] * per_item / w.sum(), rel=1e-12)
    assert seen.entropy == pytest.approx(mean["entropy"] * per_item, rel=1e-10)


def test_a_climb_is_told_per_row_where_the_lengths_are_known() -> None:
    fit, size = fitted(), 40 * 1 + 25 * 2 + 1 + 15
    told = climbed(fit, rows=size / 4.5)
    assert (told.per, climbed(fit).per) == ("row", "sequence")
    assert told.bound == pytest.approx(fit.bound * 4.5 / size)
    assert told.trace[0].bound == pytest.approx(fit.trace[0].bound * 4.5 / size)
    assert told.restarts == pytest.approx([v * 4.5 / size for v in fit.restarts])
    text = Reader(page()).text
    assert f"ln p(y), nats per row{numbers.nats(told.evidence)}" in text
    assert f"ln p(y), nats per sequence{numbers.nats(fit.evidence)}" in text
    assert "not those that it was fitted to" not in text


def test_the_page_speaks_of_states_and_shows_every_part() -> None:
    text = Reader(page()).text
    assert "component" not in text.replace("--component", "").lower()
    for heading in ("The states", "The states over the series", "How it moves between states", "The plan"):
        assert heading in text
    assert "The first 3 of 4 sequences" in text
    assert "State 1 holds" in text


def test_without_data_or_summary_the_page_says_what_it_lacks() -> None:
    text = Reader(report_page(fitted().model, fitted(), None, NAMES)).text
    assert "made without the data" in text
    assert "nats per sequence" in text  # Nobody knows how long they were.
    assert "over the series" not in text
    assert "is not remembered" in Reader(report_page(fitted().model, None, data(), NAMES)).text


def test_a_comparison_of_chains_is_told_per_row() -> None:
    fits = [fitted(), ob.fit(HMM(Gaussian(2, 2)), data(), ob.HardEM(), generator=torch.Generator().manual_seed(0))]
    text = Reader(comparison_page("two climbs", fits, data(), NAMES)).text
    assert "the same 96 rows" in text
    assert "The data and the states" in text
    assert numbers.nats(fits[1].bound * 4.5 / (40 + 50 + 1 + 15)) in text


def test_displays_and_notebooks_name_their_unit() -> None:
    assert TraceDisplay.from_fit(fitted()).figure_.axes[0].get_ylabel() == "nats per sequence"
    assert RestartsDisplay.from_fit(fitted()).figure_.axes[0].get_xlabel() == "objective, nats per sequence"
    assert ScatterDisplay.from_fit(fitted(), data(), names=NAMES).figure_.axes
    assert "nats per sequence" in fit_html(fitted())


# --- the series ----------------------------------------------------------------------------------------------------------


def test_the_bands_are_the_path_and_the_probabilities() -> None:
    model = fitted().model
    shown = first_series(model, data())
    assert [len(one.y) for one in shown] == LENGTHS[:3]
    q = model.posterior(data())
    np.testing.assert_allclose(np.concatenate([one.probability for one in shown]), q.marginals.unary.detach()[:66])
    assert np.concatenate([one.path for one in shown]).tolist() == q.argmax[:66].tolist()
    assert telling_columns(model, shown)[0] == 0
    bands = [axes for axes in series_figure(model, data(), NAMES).axes if axes.get_ylim() == (0.0, 1.0)]
    assert len(bands) == 6


def test_many_rows_share_a_place_and_no_row_is_lost() -> None:
    rng = np.random.default_rng(1)
    y = rng.poisson(2 + 7 * (np.cumsum(rng.random(2_003) < 0.01) % 2))[:, None].astype(float)
    y[5:30] = np.nan
    model = HMM(Poisson(2, 1)).assign([0.5, 0.5], [[0.99, 0.01], [0.01, 0.99]], rate=[[2.0], [9.0]])
    (one,) = first_series(model, y)
    shares = one.bands(one.probability)
    assert len(shares) <= ACROSS
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.diff(one.edges) @ shares, one.probability.sum(axis=0), rtol=1e-10)
    assert (one.edges[0], one.edges[-1]) == (0.5, 2003.5)
    assert "Each place stands for 6 rows" in Reader(report_page(model, None, y, ("eggs",))).text


def test_categories_have_bands_and_no_scale() -> None:
    y = (np.arange(30) // 10 % 2)[:, None].astype(float)
    model = ob.fit(HMM(Categorical(2, [2])), y, max_iter=5, generator=torch.Generator().manual_seed(0)).model
    assert telling_columns(model, first_series(model, y)) == []
    assert len(series_figure(model, y, ("base",)).axes) == 2


# --- the moves -----------------------------------------------------------------------------------------------------------


def test_durations_are_exact_also_where_a_state_is_hardly_left() -> None:
    moves = Moves(np.ones(2) / 2, np.array([[1 - 1e-15, 1e-15], [0.5, 0.5]]), np.ones(2) / 2)
    np.testing.assert_allclose(moves.duration, [1e15, 2.0], rtol=1e-12)
    assert moves_of(ob.models.Mixture(Poisson(2, 1))) is None


@pytest.mark.parametrize("k", [1, 2, 12])
def test_the_transitions_have_a_cell_and_where_there_is_room_a_number_each(k: int) -> None:
    moves = moves_of(HMM(Poisson(k, 1)))
    assert moves is not None
    (axes,) = transition_figure(moves).axes
    assert len(axes.patches) == 2 * k * k
    assert len(axes.texts) == (k * k if k <= 10 else 0)
