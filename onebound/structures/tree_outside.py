"""From whole sentences down to words: expected uses of rules, roots and words, and entropies, from an inside chart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onebound.structures.tree_inside import Chart, at_starts, outer, pairs, scaled_down, splits, times


@dataclass
class Outside:
    """∂ Σ seed ln Z with respect to the numbers of `Tables` and of the chart."""

    root: Tensor  # (N, S)
    middle: Tensor
    left: Tensor
    right: Tensor
    pair: Tensor
    words: Tensor  # (R, P)
    inside: Tensor  # (R, columns, NT): times b, the expected visits
    largest: Tensor  # (R,) of all that a span makes, before it is scaled: what a loss there would count


@torch.no_grad()
def outside(chart: Chart, seeds: Tensor) -> Outside:
    """All of it, weighted with `seeds` (N,) in the sentences' own order."""
    t = chart.tables
    spans, nt, b = t.spans, t.sizes[0], chart.inside
    top, n, given = spans.top, _lengths(chart), torch.zeros_like(b)
    total = chart.at_top.sum(1)
    seed = torch.where(total > 0, seeds.to(total) / torch.where(total > 0, total, 1.0), 0.0)
    whole = seed[:, None] * t.root
    words = torch.zeros_like(t.words)
    nothing = [torch.zeros_like(x) for x in (t.middle, t.left, t.right, t.pair)]
    if not spans.rows:
        return Outside(
            torch.zeros_like(t.root), nothing[0], nothing[1], nothing[2], nothing[3], words, given, words.sum(1)
        )
    longer = (n > 1).nonzero().flatten()
    given[top[longer], n[longer]] = whole[longer, :nt]
    single = (n == 1).nonzero().flatten()
    words[top[single]] = whole[single, nt:]
    root = seed[:, None] * torch.cat([b[top, n], t.words[top]], 1) * (chart.at_top > 0)
    found = Outside(root, nothing[0], nothing[1], nothing[2], nothing[3], words, given, words.amax(1))
    _widths(chart, found)
    return found


def _lengths(chart: Chart) -> Tensor:
    spans = chart.tables.spans
    return torch.zeros_like(spans.sorted).index_copy(0, spans.order, spans.sorted).to(chart.inside.device)


def _widths(chart: Chart, to: Outside) -> None:
    """Widest spans first; what words take from them is contracted once, at the end."""
    t, b = chart.tables, chart.inside
    spans, (nt, p), x, given = t.spans, t.sizes, t.words, to.inside
    flat = given.flatten(0, 1)
    # of every span: what its split into a word and the rest takes, and the rest, by where the word is
    by_left, rest, by_right = torch.zeros_like(b), torch.zeros_like(b), torch.zeros_like(b)
    for d in range(spans.longest, 1, -1):
        at, cells = spans.first[d], spans.cells(d)
        raw = scaled_down(given[at:, d], chart.shift[at:, d])
        if t.allowed is not None:
            raw = raw * t.allowed[at:, d, None]
        to.largest[at:] = torch.maximum(to.largest[at:], raw.abs().amax(1))
        if d == 2:
            starts = spans.left(2)[:, 0]
            left, right = x[starts], x[at:]
            to.pair += outer((left[:, :, None] * right[:, None, :]).flatten(1), raw, t.pair, spans, at)
            both = times(raw, t.pair.transpose(-1, -2), spans, at).view(-1, p, p)
            to.words[at:] += torch.bmm(left[:, None], both).squeeze(1)
            to.words.index_add_(0, starts, torch.bmm(both, right[:, :, None]).squeeze(-1))
            continue
        f, _ = splits(chart.exponent, d, spans)
        starts = spans.left(d)[:, -1]
        used, following = raw * f[:, -1:], b[at:, d - 1]
        by_left[starts, d], rest[starts, d] = used, following
        given[at:, d - 1] += torch.bmm(used[:, None], at_starts(chart.by_left, d, spans)).squeeze(1)
        used = raw * f[:, :1]
        by_right[at:, d] = used
        flat.index_add_(0, cells[:, 0], torch.bmm(used[:, None], chart.by_right[at:]).squeeze(1))
        if d > 3:
            product, left, right = pairs(b, f, d, spans)
            to.middle += outer(product, raw, t.middle, spans, at)
            product = times(raw, t.middle.transpose(-1, -2), spans, at).view(-1, nt, nt)
            given[at:, 2 : d - 1] += torch.bmm(left, product)
            left = torch.bmm(right, product.transpose(1, 2)) * f[:, 1:-1, None]
            flat.index_add_(0, cells[:, 1:-1].flatten(), left.flatten(0, 1))
    if spans.longest > 2:
        before = b[spans.before, 2 : spans.longest]
        for used, parts, name in ((by_left, rest[:, 3:], "left"), (by_right, before, "right")):
            each = torch.bmm(used[:, 3:].transpose(1, 2), parts).flatten(1)
            table, into = getattr(t, name), getattr(to, name)
            into += outer(x, each, table, spans, 0)
            to.words.add_(times(each, table.transpose(-1, -2), spans, 0))


