"""Inside and outside over dense binary rules: one width of all sentences at a time, as matrix products on scaled numbers.

A span keeps its inside probabilities as b · 2^e with max b in [½, 1). A split of a span has the factor f = 2^(e_left + e_right
− max over splits), so that nothing is larger than 1. Preterminals are in spans of one word only, and nonterminals in none:
    both parts longer than a word     raw = W · Σ_k f_k b_left b_rightᵀ         one batched product, then one product
    a word on the left, or right      raw = f (Σ_p W[·, p, ·] b_p) b_rest       contracted once for each word
What underflows is less than the smallest normal number, and counts as much as a span's outside value says: it is
bounded by `reach`, and an item that comes near is done again in float64, or by `log_inside`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onebound.numerics import INF
from onebound.structures.tree_potentials import TreePotentials
from onebound.structures.tree_spans import Spans, spans_of

# The exponent of a span that nothing makes: far below every other, and sums of two stay exact in float32.
NOTHING = -(2.0**22)
# An outside value up to which a loss below the smallest normal number is far below rounding.
REACH = {torch.float32: 2.0**80, torch.float64: 2.0**940}


@dataclass
class Tables:
    """Rules, words and roots as numbers ≤ 1, by how they are used; `log_scale` (N,) float64 is what that took from ln Z."""

    spans: Spans
    root: Tensor  # (N, S), the sentences' own order
    middle: Tensor  # [N,] NT · NT, NT   both parts are nonterminals
    left: Tensor  # [N,] P, NT · NT      a word on the left: [p, A, C]
    right: Tensor  # [N,] P, NT · NT     a word on the right: [p, A, B]
    pair: Tensor  # [N,] P · P, NT       two words
    words: Tensor  # (R, P), the layout's order
    allowed: Tensor | None
    log_scale: Tensor
    kept: Tensor  # () boolean: every potential above −inf is a normal number here

    @property
    def sizes(self) -> tuple[int, int]:
        """NT, P."""
        return self.middle.shape[-1], self.words.shape[-1]


def tables(w: TreePotentials) -> Tables:
    """Potentials as numbers; differentiable, the scales held fixed."""
    spans, (nt, p) = spans_of(w.lengths, w.words.device), w.sizes
    root = w.root.expand(len(w), -1)
    tops = [top_of(x.detach(), dims) for x, dims in ((root, (1,)), (w.binary, (-3, -2, -1)), (w.words, (1,)))]
    words, rules, roots = (
        (x - top).exp() for x, top in zip((w.words, w.binary, root), (tops[2], tops[1], tops[0]), strict=True)
    )
    used = (w.lengths - 1).clamp_min(0)
    scale = tops[0].flatten().double() + used * tops[1].flatten().double()
    scale = scale.index_add(0, w.row_sequence, tops[2].flatten().double())
    middle, left, right, pair = rules[..., :nt, :nt], rules[..., nt:, :nt], rules[..., :nt, nt:], rules[..., nt:, nt:]
    lead = [spans.order.to(rules.device)] if rules.ndim == 4 else []  # rules of each sentence go longest first

    def flat(x: Tensor, order: tuple[int, ...], sizes: tuple[int, int]) -> Tensor:
        x = x[lead[0]] if lead else x
        dims = tuple(range(x.ndim - 3)) + tuple(x.ndim - 3 + i for i in order)
        return x.permute(dims).reshape(*x.shape[:-3], *sizes)

    return Tables(
        spans,
        roots,
        flat(middle, (1, 2, 0), (nt * nt, nt)),
        flat(left, (1, 0, 2), (p, nt * nt)),
        flat(right, (2, 0, 1), (p, nt * nt)),
        flat(pair, (1, 2, 0), (p * p, nt)),
        words[spans.word],
        spans.allowed(w.allowed),
        scale,
        ~torch.stack([_lost(*pair) for pair in ((words, w.words), (rules, w.binary), (roots, root))]).any(),
    )


def top_of(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The largest entry over `dims`, kept; 0 where there is none above −inf."""
    top = x.amax(dims, keepdim=True)
    return torch.where(top == -INF, 0.0, top)


