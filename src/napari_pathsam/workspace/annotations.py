"""Annotations: the instance map, the class map and the objects in them, always in step.

Rules, kept by every edit made here:

- an object's pixels have the object's class in the class map: where ``instances != 0``,
  ``class_map == objects[instances].class_id``, and that is a class of the table;
- pixels without an object may have a class (painted on the class map) or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.edits import LabelEdit
from napari_pathsam.workspace.fields import MaskPrompt

TILE_PX = 512


@dataclass(frozen=True)
class AcceptedObject:
    """One object of the instance map; ``box`` is its tight box in level-0 pixels."""

    id: int
    class_id: int
    area_px: int
    box: Region


class Annotations:
    """Label maps over a window of the image, and what is known about their objects.

    The methods that end in ``-ing`` work out a :class:`LabelEdit` and change nothing (None: there
    is nothing to change); :meth:`apply` alone writes, forwards or backwards.

    Parameters
    ----------
    shape_yx
        Size of the window; (0, 0) when no image is open.
    origin_yx
        Level-0 pixel of its upper left.
    """

    def __init__(self, shape_yx: tuple[int, int], origin_yx: tuple[int, int] = (0, 0)) -> None:
        self.instances: NDArray[np.int32] = np.zeros(shape_yx, np.int32)
        self.class_map: NDArray[np.uint8] = np.zeros(shape_yx, np.uint8)
        self.origin_yx = origin_yx
        self._objects: dict[int, AcceptedObject] = {}
        self._class_px: Counter[int] = Counter()
        self._newest_id = 0
        self._touched: Region | None = None

    @property
    def objects(self) -> Mapping[int, AcceptedObject]:
        """By id."""
        return MappingProxyType(self._objects)

    @property
    def window(self) -> Region:
        """The level-0 pixels the maps cover."""
        return Region(*self.origin_yx, *self.instances.shape)

    @property
    def touched(self) -> Region | None:
        """Array pixels outside of which nothing was ever labelled; None: nowhere."""
        return self._touched

    def class_px(self, class_id: int) -> int:
        """Pixels of a class."""
        return self._class_px[class_id]

    def next_id(self) -> int:
        """An id no object has had."""
        return self._newest_id + 1

    def to_array(self, region: Region) -> Region:
        """A level-0 region in array pixels."""
        return Region(region.y - self.origin_yx[0], region.x - self.origin_yx[1], *region.shape_yx)

    def to_level0(self, region: Region) -> Region:
        """A region of the arrays in level-0 pixels."""
        return Region(region.y + self.origin_yx[0], region.x + self.origin_yx[1], *region.shape_yx)

    # --- working edits out ----------------------------------------------------------------------

    def accepting(
        self,
        mask: NDArray[np.bool_],
        region: Region,
        object_id: int,
        class_id: int,
        *,
        overwrite: bool,
    ) -> LabelEdit | None:
        """Write a mask, over a level-0 region inside the window, as this object.

        Pixels the object had before are its own no longer unless the mask has them; pixels of
        other objects are taken only with ``overwrite``.
        """
        if object_id in self._objects:
            mask, region = _grown(mask, region, self._objects[object_id].box)
        at = self.to_array(region)
        instances, classes = self._crops(at)
        former = instances == object_id
        instances[former], classes[former] = 0, 0
        wanted = mask if overwrite else mask & (instances == 0)
        instances[wanted], classes[wanted] = object_id, class_id
        return self._edit(at, instances, classes)

    def adding(
        self, labels: NDArray[np.integer], region: Region, class_id: int
    ) -> LabelEdit | None:
        """Every object of a label map, over a level-0 region inside the window, as a new one.

        Objects that are there keep their pixels; what they cover of the new ones is lost.
        """
        at = self.to_array(region)
        instances, classes = self._crops(at)
        wanted = np.where(instances == 0, labels, 0)
        found, compact = np.unique(wanted, return_inverse=True)
        new = np.arange(len(found)) - int(found[0] == 0) + self.next_id()
        free = wanted != 0
        instances[free] = new[compact.reshape(wanted.shape)][free]
        classes[free] = class_id
        return self._edit(at, instances, classes)

    def deleting(self, object_id: int) -> LabelEdit | None:
        """An object goes, its class with it."""
        at = self.to_array(self[object_id].box)
        instances, classes = self._crops(at)
        own = instances == object_id
        instances[own], classes[own] = 0, 0
        return self._edit(at, instances, classes)

    def reclassing(self, object_id: int, class_id: int) -> LabelEdit | None:
        """An object gets another class."""
        at = self.to_array(self[object_id].box)
        instances, classes = self._crops(at)
        classes[instances == object_id] = class_id
        return self._edit(at, instances, classes)

    def clearing(self, class_id: int) -> LabelEdit | None:
        """All objects and pixels of a class go."""
        if self._touched is None or not self.class_px(class_id):
            return None
        gone = self.class_map[self._touched.slices] == class_id
        at = _within(self._touched, gone)
        instances, classes = self._crops(at)
        cut = classes == class_id
        instances[cut], classes[cut] = 0, 0
        return self._edit(at, instances, classes)

    def painting(
        self, rows: NDArray, cols: NDArray, ids: NDArray, new_class: int
    ) -> LabelEdit | None:
        """A stroke of object ids; an id without an object becomes one of ``new_class``."""
        at = _span(rows, cols)
        instances, classes = self._crops(at)
        rows, cols = rows - at.y, cols - at.x
        before = instances[rows, cols]
        instances[rows, cols] = ids
        now = instances[rows, cols]
        painted = now != before
        unique, which = np.unique(now, return_inverse=True)
        of = [0 if i == 0 else self._class_of(int(i), new_class) for i in unique]
        colours = np.array(of, np.uint8)[which]
        classes[rows[painted], cols[painted]] = colours[painted]
        return self._edit(at, instances, classes)

    def colouring(self, rows: NDArray, cols: NDArray, ids: NDArray) -> LabelEdit | None:
        """A stroke of class ids; pixels of objects keep the class of their object."""
        at = _span(rows, cols)
        instances, classes = self._crops(at)
        taken = instances != 0
        before = classes[taken]
        classes[rows - at.y, cols - at.x] = ids
        classes[taken] = before
        return self._edit(at, instances, classes)

    def replacing(
        self, instances: NDArray[np.int32], classes: NDArray[np.uint8]
    ) -> LabelEdit | None:
        """All labels become these, which must obey the rules."""
        return self._edit(Region.of(self.instances.shape), instances, classes)

    def snapshot(self) -> tuple[LabelEdit, ...]:
        """Edits that make these labels out of empty ones, a tile each."""
        edits = []
        height, width = self.instances.shape
        for y in range(0, height, TILE_PX):
            for x in range(0, width, TILE_PX):
                at = Region(y, x, min(TILE_PX, height - y), min(TILE_PX, width - x))
                if self._touched is None or at.intersection(self._touched) is None:
                    continue
                after = (self.instances[at.slices], self.class_map[at.slices])
                blank = (np.zeros_like(after[0]), np.zeros_like(after[1]))
                if edit := LabelEdit.between(at, blank, after):
                    edits.append(edit)
        return tuple(edits)

    def mask_prompt(self, object_id: int) -> MaskPrompt:
        """An object as a first mask."""
        box = self[object_id].box
        return MaskPrompt(self.instances[self.to_array(box).slices] == object_id, box)

    def __getitem__(self, object_id: int) -> AcceptedObject:
        if object_id not in self._objects:
            raise BadPromptError(
                f"There is no object {object_id} any more; "
                f"there are {len(self._objects)} objects. Click on one of them."
            )
        return self._objects[object_id]

    def _class_of(self, object_id: int, otherwise: int) -> int:
        found = self._objects.get(object_id)
        return found.class_id if found else otherwise

    def _crops(self, at: Region) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        return self.instances[at.slices].copy(), self.class_map[at.slices].copy()

    def _edit(
        self, at: Region, instances: NDArray[np.int32], classes: NDArray[np.uint8]
    ) -> LabelEdit | None:
        before = (self.instances[at.slices], self.class_map[at.slices])
        return LabelEdit.between(at, before, (instances, classes))

    # --- writing --------------------------------------------------------------------------------

    def apply(self, edit: LabelEdit, *, forward: bool = True) -> Region:
        """Write an edit, or take it back; the level-0 region it touches."""
        touched = [edit.region] if self._touched is None else [edit.region, self._touched]
        self._touched = _union(touched)
        where = edit.where()
        rows, cols = np.nonzero(where)
        i0, i1, c0, c1 = edit.values(len(rows))
        if not forward:
            i0, i1, c0, c1 = i1, i0, c1, c0
        self.instances[edit.region.slices][rows, cols] = i1
        self.class_map[edit.region.slices][rows, cols] = c1
        for values, sign in ((c0, -1), (c1, 1)):
            for class_id, n in enumerate(np.bincount(values)):
                self._class_px[class_id] += sign * int(n)
        rows, cols = rows + edit.region.y, cols + edit.region.x
        self._recount(rows, cols, i0, i1, c1)
        return self.to_level0(edit.region)

    def _recount(
        self, rows: NDArray, cols: NDArray, before: NDArray, after: NDArray, classes: NDArray
    ) -> None:
        """Bring the objects up to date with changed pixels."""
        lost = _tally(before, rows, cols, classes)
        gained = _tally(after, rows, cols, classes)
        for i in (lost.keys() | gained.keys()) - {0}:
            old = self._objects.get(i)
            area = (old.area_px if old else 0) - lost[i].n + gained[i].n
            if area == 0:
                self._objects.pop(i, None)
                continue
            boxes = ([self.to_array(old.box)] if old else []) + (
                [gained[i].box] if gained[i].n else []
            )
            box = _union(boxes)
            if lost[i].n > 0:
                box = _within(box, self.instances[box.slices] == i)
            class_id = gained[i].class_id if gained[i].n else self._objects[i].class_id
            self._objects[i] = AcceptedObject(i, class_id, area, self.to_level0(box))
            self._newest_id = max(self._newest_id, i)


@dataclass(frozen=True)
class _Tally:
    """The changed pixels of one id: how many, where, and the class of the first."""

    n: int
    box: Region
    class_id: int


class _Tallies(dict[int, _Tally]):
    def __missing__(self, key: int) -> _Tally:
        return _Tally(0, Region(0, 0, 1, 1), 0)


def _tally(ids: NDArray, rows: NDArray, cols: NDArray, classes: NDArray) -> _Tallies:
    """Count changed pixels by id in one sort, however many ids there are."""
    if (ids == ids[0]).all():
        box = _span(rows, cols)
        return _Tallies({int(ids[0]): _Tally(len(ids), box, int(classes[0]))})
    order = np.argsort(ids, kind="stable")
    ids, rows, cols, classes = ids[order], rows[order], cols[order], classes[order]
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    counts = np.diff(np.append(first, len(ids)))
    y0, y1 = np.minimum.reduceat(rows, first), np.maximum.reduceat(rows, first)
    x0, x1 = np.minimum.reduceat(cols, first), np.maximum.reduceat(cols, first)
    return _Tallies(
        {
            int(ids[at]): _Tally(
                int(counts[k]),
                Region(int(y0[k]), int(x0[k]), int(y1[k] - y0[k]) + 1, int(x1[k] - x0[k]) + 1),
                int(classes[at]),
            )
            for k, at in enumerate(first)
        }
    )


def _span(rows: NDArray, cols: NDArray) -> Region:
    y, x = int(rows.min()), int(cols.min())
    return Region(y, x, int(rows.max()) - y + 1, int(cols.max()) - x + 1)


def _bounds(mask: NDArray[np.bool_]) -> Region | None:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return Region(
        int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1
    )


def _within(region: Region, mask: NDArray[np.bool_]) -> Region:
    """The tight box of a mask that lies at ``region``."""
    tight = _bounds(mask)
    if tight is None:
        return region
    return Region(region.y + tight.y, region.x + tight.x, *tight.shape_yx)


def _union(boxes: list[Region]) -> Region:
    y, x = min(b.y for b in boxes), min(b.x for b in boxes)
    y1, x1 = max(b.y + b.height for b in boxes), max(b.x + b.width for b in boxes)
    return Region(y, x, y1 - y, x1 - x)


def _grown(
    mask: NDArray[np.bool_], region: Region, box: Region
) -> tuple[NDArray[np.bool_], Region]:
    """A mask on the region that covers a box as well."""
    whole = _union([region, box])
    grown = np.zeros(whole.shape_yx, bool)
    y, x = region.y - whole.y, region.x - whole.x
    grown[y : y + region.height, x : x + region.width] = mask
    return grown, whole
