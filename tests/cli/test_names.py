"""The shell writes some names out, so that its help needs no torch: they are those of the library."""

from onebound.algorithms import NAMED
from onebound.algorithms.choose import CRITERIA
from onebound.cli import options


def test_algorithms_and_criteria_have_the_librarys_names() -> None:
    assert {option: make().name for option, make in NAMED.items()} == options.ALGORITHMS
    assert sorted(options.CRITERIA) == sorted(CRITERIA)
