"""A comparison with a peer is one only as long as the peer is not ourselves."""

import importlib
from pathlib import Path

import pytest
import sklearn.mixture

TESTS = Path(__file__).parent


def test_scikit_learns_class_is_scikit_learns() -> None:
    assert sklearn.mixture.GaussianMixture.__module__.startswith("sklearn.")


def test_looking_for_doctests_in_the_plugin_swaps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TESTS / "estimators"))
    importlib.reload(importlib.import_module("swapped_class"))
    assert sklearn.mixture.GaussianMixture.__module__.startswith("sklearn.")
