"""onebound: EM, EG and VAE climb one bound, L = E_q ln p(z, y) + H(q) = ln p(y) − KL(q ‖ p(z | y)).

Importing this package imports nothing heavy; each public name loads what it needs when it is first used.
"""

from importlib import import_module
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
    "save": "store",
    "load": "store",
}
_PACKAGES = ("algorithms", "data", "emissions", "errors", "models", "numerics", "recognition", "report", "structures")

__all__ = [*_PUBLIC, *_PACKAGES, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(f"onebound.{_PUBLIC[name]}"), name)
        # Written over the sub-module of the same name, which the import system has put here by now.
        globals()[name] = value
        return value
    if name in _PACKAGES:
        return import_module(f"onebound.{name}")
    raise AttributeError(f"module 'onebound' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from onebound import (
        algorithms as algorithms,
        data as data,
        emissions as emissions,
        errors as errors,
        models as models,
        numerics as numerics,
        recognition as recognition,
        report as report,
        structures as structures,
    )
    from onebound.algorithms import (
        EG as EG,
        EM as EM,
        GEM as GEM,
        MCEM as MCEM,
        VAE as VAE,
        VEM as VEM,
        Algorithm as Algorithm,
        Amortized as Amortized,
        Argmax as Argmax,
        ClosedForm as ClosedForm,
        Exact as Exact,
        Fit as Fit,
        Gradient as Gradient,
        HardEM as HardEM,
        Plan as Plan,
        PosteriorSamples as PosteriorSamples,
        Record as Record,
        fit as fit,
        plan as plan,
    )
    from onebound.bound import Bound as Bound, bound as bound
    from onebound.observations import Observations as Observations
    from onebound.store import load as load, save as save
