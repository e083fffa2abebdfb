"""ctc_loss held against torch's own references, sample inputs, and the cases that torch tests its loss with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import onebound.functional as ours
from onebound.errors import InputError, InputTypeError

common_nn = pytest.importorskip("torch.testing._internal.common_nn", reason="torch's own references need expecttest")
reference = common_nn.ctcloss_reference


def scores(t: int, b: int, c: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(t, b, c, generator=g, dtype=dtype).log_softmax(-1).requires_grad_()


def labels(b: int, u: int, c: int, seed: int = 0, first: int = 1) -> Tensor:
    return torch.randint(first, c, (b, u), generator=torch.Generator().manual_seed(seed))


def through_torch(x: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """Value and gradient of the scores before a softmax: what is right whatever a loss folds into its gradient."""
    y = x.detach().clone().requires_grad_()
    value = functional.ctc_loss(y.log_softmax(-1), *rest, **options)
    return value.detach(), torch.autograd.grad(value.sum(), y)[0]


def through_us(x: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Tensor]:
    y = x.detach().clone().requires_grad_()
    value = ours.ctc_loss(y.log_softmax(-1), *rest, **options)
    return value.detach(), torch.autograd.grad(value.sum(), y)[0]


def samples() -> Iterator[Any]:
    methods = pytest.importorskip("torch.testing._internal.common_methods_invocations")
    (op,) = (op for op in methods.op_db if op.name == "nn.functional.ctc_loss")
    yield from op.sample_inputs("cpu", torch.float64, requires_grad=True)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("blank", [0, 5])
def test_values_are_those_of_torchs_reference_in_probabilities(reduction: str, joined: bool, blank: int) -> None:
    x, u = scores(50, 3, 20), labels(3, 15, 20, first=6)
    frames, sizes = [50, 50, 40], [15, 10, 7]
    targets = torch.cat([row[:n] for row, n in zip(u, sizes, strict=True)]) if joined else u
    wanted = reference(x, targets, frames, sizes, blank=blank, reduction=reduction)
    found = ours.ctc_loss(x, targets, frames, sizes, blank=blank, reduction=reduction)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    mine, theirs = torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(wanted.sum(), x)[0]
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)  # autograd through the sums: the true derivative


def test_all_sample_inputs_of_torch_have_torchs_values() -> None:
    found = list(samples())
    assert len(found) >= 10
    for sample in found:
        value = ours.ctc_loss(sample.input, *sample.args, **sample.kwargs)
        torch.testing.assert_close(value, functional.ctc_loss(sample.input, *sample.args, **sample.kwargs))
        mine, theirs = (f(sample.input, *sample.args, **sample.kwargs)[1] for f in (through_us, through_torch))
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


def test_only_normalised_scores_have_torchs_gradient() -> None:
    """torch folds the softmax's gradient into that of the scores: theirs sums to 0 in a frame, the true one to −1."""
    x = torch.randn(12, 1, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    u, lengths = labels(1, 4, 5), ([12], [4])
    mine, theirs = (
        torch.autograd.grad(loss(x, u, *lengths, reduction="sum"), x)[0]
        for loss in (ours.ctc_loss, functional.ctc_loss)
    )
    assert float((mine - theirs).abs().max()) > 0.1
    (wanted,) = torch.autograd.grad(reference(x, u, *lengths, reduction="sum"), x)
    torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_both_derivatives_are_right_for_scores_of_either_form(single: bool, logits: bool, reduction: str) -> None:
    x = 2 * torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, frames, sizes = labels(2, 2, 4), torch.tensor([5, 4]), torch.tensor([2, 1])
    if single:
        x, u, frames, sizes = x[:, 0], u[0], frames[0], sizes[0]

    def loss(y: Tensor) -> Tensor:
        return ours.ctc_loss(y, u, frames, sizes, reduction=reduction, from_logits=logits)

    x = x.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (x,))
    assert torch.autograd.gradgradcheck(loss, (x,))


def test_targets_are_as_long_as_the_scores_allow_and_no_longer() -> None:
    c = 6
    for size in (1, 7, 8, 16, 17, 33):
        u = torch.arange(1, size + 1)[None] % (c - 1) + 1  # no two alike in a row
        x = scores(size, 1, c, seed=size)
        value, gradient = through_us(x, u, [size], [size], reduction="sum")
        path = -x.detach()[torch.arange(size), 0, u[0]].sum()
        torch.testing.assert_close(value, path, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, through_torch(x, u, [size], [size], reduction="sum")[1])
        assert float(ours.ctc_loss(x[:-1].detach(), u, [size - 1], [size], reduction="sum")) == float("inf")


