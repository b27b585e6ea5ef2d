"""What the scores of class maps come to: figures from counts pooled over images, with intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core import instance_metrics, metrics, published_metrics
from napari_pathsam.core.boundary_metrics import BoundaryCounts, boundary_f1
from napari_pathsam.core.calibration import expected_calibration_error, reliability_curve
from napari_pathsam.core.instance_metrics import InstanceCounts
from napari_pathsam.core.object_metrics import (
    ObjectCounts,
    in_microns,
    object_dice,
    object_f1,
    object_hausdorff,
)
from napari_pathsam.evaluation.class_scores import ClassScore, TileAnswer
from napari_pathsam.evaluation.headlines import Headline, intervals, mean_headline

POOLED = "counts pooled over the data set, then divided"
OVER_IMAGES = "mean over images"
PIXELS: dict[str, tuple[str, Callable[[metrics.Counts], NDArray[np.float64]]]] = {
    "dice": ("Dice", metrics.dice_per_class),
    "iou": ("IoU", metrics.iou_per_class),
    "precision": ("precision", metrics.precision_per_class),
    "recall": ("recall", metrics.recall_per_class),
    "accuracy": ("accuracy", metrics.accuracy_per_class),
}
OBJECTS: dict[str, tuple[str, Callable[[ObjectCounts], float]]] = {
    "object_f1": ("object F1", object_f1),
    "object_dice": ("object Dice", object_dice),
    "object_hausdorff": ("object Hausdorff (px)", object_hausdorff),
    "object_hausdorff_diagonal": (
        "object Hausdorff (px), lone objects at the image's diagonal",
        partial(object_hausdorff, lone="diagonal"),
    ),
}
INSTANCES: dict[str, tuple[str, Callable[[InstanceCounts], float], bool]] = {
    "pq": ("PQ", instance_metrics.panoptic_quality, True),
    "sq": ("SQ", instance_metrics.segmentation_quality, True),
    "rq": ("RQ", instance_metrics.recognition_quality, True),
    "aji": ("AJI", instance_metrics.aggregated_jaccard, True),
    "msa": ("mSA", instance_metrics.mean_segmentation_accuracy, True),
    "count_error": ("count error", instance_metrics.count_error, False),
    "relative_count_error": ("relative count error", instance_metrics.relative_count_error, False),
}


def class_metrics(scores: Sequence[ClassScore], *, seed: int = 0) -> dict[str, Any]:
    """The figures of a report.

    ``dice``, ``iou``, ``precision``, ``recall`` and ``accuracy`` are of the foreground: any class
    against none. ``mean_*`` are means over the classes that are in the labels or were predicted,
    ``micro_*`` of the counts of all classes together. All are from counts pooled over the images;
    ``per_image`` holds means over images. NaN where nothing could be measured.
    """
    names = scores[0].names if scores else ("background",)
    empty = np.zeros((len(names), len(names)), np.int64)
    counts: metrics.Counts = sum((s.counts for s in scores), empty)
    headlines = class_headlines(scores)
    pooled = {k: h.value for k, h in headlines.items() if h.averaging == POOLED and ": " not in k}
    each = {k: divide(counts) for k, (_, divide) in PIXELS.items()}
    per_class = {
        name: {k: float(v[i]) for k, v in each.items()} | {"pixels": int(counts[i].sum())}
        for i, name in enumerate(names)
        if i > 0
    }
    found = pooled | {
        "averaging": POOLED,
        "n_absent_classes": metrics.macro(each["dice"]).n_absent,
        "per_class": per_class,
        "per_image": {
            name.removesuffix("_per_image"): h.value
            for name, h in headlines.items()
            if h.averaging == OVER_IMAGES
        }
        | _absent(scores),
        "confusion": {"classes": list(names), "pixels": counts.tolist()},
        "as_published": as_published(scores),
        "intervals": intervals(headlines, [s.group for s in scores], seed=seed),
    }
    for name, counts_of_class in zip(names[1:], _of_classes(scores), strict=False):
        per_class[name]["pq"] = instance_metrics.panoptic_quality(counts_of_class)
    found |= _of_objects(scores) | _of_confidence(scores)
    tiles = [s.tile for s in scores if s.tile is not None]
    if tiles:
        found["tiles"] = _tile_figures(tiles, names)
    found["pixel_size"] = {
        "images": dict(Counter(s.pixel_size for s in scores)),
        "mpp": sorted({s.mpp for s in scores}),
    }
    found["seconds_per_image"] = float(np.median([s.seconds for s in scores])) if scores else None
    return found


def class_headlines(scores: Sequence[ClassScore]) -> dict[str, Headline]:
    """Every figure by name; those of one class as ``"gland: dice"``."""
    names = scores[0].names if scores else ("background",)
    n = len(names)
    rows = np.array([s.counts.ravel() for s in scores], float).reshape(-1, n * n)

    def pixels(title: str, figure: Callable[[metrics.Counts], float]) -> Headline:
        return Headline(title, POOLED, rows, partial(_of_confusion, n, figure))

    found = {}
    for key, (title, divide) in PIXELS.items():
        found[key] = pixels(title, partial(_foreground, divide))
        if n > 2:
            found[f"mean_{key}"] = pixels(f"{title}, mean of classes", partial(_macro, divide))
            found[f"micro_{key}"] = pixels(f"{title}, classes together", partial(_micro, divide))
    for key in ("dice", "iou"):
        found.setdefault(f"mean_{key}", found[key])
    found["pixel_accuracy"] = pixels("pixels with the right class", metrics.accuracy)
    for key in ("dice", "iou", "precision", "recall"):
        title, divide = PIXELS[key]
        for i, name in enumerate(names[1:], start=1):
            found[f"{name}: {key}"] = pixels(f"{title} of {name}", partial(_of_class, divide, i))
        one_each = [(_foreground(divide, s.counts),) for s in scores]
        found[f"{key}_per_image"] = mean_headline(title, OVER_IMAGES, one_each)
    found |= _boundary_headlines(scores) | _object_headlines(scores) | _ece(scores)
    return found | _class_object_headlines(scores) | _tile_headlines(scores)


def as_published(scores: Sequence[ClassScore]) -> dict[str, float]:
    """The same predictions as some papers would have scored them; not to be read as anything else.

    See :mod:`napari_pathsam.core.published_metrics`.
    """
    if not scores:
        return {}
    counts = sum((s.counts for s in scores[1:]), scores[0].counts)
    weighted = np.array([published_metrics.weighted_with_background(s.counts) for s in scores])
    found = {
        "sam_path_dice": published_metrics.sam_path_dice(counts),
        "sam_path_iou_is_recall": published_metrics.sam_path_iou(counts),
        "eunet3plus_dice_weighted_with_background": metrics.Mean.of(weighted[:, 0]).value,
        "eunet3plus_miou_weighted_with_background": metrics.Mean.of(weighted[:, 1]).value,
    }
    dtu = [s.dtu for s in scores if s.dtu is not None]
    if dtu:
        mean = published_metrics.dtu_mean(dtu)
        found |= {
            "dtu_f1_is_pixel_f1": mean.f1,
            "dtu_object_dice": mean.object_dice,
            "dtu_object_hausdorff": mean.object_hausdorff,
        }
    return found


# --- from added counts to figures -----------------------------------------------------------------

PerClass = Callable[[metrics.Counts], NDArray[np.float64]]


def _of_confusion(n: int, figure: Callable[[metrics.Counts], float], row: NDArray) -> float:
    return figure(row.astype(np.int64).reshape(n, n))


def _foreground(divide: PerClass, counts: metrics.Counts) -> float:
    return float(divide(metrics.foreground(counts))[1])


def _macro(divide: PerClass, counts: metrics.Counts) -> float:
    return metrics.macro(divide(counts)).value


def _micro(divide: PerClass, counts: metrics.Counts) -> float:
    return float(divide(metrics.micro(counts))[1])


def _of_class(divide: PerClass, index: int, counts: metrics.Counts) -> float:
    return float(divide(counts)[index])


def _of_object_counts(figure: Callable[[ObjectCounts], float], row: NDArray) -> float:
    return figure(ObjectCounts(*row.tolist()))


def _of_instances(figure: Callable[[InstanceCounts], float], row: NDArray) -> float:
    return figure(InstanceCounts.of_array(row))


def _mean_pq(n: int, row: NDArray) -> float:
    counts = (InstanceCounts.of_array(part) for part in row.reshape(n, -1))
    return instance_metrics.mean_panoptic_quality(counts)[0]


# --- parts ----------------------------------------------------------------------------------------


def _boundary_headlines(scores: Sequence[ClassScore]) -> dict[str, Headline]:
    if not any(s.boundary for s in scores):
        return {}
    rows = np.array([astuple(s.boundary or BoundaryCounts()) for s in scores], float)
    return {"boundary_f1": Headline("boundary F1", POOLED, rows, lambda c: boundary_f1(
        BoundaryCounts(*c.tolist())))}  # fmt: skip


def _object_headlines(scores: Sequence[ClassScore]) -> dict[str, Headline]:
    if not any(s.objects for s in scores):
        return {}
    counts = [s.objects or ObjectCounts() for s in scores]
    rows = np.array([astuple(c) for c in counts], float)
    found = {}
    for key, (title, figure) in OBJECTS.items():
        larger = "hausdorff" not in key
        found[key] = Headline(title, POOLED, rows, partial(_of_object_counts, figure), larger)
        found[f"{key}_per_image"] = mean_headline(
            title,
            OVER_IMAGES,
            [(figure(s.objects),) if s.objects else () for s in scores],
            larger_is_better=larger,
        )
    # Only where the pixel size is known, if by an estimate.
    if all(s.pixel_size != "model" for s in scores):
        um = [in_microns(c, s.mpp) for c, s in zip(counts, scores, strict=True)]
        title = "object Hausdorff (µm)"
        found["object_hausdorff_um"] = Headline(
            title,
            POOLED,
            np.array([astuple(c) for c in um], float),
            partial(_of_object_counts, object_hausdorff),
            larger_is_better=False,
        )
        found["object_hausdorff_um_per_image"] = mean_headline(
            title,
            OVER_IMAGES,
            [(object_hausdorff(c),) if s.objects else () for c, s in zip(um, scores, strict=True)],
            larger_is_better=False,
        )
    of_image = np.array([(s.instances or InstanceCounts()).array() for s in scores])
    for key, (title, one, larger) in INSTANCES.items():
        found[key] = Headline(title, POOLED, of_image, partial(_of_instances, one), larger)
    return found


def _class_object_headlines(scores: Sequence[ClassScore]) -> dict[str, Headline]:
    """MPQ over the data set (CoNIC's mPQ+), and its mean over images (PanNuke's)."""
    n = max((len(s.by_class) for s in scores), default=0)
    if not n:
        return {}
    none = (InstanceCounts(),) * n
    rows = np.array([np.hstack([c.array() for c in s.by_class or none]) for s in scores])
    mpq = Headline("mPQ", POOLED, rows, partial(_mean_pq, n))
    one_each = [(value,) for value in mpq.per_image()]
    return {"mpq": mpq, "mpq_per_image": mean_headline("mPQ", OVER_IMAGES, one_each)}


def _tile_headlines(scores: Sequence[ClassScore]) -> dict[str, Headline]:
    """Of homogeneous tiles the share whose most frequent class is right."""
    if not any(s.tile for s in scores):
        return {}
    rows = [(s.tile.target == s.tile.found, 1) if s.tile else (0, 0) for s in scores]
    return {"tile_accuracy": Headline(
        "tiles whose most frequent class is right", POOLED, np.array(rows, float),
        lambda c: float(c[0] / c[1]) if c[1] else math.nan,
    )}  # fmt: skip


def _of_classes(scores: Sequence[ClassScore]) -> list[InstanceCounts]:
    """The counts of each class's objects, added; none where labels have none."""
    known = [s.by_class for s in scores if s.by_class]
    return [sum(of_class, InstanceCounts()) for of_class in zip(*known, strict=True)]


