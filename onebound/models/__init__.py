"""One generative story a file: structure × emission.

Each class loads what it needs when it is first used, so that the shell can list what there is without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebound.models.base import Latent, Model
    from onebound.models.ctc import CTC
    from onebound.models.decoding import LabelNGram
    from onebound.models.deep_gaussian import DeepGaussian
    from onebound.models.factor_analysis import FactorAnalysis, ProbabilisticPCA
    from onebound.models.filter import Filter
    from onebound.models.grammar import GrammarPCFG
    from onebound.models.hmm import HMM
    from onebound.models.mixture import Mixture
    from onebound.models.pcfg import PCFG, NeuralPCFG
    from onebound.models.transitions import NeuralTransition

_HOME = {
    "CTC": "ctc",
    "DeepGaussian": "deep_gaussian",
    "FactorAnalysis": "factor_analysis",
    "Filter": "filter",
    "GrammarPCFG": "grammar",
    "HMM": "hmm",
    "LabelNGram": "decoding",
    "Latent": "base",
    "Mixture": "mixture",
    "Model": "base",
    "NeuralPCFG": "pcfg",
    "NeuralTransition": "transitions",
    "PCFG": "pcfg",
    "ProbabilisticPCA": "factor_analysis",
}

__all__ = [
    "CTC",
    "HMM",
    "PCFG",
    "DeepGaussian",
    "FactorAnalysis",
    "Filter",
    "GrammarPCFG",
    "LabelNGram",
    "Latent",
    "Mixture",
    "Model",
    "NeuralPCFG",
    "NeuralTransition",
    "ProbabilisticPCA",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"onebound.models.{_HOME[name]}"), name)
    raise AttributeError(f"module 'onebound.models' has no attribute {name!r}")


def registered() -> dict[str, "type[Model]"]:
    """Every model class of the package by its name, as model files give it."""
    for home in _HOME.values():
        import_module(f"onebound.models.{home}")
    classes: dict[str, type[Model]] = __getattr__("Model").registered
    return classes
