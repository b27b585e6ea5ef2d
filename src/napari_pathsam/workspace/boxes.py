"""Many boxes at once: which fields hold them, and the objects in them.

A field is encoded once for all boxes in it, and these are decoded together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Box, Prompts
from napari_pathsam.core.sparse_labels import SparseArray
from napari_pathsam.workspace.annotations import LARGEST_OBJECT_PX
from napari_pathsam.workspace.candidate import Answer, offer
from napari_pathsam.workspace.encoding import Cache, field_embedding, nowhere
from napari_pathsam.workspace.fields import Field, ImageSource, choose_field

SEEN_PX = 160
"""Field pixels a box of middling size is long: most objects the small model learnt from are."""
MARGIN = 0.25
"""Of a box's longer side: so much of the field there must be round it, if the image has it."""
TOGETHER = 32
"""Boxes in one call; each answer is as large as the field."""


@dataclass(frozen=True)
class BoxField:
    """A field, and the boxes answered from it: places in the list, and level-0 boxes."""

    field: Field
    places: tuple[int, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Found:
    """Answers of one call: places in the list of boxes, and what was found there."""

    places: tuple[int, ...]
    answers: tuple[Answer, ...]


def fields_of(
    boxes: Sequence[Box], shape_yx: tuple[int, int], mpp: float | None, config: Any
) -> list[BoxField]:
    """Fields that hold each box whole, once, as large as a middling box allows.

    ``config`` says ``field_px`` and ``mpp_range``. A box too large for such a field gets one of
    its own, at a coarser resolution. Boxes are clipped to the image; none may lie outside it.
    """
    height, width = shape_yx
    clipped = [
        (max(y0, 0.0), max(x0, 0.0), min(y1, float(height)), min(x1, float(width)))
        for y0, x0, y1, x1 in boxes
    ]
    longest = [max(y1 - y0, x1 - x0) for y0, x0, y1, x1 in clipped]
    scale = min(1.0, SEEN_PX / max(float(np.median(longest)), 1.0))
    waiting = sorted(range(len(boxes)), key=lambda i: (-longest[i], clipped[i]))
    found = []
    while waiting:
        around = _around(clipped[waiting[0]], 0.0, shape_yx)
        y0, x0, y1, x1 = clipped[waiting[0]]
        field = choose_field(
            shape_yx, around, view_px_per_px=scale, mpp=mpp, mpp_range=config.mpp_range,
            field_px=config.field_px, at_yx=((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2),
        )  # fmt: skip
        inside = [waiting[0]] + [
            i for i in waiting[1:] if _holds(field.region, _around(clipped[i], MARGIN, shape_yx))
        ]
        found.append(BoxField(field, tuple(inside), tuple(clipped[i] for i in inside)))
        waiting = [i for i in waiting if i not in set(inside)]
    return found


def answers_to(
    model: Any,
    model_name: str,
    source: ImageSource,
    fields: Sequence[BoxField],
    mpp: float | None,
    cache: Cache = nowhere,
) -> Iterator[Found]:
    """Encode each field and decode its boxes, some at a time; closing it stops."""
    for one in fields:
        field = one.field
        embedding, _ = field_embedding(model, source.read, source.shape_yx, field, mpp, cache)
        for start in range(0, len(one.boxes), TOGETHER):
            some = slice(start, start + TOGETHER)
            prompts = [field.prompts_seen(Prompts(box=box)) for box in one.boxes[some]]
            masks = model.decode_many(embedding, prompts)
            yield Found(
                one.places[some],
                tuple(Answer(m, field, model_name, offer(m, field)) for m in masks),
            )


def as_labels(
    answers: Sequence[Answer], window: Region
) -> tuple[NDArray[np.int32] | SparseArray, Region] | None:
    """A label map of what was found and the level-0 region it covers; None: nothing was.

    Where objects overlap, the one with the higher predicted IoU keeps the pixels. What lies outside
    ``window`` is left out. Where objects lie far apart the map is a sparse one.
    """
    objects: list[tuple[float, Region, Answer]] = []
    for answer in answers:
        if answer.candidate is None:
            continue
        if (region := answer.candidate.region.intersection(window)) is not None:
            objects.append((answer.candidate.score, region, answer))
    if not objects:
        return None
    y, x = min(r.y for _, r, _ in objects), min(r.x for _, r, _ in objects)
    bottom = max(r.y + r.height for _, r, _ in objects)
    right = max(r.x + r.width for _, r, _ in objects)
    shape = (bottom - y, right - x)
    dense = shape[0] * shape[1] <= LARGEST_OBJECT_PX
    labels = np.zeros(shape, np.int32) if dense else SparseArray(shape, np.int32)
    for n, (_, region, answer) in enumerate(sorted(objects, key=lambda o: -o[0]), start=1):
        within = Region(region.y - y, region.x - x, *region.shape_yx).slices
        at = labels[within]
        at[answer.mask_over(region) & (at == 0)] = n
        labels[within] = at
    return labels, Region(y, x, bottom - y, right - x)


def _around(box: Box, margin: float, shape_yx: tuple[int, int]) -> Region:
    """A box and a margin, as far as the image goes."""
    y0, x0, y1, x1 = box
    more = margin * max(y1 - y0, x1 - x0)
    top, left = int(max(y0 - more, 0)), int(max(x0 - more, 0))
    bottom = min(int(np.ceil(y1 + more)), shape_yx[0])
    right = min(int(np.ceil(x1 + more)), shape_yx[1])
    return Region(top, left, max(bottom - top, 1), max(right - left, 1))


def _holds(outer: Region, inner: Region) -> bool:
    return outer.intersection(inner) == inner
