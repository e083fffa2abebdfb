"""Mixtures with scikit-learn's habits: fit, predict, score, sample, in pipelines and searches."""

from onebound.estimators.discrete import BernoulliMixture, LatentClass, PoissonMixture
from onebound.estimators.gaussian import GaussianMixture
from onebound.estimators.mixed import MixedMixture

__all__ = ["BernoulliMixture", "GaussianMixture", "LatentClass", "MixedMixture", "PoissonMixture"]
