"""z is an alignment: a path over the frames of an item that says its labels in order, with blanks between; CTC's latent."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from onebound.errors import InputError, whole_number
from onebound.numerics import INF, weighted
from onebound.structures import alignment_gradients
from onebound.structures.alignment_potentials import AlignmentPotentials
from onebound.structures.base import Structure
from onebound.structures.paths import Draws


class Alignment(Structure):
    """N distributions over paths, from `AlignmentPotentials` whose frames lie one below the other.

    A path z holds a state for every frame: 2 u is the blank before label u (2 U the last one), 2 u + 1 label u. It starts in
    the first two, ends in the last two, and from frame to frame stays, moves on by one, or skips the blank between two labels
    that differ. Scores need not be normalised; −inf forbids. Source: Graves et al. 2006, section 4.

    >>> scores = torch.zeros(3, 2, dtype=torch.float64)  # three frames; the blank and one label
    >>> w = AlignmentPotentials(scores, torch.tensor([3]), torch.tensor([1]), torch.tensor([1]))
    >>> q = Alignment(w)
    >>> q.log_partition.exp().round().tolist(), q.argmax.tolist(), round(float(q.entropy.exp()))
    ([6.0], [0, 0, 1], 6)
    """

    log_potentials: AlignmentPotentials

    def __init__(self, log_potentials: AlignmentPotentials) -> None:
        if log_potentials.step is not None:
            raise InputError("Alignment: the frames of an item must lie one below the other (step = None).")
        super().__init__(log_potentials)

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.log_potentials)

    @cached_property
    def log_partition(self) -> Tensor:
        """ln Z, nats; 0 for no frames and no labels; NonFinite where a score is NaN or +inf.  (N,) float64"""
        w = self.log_potentials
        if w.requires_grad:
            return alignment_gradients.log_partition(w).to(torch.float64)
        return self._together[0]

    @cached_property
    def _together(self) -> tuple[Tensor, Tensor]:
        """ln Z and the expected uses of scores that are fixed: one call leaves both."""
        ones, device = np.ones(self.n_items), self.log_potentials.scores.device
        log_z, used = alignment_gradients.together(self.log_potentials, False, ones, "Alignment")
        return torch.from_numpy(log_z).to(device), torch.from_numpy(used).to(device)

    @cached_property
    def entropy(self) -> Tensor:
        """H(z_T) + Σ_t H(z_t | z_{t+1}), nats: every term is ≥ 0, so nothing cancels.   Equation (1).  (N,)"""
        return alignment_gradients.entropy(self.log_potentials)

    @property
    def marginals(self) -> Tensor:
        """Expected uses of every score: p(frame t is in a state of class c).  (R, C)"""
        w = self.log_potentials
        return alignment_gradients.uses(w) if w.requires_grad else self._together[1]

    def occupancies(self, n: int) -> Tensor:
        """p(frame t of item n is in state s), blanks and labels in turn.  (T_n, 2 U_n + 1) float64"""
        from onebound.kernels.alignment_log import occupancies

        one = self.log_potentials.detach().select(slice(n, n + 1))
        scores, frames, labels = one.arrays()
        found = np.zeros((int(frames[0]), 2 * len(labels) + 1))
        occupancies(scores, 0, labels, one.blank, found)
        return torch.from_numpy(found)

    def weighted_marginals(self, weights: Tensor) -> Tensor:
        """The marginals, those of each item times its weight (N,)."""
        return self.marginals * weights[self.log_potentials.row_sequence].unsqueeze(-1).to(self.marginals.dtype)

    def expected(self, log_potentials: AlignmentPotentials) -> Tensor:  # type: ignore[override]
        """E of other scores along the path, with 0 · (−inf) = 0.  (N,)"""
        other = log_potentials.scores.to(torch.float64)
        each = weighted(self.marginals.to(torch.float64), other).sum(-1)
        return self.log_potentials.by_item(each)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z) for paths z (R,) or (S, R), nats; −inf for what is no path.  (N,) or (S, N)"""
        rows = len(self.log_potentials.scores)
        if z.shape[-1] != rows:
            raise InputError(
                f"Alignment.log_prob: z must hold a state for each of the {rows} frames, got shape {tuple(z.shape)}."
            )
        return self.log_potentials.path_scores(z) - torch.where(self.infeasible, 0.0, self.log_partition)

    @property
    def argmax(self) -> Tensor:
        """The best path of every item; 0 where there is none. Among equals the one whose last states are lower.  (R,)"""
        from onebound.kernels.alignment_log import best_path

        w = self.log_potentials.detach()
        scores, _, _ = w.arrays()
        found = np.zeros(len(scores), np.int64)

        def work(n: int, first: int, frames: int, labels: Any) -> None:
            best_path(scores, first, frames, labels, w.blank, found)

        alignment_gradients.each_item(w, work)
        return torch.from_numpy(found)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n paths of every item, by forward filtering and backward sampling; state 0 where there is none.  (n, R)"""
        from onebound.kernels.alignment_log import draws

        n, w = whole_number("Alignment.sample", "n", n), self.log_potentials.detach()
        scores, _, _ = w.arrays()
        uniforms = torch.rand(n, len(scores), dtype=torch.float64, generator=generator).numpy()
        found = np.zeros((n, len(scores)), np.int64)

        def work(i: int, first: int, frames: int, labels: Any) -> None:
            draws(scores, first, frames, labels, w.blank, uniforms, found)

        alignment_gradients.each_item(w, work)
        return torch.from_numpy(found)

    def detach(self) -> Self:
        """The same distributions, held fixed."""
        return type(self)(self.log_potentials.detach()) if self.log_potentials.requires_grad else self

    def restrict(self, log_potentials: AlignmentPotentials) -> Self:  # type: ignore[override]
        """Self without the scores that `log_potentials` forbids."""
        w = self.log_potentials
        return type(self)(w.with_scores(w.scores.masked_fill(log_potentials.scores == -INF, -INF)))

    def empirical(self, z: Tensor) -> Draws:  # type: ignore[override]
        """The distribution of the draws z (S, R), each with mass 1/S."""
        return Draws(z, self.log_potentials, self.infeasible)

    def why_infeasible(self, n: int) -> str:
        """Too few frames, or a score of −inf on every path."""
        return f": {why(self.log_potentials, n)}"

    def select(self, index: slice | Tensor) -> Self:
        """The distributions of the items in `index`."""
        return type(self)(self.log_potentials.select(index))


def why(w: AlignmentPotentials, n: int) -> str:
    """Why item n has no path, if it has none."""
    size, need, frames = int(w.sizes[n]), int(w.need[n]), int(w.frames[n])
    if need <= frames:
        return "every alignment meets a score of −inf"
    between = f" and {need - size} blank{'s' * (need > size + 1)} between repeated ones" if need > size else ""
    return f"{size} labels{between} need {need} frames, got {frames}"
