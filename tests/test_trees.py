"""Trees as values: brackets read and written, changed and changed back; scores count what they say they count."""

from __future__ import annotations

import pytest

from onebound.errors import InputError
from onebound.tree_scores import PUNCTUATION, bracket_score
from onebound.trees import (
    Rule,
    Terminal,
    Tree,
    binarised,
    read_brackets,
    rules_of,
    unbinarised,
    with_unknown,
    without_marks,
    without_traces,
)

TEXT = """(ROOT (S (NP-SBJ-1 (DT the) (JJ old) (JJ grey) (NN dog)) (VP (VBZ barks) (NP (-NONE- *T*-1))) (. .)))
( (S (NP=2 (PRP it)) (VP (VBZ is) (ADJP (JJ so)))
  (-LRB- -LRB-)) )"""


def one(text: str) -> Tree:
    (tree,) = read_brackets(text)
    return tree


def test_brackets_come_back_as_they_were_and_marks_and_traces_go() -> None:
    first, second = read_brackets(TEXT)
    assert first.text() == TEXT.splitlines()[0]
    assert second.label == "S"
    plain = without_marks(without_traces(first))
    assert plain.text() == "(ROOT (S (NP (DT the) (JJ old) (JJ grey) (NN dog)) (VP (VBZ barks)) (. .)))"
    assert without_marks(second).tags == ("PRP", "VBZ", "JJ", "-LRB-")
    assert without_traces(one("(S (-NONE- *))")) is None
    deep = one("(A " * 3000 + "w" + ")" * 3000)
    assert len(deep.spans()) == 3000
    assert deep.drawn().count("\n") == 2999


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("(S (NP a)\n(VP b)", r"t: the bracket opened in line 1 is never closed"),
        ("(S a)\n)", r"t:2: a bracket is closed that was never opened"),
        ("(S a)\nb", r"t:2: expected an opening bracket, got 'b'"),
        ("(S (NP ) b)", r"t:1: the bracket opened in line 1 has NP and no words"),
    ],
)
def test_a_bracket_that_does_not_fit_is_named_by_its_line(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        list(read_brackets(text, "t"))


@pytest.mark.parametrize("horizontal", [None, 0, 1, 2])
@pytest.mark.parametrize("vertical", [1, 2])
def test_binarised_trees_have_two_parts_and_come_back(horizontal: int | None, vertical: int) -> None:
    for tree in read_brackets(TEXT):
        two = binarised(tree, horizontal, vertical)
        assert all(len(node.parts) <= 2 for node in two.nodes() if isinstance(node, Tree))
        assert unbinarised(two) == tree
        assert two.words == tree.words
    made = binarised(one("(NP (DT the) (JJ old) (JJ grey) (NN dog))"), 1)
    assert made.text() == "(NP (DT the) (NP|<JJ> (JJ old) (NP|<JJ> (JJ grey) (NN dog))))"
    with pytest.raises(InputError, match="horizontal must be ≥ 0"):
        binarised(made, -1)


def test_rules_are_counted_and_rare_words_are_unknown() -> None:
    trees = [one("(S (N dog) (V barks))"), one("(S (N dog) (V bites))")]
    assert rules_of(trees)[:2] == [Rule("S", ("N", "V"), 2.0), Rule("N", (Terminal("dog"),), 2.0)]
    assert [tree.words for tree in with_unknown(trees, 2)] == [("dog", "<unk>"), ("dog", "<unk>")]


def test_a_tree_is_drawn_a_phrase_a_line() -> None:
    drawn = one("(S (NP (D the) (N dog)) (VP (V bites) (NP it)))").drawn()
    assert drawn.splitlines() == ["S", "├─ NP", "│  ├─ D the", "│  └─ N dog", "└─ VP", "   ├─ V bites", "   └─ NP it"]


def test_scores_count_brackets_by_their_switches() -> None:
    gold = one("(ROOT (S (NP (D the) (N dog)) (VP (V bites) (NP (D a) (N man))) (. .)))")
    found = one("(ROOT (S (NP (D the) (N dog)) (VP (VP (V bites) (NP (D a) (N man))) (. .))))")
    score = bracket_score([gold], [found])  # S, NP, VP, NP against S, NP, VP, VP, NP
    assert (score.both, score.wanted, score.found, score.exact) == (4, 4, 5, 0)
    assert score.f1 == pytest.approx(8 / 9)
    without = bracket_score([gold], [found], punctuation=PUNCTUATION)
    assert (without.both, without.found) == (4, 5)
    spans = bracket_score([gold], [found], labelled=False, trivial=False, punctuation=PUNCTUATION)
    assert (spans.both, spans.wanted, spans.found) == (3, 3, 3)
    assert spans.f1 == 1
    assert "unlabelled, each span once; without phrases of one word or the whole sentence" in spans.switches
    missed = bracket_score([gold, gold], [gold, None])
    assert (missed.unparsed, missed.recall, missed.precision, missed.mean_f1) == (1, 0.5, 1.0, 0.5)
    assert bracket_score([gold], [found], shortest=7).sentences == 0
    with pytest.raises(InputError, match="tree 0 must be over 6 words"):
        bracket_score([gold], [one("(S a)")])
