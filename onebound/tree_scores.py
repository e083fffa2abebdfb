"""How right trees are: brackets found, wanted and both, with every switch that changes the number named beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from onebound.errors import InputError
from onebound.trees import Tree

# Labels of the outermost node that are no phrases.
ROOTS = ("ROOT", "TOP", "S1", "VROOT")
# Penn tags of punctuation, as the usual scores leave them out.
PUNCTUATION = (",", ".", ":", "``", "''", "-LRB-", "-RRB-", "#", "$")


@dataclass(frozen=True)
class BracketScore:
    """Brackets in common, in the given trees and in the found ones, over all sentences; and the mean of sentences' F1."""

    both: int
    wanted: int
    found: int
    exact: int
    sentences: int
    unparsed: int
    mean_f1: float
    switches: str

    @property
    def precision(self) -> float:
        """Of those found."""
        return self.both / self.found if self.found else float(not self.wanted)

    @property
    def recall(self) -> float:
        """Of those wanted."""
        return self.both / self.wanted if self.wanted else float(not self.found)

    @property
    def f1(self) -> float:
        """2 · both / (wanted + found), over the corpus."""
        total = self.wanted + self.found
        return 2 * self.both / total if total else 1.0

    def as_dict(self) -> dict[str, float | int | str]:
        """All of it."""
        return {
            "f1": self.f1,
            "mean_sentence_f1": self.mean_f1,
            "precision": self.precision,
            "recall": self.recall,
            "brackets": self.wanted,
            "exact": self.exact,
            "sentences": self.sentences,
            "unparsed": self.unparsed,
            "switches": self.switches,
        }

    def __str__(self) -> str:
        return (
            f"F1 {100 * self.f1:.2f} % (precision {100 * self.precision:.2f}, recall {100 * self.recall:.2f}; mean over "
            f"sentences {100 * self.mean_f1:.2f}); {self.switches}"
        )


def bracket_score(
    wanted: Sequence[Tree],
    found: Sequence[Tree | None],
    *,
    labelled: bool = True,
    trivial: bool = True,
    punctuation: Collection[str] = (),
    shortest: int = 1,
) -> BracketScore:
    """Compare trees over the same words; None is a sentence without one, whose brackets are all missed.

    Brackets are phrases: nodes above tags, a root's label apart. Not `trivial`: those of one word and of the whole sentence are
    left out. `punctuation`: words with these tags in the wanted trees are taken out first. Sentences of fewer words than
    `shortest`, what is left of them, are not counted. Not `labelled`: each span once, whatever its label.

    >>> from onebound.trees import read_brackets
    >>> one, other = read_brackets("(S (NP (D a) (N b)) (V c)) (S (D a) (VP (N b) (V c)))")
    >>> bracket_score([one], [other]).f1, bracket_score([one], [other], trivial=False).f1
    (0.5, 0.0)
    """
    if len(wanted) != len(found):
        raise InputError(f"bracket_score: expected as many trees as wanted, {len(wanted)}, got {len(found)}.")
    both = n_wanted = n_found = exact = sentences = unparsed = 0
    total = 0.0
    for n, (gold, tree) in enumerate(zip(wanted, found, strict=True)):
        if tree is not None and len(tree.words) != len(gold.words):
            raise InputError(
                f"bracket_score: tree {n} must be over {len(gold.words)} words as the wanted one, got {len(tree.words)}."
            )
        kept = [tag not in punctuation for tag in gold.tags]
        if sum(kept) < shortest:
            continue
        sentences += 1
        a = _brackets(gold, kept, labelled, trivial)
        b = Counter[tuple[str, int, int]]() if tree is None else _brackets(tree, kept, labelled, trivial)
        unparsed += tree is None
        common = sum((a & b).values())
        both, n_wanted, n_found = both + common, n_wanted + sum(a.values()), n_found + sum(b.values())
        exact += a == b
        most = sum(a.values()) + sum(b.values())
        total += 2 * common / most if most else 1.0
    told = [
        "labelled" if labelled else "unlabelled, each span once",
        "all phrases" if trivial else "without phrases of one word or the whole sentence",
        "punctuation taken out" if punctuation else "punctuation kept",
        f"{sentences:,} sentences" + (f" of {shortest} words or more" if shortest > 1 else ""),
    ]
    return BracketScore(both, n_wanted, n_found, exact, sentences, unparsed, total / max(sentences, 1), "; ".join(told))


def _brackets(tree: Tree, kept: Sequence[bool], labelled: bool, trivial: bool) -> Counter[tuple[str, int, int]]:
    """Phrases by label, first word and one behind the last, in the words that are kept."""
    place = [0]
    for keep in kept:
        place.append(place[-1] + keep)
    found: Counter[tuple[str, int, int]] = Counter()
    for depth, (label, start, stop, tag) in enumerate(_phrases(tree)):
        i, j = place[start], place[stop]
        if tag or i == j or (depth == 0 and label in ROOTS):
            continue
        if not trivial and (j - i == 1 or j - i == place[-1]):
            continue
        found[label if labelled else "", i, j] += 1
    return found if labelled else Counter(dict.fromkeys(found, 1))


def _phrases(tree: Tree) -> list[tuple[str, int, int, bool]]:
    """Every node in preorder, and whether it is a tag: nothing but one word below it."""
    nodes = [node for node in tree.nodes() if isinstance(node, Tree)]
    return [
        (label, i, j, len(node.parts) == 1 and isinstance(node.parts[0], str))
        for node, (label, i, j) in zip(nodes, tree.spans(), strict=True)
    ]
