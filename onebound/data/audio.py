"""Sound files, and what a recogniser reads of them: logarithms of the energy in mel bands. The extra `audio` reads them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onebound.errors import InputError, whole_number

INSTALL = 'pip install "onebound[audio]"'


def read_audio(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """The samples (n,) of a sound file, in −1 … 1, channels averaged, and how many there are a second.

    wav, flac, ogg, mp3 and what else libsndfile knows. InputError where it cannot be read, or the extra is not installed.
    """
    soundfile = _extra("soundfile")
    try:
        samples, rate = soundfile.read(os.fspath(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = "there is no such file" if not os.path.exists(path) else getattr(error, "error_string", str(error))
        raise InputError(f"{path}: cannot be read as sound: {reason.rstrip('.')}.") from error
    return samples.mean(1), int(rate)


@dataclass(frozen=True)
class LogMel:
    """Samples to frames (T, bands): ln(energy + floor) in mel bands, `window` seconds long, one every `hop` seconds.

    Frame t is centred at t · hop. Samples at another rate are resampled to `rate`. With `level` each band has mean 0 over a
    recording, so that loudness and microphone fall out.

    >>> LogMel(8000)
    LogMel(rate=8000, bands=40, window=0.025, hop=0.01, floor=1e-06, level=True)
    """

    rate: int
    bands: int = 40
    window: float = 0.025
    hop: float = 0.010
    floor: float = 1e-6
    level: bool = True

    def __post_init__(self) -> None:
        whole_number("LogMel", "rate", self.rate)
        whole_number("LogMel", "bands", self.bands)
        if not self.rate * self.hop >= 1 or not self.window >= self.hop:
            raise InputError(
                f"LogMel: window ≥ hop ≥ one sample, got window {self.window:g} s and hop {self.hop:g} s at {self.rate} a "
                "second."
            )

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """(n,) at `rate` → (T, bands) float32, T = 1 + ⌊n / (rate · hop)⌋"""
        librosa = _extra("librosa")
        if rate != self.rate:
            samples = librosa.resample(samples, orig_sr=rate, target_sr=self.rate)
        window, hop = round(self.window * self.rate), round(self.hop * self.rate)
        energy = librosa.feature.melspectrogram(
            y=samples.astype(np.float32),
            sr=self.rate,
            n_fft=1 << (window - 1).bit_length(),
            win_length=window,
            hop_length=hop,
            n_mels=self.bands,
            pad_mode="constant",
        )
        frames = np.log(energy.T + np.float32(self.floor))
        return np.ascontiguousarray(frames - frames.mean(0) if self.level else frames, np.float32)

    def config(self) -> dict[str, Any]:
        """What to build it from."""
        return asdict(self)


def _extra(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"audio: reading sound needs {name}. Install it: {INSTALL}.") from error
