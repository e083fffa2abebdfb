"""Where bytes come from: a file, a compressed file, or standard input; opened as often as a reader likes."""

import gzip
import io
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from onebound.errors import InputError

GZIP = b"\x1f\x8b"
STANDARD_INPUT = "standard input"
HEAD = 4096  # Bytes that are looked at before a reader sees the rest.


@dataclass(frozen=True)
class Source:
    """A name for messages and the bytes behind it, unpacked where they are gzip-compressed.

    `content` holds the bytes of what can be read only once: standard input, a pipe.
    """

    name: str
    path: Path | None = None
    content: bytes | None = None
    packed: bool = False

    def open(self) -> IO[bytes]:
        """The bytes from their beginning, unpacked."""
        if self.content is not None:
            raw = io.BytesIO(self.content)
            return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if self.packed else raw
        assert self.path is not None
        return cast(IO[bytes], gzip.open(self.path, "rb")) if self.packed else self.path.open("rb")

    def open_anywhere(self) -> IO[bytes]:
        """The bytes for a reader that jumps to and fro, which in a compressed file would unpack it again and again."""
        if not self.packed:
            return self.open()
        with self.open() as stream:
            return io.BytesIO(stream.read())

    def head(self) -> bytes:
        """The first bytes, unpacked."""
        with self.open() as stream:
            return stream.read(HEAD)


def source_of(path: Path, *, trust_name: bool) -> Source:
    """The bytes at `path`, "-" being standard input; InputError where there are none.

    `trust_name`: only a name that ends in .gz is unpacked; otherwise whatever begins as gzip does.
    """
    if str(path) == "-":
        content = sys.stdin.buffer.read()
        source = Source(STANDARD_INPUT, content=content, packed=content.startswith(GZIP))
        start = content[:2]
    else:
        try:
            # A pipe or a device cannot be opened a second time.
            content_once = None if path.is_file() else path.read_bytes()
            with io.BytesIO(content_once) if content_once is not None else path.open("rb") as stream:
                start = stream.read(2)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
        named_so = path.name.casefold().endswith(".gz")
        source = Source(str(path), path, content_once, named_so if trust_name else start == GZIP)
    if not start:
        raise InputError(f"{source.name}: {'nothing came' if str(path) == '-' else 'the file is empty'}.")
    if source.packed and start != GZIP:
        ending = "".join(path.suffixes[-2:])
        raise InputError(f"{path}: is called {ending} but is not gzip-compressed.")
    return source


def text_of(path: Path, encoding: str = "utf-8") -> str:
    """The whole text at `path`, unpacked where it is gzipped, without a byte order mark; InputError where it is none."""
    source = source_of(path, trust_name=False)
    try:
        with source.open() as stream:
            return stream.read().decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source.name}: expected {encoding} text, got other bytes at {error.start}. Name its encoding, or convert it."
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{source.name}: cannot be read: the compressed file is damaged or cut short; fetch it again."
        ) from error
