"""How well objects are found that a field's border cuts: every field of an image, every object.

A field's objects are asked for by a click on, and by a box round, the part of them that it shows;
the answer is compared with that part. Nothing is drawn by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.prompts import Prompts, innermost_point, tight_box
from napari_pathsam.inference.simulation import mask_iou
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.promptable import Promptable
from napari_pathsam.models.wsi_sam import WsiSam
from napari_pathsam.models.wsi_sam_fields import OUTSIDE
from napari_pathsam.training.wsi_data import FieldPair, pair_of, wide_px
from napari_pathsam.training.wsi_scenes import ImageScene


@dataclass(frozen=True)
class FieldScore:
    """One object in one field: ``cut`` by its border, ``hidden`` is the share of it outside."""

    image: str
    group: str
    field: tuple[int, int]
    index: int
    cut: bool
    hidden: float
    iou_click: float
    iou_box: float


def fields_of(
    scene: ImageScene, side: int, factor: float
) -> Iterator[tuple[tuple[int, int], FieldPair]]:
    """Fields all over an image, by their upper left corner.

    They begin where half of the margin of the surroundings is in the image, and are spread evenly.
    """
    seen = scene.whole
    wide = wide_px(side, factor)
    margin = (wide - side) // 2
    starts = [_starts(n, side, margin) for n in seen.image.shape[:2]]
    for y in starts[0]:
        for x in starts[1]:
            at = (y - margin, x - margin)
            yield (
                (y, x),
                pair_of(
                    _window(seen.image, at, wide, OUTSIDE),
                    _window(seen.objects, at, wide, 0),
                    _window(seen.known, at, wide, False),
                    side,
                ),
            )


def score_fields(
    model: Promptable,
    scenes: Sequence[ImageScene],
    *,
    side: int,
    factor: float,
    smallest_px: int,
    surroundings: bool = True,
) -> Iterator[FieldScore]:
    """One score an object, field by field; ``surroundings`` False hides them from a WSI-SAM."""
    for scene in scenes:
        areas = np.bincount(scene.whole.objects.ravel())
        for corner, pair in fields_of(scene, side, factor):
            cut, whole = pair.seen(smallest_px)
            ids = [*cut, *whole]
            if not ids:
                continue
            targets = [pair.target(i) for i in ids]
            asked = [Prompts().with_point(*innermost_point(t)) for t in targets]
            asked += [Prompts(box=tight_box(t)) for t in targets]
            embedding = encoded(model, pair, surroundings=surroundings)
            answers = [a.mask for a in model.decode_many(embedding, asked, whole=True)]
            ious = [mask_iou(a, t) for a, t in zip(answers, targets * 2, strict=True)]
            for n, (index, target) in enumerate(zip(ids, targets, strict=True)):
                hidden = 1 - np.count_nonzero(target) / areas[index]
                yield FieldScore(
                    scene.name, scene.group, corner, index, index in cut, float(hidden),
                    ious[n], ious[n + len(ids)],
                )  # fmt: skip


def encoded(model: Promptable, pair: FieldPair, *, surroundings: bool = True) -> ImageEmbedding:
    """A field's embedding, with its surroundings where the model looks at them."""
    if isinstance(model, WsiSam):
        return model.encode(pair.high, surroundings=pair.low if surroundings else None)
    return model.encode(pair.high)


def _starts(n: int, side: int, margin: int) -> list[int]:
    """Where fields begin along an axis of ``n`` pixels."""
    room = max(n - side, 0)
    first = min(margin, room // 2) // 2
    last = room - first
    return [round(v) for v in np.linspace(first, last, 1 + ceil((last - first) / side))]


def _window(values: NDArray, corner: tuple[int, int], side: int, fill: float) -> NDArray:
    """A square of an array that may reach beyond it."""
    out = np.full((side, side, *values.shape[2:]), fill, values.dtype)
    inside, there = [], []
    for start, n in zip(corner, values.shape[:2], strict=True):
        low, high = max(start, 0), max(min(start + side, n), max(start, 0))
        inside.append(slice(low, high))
        there.append(slice(low - start, high - start))
    out[tuple(there)] = values[tuple(inside)]
    return out
