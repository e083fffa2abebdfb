"""An HMM below a VAE, its states summed exactly: strokes of a pen.

`python examples/vae_priors.py pendigits.tra.gz pendigits.tes.gz` (UCI, Pen-Based Recognition of Handwritten Digits, with a
header line: eight points x, y of 0 … 100 along a stroke, then the digit).

A stroke is a sequence of eight points: held-out nats per point (IWAE, a lower bound) beside a Gaussian HMM and one of mixtures
with as many states (exact), and beside a VAE of the same networks whose points are independent; and how much the states of a
stroke say about its digit.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import onebound as ob
from onebound.emissions import Gaussian, MixtureOf
from onebound.models import HMM, DeepGaussian


def seeded(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def strokes(path: str) -> tuple[ob.Observations, np.ndarray]:
    """Strokes as sequences of eight points, and their digits."""
    table = ob.data.read_table(path).values
    rows = table[:, :16].reshape(-1, 2).astype(np.float32)
    return ob.Observations.of(rows, lengths=[8] * len(table)), table[:, 16].astype(int)


def information(states: np.ndarray, digit: np.ndarray) -> float:
    """Mean over the eight points of the mutual information of state and digit, nats (of ln 10 = 2.30 at most)."""
    found = []
    for step in states.T:
        p = np.zeros((step.max() + 1, 10))
        np.add.at(p, (step, digit), 1 / len(digit))
        expected = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
        found.append(float((p[p > 0] * np.log(p[p > 0] / expected[p > 0])).sum()))
    return float(np.mean(found))


def pens(train: str, test: str, n_states: int, passes: int) -> None:
    """Points that follow each other."""
    y, _ = strokes(train)
    held_out, digit = strokes(test)
    exact = {
        "Gaussian HMM": HMM(Gaussian(n_states, 2)),
        "HMM, 3 Gaussians a state": HMM(MixtureOf(Gaussian(3 * n_states, 2), 3)),
    }
    print(f"{n_states} states; nats per point on {held_out.n_items} held-out strokes")
    for name, model in exact.items():
        ob.fit(model, y, restarts=3, max_iter=100, generator=seeded(0))
        value = float(model.evidence(held_out).detach().mean()) / 8
        states = model.posterior(held_out).argmax.numpy().reshape(-1, 8)
        print(f"{name}: ln p = {value:.3f}, {information(states, digit):.2f} nats about the digit", flush=True)
    for name, prior in (("VAE, independent points", None), ("HMM-VAE", HMM(Gaussian(n_states, 4)))):
        model = DeepGaussian("network-gaussian", 4, n_features=2, hidden=(64, 64), prior=prior, generator=seeded(0))
        rows = y if prior is not None else y.as_rows()
        fit = ob.fit(
            model, rows, ob.VAE(lr=2e-3), max_iter=passes, batch_size=64 if prior else 512, generator=seeded(0)
        )
        some = held_out.select(slice(0, 500))
        bound = ob.bound(model, some if prior is not None else some.as_rows(), samples=2000, generator=seeded(1)).mean()
        per = 8 if prior is not None else 1
        line = f"{name}: ln p ≥ {bound['evidence'] / per:.3f}, L = {bound['bound'] / per:.3f}"
        if prior is not None:
            means = model.encode(held_out).mean.double()
            states = prior.posterior(ob.Observations.of(means, lengths=[8] * held_out.n_items)).argmax
            line += f", {information(states.numpy().reshape(-1, 8), digit):.2f} nats about the digit"
        print(f"{line}  ({fit.seconds:.0f} s, {fit.trace[-1].passes:g} passes)", flush=True)


def main() -> None:
    """Read and fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pendigits")
    parser.add_argument("pendigits_test")
    parser.add_argument("--passes", type=int, default=60)
    parser.add_argument("--states", type=int, default=20)
    options = parser.parse_args()
    pens(options.pendigits, options.pendigits_test, options.states, options.passes)


if __name__ == "__main__":
    main()
