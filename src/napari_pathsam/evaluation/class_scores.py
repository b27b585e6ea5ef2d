"""What a class map of one image scored, and what the scores of many come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core import metrics
from napari_pathsam.core.boundary_metrics import BoundaryCounts, boundary_f1
from napari_pathsam.core.object_metrics import (
    ObjectCounts,
    mean_over_images,
    object_dice,
    object_f1,
    object_hausdorff,
)

PixelSize = Literal["given", "nominal", "model"]
"""Whose pixel size was taken: the image's, the data set's estimate, the model's own."""


@dataclass(frozen=True)
class TileAnswer:
    """A homogeneous tile: the position of its class, and of the one found on most of it."""

    target: int
    found: int


@dataclass(frozen=True)
class ClassScore:
    """One image's counts; ``done`` of ``total`` images are finished.

    Attributes
    ----------
    names
        ``("background", first class, …)``: what the positions stand for.
    counts
        ``(K + 1, K + 1)`` pixels, ``[label, prediction]``, background first.
    objects
        Of instance labels only.
    boundary
        None for homogeneous tiles, which have none.
    tile
        Of homogeneous tiles only.
    mpp, pixel_size
        Microns per pixel that were taken for the image, and whose they are.
    """

    name: str
    group: str
    done: int
    total: int
    names: tuple[str, ...]
    counts: metrics.Counts
    objects: ObjectCounts | None
    boundary: BoundaryCounts | None
    tile: TileAnswer | None
    mpp: float
    pixel_size: PixelSize
    seconds: float


def class_metrics(scores: Sequence[ClassScore]) -> dict[str, Any]:
    """The figures of a report, from counts pooled over the images of one run.

    ``dice``, ``iou``, ``precision`` and ``recall`` are of the foreground: any class against none.
    ``mean_dice`` and ``mean_iou`` are means over the classes that are in the labels or were
    predicted. NaN where nothing could be measured.
    """
    names = scores[0].names if scores else ("background",)
    empty = np.zeros((len(names), len(names)), np.int64)
    counts: metrics.Counts = sum((s.counts for s in scores), empty)
    single = {k: float(v[1]) for k, v in _figures(metrics.foreground(counts)).items()}
    each = _figures(counts)
    per_class = {
        name: {k: float(v[i]) for k, v in each.items()} | {"pixels": int(counts[i].sum())}
        for i, name in enumerate(names)
        if i > 0
    }
    found = single | {
        "mean_dice": _mean([c["dice"] for c in per_class.values()]),
        "mean_iou": _mean([c["iou"] for c in per_class.values()]),
        "pixel_accuracy": metrics.accuracy(counts),
        "per_class": per_class,
        "confusion": {"classes": list(names), "pixels": counts.tolist()},
    }
    outlines = [s.boundary for s in scores if s.boundary is not None]
    if outlines:
        found["boundary_f1"] = boundary_f1(sum(outlines, BoundaryCounts()))
    objects = [s.objects for s in scores if s.objects is not None]
    if objects:
        found |= _object_figures(objects)
    tiles = [s.tile for s in scores if s.tile is not None]
    if tiles:
        found["tiles"] = _tile_figures(tiles, names)
    found["pixel_size"] = {
        "images": dict(Counter(s.pixel_size for s in scores)),
        "mpp": sorted({s.mpp for s in scores}),
    }
    found["seconds_per_image"] = float(np.median([s.seconds for s in scores])) if scores else None
    return found


def _figures(counts: metrics.Counts) -> dict[str, NDArray[np.float64]]:
    return {
        "dice": metrics.dice_per_class(counts),
        "iou": metrics.iou_per_class(counts),
        "precision": metrics.precision_per_class(counts),
        "recall": metrics.recall_per_class(counts),
    }


def _object_figures(objects: Sequence[ObjectCounts]) -> dict[str, Any]:
    pooled = sum(objects, ObjectCounts())
    named = {
        "object_f1": object_f1,
        "object_dice": object_dice,
        "object_hausdorff": object_hausdorff,
    }
    return {name: metric(pooled) for name, metric in named.items()} | {
        "object_hausdorff_diagonal": object_hausdorff(pooled, lone="diagonal"),
        "objects": {
            "averaged": "pooled over images",
            "in_labels": pooled.n_target,
            "predicted": pooled.n_pred,
            "right": pooled.n_hit,
            "lone": pooled.n_lone,
            "per_image": {name: mean_over_images(objects, m) for name, m in named.items()},
        },
    }


def _tile_figures(tiles: Sequence[TileAnswer], names: Sequence[str]) -> dict[str, Any]:
    """Of homogeneous tiles: each has one class, and is given one."""
    counts = np.zeros((len(names), len(names)), np.int64)
    for tile in tiles:
        counts[tile.target, tile.found] += 1
    recall = metrics.recall_per_class(counts)
    return {
        "n": len(tiles),
        "accuracy": metrics.accuracy(counts),
        "recall": {name: float(recall[i]) for i, name in enumerate(names) if i > 0},
        "confusion": {"classes": list(names), "tiles": counts.tolist()},
    }


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
