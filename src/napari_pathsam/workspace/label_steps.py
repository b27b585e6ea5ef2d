"""What can be done to the labels, as steps."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_pathsam.core.classes import PALETTE, ClassInfo, ClassTable
from napari_pathsam.core.errors import BadFileError, BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseArray
from napari_pathsam.workspace.annotations import Annotations
from napari_pathsam.workspace.candidate import Answer
from napari_pathsam.workspace.history import PromptState, Step

Kind = Literal["instances", "classes"]


def accepting(
    annotations: Annotations,
    answer: Answer,
    state: PromptState,
    class_id: int,
    *,
    overwrite: bool,
) -> tuple[int, Step]:
    """The candidate becomes an object (refining: that one again), the prompts are used up."""
    assert answer.candidate is not None
    region = answer.candidate.region.intersection(Region.of(annotations.shape_yx))
    if region is None:
        raise BadPromptError("The object lies outside the image. Reject it and click again.")
    mask = answer.mask_over(region)
    refined = state.refining if state.refining in annotations.objects else None
    object_id = refined or annotations.next_id()
    edit = annotations.accepting(mask, region, object_id, class_id, overwrite=overwrite)
    if edit is None and refined is None:
        raise BadPromptError(
            "Other objects cover all of this one, and they are kept. Accept with the overwrite "
            "key held to take their pixels, or refine the object that is there."
        )
    text = f"Refine object {object_id}" if refined else "Accept object"
    return object_id, Step(text, (edit,) if edit else (), prompts=(state, PromptState()))


def accepting_many(
    annotations: Annotations,
    labels: NDArray[np.integer] | SparseArray,
    region: Region,
    class_id: int,
) -> tuple[int, Step]:
    """Every object of a label map over a level-0 region, in one step; and how many those are."""
    inside = region.intersection(Region.of(annotations.shape_yx))
    if inside is not None:
        if inside != region:
            at = Region(inside.y - region.y, inside.x - region.x, *inside.shape_yx)
            labels = labels[at.slices]
        edits = annotations.adding(labels, inside, class_id)
        if edits:
            ids = [np.unique(edit.values(int(edit.where().sum()))[1]) for edit in edits]
            n = len(np.unique(np.concatenate(ids)))
            return n, Step(f"Accept {n} objects" if n != 1 else "Accept object", edits)
    raise BadPromptError(
        "None of these objects can be added: other objects cover all of them, or they lie outside "
        "the image."
    )


def stroke(
    annotations: Annotations,
    table: ClassTable,
    active_class: int,
    kind: Kind,
    indices: tuple[NDArray[np.integer], ...],
    old: ArrayLike,
    new: ArrayLike,
) -> Step | None:
    """A stroke as a step; the array holds the old values again when this returns or raises.

    (Nobody paints in a sparse one: viewers paint in a copy of a part of it.)
    """
    array = annotations.instances if kind == "instances" else annotations.class_map
    rows, cols = _checked(indices, array.shape)
    if not rows.size:
        return None
    before = np.broadcast_to(np.asarray(old), rows.shape)
    after = np.broadcast_to(np.asarray(new), rows.shape).copy()
    if isinstance(array, np.ndarray):
        # Of pixels a stroke goes over twice, the first old value is the one to come back to: it
        # must be written last. Copies, because numpy turns an index of negative stride round.
        array[rows[::-1].copy(), cols[::-1].copy()] = before[::-1].copy()
    lowest, highest = int(after.min()), int(after.max())
    if kind == "instances":
        if lowest < 0 or highest > np.iinfo(np.int32).max:
            raise BadPromptError(
                f"Objects have ids from 1 to {np.iinfo(np.int32).max}; the brush is set to "
                f"{lowest if lowest < 0 else highest}. The stroke was taken back; "
                "set the brush to an id in this range."
            )
        edit = annotations.painting(rows, cols, after, active_class)
        return Step("Erase" if highest == 0 else "Paint", (edit,)) if edit else None
    if lowest < 0 or highest > 254:
        raise BadPromptError(
            f"Classes have ids from 1 to 254; the brush is set to "
            f"{lowest if lowest < 0 else highest}. The stroke was taken back; set the brush to a "
            "class of the table."
        )
    edit = annotations.colouring(rows, cols, after)
    if edit is None:
        return None
    more = _with_ids(table, {int(i) for i in np.unique(after)})
    return Step(
        "Erase class" if highest == 0 else "Paint class",
        (edit,),
        (table, more) if more != table else None,
    )


def stroked(annotations: Annotations, indices: tuple[NDArray[np.integer], ...]) -> Region | None:
    """The level-0 region a stroke went over, as far as the labels go."""
    if len(indices) != 2 or not np.size(indices[0]):
        return None
    (y0, y1), (x0, x1) = ((int(np.min(i)), int(np.max(i))) for i in indices)
    whole = Region(y0, x0, y1 - y0 + 1, x1 - x0 + 1)
    return whole.intersection(Region.of(annotations.shape_yx))


def _checked(
    indices: tuple[NDArray[np.integer], ...], shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a stroke, inside the array."""
    if len(indices) != 2:
        raise BadPromptError(
            f"A stroke in {len(indices)} dimensions came; labels have rows and columns. "
            "Paint in 2D display with the brush set to 2 dimensions."
        )
    rows, cols = (np.atleast_1d(np.asarray(i)).astype(np.intp).ravel() for i in indices)
    if rows.size and (
        rows.min() < 0 or cols.min() < 0 or rows.max() >= shape[0] or cols.max() >= shape[1]
    ):
        raise BadPromptError(
            f"A stroke reaches beyond the labels, which have {shape[0]} rows and {shape[1]} "
            "columns. Was the labels layer replaced by one of another shape?"
        )
    return rows, cols


