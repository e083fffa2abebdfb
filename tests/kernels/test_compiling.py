"""Whoever waits for a compiler at a terminal is told; nobody else is."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest

from onebound.kernels import compiling


@pytest.mark.parametrize(
    ("terminal", "compiled", "told"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_first_compilation_is_announced_on_a_terminal(
    terminal: bool, compiled: bool, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling, "PATIENCE", 0.01)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    kernel = SimpleNamespace(signatures=["(float64,)"] if compiled else [])
    with compiling.announced(kernel):
        time.sleep(0.2)
    assert ("compiling for this machine, once" in capsys.readouterr().err) == told


def test_what_is_loaded_in_time_is_not_announced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling, "PATIENCE", 0.2)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    kernel = SimpleNamespace(signatures=[])
    with compiling.announced(kernel):
        pass
    time.sleep(0.4)
    assert capsys.readouterr().err == ""
