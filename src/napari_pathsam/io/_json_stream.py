"""A large JSON document value by value: what is in memory is the value at hand."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from napari_pathsam.core.errors import BadFileError

PIECE = 1 << 20
LARGEST_VALUE = 1 << 29
"""Characters of one value; no outline of anything on a slide is longer."""


def members_of(path: Path, streamed: str) -> Iterator[tuple[str, Any]]:
    """``(name, value)`` of a JSON object's members; of the array ``streamed`` one a value of it.

    A document that is an array itself is taken for that array. ``.gz`` or not.

    Raises
    ------
    BadFileError, ValueError
        A value is too large; it is no JSON.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        scan = _Scanner(io.TextIOWrapper(file, encoding="utf-8-sig"), path)
        if scan.peek() == "[":
            yield from ((streamed, value) for value in _values(scan))
            return
        scan.take("{")
        while scan.peek() != "}":
            name = scan.value()
            scan.take(":")
            if name == streamed and scan.peek() == "[":
                yield from ((streamed, value) for value in _values(scan))
            else:
                yield str(name), scan.value()
            if scan.peek() == ",":
                scan.take(",")
        scan.take("}")
        if scan.peek():
            raise ValueError("something follows the end of the document")


def _values(scan: _Scanner) -> Iterator[Any]:
    scan.take("[")
    while scan.peek() != "]":
        yield scan.value()
        if scan.peek() == ",":
            scan.take(",")
    scan.take("]")


class _Scanner:
    """Reads a text bit by bit."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._at, self._ended = "", 0, False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more(PIECE)

    def take(self, wanted: str) -> None:
        """Pass over one character; ValueError when it is another one."""
        if (found := self.peek()) != wanted:
            raise ValueError(f"{wanted!r} is wanted where {found or 'the end'!r} is")
        self._at += 1

    def value(self) -> Any:
        """The next value, as a whole."""
        self.peek()
        size = PIECE
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if self._ended:
                    raise
            else:
                if end < len(self._text) or self._ended:  # else a number may go on
                    self._at = end
                    return found
            self._more(size)
            size *= 2

    def _more(self, size: int) -> None:
        piece = self._file.read(size)
        self._ended = not piece
        self._text, self._at = self._text[self._at :] + piece, 0
        if len(self._text) > LARGEST_VALUE:
            raise BadFileError(
                f"{self._path.name} holds a value of more than half a billion characters, which "
                "is no outline. Export the objects again."
            )
