"""Which images a lesson is of: the open ones, files of a folder, and those that are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.workspace.teaching_lesson import LessonFile
from napari_pathsam.workspace.teaching_pairs import FilePair, Pair
from napari_pathsam.workspace.teaching_store import Strokes, file_key

if TYPE_CHECKING:
    from napari_pathsam.core.strokes import Areas, ClassStrokes


class LessonImages:
    """Images with labels; none twice, once open and once as a file."""

    def __init__(self) -> None:
        self.open: dict[str, Pair] = {}
        self._files: dict[str, FilePair] = {}
        self._gone: tuple[LessonFile, ...] = ()
        self._left_out: frozenset[str] = frozenset()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All of them, those left out too."""
        open_now = {file_key(p.path) for p in self.open.values() if p.path is not None}
        files = (p for key, p in self._files.items() if key not in open_now)
        return (*self.open.values(), *files)

    def is_used(self, key: str) -> bool:
        """Whether an image is trained on."""
        return key not in self._left_out

    def use(self, key: str, wanted: bool) -> None:
        """Train on an image, or leave it out."""
        self._left_out = self._left_out - {key} if wanted else self._left_out | {key}

    def add(self, files: Iterable[FilePair]) -> list[str]:
        """Files of a folder; the names of those that do not count, for their image is open."""
        new = {p.key: p for p in files}
        self._files |= new
        there = self.pairs
        return [p.name for p in new.values() if p not in there]

    def remove(self, key: str) -> None:
        """A file is not wanted any more."""
        self._files.pop(key, None)

    # --- what is kept of them ---

    @property
    def files(self) -> tuple[LessonFile, ...]:
        """The files, those too that were not there when the lesson was brought back."""
        here = (
            LessonFile(
                image=p.image.resolve(), labels=p.labels.resolve(), mpp=p.mpp_given,
                objects=p.objects,
            )
            for p in self._files.values()
        )  # fmt: skip
        return (*here, *self._gone)

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(sorted(self._left_out))

    def bring_back(
        self, files: Sequence[LessonFile], gone: Sequence[LessonFile], left_out: Iterable[str] = ()
    ) -> list[str]:
        """Take up what was kept; as :meth:`add`."""
        self._left_out |= frozenset(left_out)
        self._gone = tuple(gone)
        return self.add(FilePair(f.image, f.labels, f.mpp, f.objects) for f in files)


def apart(files: Sequence[LessonFile]) -> tuple[list[LessonFile], list[LessonFile]]:
    """Those that are there, with their labels, and those that are not; in a worker."""
    there = {f: f.image.is_file() and f.labels.is_file() for f in files}
    return [f for f in files if there[f]], [f for f in files if not there[f]]


Counted = tuple[tuple["ClassStrokes", ...], dict[str, Strokes], set[int]]


def counted(pairs: tuple[Pair, ...], classes: ClassTable, own: set[str]) -> Counted:
    """How much there is of each class; what was painted on open layers; ids of no class."""
    from napari_pathsam.core.strokes import separate_regions, strokes_of

    areas, kept = [], {}
    for pair in pairs:
        if isinstance(pair, FilePair):
            areas.append(_areas_of_file(pair, classes))
            continue
        found = pair.painted(classes)
        areas.append(separate_regions(found.labels))
        if pair.key in own:
            kept[pair.key] = Strokes(found.labels.copy(), found.at)
    ids = {i for each in areas for i in each.class_id}
    strange = {i for i in ids - {c.id for c in classes} if 0 < i < 255}
    return strokes_of(areas, [c.id for c in classes]), kept, strange


@lru_cache(maxsize=4096)
def _areas_of_file(pair: FilePair, classes: ClassTable) -> Areas:
    """Regions of a file, without the array: files are counted once."""
    from napari_pathsam.core.strokes import Areas, separate_regions

    found = separate_regions(pair.painted(classes).labels)
    return Areas(np.zeros((0, 0), np.int32), found.class_id, found.n_px)
