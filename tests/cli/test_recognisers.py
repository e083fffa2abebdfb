"""Recognisers at the shell: fitted to a list of recordings, stopped and continued, and asked what they hear and where."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from told import Shell, ok, refused

import onebound as ob
from onebound.cli import main

WORDS = ("one", "three", "two")


def written(folder: Path, name: str, n: int, seed: int) -> None:
    """n items whose frames say plainly which word is meant, as npy files, and the csv that lists them."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        words = rng.integers(0, 3, rng.integers(1, 4))
        parts = [np.zeros((4, 5))]
        for word in words:
            parts += [np.tile(np.eye(5)[word], (12, 1)), np.zeros((4, 5))]
        frames = np.concatenate(parts) + 0.1 * rng.standard_normal((sum(map(len, parts)), 5))
        np.save(folder / f"{name}{i}.npy", frames.astype(np.float32))
        rows.append((f"{name}{i}.npy", " ".join(WORDS[word] for word in words)))
    with (folder / f"{name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("audio", "text"), *rows])


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("recordings")
    written(found, "train", 64, 0)
    written(found, "held", 10, 1)
    return found


@pytest.fixture(scope="module")
def model(folder: Path) -> str:
    path = str(folder / "m.safetensors")
    data, held = str(folder / "train.csv"), str(folder / "held.csv")
    fit = [
        "fit",
        "ctc",
        data,
        "--heldout",
        held,
        "--hidden",
        "24",
        "--passes",
        "16",
        "--max-seconds",
        "100",
        "-o",
        path,
    ]
    found = json.loads(ok(CliRunner().invoke(main, [*fit, "--json"])))
    assert found["label_error_rate"] <= 0.05
    assert len(found["label_error_rates"]) == 16
    assert found["label_error_rates"][-1] <= found["label_error_rates"][0]
    assert found["gap"] == 0
    return path


def test_what_the_shell_says_is_what_the_model_says(shell: Shell, folder: Path, model: str) -> None:
    data = str(folder / "held.csv")
    loaded = ob.load(model)
    assert loaded.symbols == ("<blank>", *WORDS)
    frames = [torch.from_numpy(np.load(folder / f"held{i}.npy")) for i in range(10)]
    rows = table(ok(shell("decode", model, data, "--beam", "6")))
    for row, best in zip(rows, loaded.decode(frames, beam=6), strict=True):
        assert row["text"] == " ".join(loaded.symbols[k] for k in best[0].labels.tolist())
        assert float(row["log_prob"]) == pytest.approx(best[0].log_prob, rel=1e-12)
    told = json.loads(ok(shell("score", model, data, "--json")))
    labels = [
        [loaded.symbols.index(word) for word in row["text"].split()] for row in table((folder / "held.csv").read_text())
    ]
    pairs = ob.Observations.paired(labels, frames)
    assert told["log_prob"] == pytest.approx(float(loaded.evidence(pairs).detach().double().mean()), rel=1e-6)
    assert told["labels"] == sum(map(len, labels))
    assert "label error rate" in ok(shell("score", model, data))
    shown = ok(shell("show", model))
    assert "3 words: one three two" in shown
    assert "64 recordings of train.csv" in shown
    assert json.loads(ok(shell("show", model, "--json")))["symbols"] == list(loaded.symbols)


def test_alignments_are_written_as_ctm_and_json(shell: Shell, folder: Path, model: str, tmp_path: Path) -> None:
    data = str(folder / "held.csv")
    ok(shell("align", model, data, "-o", str(tmp_path / "a.json")))
    spans = json.loads((tmp_path / "a.json").read_text())
    lines = ok(shell("align", model, data)).splitlines()
    assert len(spans) == len(lines)
    said = {row["audio"]: row["text"].split() for row in table((folder / "held.csv").read_text())}
    for file, words in said.items():
        own = [span for span in spans if span["recording"] == file]
        assert [span["label"] for span in own] == words
        for i, span in enumerate(own):  # a word is 12 frames, after 4 of nothing; the network has one of 4
            assert 4 + 16 * i - 4 <= span["start"] <= 4 + 16 * i + 12
            assert 0 <= span["confidence"] <= 1
    for line, span in zip(lines, spans, strict=True):
        recording, channel, start, duration, label, confidence = line.split()
        assert (recording, channel, label) == (Path(span["recording"]).stem, "1", span["label"])
        assert float(start) == pytest.approx(span["start"], abs=1e-3)
        assert float(duration) == pytest.approx(span["duration"], abs=1e-3)
        assert float(confidence) == pytest.approx(span["confidence"], abs=1e-4)


def test_a_checkpoint_goes_on_to_the_same_bits(shell: Shell, folder: Path, tmp_path: Path) -> None:
    data, whole, part = (
        str(folder / "train.csv"),
        str(tmp_path / "whole.safetensors"),
        str(tmp_path / "part.safetensors"),
    )
    state = str(tmp_path / "state")
    fit = ["fit", "ctc", data, "--hidden", "8", "--batch-size", "16"]
    ok(shell(*fit, "--passes", "3", "-o", whole))
    ok(shell(*fit, "--passes", "2", "--checkpoint", state, "--every", "0s"))
    ok(shell("continue", state, data, "--passes", "3", "-o", part))
    a, b = ob.load(whole).state_dict(), ob.load(part).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a.keys() | b.keys())
    again = str(tmp_path / "again.safetensors")
    ok(shell("continue", part, data, "--passes", "1", "-o", again))
    assert ob.load(again).symbols == ("<blank>", *WORDS)


