"""save and load: safetensors + a JSON header with a schema version and a sha256 of everything. Never pickle.

safetensors does not notice a flipped bit; the digest does, over the header's own words too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from onebound.errors import StoreError
from onebound.models import registered
from onebound.models.base import Model

SCHEMA = 1
KEY = "onebound"


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write the model, whole or not at all: a temporary file beside `path`, then renamed.

    Raises StoreError where the place cannot be written, Unsupported for models that hold a user's network.
    """
    write(path, described(model), model.state_dict())


def load(path: str | os.PathLike[str], into: Model | None = None) -> Model:
    """The model in `path`, bit for bit. `into`: a model of the same class to read the parameters into.

    Raises StoreError for a file that is not a model, truncated, damaged, of a newer schema or of a foreign class.
    """
    header, tensors = read(path)
    if "climb" in header:
        raise StoreError(f"load: {path} is a checkpoint of a fit under way. Go on from it with ob.resume(path, y).")
    if into is not None and type(into).__name__ != header["class"]:
        raise StoreError(f"load: {path} holds a {header['class']}, got into={type(into).__name__}.")
    return filled(path, into if into is not None else built(path, header), header, tensors)


def described(model: Model) -> dict[str, Any]:
    """The header of a file that holds `model`."""
    return {"schema": SCHEMA, "class": type(model).__name__, "config": model.config(), "about": model.about}


def write(path: str | os.PathLike[str], header: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file with `header`, and a digest over every bit of both."""
    tensors = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    text = json.dumps(header, sort_keys=True, ensure_ascii=True)
    write_atomically(path, to_bytes(tensors, {KEY: text, "sha256": _digest(text, tensors)}))


def filled(path: str | os.PathLike[str], model: Model, header: dict[str, Any], tensors: dict[str, Tensor]) -> Model:
    """`model` with the parameters and notes of a file."""
    model.resize(header["config"])
    expected = {name: (t.shape, t.dtype) for name, t in model.state_dict().items()}
    if expected != {name: (t.shape, t.dtype) for name, t in tensors.items()}:
        raise StoreError(
            f"load: the tensors in {path} do not fit its {header['class']}. Give a model of that shape as into=."
        )
    model.load_state_dict(tensors)
    model.about = header["about"]
    return model.eval()


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to a temporary name in the same folder, then rename: never a half-written file."""
    with whole_or_nothing(path) as file:
        file.write(data)


@contextlib.contextmanager
def whole_or_nothing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """`replacing`, with StoreError where that cannot be done."""
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise StoreError(
            f"save: cannot write {path}: {error.strerror or error}. Choose a folder that exists and is writable."
        ) from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file under a temporary name in the folder of `path`, renamed at the end; after an error there is nothing new.

    Raises OSError where there is a folder, a device or a pipe, which the rename would replace.
    """
    target = Path(os.path.realpath(path))  # Through a link to the file that it names: the link stays.
    if target.is_dir():
        raise IsADirectoryError(None, "it is a folder")
    if target.exists() and not target.is_file():
        raise OSError(None, "it is a device or a pipe, which is no regular file")
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files private
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a whole, undamaged file that this version understands."""
    if not Path(path).is_file():
        raise StoreError(f"load: expected a model file, got {path}, which is not there or is no file.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        header = json.loads(metadata[KEY])
        digest = metadata["sha256"]
    except (
        SafetensorError,
        OSError,
        KeyError,
        ValueError,
        OverflowError,
        MemoryError,
        UnicodeError,
        AttributeError,
    ) as error:
        raise StoreError(
            f"load: {path} is no onebound model, or is truncated or damaged ({type(error).__name__}). "
            "Write it again with ob.save."
        ) from None
    if digest != _digest(metadata[KEY], tensors):
        raise StoreError(f"load: {path} is damaged: its sha256 does not match. Write it again with ob.save.")
    if header["schema"] > SCHEMA:
        raise StoreError(
            f"load: {path} has schema {header['schema']}, newer than {SCHEMA}, which this version reads. Upgrade onebound."
        )
    # Cloned after the digest (it turns any true byte into 1), since sums round differently in memory that is not aligned
    # as torch aligns its own.
    return header, {name: t.clone() for name, t in tensors.items()}


def built(path: str | os.PathLike[str], header: dict[str, Any]) -> Model:
    """The model that a header describes, its parameters still to be filled in."""
    known = registered()
    if header["class"] not in known:
        raise StoreError(
            f"load: {path} holds a {header['class']!r}; known classes are {', '.join(sorted(known))}. "
            "For a class of your own pass into=."
        )
    return known[header["class"]].from_config(header["config"])


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        t = tensors[name]
        sha.update(f"{name}|{t.dtype}|{tuple(t.shape)}|".encode())
        sha.update(t.cpu().contiguous().flatten().view(-1).numpy().tobytes())
    return sha.hexdigest()
