"""A step of a VAE beside a hand-written loop and Pyro's SVI, in one process: same sizes, same batches, least of the repeats.

Run by hand: `python -m benchmarks.vae` writes benchmarks/vae.md (Pyro's column needs `pip install pyro-ppl`). Tests never
assert times.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, STEPS, REPEATS = 128, 100, 9


@dataclass(frozen=True)
class Shape:
    """Columns, hidden units, latent dimensions: one hidden layer on each side, tanh."""

    d: int
    h: int
    z: int
    threads: int

    def __str__(self) -> str:
        return f"{self.d}-{self.h}-{self.z}"

    def data(self) -> Tensor:
        """Bits for STEPS batches."""
        rng = np.random.default_rng(0)
        return torch.from_numpy((rng.random((STEPS * BATCH, self.d)) < 0.3).astype(np.float32))


SHAPES = [Shape(784, 400, 20, 1), Shape(784, 400, 20, 2), Shape(4, 4, 2, 1)]


class Hand(nn.Module):
    """What one would write by hand: the networks, and L as in every tutorial."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.z = s.z
        self.encoder = nn.Sequential(nn.Linear(s.d, s.h), nn.Tanh(), nn.Linear(s.h, 2 * s.z))
        self.decoder = nn.Sequential(nn.Linear(s.z, s.h), nn.Tanh(), nn.Linear(s.h, s.d))

    def loss(self, y: Tensor) -> Tensor:
        """−L per item."""
        mean, log_variance = self.encoder(y).chunk(2, -1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        fit = F.binary_cross_entropy_with_logits(self.decoder(z), y, reduction="sum")
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        return (fit + kl) / len(y)


def by_hand(s: Shape, y: Tensor) -> Callable[[], None]:
    """A pass of plain eager steps with torch's Adam at its defaults."""
    model = Hand(s)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run() -> None:
        total = torch.zeros(())
        for index in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            loss = model.loss(y[index])
            loss.backward()
            optimizer.step()
            total += loss.detach()

    return run


def ours(s: Shape, y: Tensor) -> Callable[[], None]:
    """A pass of the library's steps, without the start and the evaluation around them."""
    import onebound as ob
    from onebound.algorithms.climb import Climb, Limits
    from onebound.algorithms.plan import resolve
    from onebound.algorithms.sampled import SampledSteps

    model = ob.models.DeepGaussian("bernoulli", s.z, n_features=s.d, hidden=(s.h,))
    obs = model.initialize(y).observe(y)
    climb = Climb(model, obs, resolve(model), Limits(1, 0.0, 1), torch.Generator(), BATCH)
    steps = climb.m_run
    assert isinstance(steps, SampledSteps)

    def run() -> None:
        steps.pass_over(obs, BATCH, climb.generator, 0)

    return run


def pyros(s: Shape, y: Tensor) -> Callable[[], None] | None:
    """A pass of Pyro's SVI with Trace_ELBO, its closed-form KL where it has one; None where Pyro is not installed."""
    try:
        import pyro
        import pyro.distributions as dist
        from pyro.infer import SVI, TraceMeanField_ELBO
    except ImportError:
        return None
    hand = Hand(s)
    pyro.clear_param_store()

    def model(batch: Tensor) -> None:
        pyro.module("decoder", hand.decoder)
        with pyro.plate("items", len(batch)):
            z = pyro.sample("z", dist.Normal(batch.new_zeros(len(batch), s.z), 1.0).to_event(1))
            pyro.sample("y", dist.Bernoulli(logits=hand.decoder(z), validate_args=False).to_event(1), obs=batch)

    def guide(batch: Tensor) -> None:
        pyro.module("encoder", hand.encoder)
        with pyro.plate("items", len(batch)):
            mean, log_variance = hand.encoder(batch).chunk(2, -1)
            pyro.sample("z", dist.Normal(mean, (0.5 * log_variance).exp(), validate_args=False).to_event(1))

    svi: Any = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), TraceMeanField_ELBO())

    def run() -> None:
        for index in torch.randperm(len(y)).split(BATCH):
            svi.step(y[index])

    return run


def row(s: Shape) -> str:
    """One line of the table: the three in turn, milliseconds of a step."""
    torch.set_num_threads(s.threads)
    y = s.data()
    runs = [by_hand(s, y), ours(s, y), pyros(s, y)]
    least = [float("inf")] * 3
    for repeat in range(REPEATS + 1):
        for i, run in enumerate(runs):
            if run is None:
                continue
            start = time.perf_counter()
            run()
            if repeat:  # the first one warms up
                least[i] = min(least[i], (time.perf_counter() - start) / STEPS)
    hand, mine, pyro = (1e3 * x for x in least)
    last = "not installed | " if runs[2] is None else f"{pyro:.3f} | {pyro / mine:.2f} (≥ 1.4)"
    more = f"{1e3 * (mine - hand):+.0f} µs (≤ 100)"
    return f"| {s} | {s.threads} | {hand:.3f} | {mine:.3f} | {mine / hand:.2f} (≤ 1.0) | {more} | {last} |"


def header() -> str:
    """The machine and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return (
        "# A step of a VAE beside a hand-written loop and Pyro\n\n"
        f"Written by `python -m benchmarks.vae` as it came out. {cpu}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} at the start, Python {platform.python_version()}, torch {torch.__version__}. "
        f"Milliseconds of a gradient step on {BATCH} items, from passes of {STEPS} steps, least of {REPEATS}; "
        "Bernoulli likelihood, tanh, float32. By hand: eager PyTorch, plain Adam. "
        "Pyro: SVI with TraceMeanField_ELBO. In brackets what was aimed at.\n\n"
        "| sizes | threads | by hand | onebound | onebound ÷ by hand | more a step | Pyro | Pyro ÷ onebound |\n"
        "|---|---|---|---|---|---|---|---|"
    )


def main() -> None:
    """Run the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    lines = [header()]
    for shape in SHAPES:
        lines.append(row(shape))
        print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
