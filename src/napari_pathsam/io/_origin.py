"""Where a slide's pixels come from: what it is, whether it is still there, how it is closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_pathsam.io._identity import identity_of_file


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Origin:
    """Files, or an array, behind a slide."""

    identify: Callable[[], str]
    still_there: Callable[[], bool] = lambda: True
    close: Callable[[], object] = _nothing

    @classmethod
    def file(
        cls,
        path: Path,
        *,
        identify: Callable[[], str] | None = None,
        close: Callable[[], object] = _nothing,
    ) -> Origin:
        """A file, known by its bytes unless ``identify`` knows better."""
        size = path.stat().st_size

        def still_there() -> bool:
            try:
                return path.stat().st_size == size
            except OSError:
                return False

        return cls(identify or partial(identity_of_file, path), still_there, close)
