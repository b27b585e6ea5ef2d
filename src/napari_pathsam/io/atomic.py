"""Files appear whole or not at all: written under a temporary name beside the goal, then renamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, of the same folder and suffix; rename it at the end.

    When the block fails or is interrupted, nothing is left behind and an older file stays as it
    was. Missing folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