def _ece(scores: Sequence[ClassScore]) -> dict[str, Headline]:
    if not any(s.confidence is not None for s in scores):
        return {}
    shape = next(s.confidence.shape for s in scores if s.confidence is not None)
    rows = [np.zeros(shape) if s.confidence is None else s.confidence for s in scores]
    return {"ece": Headline(
        "expected calibration error", POOLED, np.array(rows).reshape(len(scores), -1),
        lambda c: expected_calibration_error(c.reshape(shape)), larger_is_better=False,
    )}  # fmt: skip


def _of_objects(scores: Sequence[ClassScore]) -> dict[str, Any]:
    counts = sum((s.objects for s in scores if s.objects), ObjectCounts())
    if not any(s.objects for s in scores):
        return {}
    found = sum((s.instances for s in scores if s.instances), InstanceCounts())
    return {
        "objects": {
            "averaged": POOLED,
            "in_labels": counts.n_target,
            "predicted": counts.n_pred,
            "right": counts.n_hit,
            "lone": counts.n_lone,
            "per_image": {
                key: mean_headline("", "", [(f(s.objects),) for s in scores if s.objects]).value
                for key, (_, f) in OBJECTS.items()
            },
        },
        "average_precision": {
            f"{t:.2f}": v for t, v in instance_metrics.average_precision(found).items()
        },
    }


def _of_confidence(scores: Sequence[ClassScore]) -> dict[str, Any]:
    known = [s.confidence for s in scores if s.confidence is not None]
    if not known:
        return {}
    counts: NDArray[np.float64] = np.sum(known, axis=0)
    curve = reliability_curve(counts)
    return {
        "calibration": {
            "ece": expected_calibration_error(counts),
            "bins": len(curve.share),
            "confidence": curve.confidence.tolist(),
            "right": curve.right.tolist(),
            "share_of_pixels": curve.share.tolist(),
        }
    }


def _absent(scores: Sequence[ClassScore]) -> dict[str, Any]:
    """Of each class in how many images it was in neither map, and its means over the others."""
    names = scores[0].names if scores else ()
    found: dict[str, Any] = {"per_class": {name: {} for name in names[1:]}}
    for key in ("dice", "iou", "precision", "recall"):
        means = metrics.mean_over_images([s.counts for s in scores], PIXELS[key][1])
        for name, mean in list(zip(names, means, strict=True))[1:]:
            found["per_class"][name][key] = mean.value
            if key == "dice":
                found["per_class"][name] |= {"images": mean.n, "absent": mean.n_absent}
    return found


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
