"""A pytest plugin: scikit-learn's tests get onebound's GaussianMixture, because it is swapped in before they import it.

Importing this file does nothing, for whoever looks for doctests imports it too: there, the peer must stay the peer.
"""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Swap the class, in the process that was started with `-p swapped_class`."""
    import sklearn.mixture

    from onebound.estimators import GaussianMixture

    sklearn.mixture.GaussianMixture = GaussianMixture
