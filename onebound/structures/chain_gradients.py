"""Chains between the kernels and autograd: ln Z with two derivatives, marginals, entropy and expectations with one.

∇ ln Z are the marginals; their derivative, the Hessian of ln Z, times a vector v is Cov(Σ v along the path, part is used),
one kernel. H = ln Z − ⟨m, w⟩ as a function has the gradient −Cov(Σ w along the path, part is used); its value is summed
from conditional entropies instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from onebound.errors import Unsupported
from onebound.structures import chain_loops
from onebound.structures.chain_potentials import ChainPotentials


def log_partition(w: ChainPotentials) -> Tensor:
    """ln Z.  (N,)"""
    if _elsewhere(w):
        return chain_loops.summary(w).log_partition
    found: Tensor = _LogPartition.apply(*w.parts, w.lengths)
    return found


def entropy(w: ChainPotentials) -> Tensor:
    """H.  (N,)"""
    if _elsewhere(w):
        return chain_loops.summary(w).entropy
    found: Tensor = _Entropy.apply(*w.parts, w.lengths)
    return found


def expected(w: ChainPotentials, values: ChainPotentials) -> Tensor:
    """E of the values along the path.  (N,)"""
    if w.transition.ndim != values.transition.ndim:
        w, values = w.stepwise(), values.stepwise()
    if _elsewhere(w):
        return chain_loops.summary(w, values).expected
    found: Tensor = _Expected.apply(*w.parts, *values.parts, w.lengths)
    return found


def marginals(w: ChainPotentials, weights: Tensor) -> ChainPotentials:
    """The marginals, those of each sequence times its weight."""
    if _elsewhere(w):
        return chain_loops.marginals(w, weights)
    return w.with_parts(_Marginals.apply(*w.parts, w.lengths, weights))


@torch.no_grad()
def together(w: ChainPotentials, weights: Tensor) -> tuple[Tensor, ChainPotentials]:
    """ln Z (N,) and the weighted marginals, without a gradient."""
    if _elsewhere(w):
        return log_partition(w), marginals(w, weights)
    found = _kernel_marginals(w.parts, w.lengths, weights)
    row_weights = weights.repeat_interleave(w.lengths).unsqueeze(-1).numpy()
    used = _like(w.parts, found.first, found.edges, found.states * row_weights)
    return torch.from_numpy(found.log_partition), w.with_parts(used)


def best_paths(w: ChainPotentials, count: int) -> tuple[Tensor, Tensor]:
    """The best paths and their potentials.  (count, R), (count, N)"""
    from onebound.kernels import chain_paths

    paths, scores = chain_paths.best_paths(_arrays(w), count, torch.get_num_threads())
    return torch.from_numpy(paths).to(w.unary.device), torch.from_numpy(scores).to(w.unary.device)


def draws(w: ChainPotentials, n: int, generator: torch.Generator | None) -> Tensor:
    """n paths of each.  (n, R)"""
    from onebound.kernels import chain_paths

    uniforms = torch.rand(n, len(w.unary), dtype=torch.float64, generator=generator)
    return torch.from_numpy(chain_paths.draws(_arrays(w), uniforms.numpy(), torch.get_num_threads())).to(w.unary.device)


def death(w: ChainPotentials) -> int:
    """The step of the first sequence at which all paths have died; −1 if none."""
    parts = tuple(part.cpu() for part in w.parts)
    return int(_kernel_marginals(parts, w.lengths.cpu(), torch.zeros(len(w), dtype=torch.float64)).dead[0])


def _elsewhere(w: ChainPotentials) -> bool:
    """Whether the potentials lie on another device than the kernels."""
    return w.unary.device.type != "cpu"


def _arrays(w: ChainPotentials) -> Any:
    """The potentials as the kernels take them; on the CPU without a copy of float64."""
    from onebound.kernels.chain_log import Potentials  # brings the compiler's runtime

    start, transition, unary = (part.detach().to("cpu", torch.float64).contiguous().numpy() for part in w.parts)
    return Potentials(start, transition[None] if transition.ndim == 2 else transition, unary, w.ends.cpu().numpy())


def _potentials(parts: Iterable[Tensor], lengths: Tensor) -> ChainPotentials:
    start, transition, unary = parts
    return ChainPotentials(start, transition, unary, lengths)


def _kernel_marginals(parts: tuple[Tensor, ...], lengths: Tensor, weights: Tensor) -> Any:
    from onebound.kernels.chain import marginals

    return marginals(_arrays(_potentials(parts, lengths)), weights.detach().numpy(), torch.get_num_threads())


def _like(parts: tuple[Tensor, ...], first: Any, edges: Any, states: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel output in the shapes of the parts."""
    start, transition, unary = parts
    found = (torch.from_numpy(first), torch.from_numpy(edges).reshape(transition.shape), torch.from_numpy(states))
    return found[0].to(start.dtype), found[1].to(transition.dtype), found[2].to(unary.dtype)


