"""A mixture and an HMM below a VAE, their discrete part summed exactly: clusters of digits, and strokes of a pen.

`python examples/vae_priors.py optdigits.tra.gz pendigits.tra.gz pendigits.tes.gz` (UCI, Optical and Pen-Based Recognition of
Handwritten Digits, with a header line; pendigits has eight points x, y of 0 … 100 along a stroke, then the digit).

1. GMM-VAE on optdigits: is a component a digit? Ten seeds, components matched to digits one to one (Hungarian method).
2. HMM-VAE on pendigits, a stroke a sequence of eight points: held-out nats per point (IWAE, a lower bound) beside a Gaussian
   HMM and one of mixtures with as many states (exact), and beside a VAE of the same networks whose points are independent; and
   how much the states of a stroke say about its digit.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

import onebound as ob
from onebound.emissions import Gaussian, GaussianLikelihood, MixtureOf
from onebound.models import HMM, DeepGaussian, Mixture


def seeded(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def accuracy(found: np.ndarray, digit: np.ndarray) -> float:
    """The share of rows in the component that their digit is matched to, one to one."""
    table = np.zeros((10, 10))
    np.add.at(table, (found, digit), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(digit))


def clusters(path: str, seeds: int, passes: int) -> None:
    """Ten components, ten digits."""
    table = ob.data.read_table(path).values
    y, digit = table[:, :64].astype(np.float32), table[:, 64].astype(int)
    reached = []
    for seed in range(seeds):
        start = time.perf_counter()
        prior = Mixture(Gaussian(10, 10))
        model = DeepGaussian(
            GaussianLikelihood(64, shared=True), 10, hidden=(128,), prior=prior, generator=seeded(seed)
        )
        fit = ob.fit(model, y, ob.VAE(), max_iter=passes, generator=seeded(seed))
        found = prior.posterior(model.encode(y).mean.double()).argmax.numpy()
        reached.append(accuracy(found, digit))
        print(
            f"seed {seed}: L {fit.bound:.2f} nats, accuracy {reached[-1]:.3f}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    y = y[:, y.var(0) > 0]
    plain = Mixture(Gaussian(10, y.shape[1], "tied"))
    own = []
    for seed in range(seeds):
        ob.fit(plain, y, ob.EM(), init="k-means++", generator=seeded(seed))
        own.append(accuracy(plain.posterior(y).argmax.numpy(), digit))
    for name, found in (("GMM-VAE", reached), ("a mixture of Gaussians (tied) on the pixels", own)):
        print(f"{name}: accuracy {np.mean(found):.3f} ± {np.std(found, ddof=1):.3f} over {seeds} seeds")


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
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("optdigits")
    parser.add_argument("pendigits")
    parser.add_argument("pendigits_test")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--passes", type=int, default=150)
    parser.add_argument("--states", type=int, default=20)
    options = parser.parse_args()
    if options.seeds:
        clusters(options.optdigits, options.seeds, options.passes)
    pens(options.pendigits, options.pendigits_test, options.states, 60)


if __name__ == "__main__":
    main()
