"""Annotations: the instance map, the class map and the objects in them, always in step.

Rules, kept by every edit made here:

- an object's pixels have the object's class in the class map: where ``instances != 0``,
  ``class_map == objects[instances].class_id``, and that is a class of the table;
- pixels without an object may have a class (painted on the class map) or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError, BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseArray, SparseLabels
from napari_pathsam.io.object_classes import OBJECTS
from napari_pathsam.workspace.edits import LabelEdit
from napari_pathsam.workspace.fields import MaskPrompt
from napari_pathsam.workspace.tallies import grown, span, tally, union, within

if TYPE_CHECKING:
    from napari_pathsam.io.hand_pyramids import HandPyramids

CLASSES = "classes"
TILE_PX = 512
LARGEST_WHOLE_PX = 16384
"""Up to this side labels are plain arrays, which a viewer shows as they are; above it sparse ones,
of which a viewer shows a window and an overview."""

LARGEST_OBJECT_PX = 4096**2
"""The box of an object that is read at once."""

LabelMap = NDArray[np.integer] | SparseLabels


@dataclass(frozen=True, slots=True)
class AcceptedObject:
    """One object of the instance map; ``box`` is its tight box in level-0 pixels."""

    id: int
    class_id: int
    area_px: int
    box: Region


class Annotations:
    """Label maps of an image, and what is known about their objects.

    The methods that end in ``-ing`` work out a :class:`LabelEdit` and change nothing (None: there
    is nothing to change); :meth:`apply` alone writes, forwards or backwards.

    Parameters
    ----------
    shape_yx
        Of the image; (0, 0) when none is open.
    pyramids
        Of a slide: where labels are kept beyond the memory. None: they stay in it.
    """

    def __init__(self, shape_yx: tuple[int, int], pyramids: HandPyramids | None = None) -> None:
        self.instances: LabelMap = _empty(shape_yx, np.int32, OBJECTS, pyramids)
        self.class_map: LabelMap = _empty(shape_yx, np.uint8, CLASSES, pyramids)
        self.pyramids = pyramids
        self._objects: dict[int, AcceptedObject] = {}
        self._class_px: Counter[int] = Counter()
        self._class_objects: Counter[int] = Counter()
        self._newest_id = 0
        self._touched: Region | None = None

    @property
    def objects(self) -> Mapping[int, AcceptedObject]:
        """By id."""
        return MappingProxyType(self._objects)

    @property
    def shape_yx(self) -> tuple[int, int]:
        return (int(self.instances.shape[0]), int(self.instances.shape[1]))

    @property
    def touched(self) -> Region | None:
        """The region outside of which nothing was ever labelled; None: nowhere."""
        return self._touched

    def class_px(self, class_id: int) -> int:
        """Pixels of a class."""
        return self._class_px[class_id]

    def class_objects(self, class_id: int) -> int:
        """Objects of a class."""
        return self._class_objects[class_id]

    def next_id(self) -> int:
        """An id no object has had."""
        return self._newest_id + 1

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
        """Write a mask, over a region inside the image, as this object.

        Pixels the object had before are its own no longer unless the mask has them; pixels of
        other objects are taken only with ``overwrite``.
        """
        if object_id in self._objects:
            mask, region = grown(mask, region, self._objects[object_id].box)
        instances, classes = self._crops(region)
        former = instances == object_id
        instances[former], classes[former] = 0, 0
        wanted = mask if overwrite else mask & (instances == 0)
        instances[wanted], classes[wanted] = object_id, class_id
        return self._edit(region, instances, classes)

    def adding(
        self, labels: NDArray[np.integer] | SparseArray, region: Region, class_id: int
    ) -> tuple[LabelEdit, ...]:
        """Every object of a label map, over a region inside the image, as a new one.

        Objects that are there keep their pixels; what they cover of the new ones is lost.
        """
        pieces = list(labels.pieces()) if isinstance(labels, SparseArray) else []
        edits, new = [], {0: 0}
        for piece in pieces or [Region.of(region.shape_yx)]:
            at = Region(region.y + piece.y, region.x + piece.x, *piece.shape_yx)
            instances, classes = self._crops(at)
            wanted = np.where(instances == 0, labels[piece.slices], 0)
            found, compact = np.unique(wanted, return_inverse=True)
            for i in found.tolist():
                new.setdefault(i, self._newest_id + len(new))
            ids = np.array([new[i] for i in found.tolist()], np.int32)
            free = wanted != 0
            instances[free] = ids[compact.reshape(wanted.shape)][free]
            classes[free] = class_id
            edits.append(self._edit(at, instances, classes))
        return tuple(edit for edit in edits if edit is not None)

    def deleting(self, object_id: int) -> tuple[LabelEdit, ...]:
        """An object goes, its class with it."""
        edits = []
        for at in self._parts(self[object_id].box):
            instances, classes = self._crops(at)
            own = instances == object_id
            instances[own], classes[own] = 0, 0
            edits.append(self._edit(at, instances, classes))
        return tuple(edit for edit in edits if edit is not None)

    def reclassing(self, object_id: int, class_id: int) -> tuple[LabelEdit, ...]:
        """An object gets another class."""
        edits = []
        for at in self._parts(self[object_id].box):
            instances, classes = self._crops(at)
            classes[instances == object_id] = class_id
            edits.append(self._edit(at, instances, classes))
        return tuple(edit for edit in edits if edit is not None)

    def clearing(self, class_id: int) -> tuple[LabelEdit, ...]:
        """All objects and pixels of a class go; an edit a tile."""
        edits = []
        for at in self._tiles() if self.class_px(class_id) else ():
            instances, classes = self._crops(at)
            cut = classes == class_id
            instances[cut], classes[cut] = 0, 0
            if edit := self._edit(at, instances, classes):
                edits.append(edit)
        return tuple(edits)

    def painting(
        self, rows: NDArray, cols: NDArray, ids: NDArray, new_class: int
    ) -> LabelEdit | None:
        """A stroke of object ids; an id without an object becomes one of ``new_class``."""
        at = span(rows, cols)
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
        at = span(rows, cols)
        instances, classes = self._crops(at)
        taken = instances != 0
        before = classes[taken]
        classes[rows - at.y, cols - at.x] = ids
        classes[taken] = before
        return self._edit(at, instances, classes)

    def replacing(
        self, region: Region, instances: NDArray[np.int32], classes: NDArray[np.uint8]
    ) -> LabelEdit | None:
        """All labels over a region become these, which must obey the rules."""
        return self._edit(region, instances, classes)

    def snapshot(self) -> Iterator[LabelEdit]:
        """Edits that make these labels out of empty ones, a tile each."""
        for at in self._tiles():
            after = self._crops(at)
            blank = (np.zeros_like(after[0]), np.zeros_like(after[1]))
            if edit := LabelEdit.between(at, blank, after):
                yield edit

    def save(self) -> Iterator[None]:
        """Bring to the pyramids what they do not have, a chunk with every step; BadFileError."""
        for labels in (self.instances, self.class_map):
            if isinstance(labels, SparseLabels):
                yield from labels.flush()

    def _tiles(self) -> list[Region]:
        """Where something is labelled, cut into tiles."""
        if isinstance(self.class_map, SparseLabels):
            return list(self.class_map.pieces())
        if self._touched is None:
            return []
        t, (height, width) = self._touched, self.shape_yx
        starts = ((t.y, t.y + t.height), (t.x, t.x + t.width))
        rows, cols = (range(low // TILE_PX * TILE_PX, high, TILE_PX) for low, high in starts)
        tile = TILE_PX
        return [
            Region(y, x, min(tile, height - y), min(tile, width - x)) for y in rows for x in cols
        ]

    def _parts(self, box: Region) -> list[Region]:
        """A box as what can be read at a time: pieces of one object may lie far apart."""
        if box.height * box.width <= LARGEST_OBJECT_PX or isinstance(self.instances, np.ndarray):
            return [box]
        return list(self.instances.pieces(box))

    def mask_prompt(self, object_id: int) -> MaskPrompt:
        """An object as a first mask."""
        box = self[object_id].box
        if box.height * box.width > LARGEST_OBJECT_PX:
            raise BadPromptError(
                f"Object {object_id} reaches over {box.height} × {box.width} pixels, which is too "
                "much to refine at once. Paint in it, or delete it and start again."
            )
        return MaskPrompt(self.instances[box.slices] == object_id, box)

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
        return np.array(self.instances[at.slices]), np.array(self.class_map[at.slices])

    def _edit(
        self, at: Region, instances: NDArray[np.int32], classes: NDArray[np.uint8]
    ) -> LabelEdit | None:
        before: Any = (self.instances[at.slices], self.class_map[at.slices])
        return LabelEdit.between(at, before, (instances, classes))

    # --- writing --------------------------------------------------------------------------------

    @contextmanager
    def holding(self, edits: Iterable[LabelEdit]) -> Iterator[None]:
        """In the block these can be applied whatever the disk does; BadFileError before it."""
        regions = [edit.region for edit in edits]
        with ExitStack() as held:
            for labels in (self.instances, self.class_map):
                if isinstance(labels, SparseLabels):
                    held.enter_context(labels.holding(regions))
            yield

    def apply(self, edit: LabelEdit, *, forward: bool = True) -> Region:
        """Write an edit, or take it back; the region it touches."""
        touched = [edit.region] if self._touched is None else [edit.region, self._touched]
        self._touched = union(touched)
        where = edit.where()
        rows, cols = np.nonzero(where)
        i0, i1, c0, c1 = edit.values(len(rows))
        if not forward:
            i0, i1, c0, c1 = i1, i0, c1, c0
        for array, after in ((self.instances, i1), (self.class_map, c1)):
            crop = array[edit.region.slices]
            crop[rows, cols] = after
            array[edit.region.slices] = crop
        for values, sign in ((c0, -1), (c1, 1)):
            for class_id, n in enumerate(np.bincount(values)):
                self._class_px[class_id] += sign * int(n)
        rows, cols = rows + edit.region.y, cols + edit.region.x
        self._recount(rows, cols, i0, i1, c1)
        return edit.region

    def _tight(self, object_id: int, box: Region) -> Region:
        """The tight box of an object somewhere in a box; too large where that cannot be read."""
        found = []
        for at in self._parts(box):
            try:
                own = self.instances[at.slices] == object_id
            except BadFileError:  # of labels far from the edit, which must not fail half-way
                found.append(at)
                continue
            if own.any():
                found.append(within(at, own))
        return union(found)

    def _recount(
        self, rows: NDArray, cols: NDArray, before: NDArray, after: NDArray, classes: NDArray
    ) -> None:
        """Bring the objects up to date with changed pixels."""
        lost = tally(before, rows, cols, classes)
        gained = tally(after, rows, cols, classes)
        for i in (lost.keys() | gained.keys()) - {0}:
            old = self._objects.get(i)
            area = (old.area_px if old else 0) - lost[i].n + gained[i].n
            if old is not None:
                self._class_objects[old.class_id] -= 1
            if area == 0:
                self._objects.pop(i, None)
                continue
            boxes = ([old.box] if old else []) + ([gained[i].box] if gained[i].n else [])
            box = union(boxes)
            if lost[i].n > 0:
                box = self._tight(i, box)
            class_id = gained[i].class_id if gained[i].n else self._objects[i].class_id
            self._objects[i] = AcceptedObject(i, class_id, area, box)
            self._class_objects[class_id] += 1
            self._newest_id = max(self._newest_id, i)


def _empty(
    shape_yx: tuple[int, int], dtype: type[np.integer], name: str, pyramids: HandPyramids | None
) -> LabelMap:
    if max(shape_yx) <= LARGEST_WHOLE_PX:
        return np.zeros(shape_yx, dtype)
    return SparseLabels(shape_yx, dtype, None if pyramids is None else pyramids.disks(name, dtype))
