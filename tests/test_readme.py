"""The README is true: its Python runs as it stands, and its commands and files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, vae, ctc = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict[str, object] = {}
    exec(compile(first, "README.md", "exec"), names)
    assert (tmp_path / "faithful.safetensors").exists()
    assert names["fit"].gap == 0.0
    exec(compile(vae, "README.md", "exec"), names)
    assert names["fit"].algorithm == "VAE"
    exec(compile(ctc, "README.md", "exec"), names)
    assert names["fit"].algorithm == "EG"


def test_the_commands_of_the_readme_are_the_shells() -> None:
    from onebound.cli import main

    named = set(re.findall(r"^    onebound (\w+)", README, re.M))
    assert {"fit", "compare", "plan", "models"} <= named <= set(main.commands)


def test_the_files_that_the_readme_points_to_exist() -> None:
    root = Path(__file__).parent.parent
    links = re.findall(r"\]\(([\w./-]+)\)", README)
    assert links
    assert all((root / link).exists() for link in links)
