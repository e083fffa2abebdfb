"""A pytest plugin: hmmlearn's tests get onebound's classes, because they are swapped in before the tests import them.

Importing this file does nothing, for whoever looks for doctests imports it too: there, the peer must stay the peer.
"""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Swap the classes, in the process that was started with `-p swapped_hmms`."""
    import hmmlearn.hmm

    from onebound import estimators

    for name in hmmlearn.hmm.__all__:
        setattr(hmmlearn.hmm, name, getattr(estimators, name))
