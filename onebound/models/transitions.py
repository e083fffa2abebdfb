"""p(z_t | z_{t−1}): one matrix for all steps, or a network that reads each step's context."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onebound.errors import InputError, Unsupported
from onebound.numerics import INF, Simplex

CURES = {
    "transition": " Steps that exist: left_to_right(K) or banded(K) of onebound.models.transitions, or a matrix of your own."
}


class NeuralTransition(nn.Module):
    """ln p(z_t = j | z_{t−1} = i, x_t) = log-softmax over j of network(x_t)[i, j]: no closed form, so its M step is a gradient.

    `network` maps context rows (R, C) to (R, K · K) or (R, K, K) float64 logits; `support` (K, K) says which steps exist.
    """

    support: Tensor

    def __init__(self, network: nn.Module, n_states: int, support: Any = None) -> None:
        super().__init__()
        self.network, self.n_states = network, n_states
        given = torch.ones(n_states, n_states) if support is None else support
        self.register_buffer("support", _support("NeuralTransition", given, n_states))

    def log_probabilities(self, context: Tensor | None) -> Tensor:
        """The matrix that leads to each row.  (R, C) → (R, K, K)"""
        if context is None:
            raise InputError(
                "NeuralTransition: expected a context x for every row. Pass Observations.of(y, context=x)."
            )
        k = self.n_states
        logits = self.network(context)
        if logits.numel() != len(context) * k * k:
            raise InputError(
                f"NeuralTransition: network must map {len(context)} rows to {k} × {k} logits each, got {tuple(logits.shape)}."
            )
        return logits.reshape(-1, k, k).masked_fill(~self.support, -INF).log_softmax(-1)

    def n_free(self) -> int:
        """Parameters of the network."""
        return sum(p.numel() for p in self.network.parameters())

    def config(self) -> dict[str, Any]:
        """Refused: a file cannot describe a network of the user's own."""
        raise Unsupported(
            "NeuralTransition: a model file cannot describe this network. Save model.state_dict() instead."
        )


def transition_from(given: Any, n_states: int) -> Simplex | NeuralTransition:
    """A matrix of all steps, of those that `given` (K, K) has above 0, or the network that `given` is."""
    if isinstance(given, NeuralTransition):
        if given.n_states != n_states:
            raise InputError(f"HMM: transition must be for {n_states} states, got a network for {given.n_states}.")
        return given
    if given is None:
        return Simplex((n_states, n_states))
    return Simplex((n_states, n_states), _support("HMM", given, n_states))


def initial_from(given: Any, n_states: int) -> Simplex:
    """Initial probabilities of all states, or of those that `given` (K,) has above 0."""
    support = None if given is None else numbers("HMM", "initial", given) > 0
    if support is not None and (support.shape != (n_states,) or not bool(support.any())):
        raise InputError(f"HMM: initial must be {n_states} numbers ≥ 0, not all 0, got {given!r}.")
    return Simplex((n_states,), support)


def numbers(who: str, name: str, given: Any) -> Tensor:
    """`given` as a tensor, or InputError where it holds something else."""
    try:
        return torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{who}: {name} must hold numbers, got {given!r}.{CURES.get(name, '')}") from None


def left_to_right(n_states: int, jump: int = 1) -> Tensor:
    """Which steps exist where a state may stay or go on by at most `jump`: the last one stays.  (K, K) boolean

    >>> left_to_right(3).int().tolist()
    [[1, 1, 0], [0, 1, 1], [0, 0, 1]]
    """
    ahead = torch.arange(n_states) - torch.arange(n_states).unsqueeze(-1)
    return (ahead >= 0) & (ahead <= jump)


def banded(n_states: int, width: int = 1) -> Tensor:
    """Which steps exist where a state may move by at most `width` either way.  (K, K) boolean

    >>> banded(3).int().tolist()
    [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    """
    return (torch.arange(n_states) - torch.arange(n_states).unsqueeze(-1)).abs() <= width


def _support(who: str, given: Any, k: int) -> Tensor:
    given = numbers(who, "transition", given)
    support = given > 0
    if support.shape != (k, k) or not bool(support.any(-1).all()):
        raise InputError(
            f"{who}: the steps that exist must be a ({k}, {k}) matrix with at least one for every state, got "
            f"{tuple(given.shape)}{'' if support.shape != (k, k) else ' with a row of zeros'}."
        )
    return support
