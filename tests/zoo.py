"""One line a model, small enough to list every z."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import onebound as ob
from onebound.emissions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Gamma,
    Gaussian,
    MixtureOf,
    Multinomial,
    NeuralGaussian,
    NormalInverseWishart,
    Poisson,
    Product,
)
from onebound.models import HMM, FactorAnalysis, Mixture, Model, NeuralTransition, ProbabilisticPCA
from onebound.models.transitions import banded, left_to_right

NIW = NormalInverseWishart(mean_strength=0.5, degrees=3.0, scale=0.3)


@dataclass(frozen=True)
class Case:
    """A tiny model with random parameters, and data drawn to suit it."""

    name: str
    build: Callable[[], Model]
    n_items: int = 7
    missing: float = 0.0
    weights: bool = False
    labels: bool = False
    zeros: bool = False  # exact zeros in the probabilities
    one_basin: bool = False
    lengths: tuple[int, ...] | None = None  # of the sequences, for a model of such

    def __repr__(self) -> str:
        return self.name

    @property
    def seed(self) -> int:
        return sum(map(ord, self.name))

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def model(self) -> Model:
        """The model at random parameters, with units taken from the data."""
        torch.manual_seed(self.seed)  # a network's own start
        model = self.build()
        generator = self.generator()
        n = max(self.n_rows, 7)  # the parameters come from more items than a case may hold
        responsibilities = 0.2 + torch.rand(n, model.n_components, dtype=torch.float64, generator=generator)
        model.initialize(ob.Observations.of(self._y(n), context=self._context(n)), how=responsibilities)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.3 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
        if self.zeros:
            p = model.emission.probability.clone()
            p[0, 0] = 0.0
            model.emission.assign(p)
        return model

    @property
    def n_rows(self) -> int:
        return self.n_items if self.lengths is None else sum(self.lengths)

    def observations(self) -> ob.Observations:
        """Data with this case's missing cells, weights and known labels."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        y = self._y(self.n_rows)
        hidden = torch.rand(y.shape, generator=generator) < self.missing
        y = y.masked_fill(hidden, float("nan")) if self.missing else y
        n = len(y) if self.lengths is None else len(self.lengths)
        weights = torch.randint(0, 4, (n,), generator=generator).double() if self.weights else None
        if weights is not None:
            weights[0] = 2.0
        allowed = None
        if self.labels:  # one item known for each component
            k = self.build().n_components
            allowed = torch.ones(len(y), k, dtype=torch.bool)
            for row in range(k):
                allowed[row] = torch.arange(k) == row
        context = self._context(len(y))
        return ob.Observations.of(y, weights=weights, allowed=allowed, context=context, lengths=self.lengths)

    def _y(self, n: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + 2)
        return draw(self.build().emission, n, generator)

    def _context(self, n: int) -> Tensor | None:
        if not (self.build().emission.needs_context or self.name.startswith("hmm-neural")):
            return None
        return torch.linspace(-1, 1, n, dtype=torch.float64).unsqueeze(-1)


class VectorCase(Case):
    """A tiny model whose z is a vector: what it says of y is one Gaussian."""

    def model(self) -> Model:
        """The model at random parameters, with units taken from the data."""
        generator = self.generator()
        model = self.build().initialize(self._y(max(self.n_rows, 7)), generator, "random")
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.3 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
        return model

    def _y(self, n: int) -> Tensor:
        generator, d = torch.Generator().manual_seed(self.seed + 2), self.build().n_features
        z = torch.randn(n, d, dtype=torch.float64, generator=generator)
        return 30.0 + 10.0 * (z @ torch.randn(d, d, dtype=torch.float64, generator=generator) + z)

    def _context(self, n: int) -> None:
        return None


def draw(emission: nn.Module, n: int, generator: torch.Generator) -> Tensor:
    """Data in the emission's domain, spread over all of it."""
    if isinstance(emission, Product):
        y = torch.empty(n, emission.n_features, dtype=torch.float64)
        for columns, part in zip(emission.columns, emission.emissions, strict=True):
            y[:, columns] = draw(part, n, generator)
        return y
    if isinstance(emission, MixtureOf):
        return draw(emission.inner, n, generator)
    shape = (n, emission.n_features)
    if isinstance(emission, Bernoulli):
        return torch.randint(0, 2, shape, generator=generator).double()
    if isinstance(emission, Categorical):
        u = torch.rand(shape, dtype=torch.float64, generator=generator)
        return (u * torch.tensor(emission.n_symbols)).floor()
    if isinstance(emission, Multinomial | Poisson):
        return torch.randint(0, 6, shape, generator=generator).double()
    return 30.0 + 10.0 * torch.randn(shape, dtype=torch.float64, generator=generator)


