"""A pytest plugin: scikit-learn's tests get onebound's GaussianMixture, because it is swapped in before they import it."""

import sklearn.mixture

from onebound.estimators import GaussianMixture

sklearn.mixture.GaussianMixture = GaussianMixture