class _LogPartition(Function):
    """ln Z (N,) of start, transition, unary; lengths."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, transition: Tensor, unary: Tensor, lengths: Tensor) -> Tensor:
        ctx.save_for_backward(start, transition, unary, lengths)
        found = _kernel_marginals((start, transition, unary), lengths, torch.zeros(len(lengths), dtype=torch.float64))
        return torch.from_numpy(found.log_partition)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        *parts, lengths = ctx.saved_tensors
        return *_Marginals.apply(*parts, lengths, gradient), None


class _Marginals(Function):
    """∇ of Σ weight · ln Z."""

    @staticmethod
    def forward(
        ctx: Any, start: Tensor, transition: Tensor, unary: Tensor, lengths: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(start, transition, unary, lengths, weights)
        found = _kernel_marginals((start, transition, unary), lengths, weights)
        row_weights = weights.detach().repeat_interleave(lengths).unsqueeze(-1).numpy()
        return _like((start, transition, unary), found.first, found.edges, found.states * row_weights)

    @staticmethod
    def backward(ctx: Any, *values: Tensor) -> Any:
        *parts, lengths, weights = ctx.saved_tensors
        expected, *gradients = _Covariances.apply(*parts, *values, lengths, weights)
        return *gradients, None, expected


class _Covariances(Function):
    """E of values along the path (N,), and weight · Cov(that sum, part is used) for every part."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Any:
        *tensors, lengths, weights = given
        parts, values = tuple(tensors[:3]), tuple(tensors[3:])
        w, v = _potentials(parts, lengths), _potentials(values, lengths)
        from onebound.kernels.chain_paths import covariances

        found = covariances(_arrays(w), _arrays(v), weights.detach().numpy(), torch.get_num_threads())
        return torch.from_numpy(found.expected), *_like(parts, found.first, found.edges, found.states)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise Unsupported(
            "Chain: ln Z has two derivatives in the log-potentials, and marginals, entropy, expected and kl have one; a "
            "further one was asked for. Move the potentials to another device, where every derivative is made step by step."
        )


class _Entropy(Function):
    """H (N,)."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, transition: Tensor, unary: Tensor, lengths: Tensor) -> Tensor:
        ctx.save_for_backward(start, transition, unary, lengths)
        from onebound.kernels.chain_log import marginals

        w, nothing = _potentials((start, transition, unary), lengths), torch.zeros(len(lengths), dtype=torch.float64)
        return torch.from_numpy(marginals(_arrays(w), nothing.numpy(), torch.get_num_threads()).entropy)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        *parts, lengths = ctx.saved_tensors
        return *_Covariances.apply(*parts, *parts, lengths, -gradient)[1:], None


class _Expected(Function):
    """E of other potentials (N,)."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        ctx.save_for_backward(*given)
        nothing = torch.zeros(len(given[-1]), dtype=torch.float64)
        found: Tensor = _Covariances.apply(*given, nothing)[0]
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        *given, lengths = ctx.saved_tensors
        mine = _Covariances.apply(*given, lengths, gradient)[1:] if any(ctx.needs_input_grad[:3]) else [None] * 3
        theirs = _Marginals.apply(*given[:3], lengths, gradient) if any(ctx.needs_input_grad[3:6]) else [None] * 3
        return *mine, *theirs, None
