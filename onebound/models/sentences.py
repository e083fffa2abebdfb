"""Sentences as data: words by number, a tree over each. What models of trees share, whatever their rules are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from onebound.emissions.base import ROUNDING
from onebound.errors import InputError, Unsupported, whole_number
from onebound.models.base import Model
from onebound.observations import Columns, Observations

# Words in a block of sentences, and in a sentence that is drawn, after which the grammar is taken to have no end.
BLOCK_WORDS, ENDLESS = 4096, 10_000
UNKNOWN = "<unk>"


class SentenceModel(Model):
    """A model of trees over sentences. Abstract: it has no rules yet.

    Data: a list of sentences, each its words' numbers (n,), or from words by `encode`. `allowed` (Σn, longest): whether the d
    words that end with a row's may be a phrase, column d − 1, as `spans_beside` makes it from brackets.
    """

    def __init__(self, vocabulary: int | Sequence[str], *, keep_infeasible: bool = False) -> None:
        super().__init__(keep_infeasible=keep_infeasible)
        who = type(self).__name__
        named = not isinstance(vocabulary, int)
        self.vocabulary = tuple(map(str, vocabulary)) if named else None  # type: ignore[arg-type]
        self.n_words = (
            len(self.vocabulary) if self.vocabulary is not None else whole_number(who, "vocabulary", vocabulary)
        )
        self._numbers = {word: i for i, word in enumerate(self.vocabulary or ())}
        if self.vocabulary is not None and (len(self._numbers) != self.n_words or not self.n_words):
            raise InputError(
                f"{who}: vocabulary must hold different words, at least one, got {self.n_words} with repeats."
            )

    def encode(self, sentences: Sequence[Sequence[str]], **options: Any) -> Observations:
        """Words as numbers; one outside the vocabulary is `<unk>` where the vocabulary has it, else InputError names it.

        `options` are those of `Observations.of`: weights, allowed.
        """
        unknown, rows = self._numbers.get(UNKNOWN), []
        for i, sentence in enumerate(sentences):
            if isinstance(sentence, str):
                raise InputError(
                    f"{type(self).__name__}.encode: a sentence must be a list of words, got the text {sentence!r} as sentence "
                    f"{i}. Split it: sentence.split()."
                )
            here = [self._numbers.get(word, unknown) for word in sentence]
            if None in here:
                word = sentence[here.index(None)]
                raise InputError(
                    f"{type(self).__name__}: word {word!r} of sentence {i} is not among the {self.n_words} words it knows. "
                    f"Fit with {UNKNOWN} in it (rare words), or leave the sentence out."
                )
            rows.append(torch.tensor(here, dtype=torch.int64).reshape(-1, 1))
        return self._of(rows, **options)

    def _of(self, rows: list[Tensor], **options: Any) -> Observations:
        empty = [i for i, row in enumerate(rows) if not len(row)]
        if empty:
            raise InputError(f"{type(self).__name__}: sentence {empty[0]} has no words. Leave it out.")
        return Observations.of(rows, **options)

    # --- the data --------------------------------------------------------------------------------------------------

    def observe(self, y: Any) -> Observations:
        """Sentences, checked once: a list of their words' numbers, or Observations with lengths."""
        if isinstance(y, (list, tuple)) and y and not isinstance(y[0], (int, float)):
            y = self._of([torch.as_tensor(row).reshape(-1, 1) for row in y])
        return super().observe(y)

    def check(self, obs: Observations) -> None:
        """Words of the vocabulary, no sentence without any; a row of `allowed` has a column for every width."""
        who = type(self).__name__
        if obs.lengths is None:
            raise InputError(f"{who}: expected sentences, a list of their words' numbers, got a table.")
        if obs.n_features != 1:
            raise InputError(f"{who}: y must be one word after the other, got {obs.n_features} columns.")
        words = obs.y[:, 0]
        bad = ~((words >= 0) & (words < self.n_words) & (words == words.floor()))
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise InputError(
                f"{who}: words must be numbers 0 … {self.n_words - 1}, got {words[row].item():g} at {obs.place(row)}."
            )
        if bool((obs.lengths == 0).any()):
            n = int((obs.lengths == 0).nonzero()[0])
            raise InputError(f"{who}: sentence {obs.number(n)} has no words. Leave it out.")
        longest = int(obs.lengths.max())
        if obs.allowed is not None and obs.allowed.shape[1] < longest:
            raise InputError(f"{who}: allowed must have {longest} columns or more, got {obs.allowed.shape[1]}.")

    def prepare(self, columns: Columns) -> None:
        """Words have no units."""
        self.prepared.fill_(True)

    def features(self, obs: Observations) -> NoReturn:
        """Refused: the posterior is exact."""
        raise Unsupported(f"{type(self).__name__}: p(z | y) is summed exactly, so no recognition network is needed.")

    @property
    def block_rows(self) -> int:
        """Words in a block."""
        return BLOCK_WORDS

    @property
    def rounding(self) -> float:
        """As elsewhere."""
        return ROUNDING
