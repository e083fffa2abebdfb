"""What a filter says step by step is what forward–backward says of everything so far."""

from __future__ import annotations

import math

import pytest
import torch
from zoo import ZOO, Case

import onebound as ob
from onebound.models import HMM, Filter

HMMS = [case for case in ZOO if case.name.startswith("hmm") and not case.labels]
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.mark.parametrize("lag", [0, 1, 2, 9])
@pytest.mark.parametrize("case", HMMS, ids=repr)
def test_a_filter_is_the_posterior_given_what_has_come(case: Case, lag: int) -> None:
    model, obs = case.model(), case.observations()
    sequence = obs.select(slice(0, 1))
    rows = sequence.y
    online, given = Filter(model, lag), []
    for t in range(len(rows)):
        x = None if sequence.context is None else sequence.context[t]
        found = online.update(rows[t], x)
        seen = ob.Observations.of(
            rows[: t + 1], lengths=[t + 1], context=None if sequence.context is None else sequence.context[: t + 1]
        )
        wanted = model.posterior(seen)
        assert online.log_evidence == pytest.approx(float(wanted.log_partition.detach()), rel=1e-10, abs=1e-12)
        if t < lag:
            assert found is None
        else:
            torch.testing.assert_close(found, wanted.marginals.unary[t - lag].detach(), **TIGHT)
            given.append(found)
    left = online.finish()
    assert len(given) + len(left) == len(rows) == online.steps
    torch.testing.assert_close(left, model.posterior(sequence).marginals.unary[len(given) :].detach(), **TIGHT)


def test_an_observation_that_cannot_be_is_refused_and_the_filter_stands_where_it_stood() -> None:
    model = HMM(ob.emissions.Bernoulli(2, 1)).assign([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], probability=[[0.0], [1.0]])
    online = Filter(model, lag=1)
    online.update([0.0])
    with pytest.raises(ob.errors.Infeasible, match="no state can explain observation 1"):
        online.update([1.0])
    assert (online.steps, online.log_evidence) == (1, 0.0)
    assert online.update([math.nan]).tolist() == [1.0, 0.0]


def test_wrong_calls_get_one_line() -> None:
    hmm = HMM(ob.emissions.Poisson(2, 1))
    with pytest.raises(ob.errors.InputError, match="lag must be a whole number"):
        Filter(hmm, -1)
    with pytest.raises(ob.errors.InputError, match="expected an HMM, got Mixture"):
        Filter(ob.models.Mixture(ob.emissions.Poisson(2, 1)))
    with pytest.raises(ob.errors.InputError, match="must have 1 columns, got 2"):
        Filter(hmm).update([1.0, 2.0])
    with pytest.raises(ob.errors.InputTypeError, match="y must hold numbers, got <U3"):
        Filter(hmm).update("two")
