"""A mixture below a VAE, its classes summed exactly: is a component a digit? None has seen a label.

`python examples/vae_clusters.py optdigits.tra.gz` (UCI, Optical Recognition of Handwritten Digits, with a header line: 64
pixels of 0 … 16, then the digit) or `python examples/vae_clusters.py train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz`
(MNIST, the original files: yann.lecun.com/exdb/mnist).

Ten seeds, as they come; components are matched to digits one to one (Hungarian method), on the rows that were fitted. Beside
it a mixture of Gaussians with one covariance, on the pixels or (MNIST) on their first 50 principal components.
"""

from __future__ import annotations

import argparse
import gzip
import time

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import onebound as ob
from onebound.algorithms import Algorithm
from onebound.emissions import Gaussian, GaussianLikelihood
from onebound.models import DeepGaussian, Mixture


def seeded(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def accuracy(found: np.ndarray, digit: np.ndarray) -> float:
    """The share of rows in the component that their digit is matched to, one to one."""
    table = np.zeros((10, 10))
    np.add.at(table, (found, digit), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(digit))


def idx(path: str, header: int) -> np.ndarray:
    """The bytes of an idx file behind its header."""
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


class Task:
    """Rows, their digits, and what fits them."""

    def __init__(self, y: Tensor, digit: np.ndarray, plain: Tensor, passes: int, batch: int | None) -> None:
        self.y, self.digit, self.plain, self.passes, self.batch = y, digit, plain, passes, batch

    def model(self, prior: Mixture, seed: int) -> DeepGaussian:
        """A VAE above `prior`."""
        raise NotImplementedError

    def algorithm(self) -> Algorithm:
        """How it is fitted."""
        return ob.VAE()

    def seen(self) -> Tensor:
        """The rows as the encoder reads them."""
        return self.y


class Pixels(Task):
    """Optdigits: 3,823 rows of 64 pixels with Gaussian noise."""

    def __init__(self, path: str) -> None:
        table = ob.data.read_table(path).values
        y = table[:, :64].astype(np.float32)
        super().__init__(torch.from_numpy(y), table[:, 64].astype(int), torch.from_numpy(y[:, y.var(0) > 0]), 150, None)

    def model(self, prior: Mixture, seed: int) -> DeepGaussian:
        likelihood = GaussianLikelihood(64, shared=True)
        return DeepGaussian(likelihood, 10, hidden=(128,), prior=prior, generator=seeded(seed))


class Bits(Task):
    """MNIST: 60,000 images, binarised anew in each step; rounded when they are asked for their component."""

    def __init__(self, images: str, labels: str) -> None:
        y = torch.from_numpy(idx(images, 16).reshape(-1, 784).astype(np.float32) / 255)
        axes = torch.linalg.eigh(torch.cov(y.T))[1][:, -50:]
        super().__init__(y, idx(labels, 8).astype(int), y @ axes, 30, 512)

    def model(self, prior: Mixture, seed: int) -> DeepGaussian:
        return DeepGaussian("bernoulli", 10, n_features=784, prior=prior, generator=seeded(seed))

    def algorithm(self) -> Algorithm:
        return ob.VAE(lr=2e-3, augment=ob.data.rebinarized)

    def seen(self) -> Tensor:
        return self.y.round()


def main() -> None:
    """Every seed, then means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows")
    parser.add_argument("labels", nargs="?")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--passes", type=int)
    options = parser.parse_args()
    task = Pixels(options.rows) if options.labels is None else Bits(options.rows, options.labels)
    passes = options.passes or task.passes
    reached, own = [], []
    for seed in range(options.seeds):
        start = time.perf_counter()
        prior = Mixture(Gaussian(10, 10))
        model = task.model(prior, seed)
        fit = ob.fit(model, task.y, task.algorithm(), max_iter=passes, batch_size=task.batch, generator=seeded(seed))
        found = prior.posterior(model.encode(task.seen()).mean.double()).argmax.numpy()
        reached.append(accuracy(found, task.digit))
        spent = time.perf_counter() - start
        print(f"seed {seed}: L {fit.bound:.2f} nats, accuracy {reached[-1]:.3f}, {spent:.0f} s", flush=True)
    plain = Mixture(Gaussian(10, task.plain.shape[1], "tied"))
    for seed in range(options.seeds):
        ob.fit(plain, task.plain, ob.EM(), init="k-means++", generator=seeded(seed))
        own.append(accuracy(plain.posterior(task.plain).argmax.numpy(), task.digit))
    for name, values in (("GMM-VAE", reached), ("a mixture of Gaussians (tied)", own)):
        print(f"{name}: accuracy {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} over {options.seeds} seeds")


if __name__ == "__main__":
    main()
