"""What ends a deep model: every likelihood is the density that SciPy knows, in the data's units; and the networks before."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from onebound.emissions.likelihoods import (
    FLOOR,
    LIKELIHOODS,
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    Likelihood,
    NegativeBinomialLikelihood,
    NetworkGaussianLikelihood,
    PoissonLikelihood,
    likelihood_from,
    name_of,
)
from onebound.errors import InputError
from onebound.networks import applied, convolutional, last_linear, mlp
from onebound.observations import Columns, Observations

R, D, SYMBOLS = 40, 3, [3, 2, 4]
CASES: dict[str, Callable[[], Likelihood]] = {
    "gaussian": lambda: GaussianLikelihood(D),
    "shared gaussian": lambda: GaussianLikelihood(D, shared=True),
    "network-gaussian": lambda: NetworkGaussianLikelihood(D),
    "bernoulli": lambda: BernoulliLikelihood(D),
    "poisson": lambda: PoissonLikelihood(D),
    "negative-binomial": lambda: NegativeBinomialLikelihood(D),
    "categorical": lambda: CategoricalLikelihood(SYMBOLS),
}
REAL = ("gaussian", "shared gaussian", "network-gaussian")
COUNTS = ("poisson", "negative-binomial")
every = pytest.mark.parametrize("kind", CASES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(kind: str, n: int = R) -> Tensor:
    """Rows in the domain of a likelihood, real ones in three very different units."""
    rng = np.random.default_rng(4)
    if kind in REAL:
        y = rng.normal(size=(n, D)) * [0.01, 3.0, 500.0] + [1.0, -2.0, 1e4]
    elif kind == "bernoulli":
        y = np.where(rng.random((n, D)) < [0.2, 0.5, 0.9], 1.0, 0.0)
    elif kind == "categorical":
        y = np.stack([rng.integers(0, v, n) for v in SYMBOLS], 1).astype(np.float64)
    else:
        y = rng.negative_binomial(2, [0.8, 0.3, 0.02], size=(n, D)).astype(np.float64)
    return torch.from_numpy(y)


def columns_of(y: Tensor) -> Columns:
    return Observations.of(y).columns


def prepared(kind: str) -> Likelihood:
    """In float64, with units from the data and parameters of its own that are not those of the start."""
    likelihood = CASES[kind]().double()
    likelihood.prepare(columns_of(data(kind)))
    with torch.no_grad():
        for p in likelihood.parameters():
            p.copy_(torch.linspace(-1.0, 0.7, p.numel(), dtype=torch.float64))
    return likelihood


def outputs(likelihood: Likelihood, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, likelihood.n_outputs, dtype=torch.float64, generator=seeded(seed))


def scipy_cells(likelihood: Likelihood, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """ln p of every cell, from SciPy's parameters.  (R, D)"""
    if isinstance(likelihood, GaussianLikelihood):
        network = isinstance(likelihood, NetworkGaussianLikelihood)
        mean, raw = np.split(out, 2, -1) if network else (out, likelihood.raw.detach().numpy())
        location, scale = likelihood.location.numpy(), likelihood.scale.numpy()
        return stats.norm.logpdf(y, location + scale * mean, scale * np.sqrt(FLOOR + np.exp(raw)))
    if isinstance(likelihood, BernoulliLikelihood):
        return stats.bernoulli.logpmf(y, 1 / (1 + np.exp(-out)))
    if isinstance(likelihood, PoissonLikelihood):
        return stats.poisson.logpmf(y, np.exp(out))
    if isinstance(likelihood, NegativeBinomialLikelihood):
        shape = np.exp(likelihood.log_shape.detach().numpy())
        return stats.nbinom.logpmf(y, shape, shape / (shape + np.exp(out)))
    ends = np.cumsum(SYMBOLS)[:-1]
    shares = [np.exp(part) / np.exp(part).sum(-1, keepdims=True) for part in np.split(out, ends, -1)]
    return np.stack(
        [np.log(p[np.arange(len(y)), y[:, d].astype(int)]) for d, p in enumerate(shares)], -1
    )  # one trial each: stats.multinomial says the same


# --- the density -------------------------------------------------------------------------------------------------------


