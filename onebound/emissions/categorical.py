"""Emissions that are tables of probabilities: Bernoulli, categorical and multinomial columns.

All three are linear in counts of symbols: ln p(y | k) = Σ counts · ln p_k + base(y). The expected statistics are the same
counts under the responsibilities, and the M step normalises them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onebound.emissions.base import Emission
from onebound.emissions.priors import Beta, Dirichlet
from onebound.errors import InputError, whole_number
from onebound.numerics import INF, Simplex, weighted
from onebound.observations import Columns
from onebound.statistics import Statistics

# Symbols in all columns beyond which rows are not spelled out as zeros and ones, and the columns of what stands for them.
MANY_SYMBOLS, PROJECTED = 1024, 64


class TableEmission(Emission):
    """G groups of V symbols, a distribution each, for every component. Abstract.

    An exact zero, given or reached by EM, leaves the support: that symbol then has ln p = −inf.
    """

    how_maximized = "normalised expected counts"

    def __init__(self, n_components: int, n_features: int, valid: Tensor) -> None:
        super().__init__(n_components, n_features)
        self.n_groups, self.n_symbols_max = valid.shape
        self.valid = valid  # (G, V): columns may have fewer symbols than the widest one
        self.table = Simplex((n_components, *valid.shape), valid.expand(n_components, -1, -1))

    @abstractmethod
    def counts(self, y: Tensor) -> Tensor:
        """How often each symbol occurs in each row, 0 for missing cells.  (N, D) → (N, G, V)"""

    def base_measure(self, y: Tensor) -> Tensor | None:
        """The part of ln p(y | k) that no parameter touches, or None for 0.  (N,)"""
        return None

    def pseudo_counts(self) -> Tensor | None:
        """What the prior adds to the counts, broadcast against (K, G, V), or None."""
        return None

    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln p(y | k), nats, −inf where y holds a symbol that k cannot make.  (N, D) → (N, K)"""
        counts = self.counts(y).flatten(1)  # (N, GV)
        support = self.table.support
        log_p = self.table.log_probabilities().masked_fill(~support, 0.0).flatten(1)  # (K, GV)
        out = counts @ log_p.T
        forbidden = (~support & self.valid).flatten(1)
        if bool(forbidden.any()):
            # Forbidden events are counted apart, since 0 · (−inf) inside a matrix product is NaN.
            out = out.masked_fill(counts @ forbidden.to(counts).T > 0, -INF)
        base = self.base_measure(y)
        return out if base is None else out + base.unsqueeze(-1)

    @torch.no_grad()
    def sample(self, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None) -> Tensor:
        """One symbol a group for each component number in z.  (N,) → (N, G) float64"""
        cdf = self.table.probabilities()[z].cumsum(-1)  # (N, G, V)
        u = torch.rand(*cdf.shape[:2], 1, dtype=torch.float64, generator=generator) * cdf[..., -1:]
        return (u >= cdf).sum(-1).to(torch.float64)

    @property
    def row_cells(self) -> int:
        """One number for every symbol."""
        return self.n_groups * self.n_symbols_max

    def n_parameters(self) -> int:
        """Supported probabilities less one for each distribution."""
        return self.table.n_free()

    def statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """Expected counts (K, G, V) and the base measure (K,)."""
        counts = (weights.T @ self.counts(y).flatten(1)).unflatten(1, self.valid.shape)
        base = self.base_measure(y)
        zero = torch.zeros(self.n_components, dtype=torch.float64)
        return Statistics({"counts": counts, "base": zero if base is None else weights.T @ base})

    def expected_log_prob(self, statistics: Statistics) -> Tensor:
        """Σ expected counts · ln p + base.  (K,), nats"""
        counts = statistics.tensor("counts")
        return weighted(counts, self.table.log_probabilities()).sum((-2, -1)) + statistics.tensor("base")

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """p ∝ expected counts (+ pseudo-counts). A distribution that nothing was counted for stays as it is."""
        counts = statistics.tensor("counts")
        extra = self.pseudo_counts()
        if extra is not None:
            counts = counts + extra * self.valid
        total = counts.sum(-1, keepdim=True)
        empty = total <= 0
        self.table.assign(torch.where(empty, self.table.probabilities(), counts))
        silent = [k for k in range(self.n_components) if bool(empty[k].all())]
        return [f"component {k} has no weight: it keeps its probabilities" for k in silent]

    def log_prior(self) -> Tensor:
        """Σ pseudo-counts · ln p, nats, up to a constant."""
        extra = self.pseudo_counts()
        if extra is None:
            return super().log_prior()
        return weighted((extra * self.valid).expand_as(self.table.logits), self.table.log_probabilities()).sum()

    def coordinates(self, y: Tensor) -> Tensor:
        """The counts as points.  (N, GV)"""
        return self.counts(y).flatten(1)

    @torch.no_grad()
    def assign(self, probabilities: Any) -> None:
        """Set the probabilities (K, G, V); zeros leave the support. Columns with fewer symbols end in zeros."""
        p = torch.as_tensor(probabilities, dtype=torch.float64)
        shape = tuple(self.table.logits.shape)
        if (
            p.shape != shape
            or bool((p < 0).any())
            or bool((p.sum(-1) <= 0).any())
            or bool((p > 0)[:, ~self.valid].any())
        ):
            raise InputError(
                f"{type(self).__name__}.assign: expected probabilities ≥ 0 of shape {shape}, positive in sum, "
                f"got shape {tuple(p.shape)}."
            )
        self.table.assign(p)


