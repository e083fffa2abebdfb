"""A pytest plugin: scikit-learn's tests get onebound's classes, because they are swapped in before they import them.

Importing this file does nothing, for whoever looks for doctests imports it too: there, the peer must stay the peer.
"""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Swap the classes, in the process that was started with `-p swapped_class`."""
    import sklearn.decomposition
    import sklearn.mixture

    from onebound.estimators import FactorAnalysis, GaussianMixture

    sklearn.mixture.GaussianMixture = GaussianMixture
    sklearn.decomposition.FactorAnalysis = FactorAnalysis
