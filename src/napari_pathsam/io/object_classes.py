"""The class of each object of a label pyramid, in a small file beside its levels.

NGFF has a place for it, too, but of a million objects that would be a hundred megabytes of text
that everybody reads who opens the labels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.io._files import reading, replacing
from napari_pathsam.io.label_store import LabelStore

OBJECTS = "objects"
"""The name of the label pyramid of objects."""
FILE = "class-of-objects.npy"
MOST_TOLD = 10_000
"""Objects whose colours and classes stand in NGFF's words, too; of more only in the file."""


def tell_class_of(
    objects: LabelStore, classes: ClassTable | None, class_of: Mapping[int, int]
) -> None:
    """Keep the class of each object in the file and, of few, in NGFF's words."""
    objects.describe(classes, class_of if len(class_of) <= MOST_TOLD else None)
    write_class_of(objects, *np.array([*class_of.items()], np.int64).reshape(-1, 2).T)


def write_class_of(
    objects: LabelStore, ids: NDArray[np.integer], classes: NDArray[np.integer]
) -> None:
    """Keep the class ids ``(n,)`` of objects ``(n,)``; 0: none."""
    with replacing(_path(objects.path)) as path, path.open("wb") as file:
        np.save(file, np.stack([ids, classes]).astype(np.int64))


def class_of_objects(container: str | os.PathLike[str]) -> dict[int, int] | None:
    """The class id of each object (0: none) of a container's objects; None: it is not known."""
    found = ids_and_classes(container)
    return None if found is None else dict(zip(*(part.tolist() for part in found), strict=True))


def ids_and_classes(
    container: str | os.PathLike[str],
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The same as arrays ``(n,)`` of ids and of class ids: of a million objects no dictionary."""
    path = _path(Path(container))
    if not path.exists():
        return None
    with reading(path, "the classes of objects"):
        ids, classes = np.load(path)
        return ids, classes


def first_classes(labels: NDArray[np.integer], classes: NDArray[np.integer]) -> NDArray[np.int64]:
    """``(2, n)``: the ids of a map of objects, and the class of the first pixel of each."""
    ids, at = np.unique(labels, return_index=True)
    return np.stack([ids, classes.ravel()[at]]).astype(np.int64)[:, ids > 0]


def joined(pieces: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """What is known of the pieces of a map as ``(2, n)``, each object once."""
    together = np.concatenate([np.zeros((2, 0), np.int64), *pieces], axis=1)
    return together[:, np.unique(together[0], return_index=True)[1]]


def _path(container: Path) -> Path:
    return container / "labels" / OBJECTS / FILE
