"""Mixtures, factors and VAEs with scikit-learn's habits, HMMs with hmmlearn's; in pipelines and searches too."""

from onebound.estimators.discrete import BernoulliMixture, LatentClass, PoissonMixture
from onebound.estimators.factor_analysis import FactorAnalysis
from onebound.estimators.gaussian import GaussianMixture
from onebound.estimators.hmm_gaussian import GaussianHMM
from onebound.estimators.hmm_mixture import GMMHMM
from onebound.estimators.hmm_monitor import ConvergenceMonitor
from onebound.estimators.hmm_poisson import PoissonHMM
from onebound.estimators.hmm_tables import CategoricalHMM, MultinomialHMM
from onebound.estimators.mixed import MixedMixture
from onebound.estimators.vae import VAE

__all__ = [
    "GMMHMM",
    "VAE",
    "BernoulliMixture",
    "CategoricalHMM",
    "ConvergenceMonitor",
    "FactorAnalysis",
    "GaussianHMM",
    "GaussianMixture",
    "LatentClass",
    "MixedMixture",
    "MultinomialHMM",
    "PoissonHMM",
    "PoissonMixture",
]