class Categorical(TableEmission):
    """D columns of symbols coded 0, 1, …, V_d − 1, independent within a component; NaN is a missing answer.

    >>> Categorical(2, [3, 2]).n_parameters()
    6
    """

    domain = "codes 0, 1, …, V − 1 of a category"

    def __init__(self, n_components: int, n_symbols: Sequence[int], *, prior: Dirichlet | None = None) -> None:
        if not isinstance(n_symbols, Sequence) or not n_symbols:
            raise InputError(f"Categorical: n_symbols must list a number ≥ 1 for each column, got {n_symbols!r}.")
        sizes = [whole_number("Categorical", "n_symbols", v) for v in n_symbols]
        valid = torch.arange(max(sizes)) < torch.tensor(sizes).unsqueeze(-1)  # (D, V)
        super().__init__(n_components, len(sizes), valid)
        self.n_symbols, self.prior = sizes, prior

    @property
    def probability(self) -> Tensor:
        """p(symbol v in column d | k).  (K, D, V)"""
        return self.table.probabilities().detach()

    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln p(y | k), nats, −inf where y holds a symbol that k cannot make: looked up, whatever V is.  (N, D) → (N, K)"""
        log_p = torch.nn.functional.pad(self.table.log_probabilities(), (0, 1))  # a missing cell has ln p = 0
        by_column = log_p.permute(1, 2, 0)  # (D, V + 1, K)
        codes = self._codes(y)
        out = by_column[0].index_select(0, codes[:, 0])
        for d in range(1, self.n_features):
            out = out + by_column[d].index_select(0, codes[:, d])
        return out

    def statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """Expected counts (K, D, V): each row's weights are added where its code is."""
        codes, k = self._codes(y), self.n_components
        nothing = weights.new_zeros(self.n_symbols_max + 1, k)
        counts = [nothing.index_add(0, codes[:, d], weights)[:-1].T for d in range(self.n_features)]
        return Statistics({"counts": torch.stack(counts, 1), "base": torch.zeros(k, dtype=torch.float64)})

    def _codes(self, y: Tensor) -> Tensor:
        """Whole numbers, V where a cell is missing.  (N, D)"""
        return y.to(torch.float64).nan_to_num(nan=self.n_symbols_max).long()

    @property
    def row_cells(self) -> int:
        """A code for each column."""
        return self.n_features

    def coordinates(self, y: Tensor) -> Tensor:
        """One-hot rows; where there are many symbols, a fixed random projection, in which they are as far apart.  (N, F)"""
        symbols = self.n_groups * self.n_symbols_max
        if symbols <= MANY_SYMBOLS:
            return super().coordinates(y)
        shape = (self.n_features, self.n_symbols_max + 1, PROJECTED)
        place = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / PROJECTED**0.5
        place[:, -1] = 0.0
        codes = self._codes(y)
        return torch.stack([place[d][codes[:, d]] for d in range(self.n_features)]).sum(0)

    def counts(self, y: Tensor) -> Tensor:
        """One-hot, all 0 for a missing cell."""
        codes = y.to(torch.float64).unsqueeze(-1)  # (N, D, 1); NaN equals no symbol
        return (codes == torch.arange(self.n_symbols_max)).to(torch.float64)

    def impute(self, y: Tensor, responsibilities: Tensor, context: Tensor | None = None) -> Tensor:
        """y with its missing cells at the code v that is most probable, Σ_k r_k p_k(v).  (N, D), (N, K) → (N, D)"""
        p = (responsibilities @ self.probability.flatten(1)).unflatten(1, self.valid.shape)  # (N, D, V)
        return torch.where(y.isnan(), p.argmax(-1).to(y.dtype), y)

    def outside(self, y: Tensor) -> Tensor:
        """Cells that are no code of their column."""
        y = y.to(torch.float64)
        return (y < 0) | (y >= torch.tensor(self.n_symbols)) | (y != y.floor()) & ~y.isnan()

    def pseudo_counts(self) -> Tensor | None:
        """concentration − 1."""
        return torch.tensor(self.prior.concentration - 1.0, dtype=torch.float64) if self.prior else None

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments but the prior."""
        return {
            "n_components": self.n_components,
            "n_symbols": self.n_symbols,
        }


class Bernoulli(TableEmission):
    """D columns of zeros and ones, independent within a component; NaN is a missing cell.

    >>> Bernoulli(2, 5).probability.shape
    torch.Size([2, 5])
    """

    domain = "zeros and ones"

    def __init__(self, n_components: int, n_features: int, *, prior: Beta | None = None) -> None:
        d = whole_number("Bernoulli", "n_features", n_features)
        super().__init__(n_components, d, torch.ones(d, 2, dtype=torch.bool))
        self.prior = prior

    @property
    def probability(self) -> Tensor:
        """p(y_d = 1 | k).  (K, D)"""
        return self.table.probabilities()[..., 1].detach()

    @torch.no_grad()
    def assign(self, probability: Any) -> None:
        """Set p(y_d = 1 | k) (K, D)."""
        p = torch.as_tensor(probability, dtype=torch.float64)
        super().assign(torch.stack([1 - p, p], -1))

    def counts(self, y: Tensor) -> Tensor:
        """Zeros and ones of each cell, both 0 if it is missing."""
        y = y.to(torch.float64)
        return torch.stack([1 - y, y], -1).nan_to_num(nan=0.0)

    def conditional_mean(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """p(y_d = 1 | k), whatever is observed.  (N, D) → (N, K, D)"""
        return self.probability.expand(len(y), -1, -1)

    def outside(self, y: Tensor) -> Tensor:
        """Cells that are neither 0 nor 1."""
        return (y != 0) & (y != 1) & ~y.isnan()

    def pseudo_counts(self) -> Tensor | None:
        """b − 1 zeros, a − 1 ones."""
        return torch.tensor([self.prior.b - 1.0, self.prior.a - 1.0], dtype=torch.float64) if self.prior else None

    def coordinates(self, y: Tensor) -> Tensor:
        """The ones, missing cells at ½.  (N, D)"""
        return y.to(torch.float64).nan_to_num(nan=0.5)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments but the prior."""
        return {
            "n_components": self.n_components,
            "n_features": self.n_features,
        }


