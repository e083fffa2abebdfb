"""z as a distribution: log-potentials → ln Z, marginals, entropy, sample, argmax."""

from onebound.structures.base import Posterior, Structure
from onebound.structures.categorical import Categorical

__all__ = ["Categorical", "Posterior", "Structure"]
