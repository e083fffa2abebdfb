"""The page: valid, self-contained, honest about the fits, whole or not there."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from page_reader import Reader
from small_fits import NAMES, ZOO, fits_of, geyser_fits, geyser_rows

import onebound as ob
from onebound.errors import InputError
from onebound.models import Mixture
from onebound.report import numbers, write_comparison
from onebound.report.markup import write_whole
from onebound.report.page import best_fit, comparison_page, passes_until_near
from onebound.report.sections import WHY
from onebound.report.style import VARIABLES
from onebound.report.traces import labels

# One worker draws everything: importing torch and matplotlib twice would cost more than it saves.
pytestmark = pytest.mark.xdist_group("report")


@pytest.fixture
def geyser() -> np.ndarray:
    return geyser_rows()


@pytest.fixture
def fits() -> list[ob.Fit]:
    return geyser_fits()


@pytest.fixture(scope="module")
def page() -> str:
    return comparison_page("Old Faithful", geyser_fits(), geyser_rows(), NAMES, "every fourth eruption")


def test_tags_balance_and_the_head_says_what_a_browser_needs(page: str) -> None:
    reader = Reader(page)
    assert page.startswith("<!DOCTYPE html>")
    assert reader.all("html") == [{"lang": "en"}]
    assert "width=device-width" in str(reader.all("meta"))
    assert len(reader.all("title")) == len(reader.all("h1")) == 1


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    reader = Reader(page)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in reader.tags}
    assert "http" not in page
    assert "@import" not in page
    links = [value for _, attributes in reader.tags for key, value in attributes.items() if key.endswith("href")]
    assert all(link and link.startswith("#") for link in links)


def test_ids_are_unique_and_every_reference_finds_one(page: str) -> None:
    ids = [str(attributes["id"]) for _, attributes in Reader(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)}
    assert used
    assert used <= set(ids)


def test_every_colour_is_a_variable_with_a_light_and_a_dark_value(page: str) -> None:
    style, body = page.split("</style>")
    assert not re.search(r"#[0-9a-f]{6}\b(?=[;\"])", body)
    used = set(re.findall(r"var\((--[\w-]+)\)", body))
    assert used <= {name for name, _ in VARIABLES.values()}
    assert all(len(re.findall(rf"{name}: #", style)) == 2 for name in used)


def test_pictures_have_a_text_for_those_who_cannot_see_them(page: str) -> None:
    pictures = Reader(page).all("svg")
    assert pictures
    assert all(p["role"] == "img" and p["aria-label"] and p["viewbox"] and "width" not in p for p in pictures)
    assert len(Reader(page).all("figure")) == len(Reader(page).all("figcaption")) == len(pictures)


def test_the_numbers_of_the_fits_are_on_the_page(page: str, fits: list[ob.Fit]) -> None:
    text = Reader(page).text
    for fit in fits:
        row = [numbers.nats(fit.bound), numbers.nats(fit.evidence), numbers.gap(fit.gap)]
        row += [numbers.count(fit.trace[-1].passes), numbers.seconds(fit.seconds), WHY[fit.reason]]
        assert fit.algorithm + "".join(row) in text  # the cells of one row of the table, side by side
        assert " ".join(str(fit.plan).split()) in text
    assert "nats per row" in text
    best = fits[best_fit(fits)]
    assert all(numbers.parameter(v) in text for v in best.model.emission.mean.flatten().tolist())


def test_text_that_looks_like_html_is_shown_as_text(fits: list[ob.Fit], geyser: np.ndarray) -> None:
    nasty = ('<b>&"waiting" $x_{', "</svg><script>alert(1)</script>")
    reader = Reader(comparison_page("<i>&title", fits[:1], geyser, nasty, "</footer>"))
    assert not {"b", "script"} & {tag for tag, _ in reader.tags}
    assert '<b>&"waiting" $x_{: mean' in reader.text
    assert "<i>&title" in reader.text


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_model_has_a_page(name: str) -> None:
    emission, y = ZOO[name]
    names = [f"column {d}" for d in range(y.shape[1])]
    fits = fits_of(Mixture(emission), y, [ob.EM()], max_iter=3)
    reader = Reader(comparison_page(name, fits, y, names))
    assert len(reader.all("svg")) >= 3
    assert all(column in reader.text for column in names)


def test_the_same_fits_give_the_same_page(fits: list[ob.Fit], geyser: np.ndarray) -> None:
    first, second = (comparison_page("Old Faithful", fits[:1], geyser, NAMES) for _ in range(2))
    assert first == second


def test_the_best_is_the_highest_evidence_and_of_equals_the_fewest_passes(fits: list[ob.Fit]) -> None:
    chosen = fits[best_fit(fits)]
    assert chosen.evidence >= max(fit.evidence for fit in fits) - 1e-6
    assert best_fit([fits[1], fits[0], fits[0]]) in (0, 1)
    assert passes_until_near(fits[0], fits[0].bound) <= fits[0].trace[-1].passes
    assert passes_until_near(fits[0], fits[0].bound + 1.0) is None


def test_two_fits_of_one_algorithm_have_two_names(fits: list[ob.Fit]) -> None:
    assert labels([fits[0], fits[1], fits[0]]) == ["EM", "EG", "EM 2"]


def test_writing_replaces_the_old_page_and_leaves_nothing_else(
    tmp_path: Path, fits: list[ob.Fit], geyser: np.ndarray
) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    write_comparison(path, "new", fits[:1], geyser, NAMES)
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert "<h1>new</h1>" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["missing/page.html", "folder"])
def test_an_unwritable_path_is_one_clear_line_and_no_file(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"folder that can be written, got .*Choose another path") as error:
        write_whole(tmp_path / target, "text")
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder"]


def test_a_disk_that_fills_up_keeps_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_whole(path, "text")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("page.html", "old")]


def test_nothing_to_compare_is_said(tmp_path: Path, geyser: np.ndarray) -> None:
    with pytest.raises(InputError, match="at least one fit"):
        write_comparison(tmp_path / "page.html", "t", [], geyser, NAMES)