class Multinomial(TableEmission):
    """A row of counts over V symbols: ln p = ln n! − Σ ln y_v! + Σ y_v ln p_v, with n the row's own sum.

    >>> Multinomial(2, 4).n_parameters()
    6
    """

    domain = "counts 0, 1, 2, …"
    takes_missing = False
    unit: Tensor

    def __init__(self, n_components: int, n_symbols: int, *, prior: Dirichlet | None = None) -> None:
        v = whole_number("Multinomial", "n_symbols", n_symbols)
        super().__init__(n_components, v, torch.ones(1, v, dtype=torch.bool))
        self.prior = prior
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))

    @property
    def probability(self) -> Tensor:
        """p(v | k).  (K, V)"""
        return self.table.probabilities()[:, 0].detach()

    @torch.no_grad()
    def assign(self, probability: Any) -> None:
        """Set p(v | k) (K, V)."""
        super().assign(torch.as_tensor(probability, dtype=torch.float64).unsqueeze(1))

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Take the mean row sum as the unit of the features."""
        self.unit.copy_(columns.mean.sum().clamp_min(1.0).sqrt())

    def counts(self, y: Tensor) -> Tensor:
        """The counts themselves."""
        return y.to(torch.float64).unsqueeze(1)

    def base_measure(self, y: Tensor) -> Tensor:
        """ln of the multinomial coefficient.  (N,)"""
        y = y.to(torch.float64)
        return torch.lgamma(y.sum(-1) + 1) - torch.lgamma(y + 1).sum(-1)

    def outside(self, y: Tensor) -> Tensor:
        """Negative or fractional counts."""
        return (y < 0) | (y != y.floor())

    def pseudo_counts(self) -> Tensor | None:
        """concentration − 1."""
        return torch.tensor(self.prior.concentration - 1.0, dtype=torch.float64) if self.prior else None

    @torch.no_grad()
    def sample(
        self, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None, *, total: int = 1
    ) -> Tensor:
        """`total` draws a row, counted.  (N,) → (N, V)"""
        p = self.probability[z]
        draws = torch.multinomial(p, total, replacement=True, generator=generator)
        return torch.zeros_like(p).scatter_add_(-1, draws, torch.ones_like(draws, dtype=p.dtype))

    def coordinates(self, y: Tensor) -> Tensor:
        """Shares of the row's sum.  (N, V)"""
        y = y.to(torch.float64)
        return y / y.sum(-1, keepdim=True).clamp_min(1.0)

    def features(self, y: Tensor) -> Tensor:
        """The counts, in units of the square root of the mean row sum.  (N, V)"""
        return y.to(torch.float64) / self.unit

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments but the prior."""
        return {
            "n_components": self.n_components,
            "n_symbols": self.n_features,
        }
