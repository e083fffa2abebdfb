"""Tagging without a tag: a categorical HMM of 17 states on Universal Dependencies' English EWT treebank.

`python examples/tagging.py TRAIN.conllu.gz DEV.conllu.gz` (github.com/UniversalDependencies/UD_English-EWT) fits it from counts
of the true tags, then without them by EM and by EG (Adam on mini-batches) from the same random start, and prints nats per token
and how many tokens of DEV get their tag: with the states' own names for the counts, else many-to-one (each state named after
the tag that it meets most often in TRAIN).
"""

from __future__ import annotations

import gzip
import sys
import time
from collections import Counter

import numpy as np
import torch

import onebound as ob
from onebound.models import HMM

RARE = 2  # words seen less often in TRAIN are one symbol, by their last two letters
PASSES = 60


def sentences(path: str) -> list[list[tuple[str, str]]]:
    """Words and their universal tags, sentence by sentence; multi-word tokens and empty nodes are left out."""
    found: list[list[tuple[str, str]]] = [[]]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            if not line.strip():
                found.append([])
            elif line[0].isdigit():
                number, form, _, tag, *_ = line.split("\t")
                if number.isdigit():
                    found[-1].append((form.lower(), tag))
    return [sentence for sentence in found if sentence]


class Corpus:
    """Word and tag numbers of sentences, one below the other."""

    def __init__(self, text: list[list[tuple[str, str]]], words: dict[str, int], tags: dict[str, int]) -> None:
        flat = [pair for sentence in text for pair in sentence]
        self.words = np.array([[float(words.get(w, words.get("…" + w[-2:], 0)))] for w, _ in flat])
        self.tags = np.array([tags[t] for _, t in flat])
        self.lengths = [len(sentence) for sentence in text]

    def observations(self, known: bool = False) -> ob.Observations:
        """For a model; `known`: the tags are the states."""
        allowed = np.eye(self.tags.max() + 1, dtype=bool)[self.tags] if known else None
        return ob.Observations.of(self.words, lengths=self.lengths, allowed=allowed)


def vocabulary(text: list[list[tuple[str, str]]]) -> dict[str, int]:
    """Numbers of frequent words and of the endings of the others; 0 is what is neither."""
    counts = Counter(word for sentence in text for word, _ in sentence)
    frequent = sorted(w for w, n in counts.items() if n >= RARE)
    endings = sorted({"…" + w[-2:] for w, n in counts.items() if n < RARE})
    return {w: i for i, w in enumerate(["", *frequent, *endings])}


def many_to_one(model: HMM, train: Corpus, dev: Corpus) -> float:
    """The share of DEV's tokens whose state's most frequent tag in TRAIN is theirs."""
    met = np.zeros((model.n_components, train.tags.max() + 1))
    np.add.at(met, (model.posterior(train.observations()).argmax.numpy(), train.tags), 1)
    return float((met.argmax(-1)[model.posterior(dev.observations()).argmax.numpy()] == dev.tags).mean())


def main() -> None:
    """Fit and print the table."""
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/tagging.py TRAIN.conllu.gz DEV.conllu.gz")
    text, held_out = sentences(sys.argv[1]), sentences(sys.argv[2])
    words = vocabulary(text)
    tags = {t: i for i, t in enumerate(sorted({t for sentence in text for _, t in sentence}))}
    train, dev = Corpus(text, words, tags), Corpus(held_out, words, tags)
    k, smooth = len(tags), ob.emissions.Dirichlet(1.01)

    def model() -> HMM:
        return HMM(ob.emissions.Categorical(k, [len(words)], prior=smooth), prior=smooth, initial_prior=smooth)

    print(
        f"{len(train.tags):,} tokens in {len(text):,} sentences, {len(words):,} words, {k} tags; "
        f"{len(dev.tags):,} to be tagged\n"
    )
    print(
        "| fitted by | passes | seconds | nats per token, TRAIN | DEV | tags right in DEV |\n|---|---|---|---|---|---|"
    )

    def row(name: str, fitted: HMM, passes: float, seconds: float, right: float) -> None:
        nats = [float(fitted.evidence(c.observations()).detach().sum()) / len(c.tags) for c in (train, dev)]
        print(f"| {name} | {passes:g} | {seconds:.1f} | {nats[0]:.4f} | {nats[1]:.4f} | {right:.1%} |", flush=True)

    begin = time.perf_counter()
    counted = model()
    ob.fit(counted, train.observations(known=True), ob.EM(), max_iter=1, init=torch.from_numpy(train.tags))
    right = float((counted.posterior(dev.observations()).argmax.numpy() == dev.tags).mean())
    row("counts of the true tags", counted, 1, time.perf_counter() - begin, right)
    start = model()
    by_word = torch.rand(len(words), k, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 3
    start.initialize(train.observations(), how=by_word[train.words[:, 0]])
    for name, algorithm, options in (
        ("EM", ob.EM(), {"max_iter": PASSES}),
        ("EG, Adam on 256 sentences at a time", ob.EG("adam", lr=0.05), {"max_iter": PASSES, "batch_size": 256}),
    ):
        climbing = model()
        climbing.load_state_dict(start.state_dict())
        generator, begin = torch.Generator().manual_seed(0), time.perf_counter()
        fit = ob.fit(climbing, train.observations(), algorithm, tol=0, generator=generator, **options)
        seconds = time.perf_counter() - begin
        row(name, climbing, fit.trace[-1].passes, seconds, many_to_one(climbing, train, dev))


if __name__ == "__main__":
    main()
