"""A step of a VAE beside a hand-written loop and Pyro's SVI, in one process: same sizes, same batches, least of the repeats.

Then one of a VAE whose frames follow an HMM, beside the same model in Pyro, after a check that both give the same ln p(z).
Run by hand: `python -m benchmarks.vae` writes benchmarks/vae.md (Pyro's columns need `pip install pyro-ppl`). Tests never
assert times.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
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

    model = ob.models.DeepGaussian("bernoulli", s.z, n_features=s.d, hidden=(s.h,))
    return passes(model.initialize(y), y, BATCH)


def passes(model: Any, y: Any, batch: int) -> Callable[[], None]:
    """A pass of the steps of a started model."""
    from onebound.algorithms.climb import Climb, Limits
    from onebound.algorithms.plan import resolve
    from onebound.algorithms.sampled import SampledSteps

    obs = model.observe(y)
    climb = Climb(model, obs, resolve(model), Limits(1, 0.0, 1), torch.Generator(), batch)
    steps = climb.m_run
    assert isinstance(steps, SampledSteps)

    def run() -> None:
        steps.pass_over(obs, batch, climb.generator, 0)

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


def in_turn(runs: list[Callable[[], None] | None], steps: int, repeats: int) -> list[float]:
    """Milliseconds of a step of each, least of the repeats; each is a pass of so many steps. inf where there is none."""
    least = [float("inf")] * len(runs)
    for repeat in range(repeats + 1):
        for i, run in enumerate(runs):
            if run is None:
                continue
            start = time.perf_counter()
            run()
            if repeat:  # the first one warms up
                least[i] = min(least[i], 1e3 * (time.perf_counter() - start) / steps)
    return least


def row(s: Shape) -> str:
    """One line of the table: the three in turn, milliseconds of a step."""
    torch.set_num_threads(s.threads)
    y = s.data()
    runs = [by_hand(s, y), ours(s, y), pyros(s, y)]
    hand, mine, pyro = in_turn(runs, STEPS, REPEATS)
    last = "not installed | " if runs[2] is None else f"{pyro:.3f} | {pyro / mine:.2f} (≥ 1.4)"
    more = f"{1e3 * (mine - hand):+.0f} µs (≤ 100)"
    return f"| {s} | {s.threads} | {hand:.3f} | {mine:.3f} | {mine / hand:.2f} (≤ 1.0) | {more} | {last} |"


# --- frames that follow an HMM -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """A batch of sequences, and a VAE with a hidden layer on each side whose z follow an HMM of k states."""

    covariance: str
    threads: int
    n: int = 16
    t: int = 50
    d: int = 26
    z: int = 8
    k: int = 10
    h: int = 64

    def __str__(self) -> str:
        return f"{self.n} × {self.t}, {self.d}-{self.h}-{self.z}, {self.k} states, {self.covariance}"

    def data(self) -> Tensor:
        """Frames (n, t, d) of one batch."""
        return torch.from_numpy(np.random.default_rng(0).normal(size=(self.n, self.t, self.d)).astype(np.float32))


SERIES = [Series(covariance, threads) for threads in (1, 2) for covariance in ("diag", "full")]
SERIES_STEPS, SERIES_REPEATS = 4, 25


def series_model(s: Series, y: Tensor) -> tuple[Any, Any]:
    """Ours, with a prior that is somewhere, and its data."""
    import onebound as ob

    generator = torch.Generator().manual_seed(0)
    prior = ob.models.HMM(ob.emissions.Gaussian(s.k, s.z, s.covariance))
    prior.initialize(torch.randn(1000, s.z, generator=generator), generator, "random")
    likelihood = ob.emissions.GaussianLikelihood(s.d)
    model = ob.models.DeepGaussian(likelihood, s.z, hidden=(s.h,), prior=prior, generator=generator)
    obs = ob.Observations.of(y.reshape(-1, s.d), lengths=[s.t] * s.n)
    return model.initialize(obs), model.observe(obs)


class PyroSeries(nn.Module):
    """The same model as a user of Pyro writes it, from ours: in single precision, its parameters unconstrained.

    `loop`: a site for each step, with an enumerated state in `pyro.markov`, as in Pyro's tutorial on HMMs. `whole`: all of
    z as one site, `dist.DiscreteHMM`, whose first state is one step before the data, so ours starts at π A.
    """

    def __init__(self, s: Series, model: Any) -> None:
        super().__init__()
        self.s, self.name, prior = s, "series", model.prior
        self.encoder, self.decoder = deepcopy(model.recognition.network), deepcopy(model.decoder)
        before = torch.linspace(0.5, 1.5, s.k, dtype=torch.float64).log_softmax(-1)
        start = before.exp() @ prior.transition_matrix
        prior.initial.assign(start)
        covariance = prior.emission.covariance
        spread = (
            covariance.diagonal(dim1=-2, dim2=-1).log() if s.covariance == "diag" else torch.linalg.cholesky(covariance)
        )
        if s.covariance == "full":
            spread = spread.tril(-1) + torch.diag_embed(spread.diagonal(dim1=-2, dim2=-1).log())
        given = {
            "before": before,
            "start": start.log(),
            "moves": prior.transition_matrix.log(),
            "mean": prior.emission.mean,
            "spread": spread,
            "noise": torch.zeros(s.d),
        }
        for name, value in given.items():
            self.register_parameter(name, nn.Parameter(value.detach().to(torch.float32).clone()))

    def states(self, index: Any = slice(None)) -> Any:
        """p(z_t | state)."""
        import pyro.distributions as dist

        mean, spread = self.mean[index], self.spread[index]
        if self.s.covariance == "diag":
            return dist.Normal(mean, (0.5 * spread).exp()).to_event(1)
        pivots = torch.diag_embed(spread.diagonal(dim1=-2, dim2=-1).exp())
        return dist.MultivariateNormal(mean, scale_tril=spread.tril(-1) + pivots)

    def observed(self, z: Tensor, y: Tensor | None) -> None:
        """The site y, all steps at once; none without data."""
        import pyro
        import pyro.distributions as dist

        if y is not None:
            pyro.sample("y", dist.Normal(self.decoder(z), (0.5 * self.noise).exp()).to_event(2), obs=y)

    def loop(self, y: Tensor, given: Tensor | None = None) -> None:
        """The model, a site for each step; with `given` ln p(z = given) alone."""
        import pyro
        import pyro.distributions as dist

        pyro.module(self.name, self)
        drawn: list[Tensor] = []
        state: Any = None
        with pyro.plate("sequences", len(y)):
            for t in pyro.markov(range(self.s.t)):
                logits = self.start if state is None else self.moves[state]
                state = pyro.sample(f"state {t}", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
                known = None if given is None else given[:, t]
                drawn.append(pyro.sample(f"z {t}", self.states(state), obs=known))
            self.observed(torch.stack(drawn, -2), y if given is None else None)

    def loop_guide(self, y: Tensor) -> None:
        """q of `loop`."""
        import pyro
        import pyro.distributions as dist

        pyro.module(
            self.name, self
        )  # JitTraceEnum_ELBO traces the guide first, and takes unknown parameters for constants
        mean, log_sd = self.encoder(y).chunk(2, -1)
        sd = log_sd.exp()
        with pyro.plate("sequences", len(y)):
            for t in pyro.markov(range(self.s.t)):
                pyro.sample(f"z {t}", dist.Normal(mean[:, t], sd[:, t]).to_event(1))

    def hmm(self) -> Any:
        """p(z) of a whole sequence."""
        import pyro.distributions as dist

        return dist.DiscreteHMM(self.before, self.moves[None], self.states(), duration=self.s.t)

    def whole(self, y: Tensor) -> None:
        """The model with one site for z."""
        import pyro

        pyro.module(self.name, self)
        with pyro.plate("sequences", len(y)):
            self.observed(pyro.sample("z", self.hmm()), y)

    def whole_guide(self, y: Tensor) -> None:
        """q of `whole`."""
        import pyro
        import pyro.distributions as dist

        pyro.module(self.name, self)
        mean, log_sd = self.encoder(y).chunk(2, -1)
        with pyro.plate("sequences", len(y)):
            pyro.sample("z", dist.Normal(mean, log_sd.exp()).to_event(2))


def disagreement(s: Series, model: Any, obs: Any, theirs: PyroSeries) -> float:
    """The largest relative difference of ln p(z) of Pyro's two ways from ours, on draws of q."""
    from pyro.infer import TraceEnum_ELBO

    with torch.no_grad():
        z = model.q(obs).sample(1, torch.Generator().manual_seed(0))
        ours_is = model.log_prior_of(obs, z)[0]
        series = z[0].reshape(s.n, s.t, s.z)
        whole = (theirs.hmm().log_prob(series) - ours_is).abs() / ours_is.abs()
        enumerated = -TraceEnum_ELBO(max_plate_nesting=1).loss(theirs.loop, lambda *_: None, series, series)
        total = float(ours_is.sum())
        return max(float(whole.max()), abs(enumerated - total) / abs(total))