def test_long_targets_are_right() -> None:
    x, u = scores(600, 2, 3, seed=4), labels(2, 280, 3)
    frames, sizes = [600, 590], [280, 275]
    for mine, theirs in zip(through_us(x, u, frames, sizes), through_torch(x, u, frames, sizes), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


def test_impossible_items_are_infinite_or_zero_and_have_no_gradient() -> None:
    x, u = scores(60, 16, 5), labels(16, 30, 5)
    frames = torch.tensor([1, 30, 60] * 5 + [60])
    sizes = torch.full((16,), 30)
    plain = ours.ctc_loss(x, u, frames, sizes, reduction="none")
    torch.testing.assert_close(plain, functional.ctc_loss(x, u, frames, sizes, reduction="none"))
    assert bool(plain.isinf().any())
    zeroed = ours.ctc_loss(x, u, frames, sizes, reduction="sum", zero_infinity=True)
    torch.testing.assert_close(zeroed, plain.masked_fill(plain.isinf(), 0.0).sum())
    (g,) = torch.autograd.grad(zeroed, x)
    assert bool((g[:, plain.isinf()] == 0).all())
    assert bool(g.isfinite().all())


def test_empty_targets_say_blank_in_every_frame() -> None:
    x = scores(11, 3, 7)
    for u in (torch.zeros(3, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)):
        value = ours.ctc_loss(x, u, [11] * 3, [0] * 3, reduction="none")
        torch.testing.assert_close(value, -x[:, :, 0].sum(0), rtol=1e-12, atol=1e-12)
    some = ours.ctc_loss(x, torch.tensor([2, 3]), [11, 11, 11], [2, 0, 0], reduction="none")
    torch.testing.assert_close(
        some, functional.ctc_loss(x, torch.tensor([2, 3]), [11] * 3, [2, 0, 0], reduction="none")
    )


@pytest.mark.parametrize("form", ["transposed", "strided", "int32", "expanded"])
def test_tensors_need_not_be_contiguous_or_of_one_integer_type(form: str) -> None:
    x, u = scores(20, 4, 6).detach(), labels(4, 5, 6)
    frames, sizes = torch.full((4,), 20), torch.full((4,), 5)
    wanted = ours.ctc_loss(x, u, frames, sizes)
    if form == "transposed":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    elif form == "strided":
        x, u = x.repeat_interleave(2, 2)[..., ::2], u.repeat_interleave(2, 1)[:, ::2]
    elif form == "expanded":
        frames = torch.tensor(20).expand(4)
    else:
        u, frames, sizes = u.int(), frames.int(), sizes.int()
    assert x.is_contiguous() == (form in ("int32", "expanded"))
    assert torch.equal(ours.ctc_loss(x, u, frames, sizes), wanted)
    (g,) = torch.autograd.grad(ours.ctc_loss(x.requires_grad_(), u, frames, sizes), x)
    assert g.shape == x.shape
    torch.testing.assert_close(g.sum((0, 2)), torch.full((4,), -20 / 20, dtype=torch.float64))


def test_what_torch_refuses_we_refuse() -> None:
    x, u = scores(8, 2, 5).detach(), labels(2, 3, 5)
    refused: list[tuple[Any, ...]] = [
        (x, u, [9, 8], [3, 3]),
        (x, u, [8, 8], [4, 3]),
        (x, u, [8], [3]),
        (x, u, [8, -1], [3, 3]),
        (x, u, [8, 8], [3, -1]),
        (x, u.double(), [8, 8], [3, 3]),
        (x, u, torch.tensor([8.0, 8.0]), [3, 3]),
        (x, u.flatten()[:5], [8, 8], [3, 3]),
        (x, u[:1], [8, 8], [3, 3]),
        (x[..., None], u, [8, 8], [3, 3]),
        (x, u, [8, 8], [3, 3], 5),
        (x, u, [8, 8], [3, 3], -1),
    ]
    for given in refused:
        with pytest.raises((InputError, InputTypeError), match="ctc_loss"):
            ours.ctc_loss(*given)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_one_item_without_a_batch_is_a_batch_of_one(reduction: str) -> None:
    x, u = scores(20, 1, 6), labels(1, 5, 6)
    wanted = ours.ctc_loss(x, u, [20], [5], reduction=reduction)
    for frames, sizes in ((torch.tensor(20), torch.tensor(5)), ((20,), (5,))):
        found = ours.ctc_loss(x[:, 0], u[0], frames, sizes, reduction=reduction)
        assert found.shape == ()
        torch.testing.assert_close(found, wanted.squeeze(), rtol=1e-14, atol=0.0)
        torch.testing.assert_close(
            found, functional.ctc_loss(x[:, 0], u[0], torch.tensor(20), torch.tensor(5), reduction=reduction)
        )