@every
def test_log_prob_is_scipys(kind: str) -> None:
    likelihood, y = prepared(kind), data(kind)
    out = outputs(likelihood, R)
    wanted = scipy_cells(likelihood, y.numpy(), out.numpy())
    np.testing.assert_allclose(likelihood.cells(y, out).detach(), wanted, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(likelihood.log_prob(y, out).detach(), wanted.sum(-1), rtol=1e-10, atol=1e-10)


@every
def test_draws_come_in_leading_dimensions(kind: str) -> None:
    likelihood, y = prepared(kind), data(kind)
    out = outputs(likelihood, 2, 3, R)
    y[::3, 1] = math.nan
    found = likelihood.log_prob(y, out, gaps=True)
    assert found.shape == (2, 3, R)
    assert likelihood.mean(out).shape == likelihood.sample(out, seeded()).shape == (2, 3, R, D)
    torch.testing.assert_close(found[1, 2], likelihood.log_prob(y, out[1, 2], gaps=True), rtol=0, atol=0)


@every
def test_missing_cells_drop_out_exactly(kind: str) -> None:
    likelihood, y = prepared(kind), data(kind)
    out, cells = outputs(likelihood, R), likelihood.cells(data(kind), outputs(likelihood, R))
    seen = torch.rand(R, D, generator=seeded(3)) < 0.6
    seen[0], seen[1] = True, False
    y[~seen] = math.nan
    assert torch.equal(likelihood.log_prob(y, out, gaps=True), torch.where(seen, cells, 0.0).sum(-1))
    assert likelihood.log_prob(y, out, gaps=True)[1].item() == 0.0


@every
def test_gradients_are_right_and_finite_beside_missing_cells(kind: str) -> None:
    likelihood, y = prepared(kind), data(kind)[:4]
    y[0], y[2, 1] = math.nan, math.nan
    out = outputs(likelihood, 2, 4).requires_grad_()
    own = list(likelihood.parameters())
    assert torch.autograd.gradcheck(lambda out, *own: likelihood.log_prob(y, out, gaps=True), (out, *own))
    grads = torch.autograd.grad(likelihood.log_prob(y, out, gaps=True).sum(), [out, *own])
    assert all(bool(g.isfinite().all()) for g in grads)
    assert bool((grads[0][:, 0] == 0).all())  # of the row that nobody saw


@pytest.mark.parametrize("kind", COUNTS)
def test_large_counts_do_not_cancel_in_single_precision(kind: str) -> None:
    single = CASES[kind]()
    y = torch.tensor([[1e3, 1e6, 1e7], [0.0, 1.0, 1e5]], dtype=torch.float64)
    single.prepare(columns_of(y))
    out = (y + 2).log().float()
    double = CASES[kind]().double()
    wanted = double.cells(y, out.double()).detach()
    np.testing.assert_allclose(wanted, scipy_cells(double, y.numpy(), out.double().numpy()), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(single.cells(y, out).double().detach(), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", REAL)
def test_a_mean_that_is_large_beside_its_spread_costs_no_precision(kind: str) -> None:
    y, single = data(kind) * 100, CASES[kind]()
    out, found = outputs(single, R).float(), []
    for far in (0.0, 2.0**40):  # whole numbers: the sums are exact
        single.prepare(columns_of(y.round() + far))
        found.append((single.log_prob(y.round() + far, out), single.features(y.round() + far)))
    for near, moved in zip(*found, strict=True):
        assert moved.dtype == torch.float32
        torch.testing.assert_close(moved, near, rtol=1e-3, atol=1e-3)


# --- draws and means -----------------------------------------------------------------------------------------------------


def moments(likelihood: Likelihood, out: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of y by the likelihood's own parameters.  (…, D) each"""
    mean = likelihood.mean(out).detach()
    if isinstance(likelihood, GaussianLikelihood):
        return mean, likelihood.variance(out).detach()
    if isinstance(likelihood, BernoulliLikelihood):
        return mean, mean * (1 - mean)
    if isinstance(likelihood, NegativeBinomialLikelihood):
        return mean, mean + mean.square() * (-likelihood.log_shape.detach()).exp()
    if isinstance(likelihood, PoissonLikelihood):
        return mean, mean
    parts = [(part.softmax(-1), torch.arange(part.shape[-1]).double()) for part in out.split(SYMBOLS, -1)]
    mean = torch.stack([p @ codes for p, codes in parts], -1)
    square = torch.stack([p @ codes.square() for p, codes in parts], -1)
    return mean, square - mean.square()


@every
def test_draws_have_the_moments_of_the_density(kind: str) -> None:
    likelihood, n = prepared(kind), 20_000
    out = outputs(likelihood, 1)
    mean, variance = moments(likelihood, out)
    draws = likelihood.sample(out.expand(n, 1, -1), seeded(5)).detach().double()
    for each, wanted in ((draws, mean), ((draws - mean).square(), variance)):
        z = (each.mean(0) - wanted) / (each.std(0) / math.sqrt(n))
        assert float(z.abs().max()) < 5
    likelihood.check(Observations.of(draws[:, 0]), "draws")  # they lie in the domain
    assert torch.equal(likelihood.sample(out, seeded(1)), likelihood.sample(out, seeded(1)))


def test_the_mean_of_categories_is_the_most_probable_one() -> None:
    likelihood = CategoricalLikelihood(SYMBOLS)
    out = torch.tensor([[0.0, 2.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    assert likelihood.mean(out).tolist() == [[1, 0, 3]]


@pytest.mark.parametrize("kind", [k for k in CASES if k != "categorical"])
def test_the_bias_says_the_columns_means(kind: str) -> None:
    likelihood, y = CASES[kind]().double(), data(kind, 4000)
    likelihood.prepare(columns_of(y))
    bias = likelihood.bias(columns_of(y)).double()
    assert bias.shape == (likelihood.n_outputs,)
    exactly = kind in REAL  # the others add half a count, so that no share is 0
    torch.testing.assert_close(likelihood.mean(bias), y.mean(0), rtol=1e-12 if exactly else 1e-2, atol=0)


def test_the_bias_of_counts_reaches_any_mean() -> None:
    for kind in COUNTS:
        y = torch.tensor([[2e9, 3.0, 0.0], [4e9, 5.0, 0.0]], dtype=torch.float64).repeat(20, 1)
        likelihood = prepared(kind)
        likelihood.prepare(columns_of(y))
        out = likelihood.bias(columns_of(y)).double().requires_grad_()
        mean = likelihood.mean(out)
        torch.testing.assert_close(mean[:2].detach(), y.mean(0)[:2], rtol=0.05, atol=0)
        assert bool((torch.autograd.grad(mean.sum(), out)[0] > 0).all())  # and can go on from there


def test_a_gaussian_starts_with_the_datas_own_variance() -> None:
    y = data("gaussian")
    for likelihood in (GaussianLikelihood(D).double(), NetworkGaussianLikelihood(D).double()):
        likelihood.prepare(columns_of(y))
        found = likelihood.variance(torch.zeros(likelihood.n_outputs, dtype=torch.float64)).detach()
        torch.testing.assert_close(found, y.var(0, correction=0) * (1 + FLOOR), rtol=1e-12, atol=0)


def test_a_shared_variance_is_the_mean_over_columns_that_vary() -> None:
    y = data("gaussian")[:, :2] * 1e-6
    y = torch.cat([y, torch.full((R, 1), 5.0)], 1)
    likelihood = GaussianLikelihood(D, shared=True)
    likelihood.prepare(columns_of(y))
    wanted = y[:, :2].var(0, correction=0).mean().sqrt()
    torch.testing.assert_close(likelihood.scale, wanted.expand(D).double(), rtol=1e-10, atol=0)


@every
def test_preparing_anew_forgets_what_was_learnt(kind: str) -> None:
    fresh, used = CASES[kind]().double(), prepared(kind)
    for likelihood in (fresh, used):
        likelihood.prepare(columns_of(data(kind)))
    for (name, a), b in zip(fresh.state_dict().items(), used.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


# --- what a recognition network reads --------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_are_about_0_with_variance_1(kind: str, dtype: torch.dtype) -> None:
    likelihood, y = CASES[kind]().to(dtype), data(kind, 500)
    likelihood.prepare(columns_of(y))
    whole = likelihood.features(y)
    assert whole.shape == (500, likelihood.n_inputs)
    if kind in REAL or kind in COUNTS:
        assert float(whole.mean(0).abs().max()) < (1e-4 if kind != "shared gaussian" and kind in REAL else 1.0)
        assert 0.2 < float(whole.var(0).max()) < 5
    else:  # bits less their share, and indicators
        assert float(whole.mean(0).abs().max()) < (1e-4 if kind == "bernoulli" else 1)
        assert float(whole.abs().max()) <= 1
    y[::4, 1], y[1] = math.nan, math.nan
    found = likelihood.features(y)
    assert found.dtype == dtype
    assert bool(found.isfinite().all())
    assert bool((found[1] == 0).all())
    assert torch.equal(found[2], whole[2])


@every
def test_whole_numbers_and_single_precision_are_data_too(kind: str) -> None:
    likelihood, y = prepared(kind), data(kind).round()
    out = outputs(likelihood, R)
    for dtype in (torch.int64, torch.int32, torch.float32):
        same = y.to(dtype)
        torch.testing.assert_close(likelihood.features(same), likelihood.features(y))
        torch.testing.assert_close(likelihood.log_prob(same, out), likelihood.log_prob(y, out))


@every
@pytest.mark.parametrize("trouble", ["constant", "one row", "all missing", "far away", "tiny"])
def test_units_from_awkward_columns_are_finite(kind: str, trouble: str) -> None:
    y = data(kind)
    if trouble == "constant":
        y[:, 1] = 1
    elif trouble == "one row":
        y = y[:1]
    elif trouble == "all missing":
        y[:, 2] = math.nan
    elif kind in REAL:
        y = y + 1e12 if trouble == "far away" else y * 1e-30
    elif kind in COUNTS and trouble == "far away":
        y = y + 1e12
    for likelihood in (CASES[kind](), CASES[kind]().double()):
        likelihood.prepare(columns_of(y))
        bias = likelihood.bias(columns_of(y)).to(likelihood.like)
        gaps = bool(y.isnan().any())
        for found in (
            likelihood.features(y),
            likelihood.mean(bias),
            likelihood.log_prob(y, bias.expand(len(y), -1), gaps),
        ):
            assert bool(found.isfinite().all())
        assert bool(likelihood.sample(bias, seeded()).isfinite().all())


@every
def test_a_column_without_data_is_no_suspicion(kind: str) -> None:
    nothing = torch.full((5, D), math.nan, dtype=torch.float64)
    notes = CASES[kind]().lint(columns_of(nothing), nothing)
    assert not [note for note in notes if "0 or 1" in note or "times their mean" in note]


# --- refusals ----------------------------------------------------------------------------------------------------------


def refused(likelihood: Likelihood, y: object, names: list[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        likelihood.check(Observations.of(y, names=names), "Deep")
    return str(caught.value)


def test_grey_pixels_are_no_bits() -> None:
    told = refused(BernoulliLikelihood(2), [[0, 1], [1, 0.5]])
    assert told.startswith("Deep: column 1 must hold only 0 and 1, got 0.5 in item 1 (counted from 0). Grey values")
    assert "ob.VAE(augment=ob.data.rebinarized)" in told


@pytest.mark.parametrize("kind", COUNTS)
@pytest.mark.parametrize("cell", [-1.0, 2.5])
def test_counts_are_whole_and_not_negative(kind: str, cell: float) -> None:
    told = refused(CASES[kind](), [[0, 1, 2], [0, cell, 2]], names=["a", "visits", "c"])
    assert told == (
        f"Deep: column 'visits' must hold counts 0, 1, 2, …, got {cell:g} in item 1 (counted from 0). Choose another "
        "likelihood or mend the cell."
    )


@pytest.mark.parametrize("cell", [3.0, -1.0, 0.5])
def test_a_code_is_one_of_its_columns(cell: float) -> None:
    told = refused(CategoricalLikelihood([4, 3]), [[3, 2], [3, cell]])
    assert told.startswith("Deep: column 1 must hold ")
    assert f"got {cell:g} in item 1" in told
    assert told.endswith("Choose another likelihood or mend the cell.")


@every
def test_infinite_cells_are_refused_and_missing_ones_are_not(kind: str) -> None:
    likelihood, y = CASES[kind](), data(kind)
    y[3, 1] = math.nan
    likelihood.check(Observations.of(y), "Deep")
    y[5, 2] = -math.inf
    told = refused(likelihood, y)
    assert told.startswith("Deep: column 2 must hold finite numbers, got -inf in item 5 (counted from 0). Remove")
    assert "3 columns, got 2" in refused(likelihood, y[:, :2])
    steps = Observations.of(y, lengths=[4, R - 4])
    with pytest.raises(InputError, match="step 1 of sequence 1"):
        likelihood.check(steps, "Deep")


# --- the file -----------------------------------------------------------------------------------------------------------


@every
def test_a_config_makes_the_same_likelihood(kind: str) -> None:
    likelihood, y = prepared(kind), data(kind)
    other = likelihood_from(name_of(likelihood), likelihood.config()).double()
    other.load_state_dict(likelihood.state_dict())
    assert type(other) is type(likelihood)
    assert other.config() == likelihood.config()
    out = outputs(likelihood, R)
    assert torch.equal(other.log_prob(y, out), likelihood.log_prob(y, out))
    assert torch.equal(other.features(y), likelihood.features(y))


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(InputError, match=r"one of gaussian, .*, got 'poison'\. Did you mean poisson\?"):
        likelihood_from("poison", {"n_features": 2})
    with pytest.raises(
        InputError, match=r"number of symbols of each column\. Use CategoricalLikelihood\(\[3, 2, …\]\)"
    ):
        likelihood_from("categorical", {"n_features": 2})
    with pytest.raises(InputError, match=r"a number for each column, such as \[3, 2\], got 3"):
        CategoricalLikelihood(3)  # type: ignore[arg-type]
    for name in set(LIKELIHOODS) - {"categorical"}:
        with pytest.raises(InputError, match="n_features must be a whole number ≥ 1, got 0"):
            likelihood_from(name, {"n_features": 0})


# --- networks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1, (), 1), (3, (5,), 2), (7, (4, 1, 6), 9)])
def test_a_perceptron_maps_the_last_dimension(sizes: tuple[int, tuple[int, ...], int]) -> None:
    n_in, hidden, n_out = sizes
    network = mlp(n_in, hidden, n_out)
    for shape in ((4,), (2, 3), ()):
        assert network(torch.zeros(*shape, n_in)).shape == (*shape, n_out)
    assert [layer.out_features for layer in network if isinstance(layer, nn.Linear)] == [*hidden, n_out]
    assert not isinstance(network[-1], nn.Tanh)
    assert mlp(n_in, hidden, n_out, dtype=torch.float64)[0].weight.dtype == torch.float64


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 7), (3, 28, 28), (2, 9, 4)])
@pytest.mark.parametrize("channels", [(), (2,), (4, 3, 2)])
def test_a_convolution_takes_images_of_odd_sizes(shape: tuple[int, int, int], channels: tuple[int, ...]) -> None:
    network = convolutional(shape, channels, 6)
    assert network(torch.zeros(5, math.prod(shape))).shape == (5, 6)


def test_a_seed_decides_a_network() -> None:
    for make in (lambda g: mlp(3, (4,), 2, generator=g), lambda g: convolutional((1, 5, 5), (2,), 3, generator=g)):
        one, same, other = (make(seeded(s)).state_dict() for s in (0, 0, 1))
        assert all(torch.equal(a, b) for a, b in zip(one.values(), same.values(), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))
        assert all(bool((t == 0).all()) for name, t in one.items() if name.endswith("bias"))


def test_the_last_linear_layer_is_the_one_with_a_bias() -> None:
    network = mlp(3, (4,), 2)
    assert last_linear(network) is network[-1]
    inner = nn.Linear(3, 4)
    assert last_linear(nn.Sequential(nn.Linear(2, 3), nn.Sequential(inner, nn.Tanh()))) is inner
    assert last_linear(nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh())) is None


def test_a_network_that_does_not_fit_is_named_with_both_shapes() -> None:
    with pytest.raises(
        InputError, match=r"Deep: the encoder Linear cannot take inputs of shape \(5, 3\): .*\(…, 3\) to \(…, 4\)"
    ):
        applied(nn.Linear(7, 4), torch.zeros(5, 3), 4, "Deep", "encoder")
    with pytest.raises(
        InputError, match=r"the decoder Linear must return \(2, 5, 4\) for inputs \(2, 5, 3\), got \(2, 5, 6\)"
    ):
        applied(nn.Linear(3, 6), torch.zeros(2, 5, 3), 4, "Deep", "decoder")
    with pytest.raises(InputError, match=r"the decoder GRU must return a tensor \(5, 4\), got tuple"):
        applied(nn.GRU(3, 4), torch.zeros(5, 3), 4, "Deep", "decoder")
    assert applied(nn.Linear(3, 4), torch.zeros(5, 3), 4, "Deep", "encoder").shape == (5, 4)
