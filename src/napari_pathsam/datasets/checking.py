"""Looking through a download: what is missing of it, and what is damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.datasets.layout import checksum, listed_sums

if TYPE_CHECKING:
    from napari_pathsam.datasets.base import DataSet, Sample

SHOWN_NAMES = 8


@dataclass(frozen=True)
class Checked:
    """One step of looking through a download: how far it is, and what is wrong, if anything."""

    done: int
    total: int
    problem: str | None = None


def checking(data: DataSet, root: Path, *, sums: bool = False) -> Iterator[Checked]:
    """Count the images of each split, then read every one of them; closing it stops.

    Slides are read at low resolution. With ``sums`` the checksums of published archives that still
    lie in the folder, and those a checksum file in it lists, are compared too.
    """
    try:
        data = data.at(root)
        found = data.images(root)
    except BadFileError as error:
        yield Checked(1, 1, str(error))
        return
    listed = list(_sums(data, root)) if sums else []
    total = len(found) + len(listed)
    for part, n in data.expected.items():
        here = {s.name for s in found if part in (s.split, s.name.partition("/")[0], "all")}
        lost = [name for name in data.names.get(part, ()) if name not in here]
        if len(here) != n or lost:
            counted = f"{part}: {len(here)} images, the complete data set has {n}"
            yield Checked(0, total, f"{counted}{_not_here(lost)}.")
    for done, sample in enumerate(found, start=1):
        yield Checked(done, total, _problem(sample, data.known_ids))
    for done, (path, algorithm, digest) in enumerate(listed, start=len(found) + 1):
        wrong = not path.exists() or checksum(path, algorithm) != digest
        what = "is missing" if not path.exists() else f"is not the published file ({algorithm})"
        told = f"{path.name} {what}; download it again." if wrong else None
        yield Checked(done, total, told)


def _not_here(lost: Sequence[str]) -> str:
    """The names that are missing, as the end of a sentence."""
    more = f" and {len(lost) - SHOWN_NAMES} more" if lost[SHOWN_NAMES:] else ""
    return f"; not here: {', '.join(lost[:SHOWN_NAMES])}{more}" if lost else ""


def _problem(sample: Sample, known: set[int]) -> str | None:
    """What is wrong with one sample, if anything."""
    try:
        _, labels = sample.load()
    except (BadFileError, BadImageError, OSError) as error:
        return f"{sample.name}: {error}"
    if sample.label_kind == "classes":
        strange = sorted({int(i) for i in np.unique(labels)} - known)
        if strange:
            return f"{sample.name}: its labels hold the ids {strange[:8]}, which are no classes."
    return None


def _sums(data: DataSet, root: Path) -> Iterator[tuple[Path, str, str]]:
    """Files whose published digest is known: path, algorithm, digest."""
    for name, digest in data.archives.items():
        if (root / name).exists():
            yield root / name, "sha256", digest
    for name in ("checksums.md5", "checksums.txt", "checksums.sha256"):
        if (root / name).exists():
            for listed, digest in listed_sums(root / name).items():
                yield root / listed, "md5" if len(digest) == 32 else "sha256", digest
