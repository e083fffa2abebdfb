"""The exact E step of a hidden Markov model on one sequence that is longer than memory: read forwards, then backwards.

Forwards only the message at the end of each piece is kept, K numbers. Backwards every piece is a chain of its own: it starts
from the message that came in from before it, and its last row holds the one from behind it, so ln Z and all marginals are
those of the whole sequence. Between two pieces p(z_{t−1} = i | z_t = j, y) depends on the past alone, and is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from onebound.emissions import Emission
from onebound.numerics import INF
from onebound.observations import Observations
from onebound.statistics import ChainSums, Statistics
from onebound.streamed import Streamed
from onebound.structures import Chain, ChainPotentials
from onebound.structures.chain_gradients import death

# Blocks whose densities are computed at once: enough rows for a compiled pass to be worth its load.
UNARY_BLOCKS = 4


class EmittingChain(Protocol):
    """What is needed of an HMM."""

    emission: Emission

    @property
    def block_rows(self) -> int: ...


@dataclass
class LongSums:
    """Of one sequence: ln p(y), expected starts (K,) and steps (K, K), and the emission's statistics; of weight 1.

    `dead`: the step at which everything has died, where ln p(y) = −inf.
    """

    log_partition: float
    start: Tensor
    transition: Tensor
    emission: Statistics | None = None
    dead: int | None = None


@dataclass
class _Boundary:
    """Before a piece: ln p(z of its first row, y before it), and the sum at the row above; both less `added`.  (K,)"""

    ahead: Tensor
    above: Tensor | None = None
    added: float = 0.0


def long_pass(model: EmittingChain, obs: Streamed, start: Tensor, steps: Tensor, *, statistics: bool) -> LongSums:
    """Two passes over the pieces of `obs`, which holds one sequence; without statistics one and a piece more."""
    from onebound.kernels.chain_pieces import carried  # brings the compiler's runtime

    boundaries, rows = [_Boundary(start)], 0
    forwards = steps.T.contiguous().numpy()
    for piece in obs.pieces():
        here = boundaries[-1]
        message, above, added = carried(here.ahead.numpy(), _unary(model, piece).numpy(), forwards)
        if not math.isfinite(added) or message.max() == -INF:
            return LongSums(-INF, start, steps, dead=rows + _death(model, piece, here.ahead, steps))
        boundaries.append(_Boundary(torch.from_numpy(message), torch.from_numpy(above), here.added + added))
        rows += piece.n_rows
    found = LongSums(math.nan, torch.zeros_like(start), torch.zeros_like(steps))
    behind: Tensor | None = None
    for piece, here in zip(obs.pieces(backwards=True), boundaries[-2::-1], strict=False):
        log_z = _add(found, model, piece, here, steps, behind, statistics=statistics)
        if behind is None:
            found.log_partition = log_z + here.added
        if not statistics:
            break
        rest = torch.zeros_like(start) if behind is None else behind
        message, _, _ = carried(rest.numpy(), _unary(model, piece).flip(0).numpy(), steps.contiguous().numpy())
        behind = torch.from_numpy(message)
    return found


def _unary(model: EmittingChain, piece: Observations) -> Tensor:
    """ln p(y_t | z_t = k).  (n, K)"""
    blocks: Iterator[Observations] = piece.as_rows().blocks(UNARY_BLOCKS * model.block_rows)
    return torch.cat([model.emission.log_prob(block.y, block.context) for block in blocks])


def _death(model: EmittingChain, piece: Observations, ahead: Tensor, steps: Tensor) -> int:
    w = ChainPotentials(ahead, steps, _unary(model, piece), torch.tensor([piece.n_rows]))
    assert float(Chain(w).log_partition[0]) == -INF  # else NonFinite has been raised: NaN is no zero probability
    return death(w)


def _add(
    found: LongSums,
    model: EmittingChain,
    piece: Observations,
    here: _Boundary,
    steps: Tensor,
    behind: Tensor | None,
    *,
    statistics: bool,
) -> float:
    """Add the sums of a piece, which has `behind` (K,) after its last row; its ln Z, nats."""
    alone = replace(piece, weights=torch.ones(1, dtype=torch.float64))
    fused = model.emission.chain_pass(alone, here.ahead, steps, statistics=statistics, tail=behind)
    if fused is None or not bool(fused.log_partition.isfinite().all()):
        fused = _in_rows(model, alone, here.ahead, steps, behind)
    found.transition += fused.transition
    if here.above is None:
        found.start += fused.initial
    else:
        joint = here.above.unsqueeze(-1) + steps - here.ahead  # ln p(z_{t−1} = i | z_t = j)
        found.transition += joint.masked_fill(here.ahead == -INF, -INF).exp() * fused.initial
    if fused.emission is not None:
        found.emission = fused.emission if found.emission is None else found.emission + fused.emission
    return float(fused.log_partition[0])


def _in_rows(
    model: EmittingChain, piece: Observations, ahead: Tensor, steps: Tensor, behind: Tensor | None
) -> ChainSums:
    """What `chain_pass` leaves, from the marginals of every row."""
    unary = _unary(model, piece)
    if behind is not None:
        unary = torch.cat([unary[:-1], unary[-1:] + behind])
    chain = Chain(ChainPotentials(ahead, steps, unary, torch.tensor([len(unary)])))
    used = chain.summed(piece.weights)
    emission, at = None, 0
    for block in piece.as_rows().blocks(model.block_rows):
        more = model.emission.statistics(block.y, used.unary[at : at + block.n_rows])
        emission = more if emission is None else emission + more
        at += block.n_rows
    return ChainSums(chain.log_partition, used.start, used.transition, emission)
