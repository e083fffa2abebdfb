"""What an HMM with given parameters says of sequences, with hmmlearn's habits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from onebound.algorithms.sweep import threads_for
from onebound.emissions import Emission
from onebound.errors import InputError, did_you_mean
from onebound.estimators.hmm_data import observed, rows_and_lengths
from onebound.models import HMM
from onebound.models.hmm import stationary
from onebound.observations import Observations
from onebound.structures import Chain

DECODERS = ("viterbi", "map")


class FittedHMM(BaseEstimator):
    """Everything that needs the attributes and new sequences alone. X is rows with `lengths`, or a list of arrays. Abstract."""

    n_components: int
    n_features: int
    algorithm: str
    random_state: Any
    startprob_: np.ndarray
    transmat_: np.ndarray

    @abstractmethod
    def _emission(self) -> Emission:
        """An emission for parameters like these."""

    @abstractmethod
    def _emission_parameters(self) -> dict[str, Any]:
        """The attributes as the emission's `assign` takes them."""

    @abstractmethod
    def _check(self) -> None:
        """Raise ValueError where the attributes are no parameters of such a model."""

    @abstractmethod
    def _write(self, model: HMM) -> HMM:
        """The attributes as the model's parameters."""

    @abstractmethod
    def _generate_sample_from_state(self, state: int, random_state: Any) -> Any:
        """A row drawn in `state`, by NumPy's generator.  (D,)"""

    @abstractmethod
    def _get_n_fit_scalars_per_param(self) -> dict[str, int]:
        """How many numbers each letter stands for."""

    @property
    def model_(self) -> HMM:
        """An `onebound.models.HMM` with the parameters that the attributes have now."""
        check_is_fitted(self, "startprob_")
        self._check()
        return self._write(HMM(self._emission()))

    # --- what is said of sequences ---------------------------------------------------------------------------------

    def score(self, X: Any, lengths: Any = None) -> float:
        """Σ ln p of the sequences, nats; −inf where one is impossible."""
        return float(sum(q.log_partition.sum() for q in self._posteriors(X, lengths, impossible=True)))

    def score_samples(self, X: Any, lengths: Any = None) -> tuple[float, np.ndarray]:
        """Σ ln p of the sequences, nats, and p(state) of each row (R, K)."""
        found = [(float(q.log_partition.sum()), q.marginals.unary) for q in self._posteriors(X, lengths)]
        return sum(score for score, _ in found), torch.cat([states for _, states in found]).numpy()

    def predict_proba(self, X: Any, lengths: Any = None) -> np.ndarray:
        """p(state) of each row given its whole sequence.  (R, K)"""
        return self.score_samples(X, lengths)[1]

    def predict(self, X: Any, lengths: Any = None) -> np.ndarray:
        """The state of each row, by the decoder `algorithm`.  (R,) int64"""
        return self.decode(X, lengths)[1]

    def decode(self, X: Any, lengths: Any = None, algorithm: str | None = None) -> tuple[float, np.ndarray]:
        """A score and the state of each row (R,): the most probable path and its Σ ln p(path, X) ("viterbi"), or the most
        probable state of each row and the sum of their probabilities ("map")."""
        chosen = algorithm or self.algorithm
        if chosen not in DECODERS:
            raise InputError(
                f"{type(self).__name__}: Unknown decoder {chosen!r}; algorithm must be one of {', '.join(DECODERS)}."
                f"{did_you_mean(str(chosen), DECODERS)}"
            )
        if chosen == "map":
            best = self.predict_proba(X, lengths)
            return float(best.max(1).sum()), best.argmax(1)
        found = [(q.best(1), q.log_partition) for q in self._posteriors(X, lengths)]
        score = sum(float((log_q[0] + log_z).sum()) for (_, log_q), log_z in found)
        return score, torch.cat([paths[0] for (paths, _), _ in found]).numpy()

    def _compute_log_likelihood(self, X: Any) -> np.ndarray:
        """ln p(row | state), nats.  (R, K)"""
        emission = self.model_.emission
        with torch.no_grad():
            return emission.log_prob(observed(*self._rows_and_lengths(X, None)).y).numpy()

    def _compute_likelihood(self, X: Any) -> np.ndarray:
        """p(row | state).  (R, K)"""
        return np.exp(self._compute_log_likelihood(X))

    @torch.no_grad()
    def _posteriors(self, X: Any, lengths: Any, *, impossible: bool = False) -> Iterator[Chain]:
        """The posterior of every sequence, block by block; `impossible`: also of those with ln p = −inf."""
        model = self.model_
        model.keep_infeasible = impossible
        obs: Observations = model.observe(observed(*self._rows_and_lengths(X, lengths)))
        with threads_for(obs.n_rows, model.block_rows):
            for block in obs.blocks(model.block_rows):
                yield cast(Chain, model.posterior(block))

    def _rows_and_lengths(self, X: Any, lengths: Any) -> tuple[np.ndarray, list[int]]:
        gaps = getattr(self, "missing", "error") == "marginalize"
        return rows_and_lengths(type(self).__name__, X, lengths, gaps=gaps)

    # --- what follows ----------------------------------------------------------------------------------------------

    def aic(self, X: Any, lengths: Any = None) -> float:
        """Akaike's criterion, −2 ln p + 2 × parameters, these counted as hmmlearn does: lower is better."""
        return -2 * self.score(X, lengths) + 2 * sum(self._get_n_fit_scalars_per_param().values())

    def bic(self, X: Any, lengths: Any = None) -> float:
        """The Bayesian information criterion, −2 ln p + parameters × ln (rows), counted likewise: lower is better."""
        rows, cuts = self._rows_and_lengths(X, lengths)
        return -2 * self.score(rows, cuts) + sum(self._get_n_fit_scalars_per_param().values()) * float(
            np.log(len(rows))
        )

    def get_stationary_distribution(self) -> np.ndarray:
        """The states' shares in the long run, from `startprob_` where there are several such distributions.  (K,)"""
        check_is_fitted(self, "transmat_")
        a = torch.as_tensor(np.asarray(self.transmat_, dtype=float))
        start = np.asarray(getattr(self, "startprob_", np.full(len(a), 1 / len(a))), dtype=float)
        return stationary(a, torch.as_tensor(start)).numpy()

    def sample(
        self, n_samples: int = 1, random_state: Any = None, currstate: int | None = None
    ) -> tuple[Any, np.ndarray]:
        """One sequence, from hmmlearn's random numbers: rows (n, D) and states (n,). `currstate`: the first state."""
        check_is_fitted(self, "startprob_")
        self._check()
        rng = check_random_state(self.random_state if random_state is None else random_state)
        steps = np.cumsum(self.transmat_, axis=1)
        state = int((np.cumsum(self.startprob_) > rng.rand()).argmax()) if currstate is None else currstate
        states, rows = [state], [self._generate_sample_from_state(state, rng)]
        for _ in range(n_samples - 1):
            state = int((steps[state] > rng.rand()).argmax())
            states.append(state)
            rows.append(self._generate_sample_from_state(state, rng))
        return np.atleast_2d(rows), np.array(states, dtype=int)
