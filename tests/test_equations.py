"""docs/equations.md is true: its functions and laws exist, and no function that names an equation is missing from it."""

from __future__ import annotations

import ast
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/equations.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| `(onebound[\w.]+)` \| `(tests/[\w/.]+)::(\w+)` \|$", TEXT, re.M)


def resolve(dotted: str) -> object:
    """The object that a dotted name means: the longest prefix that is a module, and attributes from there."""
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[n:], module)
    raise AssertionError(dotted)


def test_the_table_is_read_whole() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    assert len(lines) - 1 == len(ROWS)


@pytest.mark.parametrize(("function", "file", "law"), [row[1:] for row in ROWS])
def test_each_equation_has_its_function_and_its_law(function: str, file: str, law: str) -> None:
    assert resolve(function).__doc__
    tree = ast.parse((ROOT / file).read_text())
    assert law in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_function_that_names_an_equation_is_in_the_table() -> None:
    named = set()
    for path in sorted((ROOT / "onebound").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        scopes = [(module, tree), *((f"{module}.{c.name}", c) for c in tree.body if isinstance(c, ast.ClassDef))]
        for prefix, scope in scopes:
            for node in scope.body:
                if isinstance(node, ast.FunctionDef) and re.search(r"Equations? \(\d\)", ast.get_docstring(node) or ""):
                    named.add(f"{prefix}.{node.name}")
    assert named
    assert named <= {row[1] for row in ROWS}
