"""Ids that nobody named: classes, or objects that are all of one class; decided from the pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.classes import DEFAULT_NAME, ClassTable

OBJECTS_CLASS = "objects"
"""The class of all objects that name no classes."""
FEWEST_OBJECTS = 5
"""So many ids there are at least where ids are taken for objects unasked."""
MOST_CLASSES = 20
"""Ids above this, in one piece each, are no classes, even if most numbers below are missing."""
LAST_CLASS = 254
CRUMBS = 1.5
"""So many pieces an object has at most, on average; of a class one paints more."""
MOST_OF = 0.8
LOOKED_AT_PX = 1024


@dataclass(frozen=True)
class Ids:
    """The ids of a label image, in so many pieces; of a large one its middle's, and the largest."""

    ids: frozenset[int]
    n_pieces: int

    @classmethod
    def of(cls, array: NDArray[np.integer]) -> Ids:
        """0 and “unsure” are none."""
        from skimage.measure import label

        middle = tuple(
            slice(max(0, (n - LOOKED_AT_PX) // 2), (n + LOOKED_AT_PX) // 2) for n in array.shape
        )
        part = np.where(array[middle] == UNSURE, 0, array[middle])
        _, n_pieces = label(part, background=0, connectivity=2, return_num=True)
        ids = {int(i) for i in np.unique(part)} | {int(array.max(initial=0))}
        return cls(frozenset(ids - {0, UNSURE}), int(n_pieces))

    @property
    def counted(self) -> bool:
        """Whether its ids are 1, 2, 3 …, nearly without a gap."""
        return len(self.ids) >= MOST_OF * max(self.ids, default=0)


def all_ids(found: Iterable[Ids]) -> frozenset[int]:
    """The ids of several label images."""
    return frozenset().union(*(each.ids for each in found))


def are_objects(found: Sequence[Ids]) -> bool:
    """Whether the ids of label images that belong together number objects.

    Each is in one piece then, and in every image they are counted anew; a class has several pieces,
    and where it has not, the same ids are in every image, or some are missing.
    """
    ids, n = all_ids(found), sum(len(each.ids) for each in found)
    if max(ids, default=0) > LAST_CLASS:
        return True
    if len(ids) < FEWEST_OBJECTS or sum(each.n_pieces for each in found) > CRUMBS * n:
        return False
    if len(found) > 2 and len({each.ids for each in found}) == 1:
        return False
    counted = sum(each.counted for each in found)
    return max(ids) > MOST_CLASSES or counted >= MOST_OF * len(found)


def may_be_objects(found: Sequence[Ids]) -> bool:
    """Whether a person is to be asked; two ids are classes, unless each is in one piece."""
    n = len(all_ids(found))
    return n > 2 or (n == 2 and sum(each.n_pieces for each in found) <= 2 * len(found))


def as_one_class(array: NDArray[np.integer], classes: ClassTable) -> NDArray[np.uint8]:
    """Every object as :data:`OBJECTS_CLASS`, under whatever name that has by now."""
    return np.where(array != 0, classes.find(OBJECTS_CLASS) or 0, 0).astype(np.uint8)


def without_unnamed(classes: ClassTable, ids: Iterable[int]) -> ClassTable:
    """The table without those of these classes that nobody has named yet."""
    gone = set(ids)
    left = (c for c in classes if c.id not in gone or not DEFAULT_NAME.fullmatch(c.name))
    return ClassTable(classes=tuple(left))
