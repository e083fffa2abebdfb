"""A grammar of any rules, compiled: right sides of any length, words among them, unary rules with their cycles.

Longer right sides are read from left to right through prefixes that rules share, one word or symbol at a time, so that every
step joins two neighbouring spans: (prefix or symbol, symbol) → longer prefix, or the left side when the rule is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebound.errors import InputError
from onebound.trees import Rule, Terminal, Tree

# A cycle of unary rules may lose this much of its mass a round, or its sum has no end.
RADIUS = 1 - 1e-12


class Grammar:
    """Rules and a start symbol, without weights.

    Items are what spans can be: symbols (0 … n_symbols − 1), words that longer rules name, and prefixes of right sides.

    >>> g = Grammar([Rule("S", ("S", "S")), Rule("S", (Terminal("a"),))], "S")
    >>> len(g), g.symbols, g.words
    (2, ('S',), ('a',))
    """

    def __init__(self, rules: Iterable[Rule], start: str) -> None:
        self.rules = tuple(rules)
        if not self.rules:
            raise InputError("Grammar: expected at least one rule, got none.")
        empty = [rule for rule in self.rules if not rule.right]
        if empty:
            raise InputError(
                f"Grammar: the rule {empty[0].left} → nothing is not taken; every rule must make something."
            )
        odd = [rule for rule in self.rules if not 0 <= rule.weight < float("inf")]
        if odd:
            raise InputError(f"Grammar: a weight must be ≥ 0 and finite, got {odd[0].weight} for the rule {odd[0]}.")
        lefts = dict.fromkeys(rule.left for rule in self.rules)
        named = dict.fromkeys(x for rule in self.rules for x in rule.right if isinstance(x, str))
        self.symbols = tuple(dict.fromkeys([*lefts, *named]))
        if start not in lefts:
            raise InputError(f"Grammar: the start symbol {start!r} is no rule's left side.")
        self.start = start
        self.words = tuple(dict.fromkeys(x.word for rule in self.rules for x in rule.right if isinstance(x, Terminal)))
        self.number = {name: i for i, name in enumerate(self.symbols)}
        self.word_number = {word: i for i, word in enumerate(self.words)}
        self.left = np.array([self.number[rule.left] for rule in self.rules])
        self._compile()

    def __len__(self) -> int:
        """How many rules."""
        return len(self.rules)

    def _compile(self) -> None:
        items: dict[Any, int] = dict(self.number)  # symbols by name, words as Terminal, prefixes as tuples of items
        lexical, unary, binary = [], [], []
        made: dict[tuple[int, int], int] = {}

        def item(x: str | Terminal) -> int:
            return items.setdefault(x, len(items))

        for r, rule in enumerate(self.rules):
            left = self.number[rule.left]
            if len(rule.right) == 1:
                (only,) = rule.right
                if isinstance(only, Terminal):
                    lexical.append((self.word_number[only.word], left, r))
                else:
                    unary.append((left, self.number[only], r))
                continue
            here = item(rule.right[0])
            for part in rule.right[1:-1]:
                pair = (here, item(part))
                if pair not in made:
                    made[pair] = items.setdefault(("prefix", *pair), len(items))
                    binary.append((*pair, made[pair], -1))
                here = made[pair]
            binary.append((here, item(rule.right[-1]), left, r))
        spelled = [(self.word_number[x.word], i, -1) for x, i in items.items() if isinstance(x, Terminal)]
        self.n_items = len(items)
        self.lexical = _csr(sorted(lexical + spelled), len(self.words))
        self.binary = _csr(sorted(binary), self.n_items)
        self.unary = np.array(sorted(unary), np.int64).reshape(-1, 3)

    @cached_property
    def binary_by_result(self) -> tuple[Any, Any]:
        """Where the pairs that make each item begin (items + 1,), and left item, right item, rule or −1 of each."""
        begins, table = self.binary
        left = np.repeat(np.arange(self.n_items), np.diff(begins))
        order = np.argsort(table[:, 1], kind="stable")
        found = np.column_stack([left, table[:, 0], table[:, 2]])[order]
        return np.searchsorted(table[order, 1], np.arange(self.n_items + 1)), found

    @cached_property
    def blocks(self) -> list[list[int]]:
        """Symbols that unary rules connect both ways, in an order in which right sides come before left ones."""
        n, following = len(self.symbols), [[] for _ in self.symbols]  # type: int, list[list[int]]
        for left, right, _ in self.unary.tolist():
            following[left].append(right)
        # Tarjan's walk: a symbol whose lowest reach is its own number closes a block, after all blocks that it leads to.
        seen, low, path, found = [-1] * n, [0] * n, [], []  # type: list[int], list[int], list[int], list[list[int]]
        placed, count = [False] * n, 0
        for root in range(n):
            stack = [(root, 0)] if seen[root] < 0 else []
            while stack:
                node, at = stack.pop()
                if at == 0:
                    seen[node] = low[node] = count
                    count += 1
                    path.append(node)
                else:
                    low[node] = min(low[node], low[following[node][at - 1]])
                while at < len(following[node]):
                    other = following[node][at]
                    if seen[other] < 0:
                        stack += [(node, at + 1), (other, 0)]
                        break
                    if not placed[other]:
                        low[node] = min(low[node], seen[other])
                    at += 1
                else:
                    if low[node] == seen[node]:
                        block = path[path.index(node) :]
                        del path[len(path) - len(block) :]
                        for member in block:
                            placed[member] = True
                        found.append(sorted(block))
        return found

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """Words as numbers, −1 for one that no rule makes."""
        return [self.word_number.get(word, -1) for word in sentence]

    @property
    def weights(self) -> Tensor:
        """Those that the rules came with.  (R,) float64"""
        return torch.tensor([rule.weight for rule in self.rules], dtype=torch.float64)

    def normalized(self, weights: Tensor) -> Tensor:
        """Weights over the sum of their left side's; a left side without any shares evenly.  (R,)"""
        left = torch.from_numpy(self.left)
        total = torch.zeros(len(self.symbols), dtype=torch.float64).index_add_(0, left, weights)
        ones = torch.zeros(len(self.symbols), dtype=torch.float64).index_add_(0, left, torch.ones_like(weights))
        return torch.where(total[left] > 0, weights / total[left].clamp_min(1e-300), 1 / ones[left])

    def tree(self, derivation: Iterable[int]) -> Tree:
        """The tree of rule numbers in preorder."""
        open_rules: list[tuple[Rule, list[Tree | str]]] = []
        for r in derivation:
            open_rules.append((self.rules[int(r)], []))
            while True:
                rule, parts = open_rules[-1]
                while len(parts) < len(rule.right) and isinstance(word := rule.right[len(parts)], Terminal):
                    parts.append(word.word)
                if len(parts) < len(rule.right):
                    break  # the next rule is of this part
                open_rules.pop()
                done = Tree(rule.left, tuple(parts))
                if not open_rules:
                    return done
                open_rules[-1][1].append(done)
        raise InputError("Grammar.tree: the derivation ends before the tree does.")

    def useless(self) -> dict[str, list[str]]:
        """Symbols that make no words ("unproductive"), and those that the start never reaches ("unreachable")."""
        productive: set[str] = set()
        while True:
            more = {
                rule.left
                for rule in self.rules
                if rule.left not in productive and all(isinstance(x, Terminal) or x in productive for x in rule.right)
            }
            if not more:
                break
            productive |= more
        reached, todo = {self.start}, [self.start]
        by_left: dict[str, list[Rule]] = {}
        for rule in self.rules:
            by_left.setdefault(rule.left, []).append(rule)
        while todo:
            for rule in by_left.get(todo.pop(), ()):
                for x in rule.right:
                    if isinstance(x, str) and x not in reached:
                        reached.add(x)
                        todo.append(x)
        found = {
            "unproductive": [s for s in self.symbols if s not in productive],
            "unreachable": [s for s in self.symbols if s not in reached],
        }
        return {what: names for what, names in found.items() if names}


def _csr(rows: list[tuple[int, ...]], n: int) -> tuple[Any, Any]:
    """Rows sorted by their first number: where each number's begin (n + 1,), and the other columns."""
    if not rows:
        return np.zeros(n + 1, np.int64), np.zeros((0, 3), np.int64)
    table = np.array(rows, np.int64)
    begins = np.searchsorted(table[:, 0], np.arange(n + 1))
    return begins.astype(np.int64), np.ascontiguousarray(table[:, 1:])