def pyro_series(theirs: PyroSeries, y: Tensor, how: str) -> Callable[[], None]:
    """Steps of Pyro's SVI on the batch: "loop", "jit" (the same, compiled by torch.jit) or "whole"."""
    import pyro
    from pyro.infer import SVI, JitTraceEnum_ELBO, Trace_ELBO, TraceEnum_ELBO

    theirs.name = how  # Pyro's store of parameters is global
    elbo = {"loop": TraceEnum_ELBO, "jit": JitTraceEnum_ELBO, "whole": Trace_ELBO}[how](max_plate_nesting=1)
    model, guide = (theirs.whole, theirs.whole_guide) if how == "whole" else (theirs.loop, theirs.loop_guide)
    svi: Any = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), elbo)

    def run() -> None:
        for _ in range(SERIES_STEPS):
            svi.step(y)

    return run


def series_row(s: Series) -> str:
    """One line of the second table."""
    torch.set_num_threads(s.threads)
    y = s.data()
    model, obs = series_model(s, y)
    runs: list[Callable[[], None] | None] = [None] * 3
    difference = "–"
    try:
        import pyro

        pyro.enable_validation(False)
        pyro.clear_param_store()
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        theirs = PyroSeries(s, model)
        found = disagreement(s, model, obs, theirs)
        if found > 1e-5:
            raise AssertionError(f"ln p(z) differs by {found:.1g} of itself")
        difference = f"{found:.0e}"
        runs = [pyro_series(deepcopy(theirs), y, how) for how in ("loop", "jit", "whole")]
    except ImportError:
        pass
    several = obs.select(torch.arange(s.n).repeat(SERIES_STEPS))
    mine, *others = in_turn([passes(model, several, s.n), *runs], SERIES_STEPS, SERIES_REPEATS)
    shown = " | ".join("not installed" if x == float("inf") else f"{x:.1f} | {x / mine:.1f}" for x in others)
    return f"| {s} | {s.threads} | {mine:.2f} | {shown} | {difference} |"


def series_header() -> str:
    """What the second table is."""
    return (
        f"\n## Frames that follow an HMM\n\nSequences × frames, sizes of the networks, states, covariance of the states. "
        f"Milliseconds of a gradient step on that batch, one draw of q, Gaussian likelihood, Adam; least of {SERIES_REPEATS} "
        f"passes of {SERIES_STEPS} steps, in turn. Ours sums the chain in float64, Pyro in float32. TraceEnum_ELBO: a site for "
        "each frame, with an enumerated state in `pyro.markov`, as in Pyro's tutorial on HMMs; decoder and likelihood once for "
        "all frames; jit: the same by JitTraceEnum_ELBO, its compilation not counted. DiscreteHMM: all of z as one site of "
        "that distribution, Trace_ELBO. ÷: that time over ours (aimed at: ≥ 10 for TraceEnum_ELBO). Last: by how much of "
        "itself ln p(z) of the same z and parameters differs.\n\n"
        "| batch, model | threads | onebound | TraceEnum_ELBO | ÷ | jit | ÷ | DiscreteHMM | ÷ | difference |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )


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
    lines.append(series_header())
    for series in SERIES:
        lines.append(series_row(series))
        print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
