"""Grammars as text: NLTK's form and Mark Johnson's, read line by line; what does not fit is named with file and line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from onebound.data.source import text_of
from onebound.errors import InputError
from onebound.trees import Rule, Terminal

_NLTK = re.compile(r"""\s*(?:(?P<word>'[^']*'|"[^"]*")|\[(?P<weight>[^\]]*)\]|(?P<bar>\|)|(?P<symbol>[^\s'"\[\]|]+))""")
_ARROW = re.compile(r"\s*(?:->|→)\s*")


def read_grammar(path: str | os.PathLike[str], encoding: str = "utf-8") -> tuple[str, list[Rule]]:
    """The start symbol and the rules of a file: Johnson's form for names that end in .lt (or .lt.gz), else NLTK's.

    Where no start is named it is the left side of the first rule.
    """
    text = text_of(Path(path), encoding)
    name = os.fspath(path)
    return johnson_rules(text, name) if name.removesuffix(".gz").endswith(".lt") else nltk_rules(text, name)


def nltk_rules(text: str, name: str = "grammar") -> tuple[str, list[Rule]]:
    """`S -> NP VP [0.5] | 'word' B`: words in quotes, weights in brackets (1 where there is none), `%start S`, # comments.

    In a text without any quotes what is never a left side is a word.

    >>> nltk_rules("S -> A 'b' [1e-05] | 'c'")[1]
    [Rule(left='S', right=('A', Terminal(word='b')), weight=1e-05), Rule(left='S', right=(Terminal(word='c'),), weight=1.0)]
    """
    start, rules, left = "", [], ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("%"):
            words = line[1:].split()
            if len(words) == 2 and words[0] == "start":
                start = words[1]
                continue
            raise InputError(f"{name}:{number}: expected %start SYMBOL, got {line!r}.")
        arrow = _ARROW.search(line)
        if arrow:
            left, rest = line[: arrow.start()].strip(), line[arrow.end() :]
            if not left or len(left.split()) > 1:
                raise InputError(f"{name}:{number}: expected one symbol left of the arrow, got {left!r}.")
        elif line.startswith("|") and left:
            rest = line[1:]
        else:
            raise InputError(f"{name}:{number}: expected SYMBOL -> …, got {line!r}.")
        rules += _alternatives(left, rest, f"{name}:{number}")
    if not any(isinstance(x, Terminal) for rule in rules for x in rule.right):
        rules = _with_words(rules)
    return _started(start, rules, name)


def _with_words(rules: list[Rule]) -> list[Rule]:
    """What is never a left side is a word."""
    lefts = {rule.left for rule in rules}
    return [
        Rule(rule.left, tuple(x if x in lefts else Terminal(str(x)) for x in rule.right), rule.weight) for rule in rules
    ]


def _alternatives(left: str, text: str, where: str) -> list[Rule]:
    rules: list[Rule] = []
    right: list[str | Terminal] = []
    weight, at = 1.0, 0

    def end() -> None:
        if not right:
            raise InputError(
                f"{where}: {left} has an empty right side. Rules that make nothing are not taken; leave it out."
            )
        rules.append(Rule(left, tuple(right), weight))

    while at < len(text.rstrip()):
        found = _NLTK.match(text, at)
        if found is None:
            raise InputError(f"{where}: cannot be read from {text[at:].strip()!r} on.")
        at = found.end()
        if found["bar"]:
            end()
            right, weight = [], 1.0
        elif found["weight"] is not None:
            weight = _weight(found["weight"], where)
        elif found["word"]:
            right.append(Terminal(found["word"][1:-1]))
        else:
            right.append(found["symbol"])
    end()
    return rules


def _weight(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: expected a number as weight, got {text!r}.") from None
    if not 0 <= value < float("inf"):
        raise InputError(f"{where}: a weight must be ≥ 0 and finite, got {text}.")
    return value


def johnson_rules(text: str, name: str = "grammar") -> tuple[str, list[Rule]]:
    """`[weight [pseudo]] LEFT --> RIGHT …`, one rule a line; what is never a left side is a word. The first left side starts.

    A second number, a prior's pseudo-count, is read and not used.

    >>> johnson_rules("S --> A b\\n2 A --> a")[1][1]
    Rule(left='A', right=(Terminal(word='a'),), weight=2.0)
    """
    read: list[tuple[str, list[str], float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words, where = line.split(), f"{name}:{number}"
        if not words or words[0].startswith("#"):
            continue
        if "-->" not in words:
            raise InputError(f"{where}: expected [weight] LEFT --> RIGHT …, got {line.strip()!r}.")
        at = words.index("-->")
        if not 1 <= at <= 3 or at + 1 == len(words):
            what = "one symbol left of the arrow" if at + 1 < len(words) else "something right of the arrow"
            raise InputError(f"{where}: expected {what}, got {line.strip()!r}.")
        weight = _weight(words[0], where) if at > 1 else 1.0
        read.append((words[at - 1], words[at + 1 :], weight))
    return _started("", _with_words([Rule(left, tuple(right), weight) for left, right, weight in read]), name)


def _started(start: str, rules: list[Rule], name: str) -> tuple[str, list[Rule]]:
    if not rules:
        raise InputError(f"{name}: expected at least one rule, got none.")
    start = start or rules[0].left
    if all(rule.left != start for rule in rules):
        raise InputError(f"{name}: the start symbol {start} is no rule's left side.")
    return start, rules


def grammar_text(start: str, rules: Iterable[Rule]) -> str:
    """NLTK's form, weights to the last digit."""
    lines = [f"%start {start}"]
    for rule in rules:
        right = " ".join(_quoted(x.word) if isinstance(x, Terminal) else x for x in rule.right)
        lines.append(f"{rule.left} -> {right} [{rule.weight!r}]")
    return "\n".join([*lines, ""])


def _quoted(word: str) -> str:
    return f'"{word}"' if "'" in word else f"'{word}'"


def read_sentences(path: str | os.PathLike[str]) -> list[list[str]]:
    """One sentence a line, words between spaces; of a .conllu file its words. Empty lines are left out."""
    text = text_of(Path(path))
    if os.fspath(path).endswith(".conllu"):
        return conllu_sentences(text, os.fspath(path))
    return [words for line in text.splitlines() if (words := line.split())]


def conllu_sentences(text: str, name: str = "text", column: int = 1) -> list[list[str]]:
    """Words (column 1) or tags (3 UPOS, 4 XPOS) of each sentence in CoNLL-U; parts of words and empty nodes are left out."""
    found: list[list[str]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            found.append([])
        elif not line.startswith("#"):
            cells = line.split("\t")
            if len(cells) != 10:
                raise InputError(f"{name}:{number}: expected 10 columns between tabs, got {len(cells)}.")
            if cells[0].isdigit():
                found[-1].append(cells[column])
    return [sentence for sentence in found if sentence]
