"""A comparison with a peer is one only as long as the peer is not ourselves."""

import importlib
from pathlib import Path

import hmmlearn.hmm
import pytest
import sklearn.mixture

TESTS = Path(__file__).parent


def assert_peers_are_themselves() -> None:
    assert sklearn.mixture.GaussianMixture.__module__.startswith("sklearn.")
    for name in hmmlearn.hmm.__all__:
        assert getattr(hmmlearn.hmm, name).__module__.startswith("hmmlearn.")


def test_peers_classes_are_their_own() -> None:
    assert_peers_are_themselves()


@pytest.mark.parametrize("plugin", ["swapped_class", "swapped_hmms"])
def test_looking_for_doctests_in_a_plugin_swaps_nothing(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TESTS / "estimators"))
    importlib.reload(importlib.import_module(plugin))
    assert_peers_are_themselves()
