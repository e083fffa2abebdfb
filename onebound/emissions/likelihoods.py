"""p(y | z) where a network has computed the parameters of every cell: what a deep model ends in.

A network returns `n_outputs` numbers for an item, in units that make 0 the mean of the data; a likelihood turns them into a
density, calibrated: no σ = 1 by accident. Columns are independent given z, so missing cells drop out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebound.emissions.gaussian_base import LOG_2PI
from onebound.errors import InputError, Unsupported, did_you_mean, whole_number
from onebound.observations import Columns, Observations

# Least variance, in units of a column's: an exact copy of a pixel would have no bound.
FLOOR = 1e-3


class Likelihood(nn.Module, ABC):
    """ln p(y | outputs of a network) of D columns. `discrete`: y is counted, so bits per dimension mean something."""

    discrete: ClassVar[bool] = True
    domain: ClassVar[str] = "numbers"
    cure: ClassVar[str] = "Choose another likelihood or mend the cell"
    like: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = whole_number(type(self).__name__, "n_features", n_features)
        self.register_buffer("like", torch.zeros(()), persistent=False)  # in the precision of the networks

    @property
    def n_outputs(self) -> int:
        """How many numbers the network returns for an item."""
        return self.n_features

    @property
    def n_inputs(self) -> int:
        """How many numbers `features` makes of an item."""
        return self.n_features

    @abstractmethod
    def cells(self, y: Tensor, out: Tensor) -> Tensor:
        """ln p of every cell, nats.  (R, D), (…, R, n_outputs) → (…, R, D)"""

    @abstractmethod
    def mean(self, out: Tensor) -> Tensor:
        """E y.  (…, n_outputs) → (…, D)"""

    @abstractmethod
    def sample(self, out: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A draw of y.  (…, n_outputs) → (…, D)"""

    @abstractmethod
    def bias(self, columns: Columns) -> Tensor:
        """Outputs that say the columns' own means: where the network's last bias starts.  (n_outputs,)"""

    @abstractmethod
    def features(self, y: Tensor) -> Tensor:
        """What a recognition network reads, about 0 with variance 1; missing cells at 0.  (R, D) → (R, n_inputs)"""

    def outside(self, y: Tensor) -> Tensor:
        """Which cells lie outside the domain.  (R, D) boolean"""
        return torch.zeros_like(y, dtype=torch.bool)

    def log_prob(self, y: Tensor, out: Tensor, gaps: bool = False) -> Tensor:
        """ln p(y | out), nats; with `gaps` NaN cells are left out.  (R, D), (…, R, n_outputs) → (…, R)"""
        if not gaps:
            return self.cells(y, out).sum(-1)
        seen = ~y.isnan()
        return torch.where(seen, self.cells(y.nan_to_num(), out), 0.0).sum(-1)

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Take units from the data, and start parameters of its own anew."""

    def lint(self, columns: Columns, y: Tensor) -> list[str]:
        """What is suspicious about these columns, and some rows of them, under this likelihood, a sentence each."""
        return []

    def check(self, obs: Observations, owner: str) -> None:
        """Refuse columns that are not ours, infinite cells, and cells outside the domain."""
        if obs.n_features != self.n_features:
            raise InputError(f"{owner}: y must have {self.n_features} columns, got {obs.n_features}.")
        bad, expected, cure = obs.y.isinf(), "finite numbers", "Remove the row or mark the cell as missing (NaN)"
        if not bool(bad.any()):
            bad, expected, cure = self.outside(obs.y), self.domain, self.cure
        if bool(bad.any()):
            n, d = bad.nonzero()[0].tolist()
            raise InputError(
                f"{owner}: {obs.column(d)} must hold {expected}, got {obs.y[n, d].item():g} in {obs.place(n)} (counted from "
                f"0). {cure}."
            )

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able."""
        return {"n_features": self.n_features}


