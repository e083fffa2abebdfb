"""Mixtures with scikit-learn's habits, HMMs with hmmlearn's: fit, predict, score, sample, in pipelines and searches."""

from onebound.estimators.discrete import BernoulliMixture, LatentClass, PoissonMixture
from onebound.estimators.gaussian import GaussianMixture
from onebound.estimators.hmm_gaussian import GaussianHMM
from onebound.estimators.hmm_mixture import GMMHMM
from onebound.estimators.hmm_monitor import ConvergenceMonitor
from onebound.estimators.hmm_poisson import PoissonHMM
from onebound.estimators.hmm_tables import CategoricalHMM, MultinomialHMM
from onebound.estimators.mixed import MixedMixture

__all__ = [
    "GMMHMM",
    "BernoulliMixture",
    "CategoricalHMM",
    "ConvergenceMonitor",
    "GaussianHMM",
    "GaussianMixture",
    "LatentClass",
    "MixedMixture",
    "MultinomialHMM",
    "PoissonHMM",
    "PoissonMixture",
]
