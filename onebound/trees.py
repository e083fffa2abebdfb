"""Trees and rules as values: Penn brackets read and written, drawn for a terminal; no numbers of grammars yet.

A rule's right side holds names of symbols (str) and words (`Terminal`); a tree's leaves are words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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

    def _walk(self) -> Iterator[Tree | str]:
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
        return tuple(node for node in self._walk() if isinstance(node, str))

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

    def outline(self, width: int = 80) -> str:
        """One line a phrase, indented by depth; a phrase whose brackets fit in the line stands whole."""
        lines: list[str] = []
        todo: list[tuple[Tree | str, int]] = [(self, 0)]
        while todo:
            node, depth = todo.pop()
            whole = node if isinstance(node, str) else node.text()
            pad = "  " * depth
            if isinstance(node, str) or len(pad) + len(whole) <= width or all(isinstance(x, str) for x in node.parts):
                lines.append(pad + whole)
            else:
                lines.append(f"{pad}({node.label}")
                todo.extend((part, depth + 1) for part in reversed(node.parts))
        return "\n".join(lines)


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
    return _rebuilt(tree, lambda label: None if label == "-NONE-" else label)


def without_marks(tree: Tree) -> Tree:
    """Function tags and co-indices dropped: NP-SBJ-1 and NP=2 become NP; -LRB- stays."""
    found = _rebuilt(tree, lambda label: _MARKS.sub("", label) or label)
    assert found is not None
    return found


def _rebuilt(tree: Tree, renamed: object) -> Tree | None:
    """The tree with other labels; a node without a label or without parts is left out."""
    assert callable(renamed)
    done: list[list[Tree | str]] = [[]]
    todo: list[tuple[Tree | str, bool]] = [(tree, False)]
    while todo:
        node, closing = todo.pop()
        if isinstance(node, str):
            done[-1].append(node)
        elif closing:
            parts, label = done.pop(), renamed(node.label)
            if label is not None and parts:
                done[-1].append(Tree(label, tuple(parts)))
        else:
            todo.append((node, True))
            todo.extend((part, False) for part in reversed(node.parts))
            done.append([])
    return done[0][0] if done[0] and isinstance(done[0][0], Tree) else None


def rules_of(trees: Iterable[Tree]) -> list[Rule]:
    """The rules that trees use, with their counts as weights, in the order of their first use."""
    counts: dict[tuple[str, tuple[str | Terminal, ...]], float] = {}
    for tree in trees:
        for node in tree._walk():
            if isinstance(node, Tree):
                right = tuple(Terminal(part) if isinstance(part, str) else part.label for part in node.parts)
                counts[node.label, right] = counts.get((node.label, right), 0.0) + 1
    return [Rule(left, right, count) for (left, right), count in counts.items()]
