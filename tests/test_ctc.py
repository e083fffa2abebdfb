"""ctc_loss: torch's arguments, right for any scores, twice differentiable, and with reasons."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import onebound.functional as ours
from onebound.errors import InputError, InputTypeError, NonFinite

INF = math.inf


def case(t: int, b: int, c: int, u: int, sd: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores (T, B, C) in float64 and labels (B, U) without the blank 0."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(t, b, c, generator=g, dtype=torch.float64) * sd, torch.randint(1, c, (b, u), generator=g)


def oracle(x: np.ndarray, labels: list[int], blank: int = 0) -> tuple[float, np.ndarray]:
    """ln Z and the expected use of every score (T, C), in log space, a vector of states at a time."""
    states = [blank]
    for label in labels:
        states += [label, blank]
    s, t = np.array(states), len(x)
    leap = np.zeros(len(s), bool)
    leap[3::2] = s[3::2] != s[1:-2:2]

    def forward(e: np.ndarray) -> np.ndarray:
        a = np.full((t, len(s)), -INF)
        a[0, :2] = e[0, :2]
        for i in range(1, t):
            one = np.concatenate([[-INF], a[i - 1, :-1]])
            two = np.where(leap, np.concatenate([[-INF, -INF], a[i - 1, :-2]])[: len(s)], -INF)
            a[i] = np.logaddexp(np.logaddexp(a[i - 1], one), two) + e[i]
        return a

    e = x[:, s]
    with np.errstate(invalid="ignore"):
        a = forward(e)
        log_z = float(np.logaddexp.reduce(a[-1, -2:]))
        mirrored = leap.copy()
        leap = np.concatenate([[False, False], mirrored[2:][::-1]]) if len(s) > 2 else leap
        b = forward(e[::-1, ::-1])[::-1, ::-1]
        each = np.exp(a + b - e - log_z)  # both count the score of the frame itself
    used = np.zeros_like(x)
    for k, label in enumerate(s):
        used[:, label] += np.nan_to_num(each[:, k])
    return log_z, used


def gradient(x: Tensor, labels: Tensor, **options: object) -> tuple[Tensor, Tensor]:
    """Losses and the gradient of their sum."""
    x = x.clone().requires_grad_()
    n = x.shape[1]
    loss = ours.ctc_loss(
        x, labels, torch.full((n,), len(x)), torch.full((n,), labels.shape[1]), reduction="none", **options
    )
    (g,) = torch.autograd.grad(loss.sum(), x)
    return loss.detach(), g


# --- the numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[], [1], [1, 1], [1, 2], [2, 1, 2], [1, 2, 2]])
@pytest.mark.parametrize("blank", [0, 2])
def test_the_loss_is_the_sum_over_all_alignments(labels: list[int], blank: int) -> None:
    labels = [3 if label == blank else label for label in labels]
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total, used = 0.0, torch.zeros(4, 4, dtype=torch.float64)
    for path in itertools.product(range(4), repeat=4):
        merged = [label for label, _ in itertools.groupby(path)]
        if [label for label in merged if label != blank] == labels:
            p = math.exp(sum(float(x[t, c]) for t, c in enumerate(path)))
            total += p
            used[range(4), list(path)] += p
    y = x.clone().requires_grad_()
    loss = ours.ctc_loss(y, torch.tensor(labels, dtype=torch.int64), [4], [len(labels)], blank=blank, reduction="none")
    if total == 0:
        assert loss.item() == INF
        return
    assert loss.item() == pytest.approx(-math.log(total), rel=1e-12)
    (g,) = torch.autograd.grad(loss, y)
    torch.testing.assert_close(g, -used / total, rtol=1e-11, atol=1e-12)


HARD = {
    "sd 1": (1000, 30, 100, 1.0),
    "sd 4": (1000, 30, 100, 4.0),
    "sd 8": (1000, 30, 100, 8.0),
    "sd 16": (1000, 30, 100, 16.0),
    "sd 60": (200, 30, 60, 60.0),
    "long": (3000, 40, 1000, 1.0),
    "long, sd 8": (3000, 40, 1000, 8.0),
    "tight": (118, 10, 100, 3.0),
    "a block": (60, 10, 15, 2.0),
    "a block and one": (60, 10, 16, 2.0),
}


@pytest.mark.parametrize("name", sorted(HARD))
@pytest.mark.parametrize("logits", [False, True])
def test_hard_scores_are_right(name: str, logits: bool) -> None:
    t, c, u, sd = HARD[name]
    x, labels = case(t, 1, c, u, sd)
    loss, g = gradient(x, labels, from_logits=logits)
    log_z, used = oracle(x[:, 0].numpy(), labels[0].tolist())
    norm = float(x.logsumexp(-1).sum()) if logits else 0.0
    assert loss.item() == pytest.approx(norm - log_z, rel=1e-9)
    wanted = (x.softmax(-1)[:, 0].numpy() if logits else 0.0) - used
    np.testing.assert_allclose(g[:, 0], wanted, atol=1e-9)


def test_a_network_that_says_blank_everywhere_is_right() -> None:
    x, labels = case(1000, 1, 30, 100)
    p = torch.full_like(x, 1e-5 / 29)
    p[..., 0] = 1 - 1e-5
    loss, g = gradient(p.log() + 0.01 * x, labels)
    log_z, used = oracle((p.log() + 0.01 * x)[:, 0].numpy(), labels[0].tolist())
    assert loss.item() == pytest.approx(-log_z, rel=1e-9)
    np.testing.assert_allclose(g[:, 0], -used, atol=1e-9)


def test_scores_that_no_float64_can_hold_are_done_again_and_right() -> None:
    """Within a frame the labels lie 800 nats below the blank, then above it: exp of one is 0 beside the other."""
    x, labels = case(80, 1, 12, 20, 1.0)
    x[:40, :, 0] += 800
    x[40:, :, 0] -= 800
    loss, g = gradient(x, labels)
    log_z, used = oracle(x[:, 0].numpy(), labels[0].tolist())
    assert loss.item() == pytest.approx(-log_z, rel=1e-9)
    np.testing.assert_allclose(g[:, 0], -used, atol=1e-9)


@pytest.mark.parametrize("logits", [False, True])
def test_float32_is_as_good_as_its_scores(logits: bool) -> None:
    x, labels = case(300, 4, 40, 50, 3.0)
    single, g = gradient(x.float(), labels, from_logits=logits)
    double, wanted = gradient(x.float().double(), labels, from_logits=logits)
    assert single.dtype == g.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(g.double(), wanted, rtol=1e-5, atol=1e-6)
    half, _ = gradient(x.half(), labels, from_logits=logits)
    assert half.dtype == torch.float32


# --- torch's semantics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("form", ["padded", "joined", "tuples", "single"])
@pytest.mark.parametrize("blank", [0, 3])
def test_values_and_gradients_are_torchs(reduction: str, form: str, blank: int) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 5, 9, generator=g, dtype=torch.float64)
    labels = torch.randint(1, 9, (5, 7), generator=g)
    labels[labels == blank] = 1 if blank else 8
    if blank:
        labels[labels == blank] = 4
    frames, sizes = [30, 25, 12, 30, 7], [7, 3, 5, 1, 2]
    targets = torch.cat([row[:n] for row, n in zip(labels, sizes, strict=True)]) if form == "joined" else labels
    lengths = (tuple(frames), tuple(sizes)) if form == "tuples" else (torch.tensor(frames), torch.tensor(sizes))
    if form == "single":
        x, targets, lengths = x[:, 0], labels[0], (torch.tensor([30]), torch.tensor([7]))
    found = []
    for loss in (functional.ctc_loss, ours.ctc_loss):
        y = x.clone().requires_grad_()
        value = loss(y.log_softmax(-1), targets, *lengths, blank=blank, reduction=reduction)
        weights = torch.arange(1.0, value.numel() + 1, dtype=torch.float64).reshape(value.shape)
        found.append((value.detach(), torch.autograd.grad((value * weights).sum(), y)[0]))
    assert found[0][0].shape == found[1][0].shape
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-9, atol=1e-11)
    y = x.clone().requires_grad_()
    fused = ours.ctc_loss(y, targets, *lengths, blank=blank, reduction=reduction, from_logits=True)
    torch.testing.assert_close(fused.detach(), found[0][0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad((fused * weights).sum(), y)[0], found[0][1], rtol=1e-9, atol=1e-11)


def test_an_item_without_alignment_is_infinite_with_a_reason_and_never_touches_its_neighbours() -> None:
    x, labels = case(8, 4, 6, 5)
    labels[1] = torch.tensor([2, 2, 2, 2, 2])  # needs 9 frames
    x[3, 2] = -INF
    x = x.requires_grad_()
    frames, sizes = [8, 8, 8, 3], [5, 5, 5, 5]
    loss = ours.ctc_loss(x, labels, frames, sizes, reduction="none")
    assert loss.isinf().tolist() == [False, True, True, True]
    (g,) = torch.autograd.grad(loss[0] + loss[1:].nan_to_num(posinf=0.0).sum(), x)
    assert bool(g.isfinite().all())
    assert bool((g[:, 1:] == 0).all())
    alone, _ = gradient(x.detach()[:, :1], labels[:1])
    assert loss[0].item() == alone.item()
    zeros = ours.ctc_loss(x, labels, frames, sizes, reduction="sum", zero_infinity=True)
    assert zeros.item() == loss[0].item()
    (g,) = torch.autograd.grad(zeros, x)
    assert bool(g.isfinite().all())
    assert ours.ctc_infeasible(x, labels, frames, sizes) == [
        None,
        "5 labels and 4 blanks between repeated ones need 9 frames, got 8",
        "every alignment meets a score of −inf",
        "5 labels need 5 frames, got 3",
    ]


def test_nothing_to_say_and_nothing_heard() -> None:
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([[1], [1], [1]])
    loss = ours.ctc_loss(x, labels, [4, 0, 0], [0, 0, 1], reduction="none")
    assert loss[0].item() == pytest.approx(-float(x[:, 0, 0].sum()))
    assert loss[1].item() == 0.0
    assert loss[2].item() == INF
    assert ours.ctc_loss(x, labels, [4, 4, 4], [0, 0, 0]).item() == pytest.approx(-float(x[:, :, 0].sum(0).mean()))


def test_forbidden_scores_are_exactly_forbidden() -> None:
    x, labels = case(20, 1, 8, 4)
    x[5:9, :, 0] = -INF
    x[12, :, int(labels[0, 1])] = -INF
    loss, g = gradient(x, labels)
    log_z, used = oracle(x[:, 0].numpy(), labels[0].tolist())
    assert loss.item() == pytest.approx(-log_z, rel=1e-10)
    np.testing.assert_allclose(g[:, 0], -used, atol=1e-12)
    assert bool((g[5:9, :, 0] == 0).all())


# --- derivatives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [False, True])
def test_derivatives_are_right_twice_for_scores_that_are_not_normalised(logits: bool) -> None:
    x, labels = case(6, 3, 4, 2)
    frames, sizes = torch.tensor([6, 5, 2]), torch.tensor([2, 1, 2])
    labels[2] = 1  # needs three frames and has two: +inf, here 0

    def loss(y: Tensor) -> Tensor:
        return ours.ctc_loss(y, labels, frames, sizes, reduction="none", zero_infinity=True, from_logits=logits)

    x = (x * 2).requires_grad_()
    assert torch.autograd.gradcheck(loss, (x,))
    assert torch.autograd.gradgradcheck(loss, (x,))


def test_the_gradient_is_minus_the_expected_use_whatever_is_added_to_a_frame() -> None:
    x, labels = case(30, 2, 6, 5)
    _, g = gradient(x, labels)
    _, moved = gradient(x + torch.randn(30, 2, 1, generator=torch.Generator().manual_seed(3)).double(), labels)
    torch.testing.assert_close(moved, g, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(g.sum(-1), -torch.ones(30, 2, dtype=torch.float64))


def test_the_same_bits_for_any_company_and_any_number_of_threads() -> None:
    x, labels = case(60, 9, 12, 11, 3.0)
    loss, g = gradient(x, labels)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            other, h = gradient(x, labels)
            assert torch.equal(loss, other)
            assert torch.equal(g, h)
    finally:
        torch.set_num_threads(before)
    for i in range(9):
        alone, h = gradient(x[:, i : i + 1].contiguous(), labels[i : i + 1])
        assert alone.item() == loss[i].item()
        assert torch.equal(h[:, 0], g[:, i])


@pytest.mark.parametrize(("t", "u"), [(400, 60), (151, 150), (2001, 12)])
def test_threads_that_share_an_item_leave_the_same_bits(t: int, u: int) -> None:
    x, labels = case(t, 1, 9, u, sd=3.0)
    labels[0, 1::2], labels[0, ::2] = 1, 2  # the shortest path is no longer than the labels
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(gradient(x, labels, from_logits=True))
    finally:
        torch.set_num_threads(before)
    (loss, once), (again, twice) = found
    assert torch.equal(loss, again)
    assert torch.equal(once, twice)
    assert t * (u + 1) > 20_000  # else no item is shared


def test_a_second_backward_pass_and_a_scaled_one_say_the_same() -> None:
    x, labels = case(30, 3, 6, 5)
    x.requires_grad_()
    loss = ours.ctc_loss(x, labels, [30] * 3, [5] * 3, from_logits=True)
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss, x, torch.tensor(3.0).to(loss), retain_graph=True)
    torch.testing.assert_close(second, 3 * kept, rtol=1e-12, atol=0.0)
    assert torch.equal(first, kept)
    (graphed,) = torch.autograd.grad(loss, x, create_graph=True)
    torch.testing.assert_close(graphed, kept, rtol=1e-12, atol=1e-300)


def test_bad_input_is_named() -> None:
    x, labels = case(8, 2, 6, 3)
    good = ([8, 8], [3, 3])
    for wrong, says in {
        "rank": (lambda: ours.ctc_loss(x[0, 0], labels, *good), r"\(T, B, C\) or \(T, C\), got shape \(6,\)"),
        "type": (lambda: ours.ctc_loss(x, labels, *good, reduction="max"), "one of mean, sum, none, got 'max'"),
        "blank": (lambda: ours.ctc_loss(x, labels, *good, blank=6), r"blank must be a class, 0 … 5, got 6"),
        "frames": (lambda: ours.ctc_loss(x, labels, [8, 9], [3, 3]), "at most the 8 frames, got 9 for item 1"),
        "negative": (lambda: ours.ctc_loss(x, labels, [8, -1], [3, 3]), r"2 whole numbers ≥ 0"),
        "short": (lambda: ours.ctc_loss(x, labels, [8, 8], [3, 4]), "at least 4 labels for each of 2 items"),
        "joined": (lambda: ours.ctc_loss(x, labels.reshape(-1), [8, 8], [3, 2]), "Σ target_lengths, 5, got 6"),
        "blank among": (
            lambda: ours.ctc_loss(x, torch.tensor([[1, 2, 3], [1, 0, 3]]), *good),
            r"other than the blank 0, got 0 \(the blank\) at place 1 of item 1",
        ),
        "range": (
            lambda: ours.ctc_loss(x, torch.tensor([[1, 2, 9], [1, 2, 3]]), *good),
            r"got 9 \(outside 0 … 5\) at place 2 of item 0",
        ),
    }.values():
        with pytest.raises(InputError, match=says):
            wrong()
    with pytest.raises(InputTypeError, match=r"log_probs must be a float tensor, got torch\.int64"):
        ours.ctc_loss(x.long(), labels, *good)
    with pytest.raises(InputTypeError, match=r"targets must be an integer tensor, got torch\.float64"):
        ours.ctc_loss(x, labels.double(), *good)
    for value in (math.nan, INF):
        for logits in (False, True):
            bad = x.clone()
            bad[5, 1, 0] = value
            with pytest.raises(NonFinite, match=r"in item 1, frame 5, class 0"):
                ours.ctc_loss(bad, labels, *good, from_logits=logits)
    silent = x.clone()
    silent[2, 1] = -INF
    with pytest.raises(NonFinite, match="−inf for all classes in item 1, frame 2"):
        ours.ctc_loss(silent, labels, *good, from_logits=True)
