"""What is an HMM's own: nested models, structure that stays, states that are never left, data that cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import onebound as ob
from onebound.emissions import Bernoulli, Categorical, Gaussian, Poisson
from onebound.models import HMM, Mixture, NeuralTransition
from onebound.models.hmm import stationary
from onebound.models.transitions import banded, left_to_right

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def counts(n: int, seed: int = 0) -> torch.Tensor:
    return torch.poisson(torch.full((n, 1), 4.0), generator=torch.Generator().manual_seed(seed)).double()


def test_a_mixture_is_an_hmm_of_sequences_of_one_step() -> None:
    y = counts(30)
    rate, pi = [[2.0], [6.0]], [0.3, 0.7]
    mixture = Mixture(Poisson(2, 1)).assign(pi, rate=rate)
    hmm = HMM(Poisson(2, 1)).assign(pi, [[0.5, 0.5], [0.1, 0.9]], rate=rate)
    steps = ob.Observations.of(y, lengths=[1] * 30)
    torch.testing.assert_close(hmm.evidence(steps), mixture.evidence(y), **TIGHT)
    a, b = ob.fit(mixture, y, max_iter=5, tol=0), ob.fit(hmm, steps, max_iter=5, tol=0)
    assert [r.bound for r in a.trace] == pytest.approx([r.bound for r in b.trace], rel=1e-12)


def test_an_hmm_whose_rows_are_all_alike_is_a_mixture_of_the_steps() -> None:
    y, pi = counts(25), [0.2, 0.5, 0.3]
    hmm = HMM(Poisson(3, 1)).assign(pi, [pi] * 3, rate=[[1.0], [4.0], [9.0]])
    mixture = Mixture(Poisson(3, 1)).assign(pi, rate=[[1.0], [4.0], [9.0]])
    torch.testing.assert_close(hmm.evidence(y)[0], mixture.evidence(y).sum(), **TIGHT)


def test_a_table_is_one_sequence_and_a_list_is_several() -> None:
    y = counts(9)
    hmm = HMM(Poisson(2, 1)).initialize(y, torch.Generator().manual_seed(0))
    assert hmm.evidence(y).shape == (1,)
    assert hmm.evidence([y[:4].numpy(), y[4:].numpy()]).shape == (2,)
    torch.testing.assert_close(hmm.evidence(ob.Observations.of(y, lengths=[9])), hmm.evidence(y), rtol=0, atol=0)


@pytest.mark.parametrize("algorithm", [ob.EM, ob.EG, lambda: ob.EM(accelerate="squarem")], ids=["em", "eg", "squarem"])
def test_given_zeros_stay_zero(algorithm: object) -> None:
    for support in (left_to_right(3), banded(3), left_to_right(3, 2)):
        hmm = HMM(Gaussian(3, 1, "diag"), transition=support, initial=[1, 0, 0], prior=ob.emissions.Dirichlet(2.0))
        y = torch.randn(40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).cumsum(0)
        ob.fit(hmm, [y[:20], y[20:]], algorithm(), max_iter=8, generator=torch.Generator().manual_seed(0))
        assert bool((hmm.transition_matrix[~support] == 0).all())
        assert hmm.initial.probabilities().tolist() == [1.0, 0.0, 0.0]


def test_a_state_that_is_never_left_keeps_its_transitions_and_says_so() -> None:
    hmm = HMM(Categorical(2, [2])).assign(
        [1.0, 0.0], [[1.0, 0.0], [0.3, 0.7]], probabilities=[[[0.5, 0.5]], [[0.5, 0.5]]]
    )
    fit = ob.fit(hmm, torch.tensor([[0.0], [1.0], [1.0]]), ob.EM(), max_iter=1, tol=0)
    assert any("state 1 is never left" in text for text in fit.repairs)
    torch.testing.assert_close(hmm.transition_matrix[1], torch.tensor([0.3, 0.7], dtype=torch.float64), **TIGHT)


def test_an_empty_sequence_contributes_nothing() -> None:
    y = counts(12)
    start = HMM(Poisson(2, 1)).initialize(y, torch.Generator().manual_seed(0))
    model = HMM(Poisson(2, 1))
    model.load_state_dict(start.state_dict())
    with_empty = ob.fit(start, ob.Observations.of(y, lengths=[0, 5, 0, 7, 0]), max_iter=4, tol=0)
    without = ob.fit(model, ob.Observations.of(y, lengths=[5, 7]), max_iter=4, tol=0)
    assert 5 * with_empty.evidence == pytest.approx(2 * without.evidence, rel=1e-12)
    torch.testing.assert_close(start.transition_matrix, model.transition_matrix, **TIGHT)


def test_rows_that_are_missing_altogether_are_summed_over() -> None:
    hmm = HMM(Poisson(2, 1)).assign([0.4, 0.6], [[0.8, 0.2], [0.3, 0.7]], rate=[[1.0], [5.0]])
    y = counts(6)
    y[2:4] = math.nan
    total = 0.0
    for a in range(60):  # every value that the two steps may take, up to a mass of 1e-40
        for b in range(60):
            filled = y.clone()
            filled[2:4, 0] = torch.tensor([a, b], dtype=torch.float64)
            total += float(hmm.evidence(filled).detach().exp())
    assert float(hmm.evidence(y).detach()) == pytest.approx(math.log(total), rel=1e-12)


def test_known_states_are_a_supervised_fit() -> None:
    """All states known: counts of starts and steps, and one M step of the emission."""
    z = torch.tensor([0, 0, 1, 1, 1, 0, 1, 1])
    y = torch.tensor([[1.0], [0.0], [5.0], [6.0], [4.0], [2.0], [7.0], [6.0]])
    allowed = torch.nn.functional.one_hot(z, 2).bool()
    hmm = HMM(Poisson(2, 1))
    ob.fit(hmm, ob.Observations.of(y, lengths=[5, 3], allowed=allowed), max_iter=2, tol=0)
    torch.testing.assert_close(hmm.initial.probabilities().detach(), torch.tensor([1.0, 0.0]).double(), **TIGHT)
    wanted = torch.tensor([[1 / 3, 2 / 3], [0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(hmm.transition_matrix, wanted, **TIGHT)
    torch.testing.assert_close(hmm.emission.rate.flatten(), torch.tensor([1.0, 28 / 5], dtype=torch.float64), **TIGHT)


def test_the_stationary_distribution_is_one() -> None:
    a = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.0, 0.3, 0.7]], dtype=torch.float64)
    pi = stationary(a, torch.ones(3, dtype=torch.float64) / 3)
    torch.testing.assert_close(pi @ a, pi, **TIGHT)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        stationary(swap, torch.tensor([1.0, 0.0]).double()), torch.tensor([0.5, 0.5], dtype=torch.float64), **TIGHT
    )


def test_samples_follow_the_chain() -> None:
    hmm = HMM(Poisson(2, 1)).assign([1.0, 0.0], [[0.9, 0.1], [0.4, 0.6]], rate=[[1.0], [50.0]])
    y, z = hmm.sample(40_000, torch.Generator().manual_seed(0))
    assert z[0] == 0
    assert y.shape == (40_000, 1)
    leaves = (z[1:][z[:-1] == 0] == 1).double()
    assert abs(float(leaves.mean()) - 0.1) < 5 * (0.09 / len(leaves)) ** 0.5
    many, states = hmm.sample(6, torch.Generator().manual_seed(1), lengths=[1, 2, 3])
    assert len(many) == 6
    assert states[[0, 1, 3]].tolist() == [0, 0, 0]


def test_a_network_moves_the_transitions_with_the_context() -> None:
    """The states follow x; EG through the data learns it, and generalised EM keeps the closed form of the rest."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (400, 1), generator=generator).double()
    y = torch.where(x > 0, 20.0, 2.0) + torch.randn(400, 1, dtype=torch.float64, generator=generator)
    obs = ob.Observations.of(y, context=x)
    torch.manual_seed(0)
    moves = NeuralTransition(torch.nn.Linear(1, 4).double(), 2)
    neural, plain = HMM(Gaussian(2, 1, "diag"), transition=moves), HMM(Gaussian(2, 1, "diag"))
    a = ob.fit(neural, obs, ob.GEM("lbfgs"), max_iter=60, generator=torch.Generator().manual_seed(0))
    b = ob.fit(plain, obs, max_iter=60, generator=torch.Generator().manual_seed(0))
    assert a.evidence > b.evidence + 250  # ln 2 a step is there to be learnt
    rows = {row["name"]: row["step"] for row in ob.plan(neural, ob.GEM()).rows}
    assert rows["emission"] == rows["initial"] == "closed form"
    assert rows["transition"].startswith("gradient")
    with pytest.raises(ob.errors.NoClosedForm, match="transition"):
        ob.plan(neural, ob.EM())


