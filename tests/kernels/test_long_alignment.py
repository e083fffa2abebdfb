"""A long item is aligned as a short one: the spans of the best path, and what all paths together say of them."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from onebound.kernels.long_alignment import align
from onebound.kernels.long_alignment_steps import read
from onebound.structures import Alignment, AlignmentPotentials

INF = math.inf
pytestmark = pytest.mark.xdist_group("long_alignment")  # compiled once


class Found(NamedTuple):
    log_z: float
    score: float
    start: Any
    stop: Any
    confidence: Any


def aligned(scores: Any, labels: Any, blank: int, every: int = 0) -> Found:
    n = len(labels)
    start, stop, confidence = np.full(n, 7), np.full(n, 7), np.full(n, np.nan)
    return Found(*align(scores, labels, blank, start, stop, confidence, every), start, stop, confidence)


def item(frames: int, size: int, scale: float, holes: float = 0.0, classes: int = 5, seed: int = 0) -> tuple[Any, Any]:
    """Logits, and labels of which two in a row are often alike; the blank is class 2. One dtype, for each compiles anew."""
    rng = np.random.default_rng([frames, size, classes, seed])
    scores = (scale * rng.normal(size=(frames, classes))).astype(np.float32)
    scores[rng.random(scores.shape) < holes] = -INF
    labels = rng.choice([c for c in range(classes) if c != 2], size)
    return scores, labels


def spans(states: Any, size: int) -> tuple[Any, Any]:
    """Where the states of labels are on a path."""
    own = 2 * np.arange(size) + 1
    return np.searchsorted(states, own), np.searchsorted(states, own, side="right")


def best_states(scores: Any, labels: Any, blank: int) -> Any:
    w = AlignmentPotentials(
        torch.from_numpy(scores),
        torch.tensor([len(scores)]),
        torch.from_numpy(labels),
        torch.tensor([len(labels)]),
        blank,
    )
    return Alignment(w).argmax.numpy()


def occupied(scores: Any, labels: Any, blank: int) -> tuple[float, Any]:
    """ln Z and p(frame t is in state s), in log space."""
    classes = np.full(2 * len(labels) + 1, blank)
    classes[1::2] = labels
    leap = np.zeros(len(classes), bool)
    leap[3::2] = labels[1:] != labels[:-1]
    e = scores.astype(np.float64)[:, classes]
    before, after = np.full(len(classes) + 2, -INF), np.full(len(classes) + 2, -INF)
    alpha, beta = np.empty_like(e), np.empty_like(e)
    for t in range(len(e)):
        here = before[2:]
        if t == 0:
            here[:2] = e[0, :2]
        else:
            here[:] = e[t] + np.logaddexp.reduce([here, before[1:-1], np.where(leap, before[:-2], -INF)])
        alpha[t] = here
    may = np.concatenate([leap[2:], [False, False]])[: len(leap)]
    after[max(len(classes) - 2, 0) : len(classes)] = 0.0
    for t in range(len(e) - 1, -1, -1):
        beta[t] = after[:-2]
        v = after.copy()
        v[:-2] += e[t]
        after[:-2] = np.logaddexp.reduce([v[:-2], v[1:-1], np.where(may, v[2:], -INF)])
    log_z = np.logaddexp.reduce(alpha[-1, -2:])
    return float(log_z), np.exp(alpha + beta - log_z)


def means(found: Any, start: Any, stop: Any) -> Any:
    return np.array([found[a:b, 2 * u + 1].mean() for u, (a, b) in enumerate(zip(start, stop, strict=True))])


def assert_bits(a: Found, b: Found) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("frames", "size"), [(1, 0), (1, 1), (2, 1), (4, 0), (5, 2), (5, 3), (6, 2)])
@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_a_short_item_is_aligned_as_the_sum_over_all_paths_says(frames: int, size: int, holes: float) -> None:
    for seed in range(5):
        scores, labels = item(frames, size, 2.0, holes, 4, seed)
        classes = [2, *itertools.chain.from_iterable((label, 2) for label in labels.tolist())]
        paths = {}
        for z in itertools.product(range(len(classes)), repeat=frames):
            steps = [(b - a, classes[b] != classes[a] and b % 2 == 1) for a, b in itertools.pairwise(z)]
            fits = z[0] < 2 and z[-1] >= len(classes) - 2 and all(d in (0, 1) or (d == 2 and leap) for d, leap in steps)
            total = math.fsum(float(scores[t, classes[s]]) for t, s in enumerate(z)) if fits else -INF
            if total > -INF:
                paths[z] = total
        found = aligned(scores, labels, 2)
        if not paths:
            assert found[:2] == (-INF, -INF)
            continue
        top = max(paths.values())
        mass = math.fsum(math.exp(total - top) for total in paths.values())
        np.testing.assert_allclose(found[:2], [top + math.log(mass), top], rtol=1e-10, atol=1e-10)
        start, stop = spans(max(paths, key=lambda z: paths[z]), size)
        np.testing.assert_array_equal([found.start, found.stop], [start, stop])
        shares = np.zeros((frames, len(classes)))
        for z, total in paths.items():
            shares[np.arange(frames), z] += math.exp(total - top) / mass
        np.testing.assert_allclose(found.confidence, means(shares, start, stop), rtol=0, atol=1e-10)


CASES = [
    *itertools.product((300,), (60,), (1.0, 4.0, 16.0, 60.0), (0.0, 0.02)),
    *((1000, 300, scale, 0.0) for scale in (1.0, 4.0, 16.0)),
    (697, 500, 2.0, 0.0),
    (500, 15, 1.0, 0.0),
    (501, 16, 8.0, 0.0),
]


@pytest.mark.parametrize(("frames", "size", "scale", "holes"), CASES)
def test_labels_are_where_they_are_in_log_space(frames: int, size: int, scale: float, holes: float) -> None:
    scores, labels = item(frames, size, scale, holes)
    found, (log_z, shares) = aligned(scores, labels, 2), occupied(scores, labels, 2)
    assert log_z > -INF
    np.testing.assert_allclose(found.log_z, log_z, rtol=1e-9)
    start, stop = spans(best_states(scores, labels, 2), size)
    np.testing.assert_array_equal([found.start, found.stop], [start, stop])
    np.testing.assert_allclose(found.confidence, means(shares, start, stop), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("frames", "size", "early", "late"),
    [(58, 29, 60.0, 0.0), (58, 29, 0.0, -60.0), (234, 117, 0.0, 70.0), (400, 90, 40.0, -40.0)],
)
def test_masses_that_only_few_paths_have_are_not_lost(frames: int, size: int, early: float, late: float) -> None:
    """All labels are alike and there are hardly frames for them, or the blank looks good at first and then does not."""
    scores, _ = item(frames, 0, 2.0, 0.0, 3)
    scores[: frames // 2, 2] += early
    scores[frames // 2 :, 2] += late
    labels = np.ones(size, np.int64)
    found, (log_z, shares) = aligned(scores, labels, 2), occupied(scores, labels, 2)
    np.testing.assert_allclose(found.log_z, log_z, rtol=1e-12)
    np.testing.assert_allclose(found.confidence, means(shares, found.start, found.stop), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_among_equal_paths_it_takes_the_one_that_argmax_takes(seed: int) -> None:
    scores, labels = item(150, 5 * seed, 1.0, 0.0, 4, seed)
    scores = np.round(scores)
    found, states = aligned(scores, labels, 2), best_states(scores, labels, 2)
    assert found.score > -INF
    np.testing.assert_array_equal([found.start, found.stop], spans(states, len(labels)))


@pytest.mark.parametrize(("frames", "size", "scale"), [(1000, 300, 2.0), (333, 40, 60.0), (64, 0, 1.0)])
def test_checkpoints_do_not_change_a_bit(frames: int, size: int, scale: float) -> None:
    scores, labels = item(frames, size, scale, 0.01)
    whole = aligned(scores, labels, 2, frames)
    assert whole.log_z > -INF
    for every in (0, 1, 7, 64):
        assert_bits(aligned(scores, labels, 2, every), whole)


def test_scores_of_any_precision_are_read_as_double() -> None:
    frame, found = np.random.default_rng(0).normal(size=5), np.empty(3)
    for dtype in (np.float32, np.float64):
        read(frame.astype(dtype), np.array([2, 0, 4]), found)
        np.testing.assert_array_equal(found, frame.astype(dtype)[[2, 0, 4]])


def test_where_there_is_no_path_there_are_no_spans() -> None:
    for scores, labels in (
        (np.zeros((3, 3)), np.array([1, 1, 0])),
        (np.zeros((0, 3)), np.array([1])),
        (np.where(np.arange(3) == 1, -INF, np.zeros((9, 3))), np.array([1, 0])),
        (np.full((9, 3), -INF), np.array([], np.int64)),
    ):
        found = aligned(scores.astype(np.float32), labels, 2)
        assert found[:2] == (-INF, -INF)
        assert found.start.tolist() == found.stop.tolist() == [-1] * len(labels)
        assert found.confidence.tolist() == [0.0] * len(labels)
    assert aligned(np.zeros((0, 3), np.float32), np.array([], np.int64), 2)[:2] == (0.0, 0.0)


MEMORY = """
import resource
import numpy as np
from onebound.kernels.long_alignment import align

rng = np.random.default_rng(0)
scores, labels = rng.normal(size=(20_000, 30)).astype(np.float32), rng.integers(1, 30, 2_000)

def run(frames, size):
    start, stop, confidence = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    log_z, _ = align(scores[:frames], labels[:size], 0, start, stop, confidence, 0)
    return log_z > -np.inf and (stop > start).all()

assert run(30, 3)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 100 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert run(20_000, 2_000)
try:
    np.empty((20_000, 2_000))
except MemoryError:
    print("aligned")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the size of the process from /proc")
def test_a_long_item_takes_little_memory() -> None:
    """Less than 100 MB more than a short one, where a number for each frame and label would take 320 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("aligned\n", 0), done.stderr
