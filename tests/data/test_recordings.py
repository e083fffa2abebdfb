"""Recordings: sound to frames, lists of files with texts, and the error rate of labels."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from onebound.data.audio import LogMel, read_audio
from onebound.data.recordings import Alphabet, errors, first_rate, read_recordings
from onebound.errors import InputError

RATE = 8000


def tone(hertz: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def test_frames_are_log_energies_in_mel_bands() -> None:
    features = LogMel(RATE, level=False)
    low, high = features(tone(300), RATE), features(tone(2500), RATE)
    assert low.shape == (1 + 4000 // 80, 40)
    assert low.dtype == np.float32
    middle = slice(5, -5)  # the edges hear the silence before and after
    assert low[middle].argmax(1).max() < high[middle].argmax(1).min()
    louder = features(2 * tone(300), RATE)
    loud = low[middle] > 0  # far above the floor
    assert loud.any()
    np.testing.assert_allclose((louder - low)[middle][loud], 2 * np.log(2), rtol=1e-4)
    levelled = LogMel(RATE)(tone(300), RATE)
    np.testing.assert_allclose(levelled, low - low.mean(0), atol=1e-4)
    again = features(tone(300, rate=2 * RATE), 2 * RATE)
    assert again.shape == low.shape
    assert (again[middle].argmax(1) == low[middle].argmax(1)).all()


def test_sounds_are_read_with_channels_averaged_and_lists_from_their_own_folder(tmp_path: Path) -> None:
    samples = np.round(32767 * tone(440)).astype(np.int16)
    wavfile.write(tmp_path / "a.wav", RATE, samples)
    wavfile.write(tmp_path / "b.wav", RATE, np.stack([samples, -samples], 1))
    mono, rate = read_audio(tmp_path / "a.wav")
    assert rate == RATE
    np.testing.assert_allclose(mono, samples / 32768, atol=1e-6)
    assert np.abs(read_audio(tmp_path / "b.wav")[0]).max() < 1e-4
    (tmp_path / "list.csv").write_text("audio,text\na.wav,one two\nb.wav,two\n")
    found = read_recordings(tmp_path / "list.csv")
    assert found.files == ("a.wav", "b.wav")
    assert found.texts == ("one two", "two")
    np.testing.assert_array_equal(found.frames[0], LogMel(RATE)(mono, RATE))
    assert first_rate(tmp_path / "list.csv") == RATE
    alphabet = Alphabet.of(found.texts, "words")
    obs = found.observations(alphabet)
    assert obs.y[:, 0].tolist() == [1, 2, 2]
    assert obs.context_lengths.tolist() == [51, 51]
    assert Alphabet.of(["ab", "b"], "letters").labels("ba") == [2, 1]


def test_edits_are_counted_as_brute_force_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = (tuple(rng.integers(0, 3, rng.integers(0, 6)).tolist()) for _ in range(2))

        @cache
        def distance(i: int, j: int, a: tuple[int, ...] = a, b: tuple[int, ...] = b) -> int:
            if i == 0 or j == 0:
                return i + j
            change = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
            return min(change, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

        assert errors(a, b) == distance(len(a), len(b))


def test_bad_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "five.npy", np.zeros((4, 5)))
    np.save(tmp_path / "six.npy", np.zeros((4, 6)))
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    (tmp_path / "noise.wav").write_text("no sound")
    for text, what in (
        ("audio,text\n", "no row"),
        ("sound,text\na.wav,one\n", "no column 'audio'"),
        ("audio,texts\na.wav,one\n", "did you mean texts"),
        ("audio,text\n,one\n", "row 1 has no audio"),
        ("audio,text\nnone.wav,one\n", "none.wav: cannot be read as sound: there is no such file"),
        ("audio,text\nnoise.wav,one\n", "noise.wav: cannot be read as sound"),
        ("audio,text\nnone.npy,one\n", "none.npy: cannot be read"),
        ("audio,text\nflat.npy,one\n", r"expected frames \(T, F\)"),
        ("audio,text\nobjects.npy,one\n", "objects.npy: cannot be read"),
        ("audio,text\nfive.npy,one\nsix.npy,one\n", r"same width, got \[5, 6\]"),
    ):
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(InputError, match=f"(?i){what}"):
            read_recordings(tmp_path / "list.csv")
    with pytest.raises(InputError, match="cannot be read as csv"):
        read_recordings(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"a\.wav: the text has 'four'"):
        Alphabet.of(["one"], "words").labels("one four", "a.wav")
    with pytest.raises(InputError, match="Did you mean words"):
        Alphabet.of(["one"], "wards")
    with pytest.raises(InputError, match="window ≥ hop"):
        LogMel(RATE, window=0.005)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(InputError, match=r'pip install "onebound\[audio\]"'):
        read_audio(tmp_path / "noise.wav")
