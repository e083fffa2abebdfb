"""−ln Z of alignments as a loss: reduced, and its gradient with it, in one call of the kernel and one node of autograd."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from onebound.structures import alignment_gradients
from onebound.structures.alignment_potentials import AlignmentPotentials


class Said(NamedTuple):
    """What N items say: `labels` one item after the other, `starts` (N + 1,) in them, `frames` (N,), and the blank."""

    labels: Any
    starts: Any
    frames: Any
    blank: int

    def potentials(self, scores: Tensor) -> AlignmentPotentials:
        """With scores (T, N, C) or (T, C)."""
        frames, labels, sizes = (torch.from_numpy(x) for x in (self.frames, self.labels, np.diff(self.starts)))
        return AlignmentPotentials(
            scores.reshape(-1, scores.shape[-1]), frames, labels, sizes, self.blank, len(self.frames)
        )


def loss(scores: Tensor, said: Said, weights: Any, each: bool, zero_infinity: bool, logits: bool, who: str) -> Tensor:
    """−weights · ln Z of scores (T, N, C) or (T, C): of each item (N,), or their sum.

    Where ln Z is −∞ it is +∞, or with `zero_infinity` 0, and the gradient is 0. Twice differentiable.
    """
    found: Tensor = _Loss.apply(scores, said, weights, each, zero_infinity, logits, who)
    return found


class _Loss(Function):
    """The gradient is computed with the loss, and kept for one use."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, said: Said, weights: Any, each: bool, zero_infinity: bool, logits: bool, who: str
    ) -> Tensor:
        from onebound.kernels.alignment_items import Items  # Numba loads in half a second.

        x = scores.detach().cpu().numpy()
        n, rows = len(said.frames), np.ascontiguousarray(x).reshape(-1, x.shape[-1])
        data = Items(rows, said.labels, said.starts, np.arange(n), max(n, 1), said.frames, said.blank, logits)
        needed = ctx.needs_input_grad[0]
        log_z, gradient = alignment_gradients.summed(data, -weights if needed else None, who)
        losses = -log_z
        if zero_infinity:
            losses[losses == np.inf] = 0.0
        if needed:
            ctx.save_for_backward(scores)
            ctx.given = said, weights, logits, who
            ctx.gradient = torch.from_numpy(gradient.reshape(x.shape))
        losses *= weights
        if each:
            return torch.from_numpy(losses).to(scores)
        return torch.tensor(losses.sum(), dtype=scores.dtype, device=scores.device)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (scores,) = ctx.saved_tensors
        said, weights, logits, who = ctx.given
        if torch.is_grad_enabled():  # a further derivative is wanted
            w = said.potentials(scores)
            ones = torch.from_numpy(alignment_gradients.together(w, logits, np.ones(len(weights)), who)[1])
            along = -torch.from_numpy(weights).to(upstream) * upstream
            found = alignment_gradients.Gradient.apply(w.scores, ones.to(scores.device), along, w.detach(), logits)
            return found.reshape(scores.shape), None, None, None, None, None, None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # backward was called before, with retain_graph
            w = said.potentials(scores.detach())
            gradient = torch.from_numpy(alignment_gradients.together(w, logits, -weights, who)[1]).reshape(scores.shape)
        if upstream.ndim:
            upstream = upstream.cpu().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            gradient.mul_(upstream.unsqueeze(-1) if gradient.ndim == 3 else upstream)
        elif upstream != 1.0:
            gradient.mul_(upstream.cpu())
        return gradient.to(scores.device), None, None, None, None, None, None
