"""A linear VAE against probabilistic PCA, whose optimum algebra gives: what sampling and a network cost, in nats.

`python examples/vae_linear.py optdigits.tra.gz [--latent 10]` (UCI, Optical Recognition of Handwritten Digits: 64 counts of
0 … 16 and the digit in each row). The networks are single linear layers, the variance is shared, and a rotation of z makes the
posterior diagonal, so that L of the VAE can reach ln p(y) of probabilistic PCA; what is missing is the encoder's and Adam's.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch

import onebound as ob
from onebound.emissions.likelihoods import GaussianLikelihood
from onebound.models import DeepGaussian, ProbabilisticPCA


def top(y: np.ndarray, rank: int) -> float:
    """ln p(y) at the optimum, nats per row (Tipping & Bishop 1999, equation 8)."""
    d = y.shape[1]
    values = np.linalg.eigvalsh(np.cov(y.T, bias=True))[::-1]
    noise = values[rank:].mean()
    return -0.5 * (d * math.log(2 * math.pi) + np.log(values[:rank]).sum() + (d - rank) * math.log(noise) + d)


def main() -> None:
    """Fit both, print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--latent", type=int, default=10)
    parser.add_argument("--passes", type=int, default=600)
    options = parser.parse_args()
    table = ob.data.read_table(options.file).values
    y, rank = np.asarray(table[:, :64], dtype=np.float64), options.latent
    print(f"optimum of probabilistic PCA   ln p(y) = {top(y, rank):.4f} nats per row")
    ppca = ProbabilisticPCA(64, rank)
    print(
        "EM    ",
        ob.fit(
            ppca, y, ob.EM(accelerate="squarem"), init="random", tol=1e-11, generator=torch.Generator().manual_seed(0)
        ),
    )
    generator = torch.Generator().manual_seed(0)
    model = DeepGaussian(GaussianLikelihood(64, shared=True), rank, hidden=(), generator=generator)
    fit = ob.fit(model, y, ob.VAE(lr=3e-3), max_iter=options.passes, generator=generator)
    print("VAE   ", fit, f"{fit.seconds:.0f} s")
    print("      ", ob.bound(model, y[:1000], samples=2000, generator=generator))
    print("      ", ob.latent_use(model, y))
    exact = ProbabilisticPCA(64, rank).assign(
        model.likelihood.mean(model.decode(torch.zeros(1, rank)))[0].detach().double(),
        (model.likelihood.scale.unsqueeze(1) * model.decoder[0].weight).detach().double(),
        float(model.likelihood.variance(torch.zeros(1, 64))[0, 0].detach()),
    )
    evidence = exact.evidence(y).detach()
    all_rows, first = float(evidence.mean()), float(evidence[:1000].mean())
    print(f"ln p(y) of the VAE's own decoder, by algebra: {all_rows:.4f}; of the first 1,000 rows {first:.4f}")


if __name__ == "__main__":
    main()
