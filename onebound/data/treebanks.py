"""Treebanks as files: Penn brackets, plain or gzipped, a document's name and a tab before a tree allowed."""

from __future__ import annotations

import os
import re
from pathlib import Path

from onebound.data.source import text_of
from onebound.errors import InputError
from onebound.trees import Tree, read_brackets, without_marks, without_traces

_DOCUMENT = re.compile(r"^[^\t(]*\t(?=\s*\()", re.M)


def read_treebank(path: str | os.PathLike[str], *, marks: bool = False, traces: bool = False) -> list[Tree]:
    """The trees of a file, without function tags and empty elements unless `marks` and `traces` ask for them.

    InputError names file and line of a bracket that does not fit, or the tree of which nothing but empty elements is left.
    """
    name = os.fspath(path)
    text = text_of(Path(path))
    found = []
    for n, tree in enumerate(read_brackets(_DOCUMENT.sub("", text), name), 1):
        kept = tree if traces else without_traces(tree)
        if kept is None:
            raise InputError(f"{name}: tree {n} has nothing but empty elements. Leave it out, or keep the traces.")
        found.append(kept if marks else without_marks(kept))
    if not found:
        raise InputError(f"{name}: expected trees in Penn brackets, got none.")
    return found
