"""A VAE on MNIST: 784-200-200-50 tanh, dynamically binarised, as in Burda, Grosse & Salakhutdinov (2016), table 1.

`python examples/vae_mnist.py TRAIN-images-idx3-ubyte.gz T10K-images-idx3-ubyte.gz [--draws 5 --iwae] [--seconds 1800]` (the
original files: yann.lecun.com/exdb/mnist), or on the fixed binarisation of Larochelle & Murray, stopped where its
validation part is best, `python examples/vae_mnist.py --fixed binarized_mnist.npz` (arrays train, valid, test of 0 and 1).
Prints −ln p(y) on test images (IWAE, 5,000 draws), the gap report and how many dimensions are used.
"""

from __future__ import annotations

import argparse
import gzip
import time

import numpy as np
import torch

import onebound as ob
from onebound.models import DeepGaussian


def images(path: str) -> torch.Tensor:
    """Rows of 784 grey values in [0, 1] of an idx file."""
    with gzip.open(path) as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16)
    return torch.from_numpy(raw.reshape(-1, 784).astype(np.float32) / 255)


class BestSoFar:
    """A callback: every few passes L on the validation part; the parameters of the best are kept."""

    def __init__(self, model: DeepGaussian, y: torch.Tensor, every: int = 5) -> None:
        self.model, self.y, self.every, self.best, self.state, self.at = model, y, every, -np.inf, {}, 0

    def __call__(self, record: ob.Record) -> None:
        if record.after == "M" and record.iteration % self.every == 0:
            generator = torch.Generator().manual_seed(0)
            value = ob.bound(self.model, self.y, samples=10, generator=generator).mean()["evidence"]
            if value > self.best:
                self.best, self.at = value, record.iteration
                self.state = {k: v.clone() for k, v in self.model.state_dict().items()}


def main() -> None:
    """Train, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train")
    parser.add_argument("test", nargs="?")
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--iwae", action="store_true")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--items", type=int, default=1000, help="test images, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(options.seed)
    if options.fixed:
        parts = np.load(options.train)
        train, valid, test = (torch.from_numpy(parts[k].astype(np.float32)) for k in ("train", "valid", "test"))
    else:
        train, test = images(options.train), images(options.test)
    model = DeepGaussian("bernoulli", 50, n_features=784, hidden=(200, 200), generator=generator)
    algorithm = ob.VAE(
        estimator="importance" if options.iwae else "reparameterized",
        samples=options.draws,
        augment=None if options.fixed else ob.data.rebinarized,
    )
    start = time.perf_counter()

    def show(record: ob.Record) -> None:
        if record.after == "E" and record.iteration % 20 == 0:
            print(
                f"pass {record.iteration:4d}  L {record.bound:8.3f} nats per image  {record.active_units} units  "
                f"{record.seconds:6.0f} s",
                flush=True,
            )

    best = BestSoFar(model, valid[:2000]) if options.fixed else None
    fit = ob.fit(
        model,
        train,
        algorithm,
        batch_size=100,
        max_iter=100_000,
        max_seconds=options.seconds,
        generator=generator,
        callbacks=[show] if best is None else [show, best],
    )
    if best is not None:
        model.load_state_dict(best.state)
        print(f"best on the validation part after pass {best.at}")
    print(fit, f"\n{time.perf_counter() - start:.0f} s, {torch.get_num_threads()} threads")
    chosen = test[torch.randperm(len(test), generator=generator)[: options.items]]
    bits = chosen if options.fixed else ob.data.rebinarized(chosen, generator)
    found = ob.bound(model, bits, samples=5000, generator=generator)
    print(found)
    print(f"−ln p(y) ≤ {-found.mean()['evidence']:.2f} ± {found.standard_error('evidence'):.2f} nats per image")
    print(ob.gap_report(model, bits[:100], samples=1000, generator=generator))
    print(ob.latent_use(model, bits))


if __name__ == "__main__":
    main()