def _lost(x: Tensor, logarithm: Tensor) -> Tensor:
    return ((x < torch.finfo(x.dtype).tiny) & (logarithm > -INF)).any()


@dataclass
class Chart:
    """Inside numbers b (R, columns, NT) with exponents (R, columns); `shift` is what each span was scaled by."""

    tables: Tables
    inside: Tensor
    exponent: Tensor
    shift: Tensor
    by_left: Tensor  # (R, NT, NT)  rules with a word on the left, [A, C]
    by_right: Tensor  # (R, NT, NT)  with a word on the right, [A, B]
    at_top: Tensor  # (N, S)  root · b of the whole sentence
    log_partition: Tensor  # (N,) float64
    whole: bool  # nothing of account has underflowed; else an outside pass tells of which sentences


def times(x: Tensor, w: Tensor, spans: Spans, at: int) -> Tensor:
    """Rows x (M, q) from row `at` of the layout on, times w (q, r), or times that of each row's sentence (N, q, r)."""
    if w.ndim == 2:
        return x @ w
    if spans.even:
        return torch.bmm(x.reshape(-1, len(w), x.shape[1]).transpose(0, 1), w).transpose(0, 1).reshape(len(x), -1)
    found = x.new_zeros(len(x), w.shape[2])
    for s in range(len(w)):
        rows = spans.rows_of(s)
        rows = rows[rows >= at] - at
        found = found.index_copy(0, rows, x[rows] @ w[s])
    return found


def outer(x: Tensor, y: Tensor, like: Tensor, spans: Spans, at: int) -> Tensor:
    """Σ over rows of x yᵀ, of each sentence's rows where `like` has a sentence's rules each."""
    if like.ndim == 2:
        return x.T @ y
    if spans.even:
        n = len(like)
        return torch.bmm(x.reshape(-1, n, x.shape[1]).permute(1, 2, 0), y.reshape(-1, n, y.shape[1]).transpose(0, 1))
    found = torch.zeros_like(like)
    for s in range(len(like)):
        rows = spans.rows_of(s)
        rows = rows[rows >= at] - at
        found[s] = x[rows].T @ y[rows]
    return found


def at_starts(x: Tensor, d: int, spans: Spans) -> Tensor:
    """Rows of x at the first words of the spans of width d."""
    return x[: len(x) - spans.first[d]] if spans.even else x[spans.left(d)[:, -1]]


def splits(chart_e: Tensor, d: int, spans: Spans) -> tuple[Tensor, Tensor]:
    """The factor of each split, right parts of width 1, 2, …, and the exponent that all of them share.  (M, d − 1), (M,)"""
    e = chart_e.flatten()[spans.cells(d)] + chart_e[spans.first[d] :, 1:d]
    top = e.amax(1)
    return torch.where(e > NOTHING / 2, e - top[:, None], 0.0).exp2(), top  # where nothing is made the factor is unread


@torch.no_grad()
def inside(t: Tables) -> Chart:
    """From words to whole sentences."""
    spans, nt, x = t.spans, t.sizes[0], t.words
    b, e = x.new_zeros(spans.rows, spans.columns, nt), x.new_zeros(spans.rows, spans.columns)
    shift = torch.zeros_like(e)
    if spans.columns > 1:
        e[:, 1] = torch.where(x.amax(1) > 0, 0.0, NOTHING)
    by_left = times(x, t.left, spans, 0).view(-1, nt, nt)
    by_right = times(x, t.right, spans, 0).view(-1, nt, nt)
    lost = _Losses(t)
    for d in range(2, spans.columns):
        at = spans.first[d]
        f, top = splits(e, d, spans)
        if d == 2:
            both = (at_starts(x, d, spans)[:, :, None] * x[at:, None, :]).flatten(1)
            raw = times(both, t.pair, spans, at)
        else:
            raw = f[:, -1:] * torch.bmm(at_starts(by_left, d, spans), b[at:, d - 1, :, None]).squeeze(-1)
            before = b.flatten(0, 1)[spans.cells(d)[:, 0]]
            raw += f[:, :1] * torch.bmm(by_right[at:], before.unsqueeze(-1)).squeeze(-1)
        if d > 3:
            raw += times(pairs(b, f, d, spans)[0], t.middle, spans, at)
        if t.allowed is not None:
            raw *= t.allowed[at:, d, None]
        most, s = torch.frexp(raw.amax(1))
        s = s.to(raw.dtype)
        b[at:, d] = scaled_down(raw, s)
        e[at:, d] = torch.where(most > 0, top + s, NOTHING)
        shift[at:, d] = s
        lost.see(f, raw, b[at:, d])
    at_top, log_z = _ended(t, b, e)
    return Chart(t, b, e, shift, by_left, by_right, at_top, log_z, lost.none(at_top))


