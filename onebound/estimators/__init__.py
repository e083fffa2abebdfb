"""Mixtures with scikit-learn's habits: fit, predict, score, sample, in pipelines and searches."""

from onebound.estimators.gaussian import GaussianMixture

__all__ = ["GaussianMixture"]