def _with_ids(table: ClassTable, ids: set[int]) -> ClassTable:
    """The table, with a class for every id that has none."""
    taken, names = {info.id for info in table}, set(table.names)
    added = []
    for i in sorted(ids - taken - {0}):
        name = f"class {i}"
        while name in names:
            name += "'"
        names.add(name)
        added.append(ClassInfo(id=i, name=name, color=PALETTE[(i - 1) % len(PALETTE)]))
    return ClassTable(classes=tuple(sorted((*table, *added), key=lambda info: info.id)))


def importing(
    annotations: Annotations,
    table: ClassTable,
    active_class: int,
    instances: NDArray[np.integer],
    class_map: NDArray[np.integer],
    classes: ClassTable | None,
    region: Region | None,
) -> Step | None:
    """All labels of a region become those of a file, made to obey the rules.

    Its classes meet ours by name.

    An object gets the class that most of its pixels have; the active one where they have none.
    """
    region = region or Region.of(annotations.shape_yx)
    shape = region.shape_yx
    for what, array in (("instances", instances), ("classes", class_map)):
        if array.shape != shape or not np.issubdtype(array.dtype, np.integer):
            raise BadFileError(
                f"The map of {what} has the shape {array.shape} and type {array.dtype}; the "
                f"labels of this image are whole numbers of shape {shape}. Open the image that "
                "the labels belong to."
            )
        if array.size and (array.min() < 0 or int(array.max()) > 2**31 - 1):
            raise BadFileError(f"The map of {what} has ids that are negative or above 2³¹ - 1.")
    if class_map.size and class_map.max() > 254:
        raise BadFileError(f"Class ids go up to 254; {int(class_map.max())} came.")
    table_after, ids = _merged(table, classes, {int(i) for i in np.unique(class_map)})
    coloured = ids[class_map]
    labels = np.ascontiguousarray(instances, np.int32)
    inside = labels != 0
    if inside.any():
        objects, which = np.unique(labels[inside], return_inverse=True)
        votes = np.bincount(which * 256 + coloured[inside], minlength=len(objects) * 256)
        votes = votes.reshape(-1, 256)
        votes[:, 0] = 0
        winners = np.where(votes.any(axis=1), votes.argmax(axis=1), active_class)
        coloured[inside] = winners.astype(np.uint8)[which]
    edit = annotations.replacing(region, labels, coloured)
    if edit is None and table_after == table:
        return None
    return Step(
        "Import labels",
        (edit,) if edit else (),
        (table, table_after) if table_after != table else None,
    )


def _merged(
    table: ClassTable, other: ClassTable | None, used: set[int]
) -> tuple[ClassTable, NDArray[np.uint8]]:
    """Our table with the other's classes, and a lookup from the other's ids to ours."""
    ids = np.arange(256, dtype=np.uint8)
    if other is None:
        return _with_ids(table, used), ids
    other = _with_ids(other, used)
    for info in other:
        if info.name not in table.names:
            same_id = info.id in {mine.id for mine in table}
            table = (
                table.with_class(info.name, info.color)
                if same_id
                else ClassTable(classes=tuple(sorted((*table, info), key=lambda c: c.id)))
            )
        ids[info.id] = table.id_of(info.name)
    return table, ids
