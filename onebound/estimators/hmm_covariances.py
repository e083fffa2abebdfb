"""Covariances of HMM estimators in hmmlearn's four forms: shapes, starts, scatters, the M step with a prior, and repairs.

C components with means (C, D). A scatter is Σ r (x − μ)(x − μ)ᵀ (C, D, D), or its diagonal (C, D); `pooled` sums what shares
one covariance. With a prior scatter Ψ and its count ν, both pooled, the M step is (Ψ + scatter) / (ν + count), which
maximises −½ Σ (count + ν) ln |Σ| + tr(Ψ + scatter) Σ⁻¹: so ln p(Σ) = −½ (ν ln |Σ| + tr Ψ Σ⁻¹) is the prior.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onebound.errors import InputError, did_you_mean

# A variance below this share of its column's is one that float64 cannot tell from 0, and likewise for an eigenvalue.
SINGULAR = 1e-13


class Form(ABC):
    """One form of covariance. `groups`: how many covariances a tied form has for its C components. Abstract."""

    name: ClassVar[str]

    @abstractmethod
    def shape(self, components: int, features: int) -> tuple[int, ...]:
        """Of the covariances of C components."""

    @abstractmethod
    def start(self, covariance: np.ndarray, components: int) -> np.ndarray:
        """Every covariance from one (D, D)."""

    @abstractmethod
    def dense(self, covariances: np.ndarray, components: int, features: int) -> np.ndarray:
        """One matrix for each component.  (C, D, D)"""

    def stacked(self, covariances: np.ndarray) -> np.ndarray:
        """The covariances with a first axis, also where there is one for all."""
        return covariances

    @abstractmethod
    def outer(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(a bᵀ + b aᵀ) / 2 or its diagonal.  (C, D), (C, D) → a scatter"""

    @abstractmethod
    def pooled(self, scatter: np.ndarray, groups: int = 1) -> np.ndarray:
        """A scatter, or a count in its shape, summed over what shares one covariance."""

    @abstractmethod
    def count(self, cells: np.ndarray) -> np.ndarray:
        """Counts of observed cells (C, D), so that they multiply a scatter."""

    @abstractmethod
    def log_prior(self, covariances: np.ndarray, scatter: Any, count: Any) -> float:
        """−½ (count · ln |Σ| + tr(scatter Σ⁻¹)), summed over the covariances; both pooled."""

    @abstractmethod
    def smallest(self, covariances: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The smallest eigenvalue of each covariance, or less, in units of the columns' variances (D,).  (C or fewer,)"""

    @abstractmethod
    def mended(self, covariances: np.ndarray, which: np.ndarray, more: float) -> np.ndarray:
        """`more` added to the variances of the singular ones, which are 0 at least before it."""

    def moved(
        self, second: np.ndarray, first: np.ndarray, cells: np.ndarray, shift: np.ndarray, groups: int
    ) -> np.ndarray:
        """The pooled scatter about means that have moved by `shift`: S − 2 s₁dᵀ (symmetrised) + n ddᵀ."""
        change = self.count(cells) * self.outer(shift, shift) - 2 * self.outer(first, shift)
        return self.pooled(second, groups) + self.pooled(change, groups)


class _Axis(Form):
    """Variances alone."""

    def outer(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a * b

    def count(self, cells: np.ndarray) -> np.ndarray:
        return cells

    def log_prior(self, covariances: np.ndarray, scatter: Any, count: Any) -> float:
        return -0.5 * float((count * np.log(covariances) + scatter / covariances).sum())

    def mended(self, covariances: np.ndarray, which: np.ndarray, more: float) -> np.ndarray:
        wide = which.reshape(which.shape + (1,) * (covariances.ndim - which.ndim))
        return np.where(wide, np.maximum(covariances, 0.0) + more, covariances)


class Diagonal(_Axis):
    """A variance for each column.  (C, D)"""

    name = "diag"

    def shape(self, components: int, features: int) -> tuple[int, ...]:
        return (components, features)

    def start(self, covariance: np.ndarray, components: int) -> np.ndarray:
        return np.tile(np.diag(covariance), (components, 1))

    def dense(self, covariances: np.ndarray, components: int, features: int) -> np.ndarray:
        return covariances[..., None] * np.eye(features)

    def pooled(self, scatter: np.ndarray, groups: int = 1) -> np.ndarray:
        return scatter

    def smallest(self, covariances: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return _in_units(covariances, columns).min(-1)


class Spherical(_Axis):
    """One variance for all columns.  (C,)"""

    name = "spherical"

    def shape(self, components: int, features: int) -> tuple[int, ...]:
        return (components,)

    def start(self, covariance: np.ndarray, components: int) -> np.ndarray:
        mean = covariance.mean()  # of all entries, as in hmmlearn
        return np.full(components, mean if mean > 0 else np.diag(covariance).mean())

    def dense(self, covariances: np.ndarray, components: int, features: int) -> np.ndarray:
        return covariances[:, None, None] * np.eye(features)

    def pooled(self, scatter: np.ndarray, groups: int = 1) -> np.ndarray:
        return scatter.sum(-1)

    def smallest(self, covariances: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return _in_units(covariances, columns.mean())


class _Dense(Form):
    """Whole matrices."""

    def stacked(self, covariances: np.ndarray) -> np.ndarray:
        return covariances.reshape(-1, *covariances.shape[-2:])

    def outer(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        product = a[..., :, None] * b[..., None, :]
        return 0.5 * (product + np.swapaxes(product, -1, -2))

    def count(self, cells: np.ndarray) -> np.ndarray:
        return cells[:, :1, None]

    def log_prior(self, covariances: np.ndarray, scatter: Any, count: Any) -> float:
        log_det = np.linalg.slogdet(covariances)[1][..., None, None]
        trace = (np.linalg.inv(covariances) * scatter).sum()
        return -0.5 * float((np.broadcast_to(count, log_det.shape) * log_det).sum() + trace)

    def smallest(self, covariances: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The smallest variance times the smallest eigenvalue of the correlations, which no units touch."""
        variances = np.diagonal(covariances, axis1=-2, axis2=-1)
        scale = np.sqrt(np.where(variances > 0, variances, 1.0))
        correlations = covariances / (scale[..., :, None] * scale[..., None, :])
        least = _in_units(variances, columns).min(-1)
        return np.minimum(least, 1.0) * np.linalg.eigvalsh(correlations)[..., 0]

    def mended(self, covariances: np.ndarray, which: np.ndarray, more: float) -> np.ndarray:
        return covariances + np.where(which[..., None, None], more * np.eye(covariances.shape[-1]), 0.0)


class Full(_Dense):
    """A matrix for each component.  (C, D, D)"""

    name = "full"

    def shape(self, components: int, features: int) -> tuple[int, ...]:
        return (components, features, features)

    def start(self, covariance: np.ndarray, components: int) -> np.ndarray:
        return np.tile(covariance, (components, 1, 1))

    def dense(self, covariances: np.ndarray, components: int, features: int) -> np.ndarray:
        return covariances

    def pooled(self, scatter: np.ndarray, groups: int = 1) -> np.ndarray:
        return scatter


class Tied(_Dense):
    """One matrix for all components; `groups` of them, stacked, where components form groups.  (D, D) or (G, D, D)"""

    name = "tied"

    def shape(self, components: int, features: int) -> tuple[int, ...]:
        return (features, features)

    def start(self, covariance: np.ndarray, components: int) -> np.ndarray:
        return covariance.copy()

    def dense(self, covariances: np.ndarray, components: int, features: int) -> np.ndarray:
        return np.broadcast_to(covariances, (components, features, features))

    def pooled(self, scatter: np.ndarray, groups: int = 1) -> np.ndarray:
        return scatter.reshape(groups, -1, *scatter.shape[1:]).sum(1)


FORMS: dict[str, Form] = {form.name: form for form in (Spherical(), Diagonal(), Full(), Tied())}


def form_of(name: str, covariance_type: Any) -> Form:
    """The form that an estimator's `covariance_type` names."""
    if covariance_type not in FORMS:
        raise InputError(
            f"{name}: covariance_type must be one of {', '.join(FORMS)}, got {covariance_type!r}."
            f"{did_you_mean(str(covariance_type), FORMS)}"
        )
    return FORMS[covariance_type]


def _in_units(variances: np.ndarray, columns: Any) -> np.ndarray:
    """Variances as shares of the columns' own; of a column that does not vary, all there is or nothing."""
    known = np.asarray(columns) > 0
    return np.where(known, variances / np.where(known, columns, 1.0), np.where(variances > 0, np.inf, 0.0))


def definite(form: Form, covariances: np.ndarray) -> bool:
    """Whether all are positive definite in float64."""
    return bool((form.smallest(form.stacked(covariances), np.zeros(1)) > SINGULAR).all())


@dataclass(frozen=True)
class Repaired:
    """Covariances that float64 can invert, which of them were mended, and the smallest eigenvalue in the columns' units."""

    covariances: np.ndarray
    mended: list[int]
    smallest: float

    @property
    def strain(self) -> float:
        """How much more than usual rounding may take from ln p: Σ⁻¹ magnifies it below a share of 1e-6."""
        return max(1.0, 1e-6 / max(self.smallest, SINGULAR))


def repaired(form: Form, covariances: np.ndarray, columns: np.ndarray, more: float) -> Repaired:
    """The covariances, `more` being added to the variances of those that are singular in float64."""
    smallest = form.smallest(covariances, columns)
    which = ~(smallest > SINGULAR)
    if which.any():
        covariances = form.mended(covariances, which, more)
    return Repaired(covariances, [int(i) for i in np.flatnonzero(which)], float(smallest.min()))
