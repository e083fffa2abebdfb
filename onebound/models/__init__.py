"""One generative story a file: structure × emission."""

from onebound.models.base import Latent, Model
from onebound.models.mixture import Mixture

__all__ = ["Latent", "Mixture", "Model"]
