"""Rows grouped by which of their cells are observed: one factorisation of Σ serves every row of a pattern."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onebound.errors import NonFinite

# Numbers in the matrices of the patterns that are worked on together: half a MiB of float64, which stays in cache.
MATRIX_CELLS = 2**16
# Filling that costs less than another group would.
FREE_ROWS = 256
# Columns whose pattern fits the bits of one int64.
BITS = 62


@dataclass(frozen=True)
class Group:
    """P patterns with about equally many rows each, so that batched products serve them all.

    `observed` (P, D); `rows` (P, n) are row numbers, a short pattern being filled up with its own first row; `real`
    (P, n) says which are no such filling.
    """

    observed: Tensor
    rows: Tensor
    real: Tensor


def grouped(observed: Tensor, matrix_cells: int) -> list[Group]:
    """The rows of `observed` (N, D) by pattern; a pattern takes matrices of `matrix_cells` numbers in all."""
    _, pattern, counts = torch.unique(_codes(observed), return_inverse=True, return_counts=True)
    order = pattern.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    groups = []
    for alike in _alike(counts):
        for members in alike.split(max(1, MATRIX_CELLS // matrix_cells)):
            size = counts[members].unsqueeze(-1)  # (P, 1)
            step = torch.arange(int(size.max()), device=observed.device)
            real = step < size  # (P, n)
            rows = order[starts[members].unsqueeze(-1) + torch.where(real, step, 0)]
            groups.append(Group(observed[rows[:, 0]], rows, real))
    return groups


def _alike(counts: Tensor) -> list[Tensor]:
    """The patterns in groups, such that filling each up to the largest of its group costs little."""
    ranked, pattern = counts.sort()
    found, start, real = [], 0, 0
    for end, size in enumerate(ranked.tolist()):
        if size * (end + 1 - start) > 2 * (real + size) + FREE_ROWS:
            found.append(pattern[start:end])
            start, real = end, 0
        real += size
    return [*found, pattern[start:]] if real else []


def _codes(observed: Tensor) -> Tensor:
    """A whole number for each row, equal where the patterns are.  (N, D) → (N,)"""
    code = torch.zeros(len(observed), dtype=torch.int64, device=observed.device)
    for columns in observed.split(BITS, dim=-1):
        powers = 2 ** torch.arange(columns.shape[1], device=observed.device)
        bits = (columns * powers).sum(-1)
        if observed.shape[1] > BITS:  # renumbered, so that the codes of several stretches fit one number
            bits = torch.unique(bits, return_inverse=True)[1]
            code = torch.unique(code, return_inverse=True)[1] * (bits.max() + 1)
        code = code + bits
    return code


class Conditional:
    """x = μ + d under N(μ_k, Σ_k), given the observed cells of P patterns: read off one Cholesky factor for each.

    With the observed columns first, Σ = L Lᵀ in blocks L_o, L_mo, L_m. Then v = L_o⁻¹ d_o is white, E d_m = L_mo v and
    Cov d_m = L_m L_mᵀ: positive by construction, where Σ_mm − Σ_mo Σ_oo⁻¹ Σ_om would cancel. Differentiable in Σ.
    """

    def __init__(self, covariance: Tensor, observed: Tensor, owner: str) -> None:
        """`covariance` (K or 1, D, D), `observed` (P, D); NonFinite names the component whose Σ cannot be factored."""
        first = (~observed).to(torch.uint8).argsort(dim=-1, stable=True)  # (P, D)
        self.observed = observed
        self._back = first.argsort(-1)
        self._seen = observed.gather(-1, first)  # (P, D): true, then false
        self._factor, info = torch.linalg.cholesky_ex(covariance[:, first.unsqueeze(-1), first.unsqueeze(-2)])
        if bool(info.any()):
            raise NonFinite(
                f"{owner}: every covariance must be positive definite in float64, but that of component "
                f"{int(info.nonzero()[0, 0])} is not. Lower the learning rate or raise floor."
            )

    @property
    def whitener(self) -> Tensor:
        """W with W d = v, whose squares add up to the Mahalanobis norm of the observed cells.  (K, P, D, D)"""
        identity = torch.eye(self.observed.shape[-1], dtype=self._factor.dtype, device=self._factor.device)
        inverse = torch.linalg.solve_triangular(self._factor, identity.expand_as(self._factor), upper=False)
        inverse = inverse.masked_fill(~self._seen.unsqueeze(-1), 0.0)
        return torch.take_along_dim(inverse, self._back.unsqueeze(-2).unsqueeze(0), -1)

    @property
    def _root(self) -> Tensor:
        """L with its rows where the columns were."""
        return torch.take_along_dim(self._factor, self._back.unsqueeze(-1).unsqueeze(0), -2)

    @property
    def regression(self) -> Tensor:
        """B with E[d | d_o] = B d: the identity on observed cells, Σ_mo Σ_oo⁻¹ on missing ones.  (K, P, D, D)"""
        product = self._root.masked_fill(~self._seen.unsqueeze(-2), 0.0) @ self.whitener
        identity = torch.eye(self.observed.shape[-1], dtype=product.dtype, device=product.device)
        return torch.where(self.observed.unsqueeze(-1), identity, product)

    @property
    def spread(self) -> Tensor:
        """S with S Sᵀ = Cov[d | d_o], 0 in observed cells.  (K, P, D, D)"""
        return self._root.masked_fill(self._seen.unsqueeze(-2), 0.0)

    @property
    def log_det_observed(self) -> Tensor:
        """ln |Σ_oo|, 0 where nothing is observed.  (K, P)"""
        return self._log_diagonal().masked_fill(~self._seen, 0.0).sum(-1)

    @property
    def log_det_missing(self) -> Tensor:
        """ln |Cov[d_m | d_o]|.  (K, P)"""
        return self._log_diagonal().masked_fill(self._seen, 0.0).sum(-1)

    def _log_diagonal(self) -> Tensor:
        return 2 * self._factor.diagonal(dim1=-2, dim2=-1).log()


def in_order(parts: list[Tensor], rows: list[Tensor], dim: int) -> Tensor:
    """Parts that belong to `rows`, put together along `dim` in the order of the rows."""
    return torch.cat(parts, dim).index_select(dim, torch.cat(rows).argsort())