def test_a_config_may_name_the_data_too(shell: Shell, folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "fit.toml"
    lines = [f'data = "{folder / "train.csv"}"', "hidden = 6", "passes = 1", f'output = "{tmp_path / "c.safetensors"}"']
    config.write_text("\n".join(lines))
    ok(shell("fit", "ctc", "--config", str(config)))
    assert ob.load(tmp_path / "c.safetensors").config()["network"]["hidden"] == 6


def test_letters_are_labels_too_and_texts_too_long_for_their_sound_are_refused_at_once(
    shell: Shell, folder: Path, tmp_path: Path
) -> None:
    rows = table((folder / "train.csv").read_text())
    lines = [f"{row['audio']},{''.join(word[:2] for word in row['text'].split())}" for row in rows]
    (folder / "letters.csv").write_text("\n".join(["audio,text", *lines]))
    fit = ["--units", "letters", "--passes", "1", "-o", str(tmp_path / "l")]
    ok(shell("fit", "ctc", str(folder / "letters.csv"), *fit))
    assert ob.load(tmp_path / "l").symbols == ("<blank>", *"hnotw")
    line = refused(shell("fit", "ctc", str(folder / "train.csv"), *fit))
    assert "recordings are too short for their text" in line
    assert "npy: 1" in line


def test_wrong_lines_about_recordings(shell: Shell, folder: Path, model: str, faithful: str, tmp_path: Path) -> None:
    train, held = str(folder / "train.csv"), str(folder / "held.csv")
    (folder / "other.csv").write_text("audio,text\nheld0.npy,four one\n")
    (folder / "bare.csv").write_text("audio\nheld0.npy\n")
    (folder / "lost.csv").write_text("audio,text\nnone.npy,one\n")
    (folder / "long.csv").write_text("audio,text\nheld0.npy," + "one " * 90 + "\n")
    for line, what in (
        (["fit", "ctc", train, "--states", "3"], "ctc does not take"),
        (["fit", "ctc", train, "--report", "no/such/r.html"], "no/such"),
        (["fit", "ctc", train, "--algorithm", "em"], "no closed form"),
        (["fit", "ctc", train, "--hidden", "3,4"], "one number, got 2"),
        (["fit", "ctc", str(folder / "none.csv")], "none.csv: cannot be read"),
        (["fit", "ctc", faithful], "no column 'audio'"),
        (["fit", "ctc", str(folder / "lost.csv")], "none.npy"),
        (["fit", "ctc", str(folder / "bare.csv")], "no column 'text'"),
        (["fit", "gaussian-mixture", faithful, "--heldout", held], "does not take --heldout"),
        (["score", model, str(folder / "other.csv")], "'four'"),
        (["score", model, held, "--bits"], "does not take --bits"),
        (["score", model, str(folder / "long.csv")], "90 labels and 89 blanks"),
        (["decode", model, held, "--lengths", "3"], "does not take --lengths"),
        (["align", model, held, "-o", str(tmp_path / "x.txt")], ".ctm or .json"),
        (["align", model, str(folder / "bare.csv")], "no column 'text'"),
        (["predict", model, held], "fit, show, score, decode, align and report take it"),
        (["sample", model], "fit, show, score, decode, align and report take it"),
        (["report", model, held, "--label", "x"], "does not take --label"),
        (["compare", "ctc", held], "fit, show, score, decode, align and report take it"),
        (["plan", "ctc"], "fit, show, score, decode, align and report take it"),
        (["continue", model, train, "--algorithm", "em"], "does not take --algorithm"),
    ):
        assert what in refused(shell(*line)), line
    table_model = str(tmp_path / "g.safetensors")
    ok(shell("fit", "gaussian-mixture", faithful, "--max-iter", "2", "-o", table_model))
    assert "is no recogniser" in refused(shell("align", table_model, held))
    assert "does not take --beam" in refused(shell("decode", table_model, faithful, "--beam", "3"))
