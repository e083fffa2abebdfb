"""Prefix beam search: the label sequences of highest probability, summed over their alignments frame by frame.

A beam is a prefix with two masses, of alignments that end in a blank and of those that end in its last label. Prefixes are
nodes of a tree; one that was dropped and comes again is the same node. With a language model a prefix also has the sum of its
labels' weighted log-probabilities, by which it is ranked but which is no part of its mass.
Source: Hannun, Maas, Jurafsky & Ng 2014, First-pass large vocabulary continuous speech recognition, algorithm 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.typed import Dict

INF = math.inf


@njit(nogil=True, inline="always")
def _add(a: float, b: float) -> float:
    if b > a:
        a, b = b, a
    return a if b == -INF else a + math.log1p(math.exp(b - a))


@njit(nogil=True, cache=True)
def prefixes(scores: Any, blank: int, beam: int, classes: int, table: Any, base: int, most: int, found: Any) -> Any:
    """The best prefixes of scores (T, C): labels into found (beam, T), −1 beyond their ends. Returns how many there are.

    `classes`: how many of the best classes of a frame may extend a prefix. `table` (base ** (n − 1), base): weighted ln p of a
    class after the last n − 1, `most` = base ** (n − 1) contexts; without a language model (0, 0), and `most` 0. Class
    `blank` stands for the end of the sequence, class C for what is before its beginning.
    """
    frames, n_classes = scores.shape
    # The tree.
    size = 1 + frames * beam
    parent, label, context, worth = (
        np.zeros(size, np.int64),
        np.full(size, -1, np.int64),
        np.zeros(size, np.int64),
        np.zeros(size),
    )
    child = Dict.empty(types.int64, types.int64)
    place = np.full(size, -1, np.int64)  # of a node among the beams
    nodes, count = 1, 1
    parent[0] = -1
    context[0] = most - 1  # nothing but class C
    node = np.zeros(beam, np.int64)
    pb, pl = np.full(beam, -INF), np.full(beam, -INF)
    pb[0] = 0.0
    kept = min(classes, n_classes)
    width = beam * (1 + kept)
    rank, cb, cl = np.empty(width), np.empty(width), np.empty(width)
    source, said = np.empty(width, np.int64), np.empty(width, np.int64)
    new_node, new_pb, new_pl = np.empty(beam, np.int64), np.empty(beam), np.empty(beam)
    for t in range(frames):
        row = scores[t]
        order = np.argsort(-row.astype(np.float64), kind="mergesort")[:kept]
        for i in range(count):
            place[node[i]] = i
        for i in range(count):
            k = node[i]
            source[i], said[i] = i, -1
            cb[i] = _add(pb[i], pl[i]) + row[blank]
            cl[i] = pl[i] + row[label[k]] if k > 0 else -INF
            j = place[parent[k]] if k > 0 else -1
            if j >= 0:  # it may also come from its parent, which is a beam too
                come = pb[j] if label[node[j]] == label[k] else _add(pb[j], pl[j])
                cl[i] = _add(cl[i], come + row[label[k]])
            rank[i] = _add(cb[i], cl[i]) + worth[k]
        m = count
        for i in range(count):
            k = node[i]
            either = _add(pb[i], pl[i])
            for c in order:
                if c == blank or row[c] == -INF:
                    continue
                key = k * n_classes + c
                if key in child and place[child[key]] >= 0:
                    continue  # counted above
                mass = (pb[i] if c == label[k] else either) + row[c]
                if mass == -INF:
                    continue
                source[m], said[m], cb[m], cl[m] = i, c, -INF, mass
                rank[m] = mass + worth[k] + (table[context[k], c] if most > 0 else 0.0)
                m += 1
        for i in range(count):
            place[node[i]] = -1
        best = np.argsort(-rank[:m], kind="mergesort")[:beam]
        count = 0
        for i in best:
            if rank[i] == -INF:
                break
            k = node[source[i]]
            if said[i] >= 0:
                c = said[i]
                key = k * n_classes + c
                if key in child:
                    k = child[key]
                else:
                    child[key] = nodes
                    parent[nodes], label[nodes] = k, c
                    if most > 0:
                        worth[nodes] = worth[k] + table[context[k], c]
                        context[nodes] = (context[k] * base + c) % most
                    k = nodes
                    nodes += 1
            new_node[count], new_pb[count], new_pl[count] = k, cb[i], cl[i]
            count += 1
        node, new_node = new_node, node
        pb, new_pb = new_pb, pb
        pl, new_pl = new_pl, pl
    last = np.empty(count)
    for i in range(count):
        end = table[context[node[i]], blank] if most > 0 else 0.0
        last[i] = _add(pb[i], pl[i]) + worth[node[i]] + end
    for i, j in enumerate(np.argsort(-last, kind="mergesort")):
        length, k = 0, node[j]
        while k > 0:
            length, k = length + 1, parent[k]
        k = node[j]
        for u in range(length - 1, -1, -1):
            found[i, u] = label[k]
            k = parent[k]
    return count
