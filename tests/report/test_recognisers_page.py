"""The page about a recogniser: what it hears, where it finds each label, and the errors it makes as it climbs."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from page_reader import Reader

from onebound.data.recordings import edits, errors

Shell = Callable[..., Result]
WORDS = ("one", "three", "two")


def written(folder: Path, name: str, n: int, seed: int, *, texts: bool = True) -> str:
    """n items whose frames say plainly which word is meant, and the csv that lists them."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        words = rng.integers(0, 3, rng.integers(1, 4))
        parts = [np.zeros((4, 5))]
        for word in words:
            parts += [np.tile(np.eye(5)[word], (12, 1)), np.zeros((4, 5))]
        frames = np.concatenate(parts) + 0.1 * rng.standard_normal((sum(map(len, parts)), 5))
        np.save(folder / f"{name}{i}.npy", frames.astype(np.float32))
        rows.append((f"{name}{i}.npy", " ".join(WORDS[word] for word in words))[: 1 + texts])
    with (folder / f"{name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("audio", "text")[: 1 + texts], *rows])
    return str(folder / f"{name}.csv")


@pytest.fixture
def lists(tmp_path: Path) -> tuple[str, str, str]:
    return (
        written(tmp_path, "train", 24, 0),
        written(tmp_path, "held", 6, 1),
        written(tmp_path, "bare", 4, 2, texts=False),
    )


def test_a_fit_writes_its_page_and_a_saved_model_another(
    shell: Shell, lists: tuple[str, str, str], tmp_path: Path
) -> None:
    train, held, bare = lists
    model, page = str(tmp_path / "m.safetensors"), tmp_path / "fit.html"
    line = [
        "fit",
        "ctc",
        train,
        "--heldout",
        held,
        "--hidden",
        "8",
        "--passes",
        "3",
        "-o",
        model,
        "--report",
        str(page),
    ]
    done = shell(*line)
    assert done.exit_code == 0, done.output
    assert "Wrote" in done.output
    text = page.read_text(encoding="utf-8")
    for part in ("Where it finds the labels", "What it hears", "The climb", "The plan", "label error rate, held out"):
        assert part in text
    assert "after each pass" in text
    assert all(f"held{i}.npy" in text for i in range(6))
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    Reader(text)
    saved = tmp_path / "saved.html"
    assert shell("report", model, held, "-o", str(saved)).exit_code == 0
    assert "Where it finds the labels" in saved.read_text(encoding="utf-8")
    assert shell("report", model, "-o", str(saved)).exit_code == 0
    alone = saved.read_text(encoding="utf-8")
    assert "What it hears" not in alone
    assert "The climb" in alone
    assert shell("report", model, bare, "-o", str(saved)).exit_code == 0
    heard = saved.read_text(encoding="utf-8")
    assert "What it hears" in heard
    assert "Where it finds the labels" not in heard
    wrong = shell("report", model, held, "--label", "x", "-o", str(saved))
    assert wrong.exit_code == 2
    assert "does not take --label" in wrong.output


def test_edits_are_as_many_as_the_distance_and_give_both_sides_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = (rng.integers(0, 3, rng.integers(0, 6)).tolist() for _ in range(2))
        pairs = edits(a, b)
        assert [x for x, _ in pairs if x is not None] == a
        assert [y for _, y in pairs if y is not None] == b
        assert sum(x != y for x, y in pairs) == errors(a, b)
