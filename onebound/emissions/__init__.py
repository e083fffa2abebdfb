"""p(y | z): each emission with log_prob, sample and, where one exists, statistics and a closed-form M step."""

from typing import Any

from onebound.emissions.base import Emission
from onebound.emissions.categorical import Bernoulli, Categorical, Multinomial
from onebound.emissions.counts import Poisson
from onebound.emissions.gaussian import (
    DiagonalGaussian,
    FullGaussian,
    Gaussian,
    SphericalGaussian,
    TiedGaussian,
)
from onebound.emissions.gaussian_base import GaussianEmission
from onebound.emissions.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    Likelihood,
    ModelLikelihood,
    NegativeBinomialLikelihood,
    NetworkGaussianLikelihood,
    PoissonLikelihood,
)
from onebound.emissions.mixture_of import MixtureOf
from onebound.emissions.neural import NeuralGaussian
from onebound.emissions.priors import Beta, Dirichlet, Gamma, NormalInverseWishart
from onebound.emissions.product import Product
from onebound.errors import StoreError

__all__ = [
    "Bernoulli",
    "BernoulliLikelihood",
    "Beta",
    "Categorical",
    "CategoricalLikelihood",
    "DiagonalGaussian",
    "Dirichlet",
    "Emission",
    "FullGaussian",
    "Gamma",
    "Gaussian",
    "GaussianEmission",
    "GaussianLikelihood",
    "Likelihood",
    "MixtureOf",
    "ModelLikelihood",
    "Multinomial",
    "NegativeBinomialLikelihood",
    "NetworkGaussianLikelihood",
    "NeuralGaussian",
    "NormalInverseWishart",
    "Poisson",
    "PoissonLikelihood",
    "Product",
    "SphericalGaussian",
    "TiedGaussian",
]

STORABLE: dict[str, type[Emission]] = {
    c.__name__: c
    for c in (
        FullGaussian,
        TiedGaussian,
        DiagonalGaussian,
        SphericalGaussian,
        Bernoulli,
        Categorical,
        Multinomial,
        Poisson,
        Product,
        MixtureOf,
    )
}


def emission_from(described: dict[str, Any]) -> Emission:
    """The emission that {"class", "config"} describes; StoreError for a class that is not ours."""
    if described["class"] not in STORABLE:
        raise StoreError(
            f"load: the file asks for an emission {described['class']!r}; known are {', '.join(STORABLE)}. "
            "Build the model yourself and load its state_dict."
        )
    return STORABLE[described["class"]].from_config(described["config"])
