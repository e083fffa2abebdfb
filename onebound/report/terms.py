"""What a model's parts and items are called: a mixture has components and explains rows, a chain has states and sequences,
a vector has dimensions.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Terms:
    """`part`: one of the K; `item`: what ln p(y) is of; `share`: what the model's weights are; `is_vector`: z has no parts to
    belong to, but dimensions; `is_exact`: its posterior is known.
    """

    part: str
    item: str
    share: str
    is_chain: bool = False
    is_vector: bool = False
    is_exact: bool = True

    def parts(self, n: int) -> str:
        """How many of the K.

        >>> TABLE.parts(1), CHAIN.parts(3)
        ('1 component', '3 states')
        """
        return f"{n} {self.part}{'s' * (n != 1)}"

    def own(self, text: str) -> str:
        """A sentence about components, in these terms."""
        if not self.is_chain:
            return text
        return text.replace("component", self.part).replace("Component", self.part.capitalize())


TABLE = Terms("component", "row", "share of the rows")
CHAIN = Terms("state", "sequence", "long-run share", is_chain=True)
FACTORS = Terms("factor", "row", "", is_vector=True)
DIMENSIONS = Terms("dimension", "row", "", is_vector=True, is_exact=False)
DIMENSIONS_OF_SEQUENCES = Terms("dimension", "sequence", "", is_vector=True, is_exact=False)


def terms_of(model: Any) -> Terms:
    """The terms for a model, by the structure of its z: the one place where chains, classes and vectors are told apart."""
    from onebound.structures import Chain
    from onebound.structures.gaussian import Gaussian

    z = model.latents()[0]
    if issubclass(z.structure, Chain):
        return CHAIN
    if not issubclass(z.structure, Gaussian):
        return TABLE
    if z.exact_posterior:
        return FACTORS
    return DIMENSIONS_OF_SEQUENCES if model.prior is not None and terms_of(model.prior).is_chain else DIMENSIONS


def n_parts(model: Any) -> int:
    """How many of the terms' parts there are."""
    return int(model.n_latent if terms_of(model).is_vector else model.n_components)


def classes_of(model: Any) -> Any:
    """The model whose z is a class or a state: the model itself, or the prior of a network's z; None where there is none."""
    if not terms_of(model).is_vector:
        return model
    prior = getattr(model, "prior", None)
    return None if prior is None or terms_of(prior).is_vector else prior


def sized(model: Any) -> str:
    """How large the model is: "3 states", "2 factors", "2 dimensions under 3 components"."""
    inner, own = classes_of(model), terms_of(model).parts(n_parts(model))
    return own if inner is None or inner is model else f"{own} under {terms_of(inner).parts(n_parts(inner))}"


def n_columns(model: Any) -> int:
    """How many columns of data the model is of."""
    return int(getattr(model, "n_features", None) or model.emission.n_features)


def rows_per_item(obs: Any) -> float:
    """The mean length of the sequences, weighted as they are; 1 where every row is an item of its own."""
    if obs.lengths is None:
        return 1.0
    return float(obs.total_row_weight) / float(obs.total_weight) or 1.0
