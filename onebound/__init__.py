"""onebound: EM, EG and VAE climb one bound, L = E_q ln p(z, y) + H(q) = ln p(y) − KL(q ‖ p(z | y)).

Importing this package imports nothing heavy; each public name loads what it needs when it is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "choose": "algorithms",
    "fit": "algorithms",
    "gap_report": "algorithms",
    "latent_use": "algorithms",
    "plan": "algorithms",
    "EM": "algorithms",
    "EG": "algorithms",
    "GEM": "algorithms",
    "VAE": "algorithms",
    "VEM": "algorithms",
    "MCEM": "algorithms",
    "HardEM": "algorithms",
    "OnlineEM": "algorithms",
    "Online": "algorithms",
    "Algorithm": "algorithms",
    "Amortized": "algorithms",
    "Argmax": "algorithms",
    "Choice": "algorithms",
    "ClosedForm": "algorithms",
    "Exact": "algorithms",
    "Fit": "algorithms",
    "Gradient": "algorithms",
    "Plan": "algorithms",
    "PosteriorSamples": "algorithms",
    "Squared": "algorithms",
    "Stepwise": "algorithms",
    "Record": "algorithms",
    "bound": "bound",
    "Bound": "bound",
    "bracket": "bound",
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
    "functional",
    "models",
    "networks",
    "numerics",
    "observations",
    "recognition",
    "report",
    "statistics",
    "structures",
)

# What a notebook shows of them is made by the report, which stands above them: only this face sees both.
_SHOWN = {"algorithms": ("Fit", "Plan"), "bound": ("Bound",)}

__all__ = [*_PUBLIC, *_PACKAGES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module = import_module(f"onebound.{_PUBLIC[name]}")
        for shown in _SHOWN.get(_PUBLIC[name], ()):
            getattr(module, shown)._repr_html_ = _html
        value = globals()[name] = getattr(module, name)
        return value
    if name in _PACKAGES:
        return import_module(f"onebound.{name}")
    raise AttributeError(f"module 'onebound' has no attribute {name!r}")


def _html(shown: Any) -> str:
    """A Fit, a Plan or a Bound as a notebook shows it."""
    notebook = import_module("onebound.report.notebook")
    return str(getattr(notebook, f"{type(shown).__name__.lower()}_html")(shown))


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
        functional as functional,
    )
    from onebound import (
        models as models,
    )
    from onebound import (
        networks as networks,
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
        Choice as Choice,
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
        Squared as Squared,
    )
    from onebound.algorithms import (
        choose as choose,
    )
    from onebound.algorithms import (
        fit as fit,
    )
    from onebound.algorithms import (
        gap_report as gap_report,
    )
    from onebound.algorithms import (
        latent_use as latent_use,
    )
    from onebound.algorithms import (
        plan as plan,
    )
    from onebound.bound import Bound as Bound
    from onebound.bound import bound as bound
    from onebound.bound import bracket as bracket
    from onebound.checkpoint import Checkpoint as Checkpoint
    from onebound.checkpoint import resume as resume
    from onebound.observations import Observations as Observations
    from onebound.store import load as load
    from onebound.store import save as save
