"""The number of components is chosen by numbers that can be computed by hand."""

import math

import numpy as np
import pytest
import torch

import onebound as ob
from onebound.emissions import Gaussian
from onebound.errors import InputError
from onebound.models import Mixture


def three_groups(n: int = 240) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(8.0 * generator.integers(0, 3, (n, 1)), 1.0, (n, 1))


def models(*sizes: int) -> list[Mixture]:
    return [Mixture(Gaussian(k, 1)) for k in sizes]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("criterion", ["bic", "icl", "aic", "heldout"])
def test_three_groups_are_found(criterion: str) -> None:
    sizes = (1, 2, 3, 5) if criterion in ("bic", "icl") else (1, 2, 3)  # The others are known to take too many.
    choice = ob.choose(models(*sizes), three_groups(), criterion=criterion, restarts=3, generator=seeded())
    assert choice.fit.model.n_components == 3
    assert choice.candidates[choice.best].name == "3"


def test_the_criteria_are_the_formulas_with_weights_as_replications() -> None:
    y = three_groups(60)
    w = np.random.default_rng(1).integers(0, 3, 60).astype(float)
    (tried,) = ob.choose(models(2), ob.Observations.of(y, weights=w), generator=seeded()).candidates
    bound = ob.bound(tried.fit.model, np.repeat(y, w.astype(int), axis=0))
    log_evidence, entropy = float(bound.evidence.sum()), float(bound.entropy.sum())
    c = tried.criteria
    assert c.n_parameters == 5
    assert c.aic == pytest.approx(-2 * log_evidence + 10, rel=1e-12)
    assert c.bic == pytest.approx(-2 * log_evidence + 5 * math.log(w.sum()), rel=1e-12)
    assert c.icl == pytest.approx(c.bic + 2 * entropy, rel=1e-12)


def test_the_chosen_fit_is_the_fit_alone() -> None:
    y = three_groups()
    choice = ob.choose(models(1, 2, 3), y, restarts=2, generator=seeded())
    alone = ob.fit(Mixture(Gaussian(3, 1)), y, restarts=2, generator=seeded())
    assert [r.bound for r in choice.fit.trace] == [r.bound for r in alone.trace]


def test_held_out_items_are_kept_from_the_fits_and_given_back_to_the_best() -> None:
    y = three_groups()
    choice = ob.choose(models(1, 3), y, criterion="heldout", generator=seeded())
    assert [c.fit.n_items for c in choice.candidates] == [192, 192]
    assert choice.fit.n_items == 240
    order = torch.randperm(240, generator=seeded())
    kept, rest = y[order[:48].sort().values], y[order[48:].sort().values]
    model = ob.fit(Mixture(Gaussian(1, 1)), rest).model
    assert choice.candidates[0].heldout == pytest.approx(float(ob.bound(model, kept).evidence.mean()), rel=1e-9)


def test_what_cannot_be_chosen_is_refused() -> None:
    y = three_groups(20)
    with pytest.raises(InputError, match="at least one model"):
        ob.choose([], y)
    with pytest.raises(InputError, match="Did you mean bic"):
        ob.choose(models(1), y, criterion="bci")
    with pytest.raises(InputError, match="at least 3 items"):
        ob.choose(models(1), y[:2], criterion="heldout")
    with pytest.raises(InputError, match="one row a component"):
        ob.choose(models(1, 50), y)
