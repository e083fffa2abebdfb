"""The one place where the shell tells models apart by what z is: a class or a state, factors, or a vector under a network."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from onebound.cli.extras import component_names
from onebound.report.terms import classes_of, terms_of

# What the library calls its arguments, as one types them here.
TYPED = {
    r"n_latent=(\d+)": r"--latent \1",
    r"warm_up=": "--warm-up",
    r"estimator='importance'": "--iwae --draws 10",
    r"prior=Mixture\(\.\.\.\)": "gmm-vae",
}


class Kind(ABC):
    """What the shell asks of a model that depends on what its z is. Abstract."""

    @abstractmethod
    def parameters(self, model: Any, names: Sequence[str]) -> Any:
        """The parameters as something to print."""

    @abstractmethod
    def as_dict(self, model: Any, names: Sequence[str]) -> dict[str, Any]:
        """The parameters for machines."""

    @abstractmethod
    def predicted(self, model: Any, block: Any, path: bool) -> dict[str, Any]:
        """What z is most probably in each row of a block, by column; of chains on the best path, or row by row."""

    @abstractmethod
    def drawn(self, model: Any, z: Any) -> dict[str, Any]:
        """Draws of z by column."""

    @abstractmethod
    def called(self, model: Any) -> str:
        """What `predicted` says of the rows, in one word."""

    def estimated(self, task: Any, fit: Any) -> dict[str, Any]:
        """What has to be estimated after a fit, because it has no sum."""
        return {}

    def facts(self, estimate: Mapping[str, Any] | None) -> Iterable[tuple[str, str]]:
        """That, to be read."""
        return ()


def kind_of(model: Any) -> Kind:
    """The kind of this model."""
    terms = terms_of(model)
    return _Classes() if not terms.is_vector else _Factors() if terms.is_exact else _Network()


class _Classes(Kind):
    """A mixture or a chain: z is one of K."""

    def parameters(self, model: Any, names: Sequence[str]) -> Any:
        from onebound.cli.tables import parameters_table

        return parameters_table(model, names)

    def as_dict(self, model: Any, names: Sequence[str]) -> dict[str, Any]:
        from onebound.report.moves import moves_of
        from onebound.report.parameters import array, quantities

        moves = moves_of(model)
        rows = quantities(model, names)
        return {
            "n_components": model.n_components,
            "components": component_names(model.about or {}, model.n_components),
            "weights": array(model.weights).tolist(),
            **({} if moves is None else _moves(moves)),
            "parameters": [{"column": q.column, "what": q.what, "values": array(q.values).tolist()} for q in rows],
        }

    def predicted(self, model: Any, block: Any, path: bool) -> dict[str, Any]:
        from onebound.cli.predict import class_columns, responsibilities

        names = component_names(model.about, model.n_components)
        return class_columns(*responsibilities(model, block, path), names, self._one(model))

    def drawn(self, model: Any, z: Any) -> dict[str, Any]:
        names = component_names(model.about, model.n_components)
        return {self._one(model): [names[k] for k in z.tolist()]}

    def called(self, model: Any) -> str:
        return "states" if terms_of(model).is_chain else "classes"

    @staticmethod
    def _one(model: Any) -> str:
        return "state" if terms_of(model).is_chain else "class"


class _Vector(Kind):
    """z is a vector for each row. Abstract."""

    def drawn(self, model: Any, z: Any) -> dict[str, Any]:
        return _by_dimension(z.numpy())

    def called(self, model: Any) -> str:
        return "means of z"

    def predicted(self, model: Any, block: Any, path: bool) -> dict[str, Any]:
        from onebound.report.latent import means_of

        return _by_dimension(means_of(model, block))


class _Factors(_Vector):
    """Factor analysis and PCA."""

    def parameters(self, model: Any, names: Sequence[str]) -> Any:
        from onebound.cli.vectors import loadings_table

        return loadings_table(model, names)

    def as_dict(self, model: Any, names: Sequence[str]) -> dict[str, Any]:
        return {
            "n_latent": model.n_latent,
            "mean": model.mean.tolist(),
            "loadings": model.components.tolist(),
            "noise_variance": model.noise_variance.tolist(),
        }


class _Network(_Vector):
    """A network decodes z, whose prior may be a mixture or a chain."""

    def parameters(self, model: Any, names: Sequence[str]) -> Any:
        from onebound.cli.vectors import network_table

        return network_table(model, names)

    def as_dict(self, model: Any, names: Sequence[str]) -> dict[str, Any]:
        from onebound.cli.vectors import noise_of

        inner = classes_of(model)
        prior = {} if inner is None else {"prior": _Classes().as_dict(inner, _by_number(model.n_latent))}
        noise = noise_of(model)
        return {
            "n_latent": model.n_latent,
            "hidden": list(model.hidden),
            "likelihood": model.config()["likelihood"]["name"],
            **({} if noise is None else {"standard_deviation": noise.tolist()}),
            **prior,
        }

    def predicted(self, model: Any, block: Any, path: bool) -> dict[str, Any]:
        from onebound.cli.predict import class_columns
        from onebound.report.latent import classes_at, means_of

        inner, z = classes_of(model), means_of(model, block)
        if inner is None:
            return _by_dimension(z)
        probability, best = classes_at(model, z, block.lengths, path=path)
        names = component_names({}, inner.n_components)
        return _by_dimension(z) | class_columns(probability, best, names, terms_of(inner).part)

    def estimated(self, task: Any, fit: Any) -> dict[str, Any]:
        from onebound.algorithms.plan import NETWORK_BATCH
        from onebound.cli.progress import waiting
        from onebound.report.latent import estimate

        batch = task.settings.get("batch_size") or NETWORK_BATCH
        passes = max((record.passes for record in fit.trace if record.running), default=0.0)
        steps = {"steps": round(passes * -(-task.observations.n_items // batch))}
        with waiting("estimating ln p(y) by draws"):
            return {"estimate": estimate(fit.model, task.observations) | steps}

    def facts(self, estimate: Mapping[str, Any] | None) -> Iterable[tuple[str, str]]:
        from onebound.cli.vectors import estimate_facts

        return () if estimate is None else estimate_facts(estimate)


def as_typed(advice: str) -> str:
    """The library's advice in the words of the shell.

    >>> as_typed("n_latent=2 would do as well; try warm_up= or estimator='importance'.")
    '--latent 2 would do as well; try --warm-up or --iwae --draws 10.'
    """
    for ours, typed in TYPED.items():
        advice = re.sub(ours, typed, advice)
    return advice


def _by_number(size: int) -> list[str]:
    return [f"z{d + 1}" for d in range(size)]


def _by_dimension(z: Any) -> dict[str, Any]:
    return {name: z[:, d] for d, name in enumerate(_by_number(z.shape[1]))}


def _moves(moves: Any) -> dict[str, Any]:
    """Of a model of sequences: from each state, to each state. JSON has no infinity: such a duration is null."""
    return {
        "initial": moves.initial.tolist(),
        "transition": moves.transition.tolist(),
        "expected_duration": moves.duration.tolist(),
    }


def predictions(task: Any, *, path: bool = False) -> Iterator[dict[str, Any]]:
    """The rows with what z is in each, and their sequences, block by block."""
    from onebound.cli.rows import BLOCK_ROWS

    first, kind = 0, kind_of(task.model)
    for block in task.observations.blocks(BLOCK_ROWS):
        heads: dict[str, Any] = {"row": range(first + 1, first + block.n_rows + 1)}
        if block.lengths is not None:
            numbers = range(block.first, block.first + block.n_items)
            pairs = zip(numbers, block.lengths.tolist(), strict=True)
            heads["sequence"] = [task.extras.sequences.name(n) for n, length in pairs for _ in range(length)]
        yield heads | kind.predicted(task.model, block, path)
        first += block.n_rows