class RealLikelihood(Likelihood):
    """Real columns in units of their own, which are float64: a mean may be large beside its column's spread. Abstract."""

    discrete = False
    location: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.register_buffer("location", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_features, dtype=torch.float64))

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Location and scale of the columns."""
        self.location.copy_(columns.mean)
        self.scale.copy_(torch.where(columns.variance > 0, columns.variance, 1.0).sqrt())

    def standardised(self, y: Tensor) -> Tensor:
        """(y − location) / scale, in the precision of the networks.  (R, D)"""
        return ((y - self.location) / self.scale).to(self.like.dtype)

    def features(self, y: Tensor) -> Tensor:
        """Standardised.  (R, D)"""
        return self.standardised(y).nan_to_num(nan=0.0)


class GaussianLikelihood(RealLikelihood):
    """N(out, σ²) with a learned variance for each column, or with `shared` one for all, in the columns' units.

    The variance has a floor of 1e-3 of the columns' variance. At the start it is the data's own.
    """

    def __init__(self, n_features: int, *, shared: bool = False) -> None:
        super().__init__(n_features)
        self.shared = bool(shared)
        self.raw = nn.Parameter(torch.zeros(1 if shared else n_features))

    def _spread(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance in units of the columns."""
        return out, FLOOR + self.raw.exp()

    def cells(self, y: Tensor, out: Tensor) -> Tensor:
        """−½ ((x − out)² / v + ln 2π v) − ln scale, x = (y − location) / scale.  (…, R, D)"""
        mean, variance = self._spread(out)
        x, log_scale = self.standardised(y).to(mean.dtype), self.scale.log().to(mean.dtype)
        return -0.5 * ((x - mean).square() / variance + variance.log() + LOG_2PI) - log_scale

    def mean(self, out: Tensor) -> Tensor:
        """In the data's units.  (…, D)"""
        return self.location + self.scale * self._spread(out)[0]

    def variance(self, out: Tensor) -> Tensor:
        """In the data's units.  (…, D)"""
        return (self.scale.square() * self._spread(out)[1]).expand(*out.shape[:-1], self.n_features)

    def sample(self, out: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """mean + sd · noise.  (…, D)"""
        mean, variance = self._spread(out)
        noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
        return self.location + self.scale * (mean + variance.sqrt() * noise)

    def bias(self, columns: Columns) -> Tensor:
        """0: the columns are standardised.  (n_outputs,)"""
        return torch.zeros(self.n_outputs)

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Location and scale of the columns; one scale for all that vary where the variance is shared."""
        super().prepare(columns)
        if self.shared and bool((columns.variance > 0).any()):
            self.scale.fill_(columns.variance[columns.variance > 0].mean().sqrt())
        for own in self.parameters():
            own.zero_()

    def lint(self, columns: Columns, y: Tensor) -> list[str]:
        """Columns that do not vary, scales that one variance cannot serve, and values that are no measurements."""
        found = []
        still = [name for name, v in zip(columns.names, columns.variance.tolist(), strict=True) if v == 0]
        if still:
            few = ", ".join(still[:3]) + (f" and {len(still) - 3} more" if len(still) > 3 else "")
            found.append(f"{few} do not vary: their variance stays at its floor and L grows by a constant")
        sd = columns.variance[columns.variance > 0].sqrt()
        if self.shared and len(sd) and float(sd.max() / sd.min()) > 30:
            found.append(
                f"the columns' standard deviations differ by a factor of {float(sd.max() / sd.min()):.0f}: one shared variance "
                "serves the largest only; leave shared out"
            )
        seen = y[~y.isnan()]
        if not len(seen):
            return found
        if bool(((seen == 0) | (seen == 1)).all()):
            found.append("all values are 0 or 1: a density of bits grows without bound; use likelihood 'bernoulli'")
        elif bool(((seen == seen.round()) & (seen >= 0)).all()) and float(seen.max()) > 1:
            found.append(
                "all values are counts: their nats are not comparable with those of 'poisson' or 'negative-binomial'"
            )
        return found

    def config(self) -> dict[str, Any]:
        """Columns, and whether the variance is shared."""
        return {"n_features": self.n_features, "shared": self.shared}


class NetworkGaussianLikelihood(GaussianLikelihood):
    """N(out₁, σ²(out₂)): the network says the variance of every cell, too."""

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        del self.raw

    @property
    def n_outputs(self) -> int:
        """A mean and a log-variance for each column."""
        return 2 * self.n_features

    def _spread(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = out.chunk(2, -1)
        return mean, FLOOR + raw.clamp_max(10.0).exp()

    def config(self) -> dict[str, Any]:
        """Columns."""
        return {"n_features": self.n_features}


class BernoulliLikelihood(Likelihood):
    """Zeros and ones, from logits."""

    domain = "only 0 and 1"
    cure = (
        "Grey values are no Bernoulli data: draw bits from them anew in every step with "
        "ob.VAE(augment=ob.data.rebinarized), round them, or use a Gaussian likelihood"
    )
    share: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.register_buffer("share", torch.full((n_features,), 0.5))

    def cells(self, y: Tensor, out: Tensor) -> Tensor:
        """y ln p + (1 − y) ln(1 − p).  (…, R, D)"""
        return -F.binary_cross_entropy_with_logits(out, y.to(out.dtype).expand_as(out), reduction="none")

    def mean(self, out: Tensor) -> Tensor:
        """p.  (…, D)"""
        return out.sigmoid()

    def sample(self, out: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bits.  (…, D)"""
        u = torch.rand(out.shape, dtype=out.dtype, device=out.device, generator=generator)
        return (u < out.sigmoid()).to(out.dtype)

    def bias(self, columns: Columns) -> Tensor:
        """The logits of the columns' shares of ones, with half a count of each.  (D,)"""
        p = (columns.mean * columns.count + 0.5) / (columns.count + 1)
        return torch.logit(p)

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """The shares of ones."""
        self.share.copy_(columns.mean)

    def features(self, y: Tensor) -> Tensor:
        """y less the share of ones.  (R, D)"""
        return (y.to(self.share.dtype) - self.share).nan_to_num(nan=0.0)

    def outside(self, y: Tensor) -> Tensor:
        """Neither 0 nor 1."""
        return ~((y == 0) | (y == 1) | y.isnan())


class CountLikelihood(Likelihood):
    """Counts 0, 1, 2, …. Abstract."""

    domain = "counts 0, 1, 2, …"
    location: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.register_buffer("location", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def log_rate(self, out: Tensor) -> Tensor:
        """The outputs, at most 20, or 10 above the log-mean of a column of large counts: a rate must not overflow.  (…, D)"""
        return torch.minimum(out, (self.location.clamp(10.0, 30.0) + 10.0).to(out.dtype))

    def mean(self, out: Tensor) -> Tensor:
        """The rate.  (…, D)"""
        return self.log_rate(out).exp()

    def bias(self, columns: Columns) -> Tensor:
        """ln of the columns' means, with half a count.  (D,)"""
        return ((columns.mean * columns.count + 0.5) / (columns.count + 1)).log()

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Where ln(1 + y) lies: its mean about that of the mean, its spread by the delta method."""
        self.location.copy_(columns.mean.log1p())
        self.scale.copy_((columns.variance.sqrt() / (1 + columns.mean)).clamp_min(0.1))

    def features(self, y: Tensor) -> Tensor:
        """ln(1 + y), standardised.  (R, D)"""
        return ((y.to(self.location.dtype).log1p() - self.location) / self.scale).nan_to_num(nan=0.0)

    def outside(self, y: Tensor) -> Tensor:
        """Negative or broken."""
        return (y < 0) | ((y != y.round()) & ~y.isnan())


class PoissonLikelihood(CountLikelihood):
    """Poisson counts, from log-rates."""

    def cells(self, y: Tensor, out: Tensor) -> Tensor:
        """y ln λ − λ − ln y!, about its value at λ = max(y, 1): of large counts the terms cancel.  (…, R, D)"""
        y = y.to(torch.float64)
        top = y.clamp_min(1.0)
        at_top = y * top.log() - top - (y + 1).lgamma()
        off = self.log_rate(out) - top.log().to(out.dtype)
        return y.to(out.dtype) * off - top.to(out.dtype) * off.expm1() + at_top.to(out.dtype)

    def sample(self, out: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Counts.  (…, D)"""
        return torch.poisson(self.mean(out), generator=generator)

    def lint(self, columns: Columns, y: Tensor) -> list[str]:
        """Counts that vary far more than a Poisson's could."""
        ratio = float((columns.variance / columns.mean.clamp_min(1e-9)).median())
        if ratio < 5:
            return []
        return [f"the counts' variance is {ratio:.0f} times their mean: 'negative-binomial' allows for that"]


class NegativeBinomialLikelihood(CountLikelihood):
    """Overdispersed counts: a Poisson whose rate is gamma-distributed, from log-means and a learned shape for each column."""

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.log_shape = nn.Parameter(torch.zeros(n_features))

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Units, and a shape of 1."""
        super().prepare(columns)
        self.log_shape.zero_()

    def cells(self, y: Tensor, out: Tensor) -> Tensor:
        """ln Γ(y + r) − ln Γ(r) − ln y! + r ln(r / (r + μ)) + y ln(μ / (r + μ)).  (…, R, D)"""
        above = self.log_rate(out) - self.log_shape  # ln(μ / r)
        y, r = y.to(torch.float64), self.log_shape.to(torch.float64).exp()
        counts = (y + r).lgamma() - r.lgamma() - (y + 1).lgamma()  # in float64: these cancel where counts are large
        terms = r.to(out.dtype) * F.logsigmoid(-above) + y.to(out.dtype) * F.logsigmoid(above)
        return counts.to(out.dtype) + terms

    def sample(self, out: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Counts.  (…, D)"""
        mean, r = self.mean(out), self.log_shape.exp().expand_as(out)
        gamma = torch._standard_gamma(r.contiguous(), generator=generator)
        return torch.poisson(gamma * mean / r, generator=generator)


class CategoricalLikelihood(Likelihood):
    """Columns of categories coded 0, 1, …, from a logit for each symbol; `n_symbols` for every column."""

    def __init__(self, n_symbols: Sequence[int]) -> None:
        if isinstance(n_symbols, int):
            raise InputError(
                f"CategoricalLikelihood: n_symbols must be a number for each column, such as [3, 2], got {n_symbols}."
            )
        super().__init__(len(n_symbols))
        self.n_symbols = tuple(whole_number("CategoricalLikelihood", "n_symbols", v) for v in n_symbols)

    @property
    def n_outputs(self) -> int:
        """A logit for each symbol."""
        return sum(self.n_symbols)

    @property
    def n_inputs(self) -> int:
        """An indicator for each symbol."""
        return sum(self.n_symbols)

    def _log_p(self, out: Tensor) -> list[Tensor]:
        return [part.log_softmax(-1) for part in out.split(self.n_symbols, -1)]

    def cells(self, y: Tensor, out: Tensor) -> Tensor:
        """ln p of the symbol.  (…, R, D)"""
        codes = y.to(torch.int64)
        each = [
            log_p.gather(-1, codes[..., d].expand(log_p.shape[:-1]).unsqueeze(-1))
            for d, log_p in enumerate(self._log_p(out))
        ]
        return torch.cat(each, -1)

    def mean(self, out: Tensor) -> Tensor:
        """The most probable symbol.  (…, D)"""
        return torch.stack([log_p.argmax(-1) for log_p in self._log_p(out)], -1)

    def sample(self, out: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Symbols.  (…, D)"""
        drawn = []
        for log_p in self._log_p(out):
            flat = log_p.exp().reshape(-1, log_p.shape[-1])
            drawn.append(torch.multinomial(flat, 1, generator=generator).reshape(log_p.shape[:-1]))
        return torch.stack(drawn, -1)

    def bias(self, columns: Columns) -> Tensor:
        """0: what the symbols' shares are is not in the columns' means.  (n_outputs,)"""
        return torch.zeros(self.n_outputs)

    def features(self, y: Tensor) -> Tensor:
        """Indicators, all 0 where the cell is missing.  (R, ΣV)"""
        codes = y.nan_to_num(nan=-1.0).to(torch.int64) if y.is_floating_point() else y.to(torch.int64)
        each = [codes[:, d : d + 1] == torch.arange(v, device=y.device) for d, v in enumerate(self.n_symbols)]
        return torch.cat(each, -1).to(self.like.dtype)

    def outside(self, y: Tensor) -> Tensor:
        """No code of its column."""
        top = torch.tensor(self.n_symbols, device=y.device)
        return ~(((y >= 0) & (y < top) & (y == y.round())) | y.isnan())

    def config(self) -> dict[str, Any]:
        """The numbers of symbols."""
        return {"n_symbols": list(self.n_symbols)}


class ModelLikelihood(RealLikelihood):
    """p(y | out) = the evidence of a model that reads the `n_context` outputs as its context: its own z is summed exactly.

    `model`: one over rows, for instance a Mixture of NeuralGaussian. With `decoder=nn.Identity()` it reads z itself.
    """

    def __init__(self, model: Any, n_context: int) -> None:
        n_features = getattr(model, "n_features", None) or model.emission.n_features
        super().__init__(n_features)
        self.model = model
        self.n_context = whole_number("ModelLikelihood", "n_context", n_context)

    @property
    def n_outputs(self) -> int:
        """Columns of the model's context."""
        return self.n_context

    def log_prob(self, y: Tensor, out: Tensor, gaps: bool = False) -> Tensor:
        """The model's evidence.  (R, D), (…, R, C) → (…, R), nats"""
        shape = out.shape[:-1]
        rows = y.expand(*shape, y.shape[-1]).reshape(-1, y.shape[-1])
        found: Tensor = self.model.evidence(self._observed(rows, out.reshape(-1, self.n_context)))
        return found.reshape(shape)

    def _observed(self, y: Tensor, out: Tensor) -> Observations:
        weights = torch.ones(len(y), dtype=torch.float64, device=y.device)
        return Observations(y, weights, context=out, checked_by=self.model)

    def cells(self, y: Tensor, out: Tensor) -> Tensor:
        """Refused: columns may depend on each other."""
        raise InputError("ModelLikelihood: its columns are not independent given z. Use log_prob.")

    def _blank(self, out: Tensor) -> Observations:
        flat = out.reshape(-1, self.n_context)
        return self._observed(torch.full((len(flat), self.n_features), torch.nan, dtype=torch.float64), flat)

    def mean(self, out: Tensor) -> Tensor:
        """E y, the model's own.  (…, D)"""
        found: Tensor = self.model.impute(self._blank(out))
        return found.reshape(*out.shape[:-1], self.n_features)

    def sample(self, out: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The model's own draw.  (…, D)"""
        found: Tensor = self.model.sample_missing(self._blank(out), 1, generator)
        return found.reshape(*out.shape[:-1], self.n_features)

    def bias(self, columns: Columns) -> Tensor:
        """0.  (C,)"""
        return torch.zeros(self.n_context)

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Units of the columns, the model's too."""
        super().prepare(columns)
        self.model.prepare(columns)

    def config(self) -> dict[str, Any]:
        """Unsupported: the model holds a network of the user's own."""
        raise Unsupported(
            "ModelLikelihood: a file cannot describe a model with a network of your own. Save model.state_dict()."
        )


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": GaussianLikelihood,
    "network-gaussian": NetworkGaussianLikelihood,
    "bernoulli": BernoulliLikelihood,
    "poisson": PoissonLikelihood,
    "negative-binomial": NegativeBinomialLikelihood,
    "categorical": CategoricalLikelihood,
}


def likelihood_from(name: str, config: dict[str, Any]) -> Likelihood:
    """The likelihood `name` with these arguments; InputError for an unknown name."""
    if name not in LIKELIHOODS:
        raise InputError(
            f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {name!r}.{did_you_mean(name, LIKELIHOODS)}"
        )
    if name == "categorical" and "n_symbols" not in config:
        raise InputError(
            "likelihood 'categorical' needs the number of symbols of each column. Use CategoricalLikelihood([3, 2, …])."
        )
    return LIKELIHOODS[name](**config)


def name_of(likelihood: Likelihood) -> str:
    """Its name in LIKELIHOODS, else that of its class."""
    kind = type(likelihood)
    return next((name for name, cls in LIKELIHOODS.items() if cls is kind), kind.__name__)
