"""Trees and rules as values: Penn brackets read and written, binarised and back, drawn for a terminal.

A rule's right side holds names of symbols (str) and words (`Terminal`); a tree's leaves are words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from onebound.errors import InputError

_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_MARKS = re.compile(r"(?<=[^-=|])[-=|].*$")


@dataclass(frozen=True)
class Terminal:
    """A word on the right side of a rule."""

    word: str

    def __str__(self) -> str:
        return repr(self.word)


@dataclass(frozen=True)
class Rule:
    """left → right with a weight."""

    left: str
    right: tuple[str | Terminal, ...]
    weight: float = 1.0

    def __str__(self) -> str:
        return f"{self.left} → {' '.join(map(str, self.right))}"


@dataclass(frozen=True)
class Tree:
    """A label over parts, which are trees or words.

    >>> t = next(read_brackets("(S (NP the dog) (VP barks))"))
    >>> t.words, t.spans()
    (('the', 'dog', 'barks'), [('S', 0, 3), ('NP', 0, 2), ('VP', 2, 3)])
    """

    label: str
    parts: tuple[Tree | str, ...]

    def nodes(self) -> Iterator[Tree | str]:
        """Nodes and words in preorder, without recursion: chains may be deep."""
        stack: list[Tree | str] = [self]
        while stack:
            node = stack.pop()
            yield node
            if isinstance(node, Tree):
                stack.extend(reversed(node.parts))

    @property
    def words(self) -> tuple[str, ...]:
        """The leaves."""
        return tuple(node for node in self.nodes() if isinstance(node, str))

    def spans(self) -> list[tuple[str, int, int]]:
        """Label, first word and one behind the last of every node, in preorder."""
        found: list[tuple[str, int, int]] = []
        at = 0
        todo: list[tuple[Tree | str, int]] = [(self, -1)]
        while todo:
            node, row = todo.pop()
            if row >= 0:
                label, start, _ = found[row]
                found[row] = (label, start, at)
            elif isinstance(node, str):
                at += 1
            else:
                found.append((node.label, at, at))
                todo.append((node, len(found) - 1))
                todo.extend((part, -1) for part in reversed(node.parts))
        return found

    def text(self) -> str:
        """One line of brackets."""
        out: list[str] = []
        todo: list[Tree | str | None] = [self]
        while todo:
            node = todo.pop()
            if node is None:
                out.append(")")
            elif isinstance(node, str):
                out.append(f" {node}")
            else:
                out.append(f"{' ' if out else ''}({node.label}")
                todo.append(None)
                todo.extend(reversed(node.parts))
        return "".join(out)

    def drawn(self) -> str:
        """One line a phrase, its parts below it; a phrase of words alone takes one line with them.

        >>> print(next(read_brackets("(S (NP (D the) (N dog)) (V barks))")).drawn())
        S
        ├─ NP
        │  ├─ D the
        │  └─ N dog
        └─ V barks
        """
        lines: list[str] = []
        todo: list[tuple[Tree | str, str, str]] = [(self, "", "")]
        while todo:
            node, first, rest = todo.pop()
            if isinstance(node, str):
                lines.append(first + node)
            elif all(isinstance(part, str) for part in node.parts):
                lines.append(f"{first}{node.label} {' '.join(map(str, node.parts))}")
            else:
                lines.append(first + node.label)
                below = [(part, f"{rest}├─ ", f"{rest}│  ") for part in node.parts[:-1]]
                todo += reversed([*below, (node.parts[-1], f"{rest}└─ ", f"{rest}   ")])
        return "\n".join(lines)

    @property
    def tags(self) -> tuple[str, ...]:
        """The label right above each word."""
        found: list[str] = []
        stack: list[tuple[Tree | str, str]] = [(self, "")]
        while stack:
            node, above = stack.pop()
            if isinstance(node, str):
                found.append(above)
            else:
                stack.extend((part, node.label) for part in reversed(node.parts))
        return tuple(found)

    def with_words(self, words: Sequence[str]) -> Tree:
        """The same tree over other words, as many."""
        rest = iter(words)
        tree = _rebuilt(self, lambda node, _, parts: [Tree(node.label, tuple(parts))], lambda _: next(rest))
        assert tree is not None
        return tree


def read_brackets(text: str, name: str = "text") -> Iterator[Tree]:
    """Trees in Penn brackets, several and over several lines; an outer pair without a label is dropped.

    InputError names the line of a bracket that does not fit.
    """
    stack: list[tuple[str | None, list[Tree | str], int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        for match in _TOKEN.finditer(line):
            token = match.group()
            if token == "(":
                stack.append((None, [], number))
            elif token != ")":
                if not stack:
                    raise InputError(f"{name}:{number}: expected an opening bracket, got {token!r}.")
                label, parts, opened = stack[-1]
                if label is None and not parts:
                    stack[-1] = (token, parts, opened)
                else:
                    parts.append(token)
            else:
                if not stack:
                    raise InputError(f"{name}:{number}: a bracket is closed that was never opened.")
                label, parts, opened = stack.pop()
                if not parts:
                    raise InputError(
                        f"{name}:{number}: the bracket opened in line {opened} has {label or 'nothing'} and no words."
                    )
                if label is None and len(parts) == 1 and isinstance(parts[0], Tree):
                    tree = parts[0]
                else:
                    tree = Tree(label or "TOP", tuple(parts))
                if stack:
                    stack[-1][1].append(tree)
                else:
                    yield tree
    if stack:
        raise InputError(f"{name}: the bracket opened in line {stack[0][2]} is never closed.")


def without_traces(tree: Tree) -> Tree | None:
    """Without empty elements (-NONE-) and what they leave empty; None where nothing is left."""
    return _rebuilt(
        tree, lambda node, _, parts: [Tree(node.label, tuple(parts))] if parts and node.label != "-NONE-" else []
    )


def without_marks(tree: Tree) -> Tree:
    """Function tags and co-indices dropped: NP-SBJ-1 and NP=2 become NP; -LRB- stays."""

    def made(node: Tree, _: str, parts: list[Tree | str]) -> list[Tree | str]:
        label = node.label if node.label[0] == "-" else _MARKS.sub("", node.label)
        return [Tree(label, tuple(parts))]

    found = _rebuilt(tree, made)
    assert found is not None
    return found


def _rebuilt(
    tree: Tree,
    made: Callable[[Tree, str, list[Tree | str]], list[Tree | str]],
    said: Callable[[str], str] = lambda word: word,
) -> Tree | None:
    """The tree anew, from its leaves up: made(node, label above it, its new parts) stands in each node's place.

    None where no tree is left. Without recursion: chains may be deep.
    """
    done: list[list[Tree | str]] = [[]]
    todo: list[tuple[Tree | str, str, bool]] = [(tree, "", False)]
    while todo:
        node, above, closing = todo.pop()
        if isinstance(node, str):
            done[-1].append(said(node))
        elif closing:
            parts = done.pop()
            done[-1] += made(node, above, parts)
        else:
            todo.append((node, above, True))
            todo.extend((part, node.label, False) for part in reversed(node.parts))
            done.append([])
    return done[0][0] if done[0] and isinstance(done[0][0], Tree) else None


def binarised(tree: Tree, horizontal: int | None = None, vertical: int = 1) -> Tree:
    """At most two parts a node: NP → DT JJ NN becomes NP → DT NP|<JJ-NN>. `unbinarised` undoes it.

    A made label names at most `horizontal` of the parts it stands for; `vertical` 2 adds its parent to every phrase's label,
    NP^S, but not to those right above a word. Both make grammars from treebanks sharper or broader (Klein & Manning 2003).

    >>> next(read_brackets("(NP (DT the) (JJ old) (NN dog))")) == unbinarised(
    ...     binarised(next(read_brackets("(NP (DT the) (JJ old) (NN dog))")), 1, 2))
    True
    """
    if (horizontal is not None and horizontal < 0) or vertical not in (1, 2):
        raise InputError(f"binarised: horizontal must be ≥ 0 and vertical 1 or 2, got {horizontal} and {vertical}.")

    def made(node: Tree, above: str, parts: list[Tree | str]) -> list[Tree | str]:
        tag = all(isinstance(part, str) for part in node.parts)
        label = f"{node.label}^{above}" if vertical == 2 and above and not tag else node.label
        names = [part if isinstance(part, str) else part.label for part in node.parts]
        right = parts[-1:]
        for at in range(len(parts) - 2, 0, -1):
            shown = names[at:] if horizontal is None else names[at : at + horizontal]
            right = [Tree(f"{label}|<{'-'.join(shown)}>", (parts[at], *right))]
        return [Tree(label, (*parts[:1], *(right if len(parts) > 1 else ())))]

    found = _rebuilt(tree, made)
    assert found is not None
    return found


def unbinarised(tree: Tree) -> Tree:
    """Made labels dissolved, parents taken off the others."""

    def made(node: Tree, _: str, parts: list[Tree | str]) -> list[Tree | str]:
        return parts if "|<" in node.label else [Tree(node.label.partition("^")[0] or node.label, tuple(parts))]

    found = _rebuilt(tree, made)
    assert found is not None
    return found


def with_unknown(trees: Sequence[Tree], least: int, unknown: str = "<unk>") -> list[Tree]:
    """Words that occur fewer than `least` times in all trees together become `unknown`."""
    often = Counter(word for tree in trees for word in tree.words)
    return [tree.with_words([word if often[word] >= least else unknown for word in tree.words]) for tree in trees]


def rules_of(trees: Iterable[Tree]) -> list[Rule]:
    """The rules that trees use, with their counts as weights, in the order of their first use."""
    counts: dict[tuple[str, tuple[str | Terminal, ...]], float] = {}
    for tree in trees:
        for node in tree.nodes():
            if isinstance(node, Tree):
                right = tuple(Terminal(part) if isinstance(part, str) else part.label for part in node.parts)
                counts[node.label, right] = counts.get((node.label, right), 0.0) + 1
    return [Rule(left, right, count) for (left, right), count in counts.items()]