def doubled(network: nn.Module) -> nn.Module:
    """In float64."""
    return network.double()


def mixed(**options: object) -> Product:
    return Product(
        [([0, 3], Gaussian(2, 2, "diag")), ([2], Categorical(2, [3])), ([1], Poisson(2, 1)), ([4], Bernoulli(2, 1))]
    )


DISCRETE = [
    Case("full", lambda: Mixture(Gaussian(2, 2)), n_items=12),
    Case("full-one-component", lambda: Mixture(Gaussian(1, 2)), n_items=9, one_basin=True),
    Case("full-one-column", lambda: Mixture(Gaussian(3, 1)), n_items=14),
    Case("full-weighted", lambda: Mixture(Gaussian(2, 2)), n_items=14, weights=True),
    Case("full-map", lambda: Mixture(Gaussian(2, 2, prior=NIW), prior=Dirichlet(3.0)), n_items=12),
    Case("full-labelled", lambda: Mixture(Gaussian(2, 2)), n_items=14, labels=True),
    Case("tied", lambda: Mixture(Gaussian(2, 3, "tied")), n_items=12),
    Case("tied-map", lambda: Mixture(Gaussian(3, 2, "tied", prior=NIW)), n_items=9),
    Case("full-missing", lambda: Mixture(Gaussian(2, 2)), n_items=30, missing=0.3),
    Case("full-missing-weighted", lambda: Mixture(Gaussian(3, 2)), n_items=24, missing=0.3, weights=True),
    Case("full-missing-labelled-map", lambda: Mixture(Gaussian(2, 3, prior=NIW)), n_items=14, missing=0.3, labels=True),
    Case("full-missing-one-component", lambda: Mixture(Gaussian(1, 2)), n_items=14, missing=0.2, one_basin=True),
    Case("tied-missing", lambda: Mixture(Gaussian(2, 3, "tied")), n_items=18, missing=0.3),
    Case("tied-missing-map", lambda: Mixture(Gaussian(3, 2, "tied", prior=NIW)), n_items=9, missing=0.3),
    Case("diag", lambda: Mixture(Gaussian(3, 2, "diag")), n_items=16),
    Case("diag-missing", lambda: Mixture(Gaussian(2, 3, "diag")), n_items=14, missing=0.3),
    Case("diag-map", lambda: Mixture(Gaussian(2, 2, "diag", prior=NIW)), missing=0.2),
    Case("spherical", lambda: Mixture(Gaussian(2, 3, "spherical")), n_items=9),
    Case("spherical-missing-map", lambda: Mixture(Gaussian(2, 3, "spherical", prior=NIW)), missing=0.3),
    Case("bernoulli", lambda: Mixture(Bernoulli(2, 4))),
    Case("bernoulli-one-item", lambda: Mixture(Bernoulli(2, 3)), n_items=1),
    Case("bernoulli-zeros-missing", lambda: Mixture(Bernoulli(3, 4)), missing=0.2, zeros=True),
    Case("bernoulli-map", lambda: Mixture(Bernoulli(2, 3, prior=Beta(2.0, 3.0))), one_basin=True),
    Case("categorical", lambda: Mixture(Categorical(3, [2, 3, 4])), weights=True),
    Case("categorical-missing-map", lambda: Mixture(Categorical(2, [3, 2], prior=Dirichlet(1.5))), missing=0.3),
    Case("multinomial", lambda: Mixture(Multinomial(2, 4))),
    Case("multinomial-map", lambda: Mixture(Multinomial(3, 3, prior=Dirichlet(2.0)))),
    Case("poisson", lambda: Mixture(Poisson(2, 3)), labels=True),
    Case("poisson-one-component", lambda: Mixture(Poisson(1, 2)), missing=0.2, one_basin=True),
    Case("poisson-map-missing", lambda: Mixture(Poisson(2, 2, prior=Gamma(2.0, 0.5))), missing=0.3),
    Case("mixed", lambda: Mixture(mixed(), prior=Dirichlet(2.0)), n_items=12, missing=0.15),
    Case("inner-categorical", lambda: Mixture(MixtureOf(Categorical(4, [3, 2, 4]), 2)), n_items=12, missing=0.15),
    Case(
        "inner-full-map",
        lambda: Mixture(MixtureOf(Gaussian(4, 2, prior=NIW), 2, prior=Dirichlet(2.0)), prior=Dirichlet(2.0)),
        n_items=20,
        weights=True,
    ),
    Case("regressions", lambda: Mixture(NeuralGaussian(nn.Linear(1, 2), 2, 1)), n_items=12),
    Case("hmm-poisson", lambda: HMM(Poisson(2, 1)), lengths=(4, 1, 3, 3)),
    Case("hmm-full", lambda: HMM(Gaussian(2, 2)), lengths=(5, 4, 5)),
    Case("hmm-full-missing", lambda: HMM(Gaussian(2, 2)), lengths=(5, 5, 1, 4), missing=0.25),
    Case("hmm-tied-map", lambda: HMM(Gaussian(2, 2, "tied", prior=NIW), prior=Dirichlet(2.0)), lengths=(4, 5)),
    Case("hmm-diag-weighted", lambda: HMM(Gaussian(3, 1, "diag")), lengths=(4, 3, 4, 3), weights=True),
    Case(
        "hmm-spherical-left-to-right",
        lambda: HMM(Gaussian(3, 2, "spherical"), transition=left_to_right(3)),
        lengths=(4, 4, 3),
    ),
    Case("hmm-one-state", lambda: HMM(Gaussian(1, 2, "diag")), lengths=(4, 1), one_basin=True),
    Case("hmm-steps-of-one", lambda: HMM(Poisson(3, 2)), lengths=(1,) * 8),
    Case(
        "hmm-categorical-zeros",
        lambda: HMM(Categorical(2, [3, 2]), initial_prior=Dirichlet(3.0)),
        lengths=(4, 0, 3, 4),
        missing=0.2,
    ),
    Case("hmm-bernoulli-labelled", lambda: HMM(Bernoulli(3, 2)), lengths=(3, 4, 3), labels=True),
    Case(
        "hmm-mixed-banded",
        lambda: HMM(mixed(), transition=banded(2), prior=Dirichlet(1.5)),
        lengths=(5, 4, 3),
        missing=0.15,
    ),
    Case("hmm-inner-diag", lambda: HMM(MixtureOf(Gaussian(4, 2, "diag"), 2)), lengths=(5, 1, 4, 5), missing=0.1),
    Case("hmm-regressions", lambda: HMM(NeuralGaussian(nn.Linear(1, 2), 2, 1)), lengths=(4, 3, 5)),
    Case(
        "hmm-neural",
        lambda: HMM(Poisson(2, 1), transition=NeuralTransition(doubled(nn.Linear(1, 4)), 2)),
        lengths=(4, 5),
    ),
]
VECTORS: list[Case] = [
    VectorCase("factors", lambda: FactorAnalysis(4, 2), n_items=12),
    VectorCase("factors-weighted", lambda: FactorAnalysis(3, 1), n_items=9, weights=True),
    VectorCase("factors-missing", lambda: FactorAnalysis(4, 2), n_items=14, missing=0.25, weights=True),
    VectorCase("factors-all", lambda: FactorAnalysis(2, 2), n_items=9),
    VectorCase("ppca", lambda: ProbabilisticPCA(4, 2), n_items=12, one_basin=True),
    VectorCase("ppca-missing", lambda: ProbabilisticPCA(3, 1), n_items=14, missing=0.25, weights=True),
]
ZOO = DISCRETE + VECTORS
MIXTURES = [case for case in DISCRETE if case.lengths is None]
CLOSED = [case for case in ZOO if case.name not in ("regressions", "hmm-regressions", "hmm-neural")]
ALGORITHMS = {
    "EM": ob.EM,
    "SQUAREM": lambda: ob.EM(accelerate="squarem"),
    "OnlineEM": ob.OnlineEM,
    "EG": ob.EG,
    "EG-adam": lambda: ob.EG("adam"),
    "GEM": ob.GEM,
    "VAE": ob.VAE,
    "VAE-score": lambda: ob.VAE(estimator="score", samples=4),
    "VEM": ob.VEM,
    "MCEM": lambda: ob.MCEM(5),
    "HardEM": ob.HardEM,
}


def clone(model: Model) -> Model:
    """An independent copy with the same bits."""
    return copy.deepcopy(model)
