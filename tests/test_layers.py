"""Imports point down only, and structures and emissions never see each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "onebound"

LAYERS: list[set[str]] = [
    {
        "errors",
        "numerics",
        "observations",
        "streamed",
        "statistics",
        "moments",
        "networks",
        "trees",
        "tree_scores",
        "kernels",
    },
    {"bound"},
    {"structures", "emissions"},
    {"models", "recognition"},
    {"algorithms"},
    {"functional", "estimators", "store", "data"},
    {"checkpoint"},
    {"report", "cli"},
]
HEIGHT = {unit: height for height, units in enumerate(LAYERS) for unit in units}
# The public face sees everything, so `import onebound` from below the top layer would be a way around the layers.
HEIGHT[""] = len(LAYERS) - 1
UNKNOWN = len(LAYERS)
STRANGERS = [("structures", "emissions"), ("emissions", "structures")]


def imported_modules(source: str, package: str) -> Iterator[str]:
    """Every onebound module that the source names, also inside functions; `package` resolves relative imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "onebound")
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            if module == "onebound":
                yield from (f"onebound.{alias.name}" for alias in node.names)
            elif module.startswith("onebound."):
                yield module


def unit_of(module: str) -> str:
    """The part of the tree that a module belongs to: onebound.models.mixture → models."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def offences(source: str, module: str, package: str) -> list[str]:
    """What the module imports from above, or from the other side."""
    unit = unit_of(module)
    if unit in ("", "__main__"):
        return []
    wrong = []
    for target in imported_modules(source, package):
        aim = unit_of(target)
        up = HEIGHT.get(aim, UNKNOWN) > HEIGHT[unit]
        if up or (unit, aim) in STRANGERS:
            wrong.append(f"{module} imports {target}")
    return wrong


def modules() -> list[tuple[str, Path]]:
    named = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        named.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return named


def test_every_part_of_the_tree_has_its_layer() -> None:
    assert {unit_of(module) for module, _ in modules()} - HEIGHT.keys() <= {"", "__main__"}


@pytest.mark.parametrize(("module", "path"), modules(), ids=[module for module, _ in modules()])
def test_imports_point_down(module: str, path: Path) -> None:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    assert offences(path.read_text(encoding="utf-8"), module, package) == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from onebound.models.mixture import Mixture", "onebound.bound"),
        ("def late():\n    import onebound.algorithms.climb", "onebound.models.mixture"),
        ("from onebound.emissions import base", "onebound.structures.base"),
        ("from ..structures import base", "onebound.emissions.base"),
        ("from onebound import cli", "onebound.store"),
        ("import onebound as ob", "onebound.store"),
        ("from onebound import surprise", "onebound.cli.main"),
    ],
)
def test_an_import_that_points_up_or_sideways_is_seen(source: str, module: str) -> None:
    package = module.rpartition(".")[0]
    assert len(offences(source, module, package)) == 1


def test_imports_that_point_down_are_allowed() -> None:
    source = "from onebound import numerics\nfrom onebound.structures.base import Structure\nfrom .base import Model\n"
    assert offences(source, "onebound.models.mixture", "onebound.models") == []
