"""ln Z of trees by operations that autograd follows as often as asked: scaled, or in log space for what no scaling holds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from onebound.numerics import INF, logsumexp
from onebound.structures.tree_inside import at_starts, inside, scaled_down, splits, tables, times
from onebound.structures.tree_potentials import TreePotentials


def smooth(w: TreePotentials) -> Tensor:
    """ln Z of every item; the exponents, which cancel, are held fixed.  (N,) float64"""
    chart, t = inside(tables(w.detach())), tables(w)
    spans, (nt, _), x = t.spans, t.sizes, t.words
    by_left, by_right = (times(x, table, spans, 0).view(-1, nt, nt) for table in (t.left, t.right))
    blocks = {1: x}
    for d in range(2, spans.columns):
        at, left = spans.first[d], spans.left(d)
        f, _ = splits(chart.exponent, d, spans)
        if d == 2:
            raw = times((at_starts(x, d, spans)[:, :, None] * x[at:, None, :]).flatten(1), t.pair, spans, at)
        else:
            following, before = blocks[d - 1][at - spans.first[d - 1] :], blocks[d - 1][left[:, 0] - spans.first[d - 1]]
            raw = f[:, -1:] * torch.einsum("mac,mc->ma", at_starts(by_left, d, spans), following)
            raw = raw + f[:, :1] * torch.einsum("mab,mb->ma", by_right[at:], before)
        if d > 3:
            widths = range(2, d - 1)
            rights = torch.stack([blocks[q][at - spans.first[q] :] for q in widths], 1)
            lefts = torch.stack([blocks[d - q][left[:, q - 1] - spans.first[d - q]] for q in widths], 1)
            product = torch.bmm((lefts * f[:, 1:-1, None]).transpose(1, 2), rights).flatten(1)
            raw = raw + times(product, t.middle, spans, at)
        if t.allowed is not None:
            raw = raw * t.allowed[at:, d, None]
        blocks[d] = scaled_down(raw, chart.shift[at:, d])
    each = []
    for n, length in enumerate(w.lengths.tolist()):
        if length == 0:
            each.append(x.new_zeros(()).double())
            continue
        row = int(spans.top[n])
        whole = blocks[length][row - spans.first[length]]
        root = t.root[n, :nt] if length > 1 else t.root[n, nt:]
        each.append((root * whole).sum().double())
    total = torch.stack(each) if each else x.new_zeros(0).double()
    made = total > 0
    exponents = chart.exponent[spans.top, w.lengths.to(x.device)].double() if spans.rows else torch.zeros_like(total)
    log_z = torch.where(made, total, 1.0).log() + t.log_scale + exponents * math.log(2.0)
    return torch.where(made, log_z, -INF)


def log_space(w: TreePotentials) -> Tensor:
    """ln Z of every item, one after the other, in float64.  (N,)"""
    found = [_log_inside(w.select(torch.tensor([n])))[0] for n in range(len(w))]
    return torch.stack(found) if found else w.words.new_zeros(0).double()


def log_insides(w: TreePotentials) -> Tensor:
    """ln of the inside probabilities of a single item, by [start, width], words at width 1.  (n, n + 1, S)"""
    chart, (nt, p) = _log_inside(w)[1], w.sizes
    n = int(w.lengths[0])
    found = torch.full((n, n + 1, nt + p), -INF, dtype=torch.float64)
    for d, block in chart.items():
        found[: n - d + 1, d, : block.shape[1]] = block
    return found


def log_visits(w: TreePotentials) -> tuple[Tensor, Tensor]:
    """Expected visits of spans (n, n + 1, NT) by [start, width], and of words (n, P), of a single item."""
    n, nt = int(w.lengths[0]), w.sizes[0]
    extra = torch.zeros(n, n + 1, nt, dtype=torch.float64, device=w.words.device, requires_grad=True)
    words = w.words.detach().double().requires_grad_()
    with torch.enable_grad():
        found = _log_inside(w.detach().with_parts((w.root, w.binary, words)), extra)[0]
        if found.item() == -INF or n == 0:
            return torch.zeros_like(extra), torch.zeros_like(words)
        each = torch.autograd.grad(found, (extra, words), allow_unused=True)
    return torch.zeros_like(extra) if each[0] is None else each[0], each[1]


def _log_inside(w: TreePotentials, extra: Tensor | None = None) -> tuple[Tensor, dict[int, Tensor]]:
    """ln Z of a single item, and ln inside by width (n − d + 1, NT), words at 1; `extra` is added to spans' [start, width]."""
    root, binary, words = (x.double() for x in w.parts)
    root, binary = root if root.ndim == 1 else root[0], binary if binary.ndim == 3 else binary[0]
    n, nt = len(words), len(binary)
    chart = {1: words} if n else {}
    if n < 2:
        return (logsumexp(root[nt:] + words[0]) if n else words.sum() + root.new_full((), -INF)), chart
    for d in range(2, n + 1):
        m, terms, inner = n - d + 1, [], []
        for k in range(1, d):
            pair = chart[k][:m, :, None] + chart[d - k][k : k + m, None, :]
            if 1 < k < d - 1:
                inner.append(pair)
                continue
            a, b = (slice(nt, None) if size == 1 else slice(0, nt) for size in (k, d - k))
            terms.append(logsumexp((binary[:, a, b] + pair[:, None]).flatten(2)))
        if inner:
            pair = logsumexp(torch.stack(inner), 0)
            terms.append(logsumexp((binary[:, :nt, :nt] + pair[:, None]).flatten(2)))
        here = logsumexp(torch.stack(terms), 0)
        if extra is not None:
            here = here + extra[:m, d]
        chart[d] = here if w.allowed is None else here.masked_fill(~w.allowed[d - 1 :, d - 1 : d], -INF)
    return logsumexp(root[:nt] + chart[n][0]), chart
