"""What a model's parts and items are called: a mixture has components and explains rows, a chain has states and sequences."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Terms:
    """`part`: one of the K; `item`: what ln p(y) is of; `share`: what the model's weights are."""

    part: str
    item: str
    share: str
    is_chain: bool = False

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


def terms_of(model: Any) -> Terms:
    """The terms for a model, by the structure of its z: the one place where a chain is told from a class."""
    from onebound.structures import Chain

    return CHAIN if issubclass(model.latents()[0].structure, Chain) else TABLE


def rows_per_item(obs: Any) -> float:
    """The mean length of the sequences, weighted as they are; 1 where every row is an item of its own."""
    if obs.lengths is None:
        return 1.0
    return float(obs.total_row_weight) / float(obs.total_weight) or 1.0
