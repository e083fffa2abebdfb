"""z as a distribution: log-potentials → ln Z, marginals, entropy, sample, argmax."""

from onebound.structures.alignment import Alignment
from onebound.structures.alignment_potentials import AlignmentPotentials
from onebound.structures.base import Posterior, Structure
from onebound.structures.categorical import Categorical
from onebound.structures.chain import Chain
from onebound.structures.chain_potentials import ChainPotentials
from onebound.structures.dense_tree import DenseTree
from onebound.structures.gaussian import DiagonalGaussian, FullGaussian, Gaussian, Quadratic
from onebound.structures.grammar import Grammar
from onebound.structures.paths import Draws, Paths
from onebound.structures.sparse_tree import GrammarPotentials, SparseTree
from onebound.structures.tree_draws import TreeDraws
from onebound.structures.tree_potentials import TreePotentials

__all__ = [
    "Alignment",
    "AlignmentPotentials",
    "Categorical",
    "Chain",
    "ChainPotentials",
    "DenseTree",
    "DiagonalGaussian",
    "Draws",
    "FullGaussian",
    "Gaussian",
    "Grammar",
    "GrammarPotentials",
    "Paths",
    "Posterior",
    "Quadratic",
    "SparseTree",
    "Structure",
    "TreeDraws",
    "TreePotentials",
]
