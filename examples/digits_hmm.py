"""The strings of `examples/digits.py` by whole-word hidden Markov models and EM, beside CTC: the other cell of the table.

`python examples/digits_hmm.py digits` reads train.csv, valid.csv and test.csv of that folder. Features are cosines of the same
40 log-mel bands that the recogniser reads, with their first and second differences. Every digit is a row of states, silence one
state of its own; a string's chain is its words' states in order, with silence where there is any, so that EM finds the words'
places by itself. Then all words stand in one loop, and the best path through it is what was said. What a new word costs is
chosen on the watched strings.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.fft import dct

from onebound import Observations
from onebound.data.audio import LogMel
from onebound.data.recordings import errors, read_recordings
from onebound.emissions import Gaussian, MixtureOf, NormalInverseWishart
from onebound.models import Mixture
from onebound.structures import Chain, ChainPotentials

RATE, CEPSTRA = 8000, 13
QUIET = 0.5  # of a silence's chance to be left out: a gap may be too short for a frame


def features(frames: torch.Tensor) -> torch.Tensor:
    """(T, 40) log-mel bands → (T, 39): cepstra, and their differences over two frames to either side, twice."""
    x = dct(frames.numpy().astype(np.float64), norm="ortho")[:, :CEPSTRA]

    def slope(v: np.ndarray) -> np.ndarray:
        p = np.pad(v, ((2, 2), (0, 0)), mode="edge")
        return (p[3:-1] - p[1:-3] + 2 * (p[4:] - p[:-4])) / 10

    return torch.from_numpy(np.concatenate([x, slope(x), slope(slope(x))], 1))


class Words:
    """States 0 … S − 1 of the first word, S … 2 S − 1 of the second, …, the last one of silence; their emission and stays."""

    def __init__(self, names: list[str], states: int) -> None:
        self.names, self.states = names, states
        self.silence = len(names) * states
        self.emission: Gaussian | MixtureOf
        self.stay = torch.full((self.silence + 1,), 0.8, dtype=torch.float64)

    def chain(self, text: list[str], frames: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of a string: its states in order, ln of starts, of steps, and what its last frame may be in."""
        order = [self.silence]
        for word in text:
            first = self.names.index(word) * self.states
            order += [*range(first, first + self.states), self.silence]
        k, states = len(order), torch.tensor(order)
        move = torch.zeros(k, k, dtype=torch.float64)
        move.diagonal().copy_(self.stay[states])
        for i in range(k - 1):
            leave = 1 - self.stay[order[i]]
            skip = order[i + 1] == self.silence and i + 2 < k
            move[i, i + 1] = leave * (1 - QUIET if skip else 1)
            if skip:
                move[i, i + 2] = leave * QUIET
        start = torch.zeros(k, dtype=torch.float64)
        start[:2] = 0.5
        last = torch.full((k,), -torch.inf, dtype=torch.float64)
        last[-2:] = 0.0
        return states, start.log(), move.log(), last

    @torch.no_grad()
    def climb(self, data: list[tuple[torch.Tensor, list[str]]]) -> float:
        """One step of EM over strings; ln p(frames | text) a frame, before it."""
        k, total, sums = self.silence + 1, 0.0, None
        steps = torch.zeros(2, k, dtype=torch.float64)
        for x, text in data:
            states, start, move, last = self.chain(text, len(x))
            unary = self.emission.log_prob(x)[:, states]
            unary[-1] += last
            q = Chain(ChainPotentials(start, move, unary, torch.tensor([len(x)])))
            total += float(q.log_partition)
            marginals = q.marginals
            used = torch.zeros(len(x), k, dtype=torch.float64).index_add_(1, states, marginals.unary)
            here = self.emission.statistics(x, used)
            sums = here if sums is None else sums + here
            steps[0].index_add_(0, states, marginals.transition.diagonal())
            steps[1].index_add_(0, states, marginals.transition.sum(1))
        assert sums is not None
        self.emission.maximize(sums)
        self.stay = (steps[0] / steps[1].clamp_min(1e-9)).clamp(0.01, 0.99)
        return total / sum(len(x) for x, _ in data)

    def start(self, data: list[tuple[torch.Tensor, list[str]]]) -> None:
        """The quietest fifth of each string's frames is silence, the others are dealt out evenly to its words' states."""
        labels = []
        for x, text in data:
            silent = x[:, 0] <= x[:, 0].quantile(0.2)
            own = [self.names.index(w) * self.states + s for w in text for s in range(self.states)]
            places = torch.linspace(0, len(own) - 1e-6, int((~silent).sum()), dtype=torch.float64).long()
            here = torch.full((len(x),), self.silence)
            here[~silent] = torch.tensor(own)[places]
            labels.append(here)
        self.emission = self.new(1)
        rows = Observations.of(torch.cat([x for x, _ in data]))
        Mixture(self.emission).initialize(rows, how=torch.cat(labels))

    def new(self, inner: int) -> Gaussian | MixtureOf:
        """Diagonal Gaussians, `inner` a state; a weak prior keeps rare ones wide."""
        prior = NormalInverseWishart(mean_strength=0.0, degrees=4.0, scale=0.1)
        one = Gaussian((self.silence + 1) * inner, 3 * CEPSTRA, "diag", prior=prior)
        return one if inner == 1 else MixtureOf(one, inner)

    @torch.no_grad()
    def widen(self, data: list[tuple[torch.Tensor, list[str]]], inner: int) -> None:
        """Several Gaussians a state, from where the best path puts the frames."""
        labels = []
        for x, text in data:
            states, start, move, last = self.chain(text, len(x))
            unary = self.emission.log_prob(x)[:, states]
            unary[-1] += last
            path = Chain(ChainPotentials(start, move, unary, torch.tensor([len(x)]))).argmax
            labels.append(states[path])
        self.emission = self.new(inner)
        rows = Observations.of(torch.cat([x for x, _ in data]))
        Mixture(self.emission).initialize(rows, torch.Generator().manual_seed(0), how=torch.cat(labels))

    @torch.no_grad()
    def heard(self, frames: list[torch.Tensor], cost: float) -> list[list[str]]:
        """The words on the best path through the loop of all words, where a new word costs `cost` nats."""
        k, s, names = self.silence + 1, self.states, self.names
        move = torch.full((k, k), -torch.inf, dtype=torch.float64)
        move.diagonal().copy_(self.stay.log())
        leave = (1 - self.stay).log()
        firsts = torch.arange(len(names)) * s
        enter = -np.log(len(names)) - cost
        for i in range(self.silence):
            if i % s < s - 1:
                move[i, i + 1] = leave[i]
            else:
                move[i, firsts] = leave[i] + np.log(QUIET) + enter
                move[i, self.silence] = leave[i] + np.log(1 - QUIET)
        move[self.silence, firsts] = leave[-1] + enter
        start = torch.full((k,), -torch.inf, dtype=torch.float64)
        start[self.silence], start[firsts] = np.log(0.5), np.log(0.5) + enter
        ends = torch.full((k,), -torch.inf, dtype=torch.float64)
        ends[[*(firsts + s - 1).tolist(), self.silence]] = 0.0
        unary = [self.emission.log_prob(x) for x in frames]
        for u in unary:
            u[-1] += ends
        lengths = torch.tensor([len(u) for u in unary])
        path = Chain(ChainPotentials(start, move, torch.cat(unary), lengths)).argmax
        said = []
        for z in path.split(lengths.tolist()):
            entered = (z % s == 0) & (z < self.silence)
            entered[1:] &= z[1:] != z[:-1]
            said.append([names[int(v) // s] for v in z[entered]])
        return said


def rate(said: list[list[str]], wanted: list[list[str]], names: list[str]) -> tuple[int, int]:
    """Errors, and labels."""
    pairs = zip(said, wanted, strict=True)
    wrong = sum(errors([names.index(w) for w in w_], [names.index(w) for w in s]) for s, w_ in pairs)
    return wrong, sum(map(len, wanted))


def read(path: Path) -> list[tuple[torch.Tensor, list[str]]]:
    """Features and words of each string."""
    found = read_recordings(path, LogMel(RATE))
    assert found.texts is not None
    return [(features(x), text.split()) for x, text in zip(found.frames, found.texts, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--states", type=int, default=10, help="a word (10)")
    parser.add_argument("--gaussians", type=int, default=4, help="a state, after one (4)")
    parser.add_argument("--passes", type=int, default=8, help="of EM, with one Gaussian a state and again with all (8)")
    args = parser.parse_args()
    begun = time.perf_counter()
    train, valid, test = (read(args.folder / f"{name}.csv") for name in ("train", "valid", "test"))
    names = sorted({word for _, text in train for word in text})
    words = Words(names, args.states)
    words.start(train)
    print(f"{time.perf_counter() - begun:.0f} s: read {len(train)} strings, {sum(len(x) for x, _ in train):,} frames")
    for inner in sorted({1, args.gaussians}):
        if inner > 1:
            words.widen(train, inner)
        for i in range(args.passes):
            mean = words.climb(train)
            print(f"{time.perf_counter() - begun:.0f} s: {inner} a state, pass {i + 1}, ln p = {mean:.3f} nats a frame")
        costs = (0.0, 10.0, 20.0, 40.0, 80.0)
        watched = [rate(words.heard([x for x, _ in valid], c), [t for _, t in valid], names) for c in costs]
        best = min(range(len(costs)), key=lambda i: watched[i][0])
        wrong, labels = rate(words.heard([x for x, _ in test], costs[best]), [t for _, t in test], names)
        print(
            f"{inner} a state: a word costs {costs[best]:g} nats; label error rate watched "
            f"{watched[best][0] / watched[best][1]:.2%}, test {wrong / labels:.2%} ({wrong} of {labels})"
        )


if __name__ == "__main__":
    main()
