"""An HMM below a VAE on spoken digits: log-mel frames that follow each other, beside plain HMMs.

`python examples/vae_speech.py fsdd_5speakers.tar.gz index.csv` (Free Spoken Digit Dataset,
github.com/Jakobovski/free-spoken-digit-dataset: recordings/{digit}_{speaker}_{take}.wav at 8 kHz; the index has the columns
file, digit, take, and split, in which takes 0 to 4 are the test part).

Held-out nats per frame, with as many states everywhere: a Gaussian HMM and one of mixtures (exact), an HMM-VAE (IWAE, a lower
bound, of whole recordings), and a VAE of the same networks whose frames are independent; and the mutual information of a
frame's state and its digit.
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import wavfile

import onebound as ob
from onebound.emissions import Gaussian, MixtureOf
from onebound.models import HMM, DeepGaussian

RATE, WINDOW, HOP, BINS = 8000, 200, 80, 256
# Added to the energy of a band before its logarithm, of samples in −1 … 1: a recording's noise lies above it.
FLOOR = 1e-6


def seeded(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def mel_filters(bands: int) -> np.ndarray:
    """Triangles, equally wide in mel, from 0 to half the rate.  (bands, BINS / 2 + 1)"""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    at = np.arange(BINS // 2 + 1) * RATE / BINS
    rise = (at - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - at) / (corners[2:] - corners[1:-1])[:, None]
    return np.maximum(0, np.minimum(rise, fall))


def log_mel(samples: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """ln of the energy in each band, in windows of 25 ms every 10 ms.  (frames, bands)"""
    x = np.pad(samples, (0, max(0, WINDOW - len(samples)))) / 32768
    frames = np.lib.stride_tricks.sliding_window_view(x, WINDOW)[::HOP] * np.hamming(WINDOW)
    power = np.abs(np.fft.rfft(frames, BINS)) ** 2
    return np.log(power @ filters.T + FLOOR).astype(np.float32)


def recordings(archive: str, rows: Iterable[dict[str, str]], bands: int) -> tuple[ob.Observations, np.ndarray]:
    """Recordings as sequences of frames, and each frame's digit."""
    filters, frames, digits = mel_filters(bands), [], []
    chosen = {row["file"]: int(row["digit"]) for row in rows}
    with tarfile.open(archive) as files:
        for member in files:
            if member.name not in chosen:
                continue
            file = files.extractfile(member)
            assert file is not None
            frames.append(log_mel(wavfile.read(io.BytesIO(file.read()))[1], filters))
            digits.append(np.full(len(frames[-1]), chosen[member.name]))
    return ob.Observations.of(np.concatenate(frames), lengths=[len(f) for f in frames]), np.concatenate(digits)


def information(states: np.ndarray, digit: np.ndarray) -> float:
    """Mutual information of a frame's state and its digit, nats (of ln 10 = 2.30 at most)."""
    p = np.zeros((states.max() + 1, 10))
    np.add.at(p, (states, digit), 1 / len(digit))
    expected = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    return float((p[p > 0] * np.log(p[p > 0] / expected[p > 0])).sum())


def exact(name: str, model: HMM, y: ob.Observations, held_out: ob.Observations, digit: np.ndarray) -> None:
    """A plain HMM: ln p(y) is a sum."""
    fit = ob.fit(model, y, restarts=3, max_iter=100, generator=seeded(0))
    value = float(model.evidence(held_out).detach().sum()) / held_out.n_rows
    about = information(model.posterior(held_out).argmax.numpy(), digit)
    print(f"{name}: ln p = {value:.2f}, {about:.2f} nats about the digit  ({fit.seconds:.0f} s)", flush=True)


def sampled(name: str, prior: HMM | None, y: Any, held_out: ob.Observations, digit: np.ndarray, options: Any) -> None:
    """A VAE: L, and ln p(y) from below."""
    frames = held_out.n_rows
    model = DeepGaussian(
        "network-gaussian", options.latent, n_features=y.y.shape[1], hidden=(128, 128), prior=prior, generator=seeded(0)
    )
    rows, seen = (y, held_out) if prior is not None else (y.as_rows(), held_out.as_rows())
    size = options.batch if prior is not None else round(options.batch * y.n_rows / y.n_items)
    fit = ob.fit(model, rows, ob.VAE(lr=2e-3), max_iter=options.passes, batch_size=size, generator=seeded(0))
    found = ob.bound(model, seen, samples=options.draws, generator=seeded(1))
    bound, evidence, half = (float(x.sum()) / frames for x in (found.value, found.evidence, found.evidence_half))
    line = f"{name}: ln p ≥ {evidence:.2f} ({half:.2f} with half the draws), L = {bound:.2f}"
    if prior is not None:
        means = ob.Observations.of(model.encode(held_out).mean.double(), lengths=held_out.lengths)
        line += f", {information(prior.posterior(means).argmax.numpy(), digit):.2f} nats about the digit"
    print(f"{line}  ({fit.seconds:.0f} s, {fit.trace[-1].passes:g} passes)", flush=True)


def main() -> None:
    """Read, fit, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("index", type=Path)
    parser.add_argument(
        "--takes", type=int, default=10, help="how many of the 45 training takes of each digit and speaker"
    )
    parser.add_argument("--bands", type=int, default=24)
    parser.add_argument("--states", type=int, default=20)
    parser.add_argument("--latent", type=int, default=16)
    parser.add_argument("--passes", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8, help="recordings in a batch, or as many frames")
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    with options.index.open(newline="") as file:
        index = list(csv.DictReader(file))
    train = [row for row in index if row["split"] == "train" and int(row["take"]) < 5 + options.takes]
    y, _ = recordings(options.archive, train, options.bands)
    held_out, digit = recordings(options.archive, [row for row in index if row["split"] == "test"], options.bands)
    k, d = options.states, options.bands
    print(
        f"{y.n_items} recordings, {y.n_rows} frames of {d} bands; nats per frame on {held_out.n_items} held-out recordings, "
        f"{held_out.n_rows} frames; {k} states"
    )
    exact("Gaussian HMM", HMM(Gaussian(k, d)), y, held_out, digit)
    exact("HMM, 3 Gaussians a state", HMM(MixtureOf(Gaussian(3 * k, d), 3)), y, held_out, digit)
    sampled("VAE, independent frames", None, y, held_out, digit, options)
    sampled("HMM-VAE", HMM(Gaussian(k, options.latent)), y, held_out, digit, options)


if __name__ == "__main__":
    main()
