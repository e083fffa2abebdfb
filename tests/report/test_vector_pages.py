"""Pages and pictures of models whose z is a vector: every number on them is that of the model."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from page_reader import Reader
from small_fits import TABLE, geyser_rows

import onebound as ob
from onebound.errors import InputError
from onebound.models import HMM, DeepGaussian, FactorAnalysis, Mixture, ProbabilisticPCA
from onebound.observations import Observations
from onebound.report import numbers
from onebound.report.latent import classes_at, draws_for, estimate, means_of, some_items
from onebound.report.page import comparison_page
from onebound.report.single import report_page
from onebound.report.terms import classes_of, n_columns, sized, terms_of
from onebound.report.vector_pictures import Plane, latent_figure, side_of
from onebound.report.vectors import decode

NAMES = ("first", "second", "third")
BITS = (np.random.default_rng(0).random((50, 64)) < np.linspace(0.05, 0.95, 64)).astype(float)
HOLES = np.where(np.random.default_rng(1).random((60, 3)) < 0.1, np.nan, TABLE[:, :3])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def deep(likelihood: Any = "gaussian", n_features: int = 3, n_latent: int = 2, prior: Any = None) -> DeepGaussian:
    return DeepGaussian(likelihood, n_latent, n_features=n_features, hidden=(5,), prior=prior, generator=seeded())


# One line a kind of model: name → (model, data, names).
ZOO: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "factors": (FactorAnalysis(3, 2), TABLE[:, :3], NAMES),
    "one factor of two columns": (ProbabilisticPCA(2, 1), geyser_rows(), NAMES[:2]),
    "factors with gaps": (FactorAnalysis(3, 1), HOLES, NAMES),
    "factors of images": (FactorAnalysis(64, 3), BITS + 0.1 * np.random.default_rng(2).normal(size=BITS.shape),
                          tuple(f"p{d}" for d in range(64))),
    "vae": (deep(), TABLE[:, :3], NAMES),
    "vae of one dimension, gaps": (deep(n_latent=1), HOLES, NAMES),
    "vae of images": (deep("bernoulli", 64, 3), BITS, tuple(f"p{d}" for d in range(64))),
    "vae of many columns": (deep("poisson", 13), np.random.default_rng(3).poisson(3.0, (40, 13)).astype(float),
                            tuple(f"c{d}" for d in range(13))),
    "gmm-vae": (deep(prior=Mixture(ob.emissions.Gaussian(2, 2))), TABLE[:, :3], NAMES),
    "hmm-vae": (deep(prior=HMM(ob.emissions.Gaussian(2, 2))), Observations.of(TABLE[:, :3], lengths=[30, 20, 10]), NAMES),
}  # fmt: skip


@cache
def fitted(name: str) -> ob.Fit:
    model, y, _ = ZOO[name]
    fit = ob.fit(model, y, max_iter=4, generator=seeded())
    model.about["fit"] = fit.summary()
    return fit


def page_of(name: str, data: bool = True, **more: Any) -> Reader:
    _, y, names = ZOO[name]
    return Reader(report_page(fitted(name).model, fitted(name), y if data else None, names, "some rows", **more))


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("data", [True, False])
def test_every_page_is_whole(name: str, data: bool) -> None:
    page = page_of(name, data)
    exact = terms_of(ZOO[name][0]).is_exact
    assert ("The factors" in page.text) == exact
    assert ("How far L is from ln p(y)" in page.text) == (data and not exact)
    assert ("How z is used" in page.text) == (data and not exact)
    assert ("Where the rows lie" in page.text) == data
    assert "New rows, drawn from the model." in page.text
    assert "The climb" in page.text
    assert ("BIC" in page.text) == (data and exact)
    assert "ICL" not in page.text
    assert "nan" not in page.text.lower().replace("nanny", "")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_page_tells_the_gap_that_gap_report_finds() -> None:
    model, y, _ = ZOO["vae"]
    text, found = page_of("vae").text, ob.gap_report(fitted("vae").model, y, generator=seeded())
    for value in (found.bound, found.amortization, found.approximation, found.evidence, found.evidence_half):
        assert numbers.nats(value) in text
    use = ob.latent_use(model, y)
    assert numbers.nats(float(use.kl.sum())) in text


def test_a_page_tells_the_loadings_units() -> None:
    model = fitted("factors").model
    text = page_of("factors").text
    assert numbers.parameter(float(model.mean[1])) in text
    assert numbers.parameter(float(model.noise_variance[1].sqrt())) in text
    fit = fitted("factors")
    assert numbers.nats(fit.evidence) in text
    assert "they are not those that it was fitted to" not in text


def test_a_prior_and_labels_are_on_the_page() -> None:
    page = page_of("gmm-vae")
    share = f"{100 * float(classes_of(ZOO['gmm-vae'][0]).weights[0]):.1f} %"
    assert share in page.text
    assert "likeliest component there" in page.text
    assert "likeliest state there" in page_of("hmm-vae").text
    labelled = page_of("vae", labels=["u", None] * 30)
    assert "known class (--label)" in labelled.text


def test_several_algorithms_on_factors_make_a_page() -> None:
    fits = [ob.fit(FactorAnalysis(3, 1), TABLE[:, :3], a, max_iter=3, generator=seeded()) for a in (ob.EM(), ob.EG())]
    text = Reader(comparison_page("both", fits, TABLE[:, :3], NAMES)).text
    assert "guess what z each row came from" in text
    assert "The factors" in text


# --- what the pages are made of ----------------------------------------------------------------------------------------------


def test_what_is_decoded_is_the_mean_given_z() -> None:
    factors, y = fitted("factors").model, torch.from_numpy(TABLE[:, :3])
    z = means_of(factors, factors.observe(y))
    np.testing.assert_allclose(z, factors.posterior(y).mean.detach())
    wanted = factors.mean + factors.posterior(y).mean.detach() @ factors.components.T
    np.testing.assert_allclose(decode(factors, z), wanted)
    vae = fitted("vae").model
    np.testing.assert_allclose(decode(vae, means_of(vae, vae.observe(y))), vae.reconstruct(y), rtol=1e-4, atol=1e-5)


def test_the_classes_at_z_are_those_of_the_prior() -> None:
    model, y, _ = ZOO["hmm-vae"]
    fitted("hmm-vae")
    obs = model.observe(y)
    z = means_of(model, obs)
    r, path = classes_at(model, z, obs.lengths, path=True)
    q = model.prior.posterior(Observations.of(z, lengths=[30, 20, 10]))
    np.testing.assert_array_equal(path, q.argmax)
    np.testing.assert_allclose(r.sum(1), 1)
    np.testing.assert_array_equal(classes_at(model, z, obs.lengths)[1], r.argmax(1))


def test_an_estimate_is_that_of_bound() -> None:
    model, y, _ = ZOO["vae"]
    found = estimate(fitted("vae").model, model.observe(y))
    wanted = ob.bound(model, y, generator=seeded())
    assert found["evidence"] == pytest.approx(wanted.mean()["evidence"])
    assert found["gap_error"] == pytest.approx(wanted.standard_error())
    assert (found["items"], found["draws"], found["rows_per_item"]) == (60, 1000, 1.0)


def test_few_items_are_taken_of_many_and_few_draws_of_long_ones() -> None:
    rows = Observations.of(np.arange(1000.0)[:, None])
    some = some_items(rows)
    assert some.n_items == 200
    assert torch.equal(some.y, some_items(rows).y)
    sequences = Observations.of(np.zeros((6000, 1)), lengths=[1000] * 6)
    assert some_items(sequences).n_items == 2
    assert some_items(Observations.of(np.zeros((6000, 1)), lengths=[6000])).n_items == 1
    assert draws_for(some) == 1000
    assert draws_for(Observations.of(np.zeros((100_000, 1)), lengths=[100_000])) == 20


def test_models_are_told_apart_in_one_place() -> None:
    words = {name: (sized(model), terms_of(model).item, n_columns(model)) for name, (model, _, _) in ZOO.items()}
    assert words["factors"] == ("2 factors", "row", 3)
    assert words["vae"] == ("2 dimensions", "row", 3)
    assert words["gmm-vae"] == ("2 dimensions under 2 components", "row", 3)
    assert words["hmm-vae"] == ("2 dimensions under 2 states", "sequence", 3)
    assert classes_of(ZOO["vae"][0]) is None


def test_more_than_two_dimensions_are_seen_along_their_axes() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3)) * [0.1, 5.0, 2.0]
    plane = Plane.of(z)
    np.testing.assert_allclose(np.abs(plane.axes.T), [[0, 1, 0], [0, 0, 1]], atol=0.05)
    assert plane.share == pytest.approx(1, abs=1e-3)
    assert Plane.of(z[:, :2])(z[:, :2]) == pytest.approx(z[:, :2])


def test_square_numbers_of_many_columns_are_images() -> None:
    assert [side_of(n) for n in (9, 63, 64, 65, 784)] == [None, None, 8, None, 28]


def test_displays_show_where_the_rows_lie() -> None:
    for name in ("factors", "vae"):
        display = ob.report.ScatterDisplay.from_fit(fitted(name), ZOO[name][1])
        assert [axes.get_xlabel() for axes in display.figure_.axes] == ["z1"]
        axes = latent_figure(np.zeros((3, 2)), ["u", "v", "v"]).axes[0]
        assert {text.get_text() for text in axes.texts} == {"u", "v"}
        with pytest.raises(InputError, match="z is a vector"):
            ob.report.ConfidenceDisplay.from_fit(fitted(name), ZOO[name][1])
    assert ob.report.TraceDisplay.from_fit(fitted("vae")).figure_.axes