WRONG = [
    (
        lambda m, y: m.evidence(ob.Observations.of(y, lengths=[3, 4])),
        "lengths must be whole numbers ≥ 0 that add up to the 8",
    ),
    (
        lambda m, y: m.evidence(ob.Observations.of(y, weights=[2.0] * 8)),
        "weights of sequences are one for each sequence",
    ),
    (lambda m, y: m.assign([0.5, 0.6], [[0.5, 0.5]] * 2), r"initial must be \(2,\), ≥ 0, rows adding up to 1"),
    (lambda m, y: m.assign([0.5, 0.5], [[0.5, 0.4]] * 2), r"transition must be \(2, 2\), ≥ 0, rows adding up to 1"),
    (lambda m, y: m.sample(5, lengths=[2, 2]), "lengths must add up to the 5 steps"),
    (lambda m, y: m.sample(3, lengths=[-1, 4]), r"each ≥ 0, got \[-1, 4\]"),
    (
        lambda m, y: HMM(Poisson(2, 1), transition="left-to-right"),
        r"got 'left-to-right'. Steps that exist: left_to_right",
    ),
    (lambda m, y: HMM(Poisson(2, 1), initial="first"), "initial must hold numbers, got 'first'"),
    (lambda m, y: m.assign("even", [[0.5, 0.5]] * 2), r"HMM\.assign: initial must hold numbers, got 'even'"),
    (lambda m, y: m.posterior(y).log_prob(torch.zeros(7).long()), r"for each of the 8 rows, got shape \(7,\)"),
    (lambda m, y: m.posterior(y).log_prob(torch.full((8,), -1)), "a state from 0 to 1 .* with other numbers"),
    (lambda m, y: HMM(Poisson(2, 1), transition=[[1, 0], [0, 0]]), "with a row of zeros"),
    (lambda m, y: HMM(Poisson(2, 1), initial=[0, 0]), "initial must be 2 numbers ≥ 0, not all 0"),
    (lambda m, y: m.evidence(ob.Observations.of(y - 30, lengths=[3, 5])), "in step 0 of sequence 0"),
    (lambda m, y: m.evidence(ob.Observations.of(y, allowed=np.ones((8, 3)))), r"allowed must be \(8, 2\)"),
    (lambda m, y: ob.fit(HMM(Poisson(9, 1)), y), "expected at least one row a component, 9 in all, got 8"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_a_wrong_call_gets_one_line(call: object, message: str) -> None:
    model = HMM(Poisson(2, 1)).assign([0.5, 0.5], [[0.5, 0.5]] * 2, rate=[[1.0], [5.0]])
    with pytest.raises(ob.errors.InputError, match=message):
        call(model, counts(8))


def test_an_impossible_sequence_is_named_with_the_step_at_which_it_dies() -> None:
    hmm = HMM(Bernoulli(2, 1)).assign([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]], probability=[[0.0], [1.0]])
    good, bad = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    with pytest.raises(ob.errors.Infeasible, match=r"1 of 2 items \(1, where everything has died at step 2\)"):
        hmm.evidence([good.numpy(), bad.numpy()])
    hmm.keep_infeasible = True
    assert hmm.evidence([good.numpy(), bad.numpy()]).tolist() == [0.0, -math.inf]


def test_float32_data_give_the_numbers_of_float64_data_on_a_hundred_thousand_steps() -> None:
    y = torch.randn(100_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(0) % 7
    hmm = HMM(Gaussian(4, 2)).initialize(y, torch.Generator().manual_seed(0))
    wide, narrow = float(hmm.evidence(y).detach()), float(hmm.evidence(y.float()).detach())
    assert narrow == pytest.approx(wide, rel=1e-4)
    one, two = HMM(Gaussian(4, 2)), HMM(Gaussian(4, 2))
    one.load_state_dict(hmm.state_dict())
    two.load_state_dict(hmm.state_dict())
    a, b = ob.fit(one, y, max_iter=3, tol=0), ob.fit(two, y.float(), max_iter=3, tol=0)
    assert b.evidence == pytest.approx(a.evidence, rel=1e-4)
    torch.testing.assert_close(two.emission.mean, one.emission.mean, rtol=1e-4, atol=1e-4)


def test_an_autoregression_is_a_regression_on_the_row_before() -> None:
    """y_t = a_z y_{t−1} + noise, with a_z from a network that reads y_{t−1} as its context."""
    generator = torch.Generator().manual_seed(0)
    slopes, noise, y, z = torch.tensor([0.9, -0.9]), torch.randn(1500, generator=generator), torch.zeros(1500, 1), 0
    for t in range(1, 1500):
        z = 1 - z if float(torch.rand(1, generator=generator)) < 0.02 else z
        y[t] = slopes[z] * y[t - 1] + noise[t]
    torch.manual_seed(1)
    hmm = HMM(ob.emissions.NeuralGaussian(torch.nn.Linear(1, 2), 2, 1))
    obs = ob.Observations.of(y[1:].double(), context=y[:-1].double(), lengths=[1499])
    ob.fit(hmm, obs, ob.GEM("lbfgs"), max_iter=150, init=(y[1:, 0] * y[:-1, 0] < 0).long())
    found = (hmm.emission.mean(torch.ones(1, 1).double()) - hmm.emission.mean(torch.zeros(1, 1).double())).detach()
    assert sorted(found.flatten().tolist()) == pytest.approx([-0.9, 0.9], abs=0.08)
