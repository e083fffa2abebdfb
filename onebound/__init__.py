"""onebound: EM, EG and VAE climb one bound, L = E_q ln p(z, y) + H(q) = ln p(y) − KL(q ‖ p(z | y)).

Importing this package imports nothing heavy; each public name loads what it needs when it is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "fit": "algorithms",
    "plan": "algorithms",
    "EM": "algorithms",
    "EG": "algorithms",
    "GEM": "algorithms",
    "VAE": "algorithms",
    "VEM": "algorithms",
    "MCEM": "algorithms",
    "HardEM": "algorithms",
    "Algorithm": "algorithms",
    "Amortized": "algorithms",
    "Argmax": "algorithms",
    "ClosedForm": "algorithms",
    "Exact": "algorithms",
    "Fit": "algorithms",
    "Gradient": "algorithms",
    "Plan": "algorithms",
    "PosteriorSamples": "algorithms",
    "Record": "algorithms",
    "bound": "bound",
    "Bound": "bound",
    "Observations": "observations",
    "Checkpoint": "checkpoint",
    "resume": "checkpoint",
    "save": "store",
    "load": "store",
}
_PACKAGES = (
    "algorithms",
    "data",
    "emissions",
    "errors",
    "estimators",
    "models",
    "numerics",
    "observations",
    "recognition",
    "report",
    "statistics",
    "structures",
)

__all__ = [*_PUBLIC, *_PACKAGES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = globals()[name] = getattr(import_module(f"onebound.{_PUBLIC[name]}"), name)
        return value
    if name in _PACKAGES:
        return import_module(f"onebound.{name}")
    raise AttributeError(f"module 'onebound' has no attribute {name!r}")


class _Package(ModuleType):
    """This package: `onebound.bound` is the function, where the import system would put the module that defines it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from onebound import (
        algorithms as algorithms,
    )
    from onebound import (
        data as data,
    )
    from onebound import (
        emissions as emissions,
    )
    from onebound import (
        errors as errors,
    )
    from onebound import (
        models as models,
    )
    from onebound import (
        numerics as numerics,
    )
    from onebound import (
        observations as observations,
    )
    from onebound import (
        recognition as recognition,
    )
    from onebound import (
        report as report,
    )
    from onebound import (
        statistics as statistics,
    )
    from onebound import (
        structures as structures,
    )
    from onebound.algorithms import (
        EG as EG,
    )
    from onebound.algorithms import (
        EM as EM,
    )
    from onebound.algorithms import (
        GEM as GEM,
    )
    from onebound.algorithms import (
        MCEM as MCEM,
    )
    from onebound.algorithms import (
        VAE as VAE,
    )
    from onebound.algorithms import (
        VEM as VEM,
    )
    from onebound.algorithms import (
        Algorithm as Algorithm,
    )
    from onebound.algorithms import (
        Amortized as Amortized,
    )
    from onebound.algorithms import (
        Argmax as Argmax,
    )
    from onebound.algorithms import (
        ClosedForm as ClosedForm,
    )
    from onebound.algorithms import (
        Exact as Exact,
    )
    from onebound.algorithms import (
        Fit as Fit,
    )
    from onebound.algorithms import (
        Gradient as Gradient,
    )
    from onebound.algorithms import (
        HardEM as HardEM,
    )
    from onebound.algorithms import (
        Plan as Plan,
    )
    from onebound.algorithms import (
        PosteriorSamples as PosteriorSamples,
    )
    from onebound.algorithms import (
        Record as Record,
    )
    from onebound.algorithms import (
        fit as fit,
    )
    from onebound.algorithms import (
        plan as plan,
    )
    from onebound.bound import Bound as Bound
    from onebound.bound import bound as bound
    from onebound.checkpoint import Checkpoint as Checkpoint
    from onebound.checkpoint import resume as resume
    from onebound.observations import Observations as Observations
    from onebound.store import load as load
    from onebound.store import save as save
