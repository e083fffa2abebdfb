"""Grammars, treebanks and sentences as files: what is in them, and where they are wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from onebound.data.grammars import (
    conllu_sentences,
    grammar_text,
    johnson_rules,
    nltk_rules,
    read_grammar,
    read_sentences,
)
from onebound.data.treebanks import read_treebank
from onebound.errors import InputError
from onebound.trees import Rule, Terminal

TREES = "GUM_a\t(ROOT (S (NP-SBJ (PRP it)) (VP (VBZ is) (-NONE- *T*))))\nGUM_b\t(ROOT (NP (NN dog)))\n"
ROWS = ["1-2 du _ _ _", "1 de de ADP IN", "2 le le DET DT"]
WORDS = "\n".join(["# text = a bit", *("\t".join([*row.split(), *"_____"]) for row in ROWS), "", ""])


def test_nltk_grammars_are_read_and_written_back() -> None:
    text = "%start S\n# a comment\nS -> NP VP [0.5] | 'a b' [2e-05]\n  | \"it's\"\nNP -> 'x'\nVP → NP"
    start, rules = nltk_rules(text)
    assert start == "S"
    assert rules[1] == Rule("S", (Terminal("a b"),), 2e-05)
    assert rules[2] == Rule("S", (Terminal("it's"),), 1.0)
    assert nltk_rules(grammar_text(start, rules)) == (start, rules)
    assert nltk_rules("S -> A A\nA -> dog")[1][1] == Rule("A", (Terminal("dog"),), 1.0)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("S -> NP [x]", r"g:1: expected a number as weight, got 'x'"),
        ("S -> NP [-1]", r"g:1: a weight must be ≥ 0 and finite, got -1"),
        ("S -> 'a'\nS T -> 'b'", r"g:2: expected one symbol left of the arrow, got 'S T'"),
        ("S -> 'a' |", r"g:1: S has an empty right side"),
        ("S 'a'", r"g:1: expected SYMBOL -> …"),
        ("%begin S", r"g:1: expected %start SYMBOL"),
        ("%start Q\nS -> 'a'", r"g: the start symbol Q is no rule's left side"),
        ("# nothing", r"g: expected at least one rule"),
        ("S -> 'a", r"g:1: cannot be read from"),
    ],
)
def test_what_is_wrong_with_a_grammar_is_named_with_its_line(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        nltk_rules(text, "g")


def test_johnsons_grammars_have_weights_before_the_left_side(tmp_path: Path) -> None:
    (tmp_path / "g.lt").write_text("2 S --> A A\n0.5 1 A --> dog\nA --> cat\n")
    start, rules = read_grammar(tmp_path / "g.lt")
    assert (start, [rule.weight for rule in rules]) == ("S", [2.0, 0.5, 1.0])
    for text, what in (("S A", "expected"), ("S T U V --> a", "one symbol left"), ("S -->", "something right")):
        with pytest.raises(InputError, match=f"g:1: expected .*{'' if what == 'expected' else what}"):
            johnson_rules(text, "g")
    with pytest.raises(InputError, match="cannot be read"):
        read_grammar(tmp_path / "none.lt")
    (tmp_path / "g.lt.gz").write_bytes(gzip.compress((tmp_path / "g.lt").read_bytes()))
    assert read_grammar(tmp_path / "g.lt.gz") == (start, rules)
    (tmp_path / "latin.cfg").write_bytes(b"S -> 'caf\xe9'\n")
    with pytest.raises(InputError, match="expected utf-8 text"):
        read_grammar(tmp_path / "latin.cfg")
    assert read_grammar(tmp_path / "latin.cfg", "latin-1")[1][0].right == (Terminal("café"),)


def test_sentences_are_lines_or_conllu(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the dog\n\nbarks loud\n")
    assert read_sentences(tmp_path / "a.txt") == [["the", "dog"], ["barks", "loud"]]
    (tmp_path / "a.conllu").write_text(WORDS)
    assert read_sentences(tmp_path / "a.conllu") == [["de", "le"]]
    assert conllu_sentences(WORDS, column=3) == [["ADP", "DET"]]
    with pytest.raises(InputError, match="t:1: expected 10 columns between tabs, got 2"):
        conllu_sentences("1\tde", "t")


def test_treebanks_are_read_plain_or_gzipped_with_documents_named(tmp_path: Path) -> None:
    (tmp_path / "t.gz").write_bytes(gzip.compress(TREES.encode()))
    (tmp_path / "t.txt").write_text(TREES)
    first, second = read_treebank(tmp_path / "t.gz")
    assert read_treebank(tmp_path / "t.txt") == [first, second]
    assert first.text() == "(ROOT (S (NP (PRP it)) (VP (VBZ is))))"
    kept = read_treebank(tmp_path / "t.txt", marks=True, traces=True)[0]
    assert kept.text() == "(ROOT (S (NP-SBJ (PRP it)) (VP (VBZ is) (-NONE- *T*))))"
    (tmp_path / "bad.txt").write_text("GUM\t(S (NP a)\n")
    with pytest.raises(InputError, match=r"bad\.txt: the bracket opened in line 1 is never closed"):
        read_treebank(tmp_path / "bad.txt")
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(InputError, match="expected trees in Penn brackets, got none"):
        read_treebank(tmp_path / "none.txt")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(TREES.encode())[:40])
    with pytest.raises(InputError, match=r"cut\.gz: cannot be read"):
        read_treebank(tmp_path / "cut.gz")
    (tmp_path / "empty.txt").write_text("(S (-NONE- *))")
    with pytest.raises(InputError, match="tree 1 has nothing but empty elements"):
        read_treebank(tmp_path / "empty.txt")
