"""Treebanks as files: Penn brackets, plain or gzipped, a document's name and a tab before a tree allowed."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path

from onebound.errors import InputError
from onebound.trees import Tree, read_brackets, without_marks, without_traces

_DOCUMENT = re.compile(r"^[^\t(]*\t(?=\s*\()", re.M)


def read_treebank(path: str | os.PathLike[str], *, marks: bool = False, traces: bool = False) -> list[Tree]:
    """The trees of a file, without function tags and empty elements unless `marks` and `traces` ask for them.

    InputError names file and line of a bracket that does not fit, or the tree of which nothing but empty elements is left.
    """
    name = os.fspath(path)
    try:
        raw = Path(path).read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: expected UTF-8 text, got other bytes at {error.start}. Convert it first.") from error
    except (OSError, EOFError, zlib.error) as error:
        what = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read: {what}.") from error
    found = []
    for n, tree in enumerate(read_brackets(_DOCUMENT.sub("", text), name), 1):
        kept = tree if traces else without_traces(tree)
        if kept is None:
            raise InputError(f"{name}: tree {n} has nothing but empty elements. Leave it out, or keep the traces.")
        found.append(kept if marks else without_marks(kept))
    if not found:
        raise InputError(f"{name}: expected trees in Penn brackets, got none.")
    return found
