"""Nasty tables, thousands of them: every fit ends finite, and what was mended on the way is recorded.

`make fuzz` tries many more than `make test` does, and keeps the counts beside scikit-learn's in benchmarks/fuzz.md.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import sklearn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture as Peer

from onebound.estimators import GaussianMixture

CASES = int(os.environ.get("ONEBOUND_FUZZ", "150"))
PAGE = Path(__file__).parents[2] / "benchmarks" / "fuzz.md"
FORMS = ("full", "tied", "diag", "spherical")


@dataclass
class Tally:
    """What happened to the tables, in numbers of cases."""

    cases: int = 0
    with_gaps: int = 0
    mended: int = 0
    most_repairs: int = 0
    beside: int = 0  # what the peer was given too
    ours: Counter[str] = field(default_factory=Counter)
    peers: Counter[str] = field(default_factory=Counter)
    nasty: Counter[str] = field(default_factory=Counter)


@dataclass
class Table:
    """A table, what is nasty about it, and what is asked of it."""

    X: np.ndarray
    n_components: int
    form: str
    nasty: tuple[str, ...]


NASTY = (
    "duplicated rows",
    "constant column",
    "columns from 1e-8 to 1e8",
    "an outlier at 1e12",
    "hardly more rows than components",
    "two columns the same",
    "float32",
    "missing cells",
    "far from 0",
    "a component in one point",
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Rows around some centres, spoilt in up to two ways at once."""
    g = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k, d = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    nasty = draw(st.lists(st.sampled_from(NASTY), max_size=2, unique=True))
    n = k + draw(st.integers(1, 3)) if "hardly more rows than components" in nasty else int(g.integers(20, 300))
    X = g.normal(size=(n, d)) + g.normal(scale=g.uniform(0, 8), size=(k, d))[g.integers(0, k, n)]
    if "duplicated rows" in nasty:
        X = X[g.integers(0, max(1, n // 4), n)]
    if "a component in one point" in nasty:
        X[: max(1, n // 3)] = X[0] + 20.0
    if "two columns the same" in nasty and d > 1:
        X[:, 1] = X[:, 0]
    if "constant column" in nasty:
        X[:, -1] = draw(st.sampled_from([0.0, 1.0, -3e5, 0.1]))
    if "columns from 1e-8 to 1e8" in nasty:
        X = X * np.logspace(-8, 8, d)
    if "far from 0" in nasty:
        X = X + 1e6
    if "an outlier at 1e12" in nasty:
        X[g.integers(0, n), g.integers(0, d)] = 1e12
    if "float32" in nasty:
        X = X.astype(np.float32)
    if "missing cells" in nasty:
        hidden = g.random(X.shape) < 0.2
        hidden[g.integers(0, n, d), range(d)] = False
        X = np.where(hidden, np.nan, X).astype(X.dtype)
    return Table(X, k, draw(st.sampled_from(FORMS)), tuple(nasty))


def finite(estimator: GaussianMixture | Peer) -> bool:
    values = (estimator.weights_, estimator.means_, estimator.covariances_, estimator.lower_bound_)
    return all(bool(np.isfinite(v).all()) for v in values)


def outcome(estimator: GaussianMixture | Peer, X: np.ndarray) -> str:
    """Finite or not, or the first words of what was raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            estimator.fit(X)
            return "finite" if finite(estimator) and np.isfinite(estimator.predict_proba(X)).all() else "not finite"
        except Exception as error:
            return f"{type(error).__name__}: {str(error).split(' (')[0].split('. ')[0]}"


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    counts = Tally()
    yield counts
    assert counts.mended <= 0.2 * counts.cases, f"{counts.mended} of {counts.cases} fits had repairs"
    if "ONEBOUND_FUZZ" in os.environ:
        PAGE.write_text(page(counts))


def page(t: Tally) -> str:
    lines = [
        "# Nasty tables",
        "",
        f"Written by `make fuzz` as it came out: {t.cases:,} tables from hypothesis, beside scikit-learn "
        f"{sklearn.__version__} with the same arguments. 1 to 4 components, 1 to 5 columns, 20 to 299 rows, up to two of the "
        "nasty things at once. A repair is a component that was empty, collapsed, or clipped, told in `repairs_`.",
        "",
        "| | onebound | scikit-learn |",
        "|---|---:|---:|",
        f"| tables | {t.cases:,} | {t.beside:,} (the others have missing cells) |",
        f"| fits that did not end finite | {t.cases - t.ours['finite']:,} | {t.beside - t.peers['finite']:,} |",
        f"| fits with repairs | {t.mended:,} ({100 * t.mended / max(t.cases, 1):.1f} %) | not told |",
        f"| most repairs in a fit | {t.most_repairs} | not told |",
        "",
        "How scikit-learn's other fits ended:",
        "",
        *(f"- {n:,} × {what}" for what, n in t.peers.most_common() if what != "finite"),
        "",
        "How often each thing came up: " + ", ".join(f"{what} {n:,}" for what, n in t.nasty.most_common()) + ".",
        "",
    ]
    return "\n".join(lines)


@settings(
    max_examples=CASES,
    deadline=None,
    derandomize="ONEBOUND_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(table=tables())
def test_every_table_ends_in_a_finite_fit(table: Table, tally: Tally) -> None:
    options = {"covariance_type": table.form, "random_state": 0, "max_iter": 60}
    gaps = bool(np.isnan(table.X).any())
    estimator = GaussianMixture(table.n_components, missing="marginalize" if gaps else "error", **options)
    ended = outcome(estimator, table.X)
    tally.cases += 1
    tally.ours[ended] += 1
    tally.nasty.update(table.nasty)
    tally.with_gaps += gaps
    if not gaps:
        tally.beside += 1
        tally.peers[outcome(Peer(table.n_components, **options), table.X)] += 1
    assert ended == "finite"
    repairs = [text for text in estimator.repairs_ if "L fell at the M step" not in text]
    tally.mended += bool(repairs)
    tally.most_repairs = max(tally.most_repairs, len(repairs))
    assert len(repairs) <= table.n_components + 2, repairs
    if not estimator.repairs_:
        bounds = np.array(estimator.lower_bounds_)
        rounding = max(1e-10, estimator.model_.rounding)  # more where a variance is nearly nothing beside its column's
        scale = 1 + np.abs(estimator.score_samples(table.X)).mean()
        assert (np.diff(bounds) >= -rounding * scale).all()
