"""The fits that most of the report's laws are tried on, made once."""

import numpy as np
import pytest
from small_fits import fits_of, geyser_rows

import onebound as ob
from onebound.emissions import Gaussian
from onebound.models import Mixture


@pytest.fixture(scope="session")
def geyser() -> np.ndarray:
    return geyser_rows()


@pytest.fixture(scope="session")
def fits(geyser: np.ndarray) -> list[ob.Fit]:
    """EM, EG, VAE and hard EM on the geyser, from one start."""
    return fits_of(Mixture(Gaussian(2, 2)), geyser, [ob.EM(), ob.EG(), ob.VAE(), ob.HardEM()])