@torch.no_grad()
def entropies(chart: Chart, found: Outside) -> Tensor:
    """Σ over spans of expected visits times the entropy of the choice there, from `outside` with seeds of 1.  (N,)"""
    t, b = chart.tables, chart.inside
    spans, x = t.spans, t.words
    of_rows = torch.zeros(spans.rows, dtype=b.dtype, device=b.device)
    logs = _surprises(chart)
    by_left, by_right, middle, pair = logs
    for d in range(2, spans.columns):
        at = spans.first[d]
        f, _ = splits(chart.exponent, d, spans)
        if d == 2:
            both = (at_starts(x, d, spans)[:, :, None] * x[at:, None, :]).flatten(1)
            inner = times(both, pair, spans, at) + times(_xlogx(both), t.pair, spans, at)
        else:
            a, c = b[at:, d - 1], b.flatten(0, 1)[spans.cells(d)[:, 0]]
            inner = _word_terms(at_starts(chart.by_left, d, spans), at_starts(by_left, d, spans), a, f[:, -1:])
            inner = inner + _word_terms(chart.by_right[at:], by_right[at:], c, f[:, :1])
        if d > 3:
            product, left, right = pairs(b, f, d, spans)
            log_product = torch.bmm(_xlogx(left).transpose(1, 2), right) + torch.bmm(
                left.transpose(1, 2), _xlogx(right)
            )
            inner = inner + times(product, middle, spans, at) + times(log_product.flatten(1), t.middle, spans, at)
        shift = chart.shift[at:, d]
        each = scaled_down(found.inside[at:, d], shift) * (_xlogx(scaled_down(b[at:, d], -shift)) - inner)
        if t.allowed is not None:
            each = each * t.allowed[at:, d, None]
        of_rows[at:] += each.clamp_min(0.0).sum(1)
    n = len(spans.order)
    total = torch.zeros(n, dtype=b.dtype, device=b.device).index_add(0, spans.sentence, of_rows)
    root = chart.at_top / chart.at_top.sum(1, keepdim=True).clamp_min(torch.finfo(b.dtype).tiny)
    return total - _xlogx(root).sum(1)


def _surprises(chart: Chart) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of rules with a word on the left, on the right: Σ_p t ln t for every word; of the others W ln W."""
    t, nt = chart.tables, chart.tables.sizes[0]
    found = []
    for w in (t.left, t.right):
        each = times(t.words, _xlogx(w), t.spans, 0) + times(_xlogx(t.words), w, t.spans, 0)
        found.append(each.view(-1, nt, nt))
    return found[0], found[1], _xlogx(t.middle), _xlogx(t.pair)


def _word_terms(rules: Tensor, logs: Tensor, rest: Tensor, f: Tensor) -> Tensor:
    """Σ t ln t over t = f · rule · rest.  (M, NT, NT) twice, (M, NT), (M, 1) → (M, NT)"""
    plain, more = torch.bmm(rules, rest[:, :, None]).squeeze(-1), torch.bmm(rules, _xlogx(rest)[:, :, None]).squeeze(-1)
    return f * (torch.bmm(logs, rest[:, :, None]).squeeze(-1) + more + f.log() * plain)


def _xlogx(x: Tensor) -> Tensor:
    return torch.special.xlogy(x, x)
