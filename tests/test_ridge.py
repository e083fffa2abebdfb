"""A ridge on Gaussian covariances: added after the M step, in the data's units; a fall of L there is recorded, not raised."""

import pytest
import torch

import onebound as ob
from onebound.emissions import Gaussian, Product
from onebound.errors import InputError, Singular
from onebound.models import Mixture

COVARIANCES = ("full", "tied", "diag", "spherical")
Y = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0]) + 5


def fitted(y: torch.Tensor, covariance: str, ridge: float, k: int = 1, **options: object) -> tuple[Mixture, ob.Fit]:
    model = Mixture(Gaussian(k, y.shape[1], covariance, ridge=ridge))
    return model, ob.fit(model, y, ob.EM(), generator=torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_ridge_is_added_to_the_scatter_in_the_datas_units(covariance: str) -> None:
    scatter = torch.cov(Y.T, correction=0)
    if covariance in ("diag", "spherical"):
        scatter = scatter.diagonal().diag()
    if covariance == "spherical":
        scatter = scatter.trace() / 2 * torch.eye(2, dtype=torch.float64)
    model, _ = fitted(Y, covariance, 0.25)
    torch.testing.assert_close(model.emission.covariance[0], scatter + 0.25 * torch.eye(2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_fall_of_the_bound_is_recorded_where_the_m_step_is_not_the_maximum(covariance: str) -> None:
    best, _ = fitted(Y, covariance, 0.0)
    model = Mixture(Gaussian(1, 2, covariance, ridge=0.5))
    sigma = best.emission.covariance
    shown = {"full": sigma, "tied": sigma[0], "diag": sigma.diagonal(dim1=-2, dim2=-1), "spherical": sigma[:, 0, 0]}
    model.assign([1.0], mean=best.emission.mean, covariance=shown[covariance])
    result = ob.fit(model, Y, ob.EM(), max_iter=1)
    before, after = result.trace[0].objective, result.trace[-1].objective
    assert after < before
    assert result.repairs == ["L fell at the M step: the ridge is added after the maximum (iteration 1)"]


def test_an_exact_m_step_has_nothing_to_record() -> None:
    for emission in (Gaussian(2, 2), Gaussian(2, 2, ridge=0.0)):
        assert [part.inexact for part in Mixture(emission).parts()] == ["", ""]
    ridged = Product([([0, 1], Gaussian(2, 2, "diag", ridge=1e-6))])
    assert [bool(part.inexact) for part in Mixture(ridged).parts()] == [False, True]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_constant_column_needs_no_variance_of_its_own(covariance: str) -> None:
    y = torch.cat([Y, torch.full((60, 1), 7.0, dtype=torch.float64)], 1)
    model, result = fitted(y, covariance, 1e-6, k=2, max_iter=20)
    assert bool(torch.isfinite(torch.tensor([result.objective])))
    torch.testing.assert_close(model.emission.mean[:, 2], torch.full((2,), 7.0, dtype=torch.float64))
    if covariance in ("full", "tied", "diag"):
        torch.testing.assert_close(model.emission.covariance[:, 2, 2], torch.full((2,), 1e-6, dtype=torch.float64))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_without_a_ridge_nothing_is_mended(covariance: str) -> None:
    y = torch.cat([torch.zeros(5, 2), torch.ones(5, 2)]).to(torch.float64)
    model = Mixture(Gaussian(2, 2, covariance, ridge=0.0))
    with pytest.raises(Singular, match="component 0 is not, and ridge=0 mends nothing"):
        model.initialize(y, how=torch.tensor([0] * 5 + [1] * 5))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_ridge_that_float64_cannot_hold_is_mended_by_the_floor(covariance: str) -> None:
    line = torch.linspace(0, 1e9, 30, dtype=torch.float64)
    model, result = fitted(torch.stack([line, 2 * line], 1), covariance, 1e-12, k=2, max_iter=30)
    assert bool(torch.isfinite(model.emission.covariance).all())
    assert bool(torch.isfinite(torch.tensor([result.objective])))
    if covariance in ("full", "tied"):
        assert any("singular in spite of the ridge" in repair for repair in result.repairs)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_a_collapse_is_told_and_flat_data_are_none(covariance: str) -> None:
    """Where every component lies in one plane, the data do: the ridge then says how thick it is, and mends nothing."""
    flat = torch.cat([Y, torch.full_like(Y[:, :1], 3.0)], 1)
    assert not any("singular" in repair for repair in fitted(flat, covariance, 1e-6)[1].repairs)
    y = torch.cat([Y, torch.full((20, 2), 9.0, dtype=torch.float64)])
    start = torch.tensor([0] * len(Y) + [1] * 20)
    collapsed = ob.fit(Mixture(Gaussian(2, 2, covariance, ridge=1e-6)), y, init=start)
    assert any("component 1: its scatter is singular" in repair for repair in collapsed.repairs)


def test_a_ridge_travels_with_the_model_file(tmp_path: object) -> None:
    model, _ = fitted(Y, "full", 0.25)
    ob.save(model, f"{tmp_path}/ridge.safetensors")
    loaded = ob.load(f"{tmp_path}/ridge.safetensors")
    assert loaded.emission.ridge == 0.25
    torch.testing.assert_close(loaded.evidence(Y), model.evidence(Y), rtol=0, atol=0)


@pytest.mark.parametrize("ridge", [-1.0, float("inf"), float("nan")])
def test_a_ridge_that_is_none_is_refused(ridge: float) -> None:
    with pytest.raises(InputError, match="ridge must be None or a finite number ≥ 0"):
        Gaussian(1, 1, ridge=ridge)