def scaled_down(x: Tensor, s: Tensor) -> Tensor:
    """x (M, NT) times 2^−s (M,), in halves: 2^1074 has no room in one number."""
    half = (s / 2).floor()
    return x * (-half).exp2()[:, None] * (half - s).exp2()[:, None]


def pairs(b: Tensor, f: Tensor, d: int, spans: Spans) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_k f_k left_k right_kᵀ over splits into two nonterminals, f · left, and right.  (M, NT²), (M, K, NT) twice"""
    right = b[spans.first[d] :, 2 : d - 1]
    left = b.flatten(0, 1).index_select(0, spans.cells(d)[:, 1:-1].flatten()).view(right.shape) * f[:, 1:-1, None]
    return torch.bmm(left.transpose(1, 2), right).flatten(1), left, right


def _ended(t: Tables, b: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """root · b of whole sentences (N, S), and ln Z (N,) float64."""
    spans, (nt, _) = t.spans, t.sizes
    n = spans.sorted.new_zeros(len(spans.sorted)).index_copy(0, spans.order, spans.sorted).to(b.device)
    if not spans.rows:
        return torch.zeros_like(t.root), torch.full_like(t.log_scale, -INF)
    whole = torch.cat([b[spans.top, n], t.words[spans.top]], 1)
    single = torch.arange(whole.shape[1], device=b.device) >= nt
    whole = whole * torch.where((n == 1)[:, None], single, ~single) * (n > 0)[:, None]
    at_top = t.root * whole
    log_z = at_top.sum(1).double().log() + e[spans.top, n].double() * torch.log(torch.tensor(2.0).double())
    return at_top, torch.where(
        at_top.sum(1) > 0, log_z + t.log_scale, torch.where(at_top.sum(1).isnan(), torch.nan, -INF)
    )


class _Losses:
    """Whether nothing of account can have underflowed, from the least numbers that were multiplied or made."""

    def __init__(self, t: Tables) -> None:
        self.tables = t
        rules = torch.stack([least(x) for x in (t.middle, t.left, t.right, t.pair, t.root)])
        self.rule = rules.amin()
        self.part, self.factor = least(t.words), self.rule.new_ones(())
        self.made = self.rule.new_ones(())

    def see(self, f: Tensor, raw: Tensor, b: Tensor) -> None:
        """The factors of a width's splits, and what they made."""
        if len(f):
            self.factor = torch.minimum(self.factor, f.amin())
            self.made = torch.minimum(self.made, raw.amin())
            self.part = torch.minimum(self.part, least(b))

    def none(self, at_top: Tensor) -> bool:
        """Either no product was below the smallest normal number, or every outside value is within reach."""
        dtype = at_top.dtype
        kept = self.part * self.part * self.factor * self.rule > torch.finfo(dtype).tiny
        made = torch.minimum(self.made, at_top.sum(1).amin()) if len(at_top) else self.made
        return bool((kept & self.tables.kept) | (made > 1 / REACH[dtype]))


def least(x: Tensor) -> Tensor:
    """The least entry above 0; 1 where there is none."""
    return torch.where(x > 0, x, 1.0).amin() if x.numel() else x.new_ones(())
