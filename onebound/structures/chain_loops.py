"""Chains in plain torch, one step after the other: what runs where the kernels do not, and differentiates to any order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from onebound.numerics import INF, log_normalize, logsumexp, weighted
from onebound.structures.chain_potentials import ChainPotentials


class Summary(NamedTuple):
    """ln Z, H and the expectation of values along the path, nats.  (N,) each"""

    log_partition: Tensor
    entropy: Tensor
    expected: Tensor


def summary(w: ChainPotentials, values: ChainPotentials | None = None) -> Summary:
    """By one recursion from the last step to the first; the sequences that have a step t are a prefix, longest first."""
    v = w if values is None else values
    order = w.lengths.argsort(descending=True, stable=True)
    begins, lengths = w.ends[:-1][order], w.lengths[order]
    k = w.unary.shape[-1]
    beta = rest = ahead = w.unary.new_zeros(0, k)  # ln of what may follow, its entropy, its expected values
    for t in range(int(lengths.max()) - 1, -1, -1):
        live = int((lengths > t).sum())
        if len(beta):
            rows = begins[: len(beta)] + t + 1
            step = w.transition if w.transition.ndim == 2 else w.transition[rows]
            joint = step + (w.unary[rows] + beta).unsqueeze(-2)  # (n, K, K)
            before = logsumexp(joint)  # (n, K)
            log_next = log_normalize(joint, before)
            following = log_next.exp()
            gain = (v.transition if v.transition.ndim == 2 else v.transition[rows]) + (v.unary[rows] + ahead).unsqueeze(
                -2
            )
            rest = weighted(following, rest.unsqueeze(-2) - log_next).sum(-1)
            ahead = weighted(following, gain).sum(-1)
            beta = before
        ended = beta.new_zeros(live - len(beta), k)
        beta, rest, ahead = (torch.cat([x, ended]) for x in (beta, rest, ahead))
    first = begins[: len(beta)]
    joint = w.start + w.unary[first] + beta
    log_z = logsumexp(joint)
    log_first = log_normalize(joint, log_z)
    q = log_first.exp()
    entropy = weighted(q, rest - log_first).sum(-1)
    expected = weighted(q, v.start + v.unary[first] + ahead).sum(-1)
    empty = log_z.new_zeros(len(lengths) - len(first))
    back = order.argsort()
    return Summary(*(torch.cat([x, empty])[back] for x in (log_z, entropy, expected)))


def marginals(w: ChainPotentials, weights: Tensor) -> ChainPotentials:
    """∇ Σ weight · ln Z, with a graph where the potentials have one."""
    graph = w.requires_grad
    with torch.enable_grad():
        leaf = w if graph else w.with_parts(p.detach().requires_grad_() for p in w.parts)
        log_z = summary(leaf).log_partition
        total = weighted(weights, log_z.masked_fill(log_z == -INF, 0.0)).sum()
        found = torch.autograd.grad(total, leaf.parts, create_graph=graph, materialize_grads=True)
    return w.with_parts(found)
