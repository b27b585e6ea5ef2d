"""How much of what is labelled "segment everything" finds, with nobody prompting.

Objects are those of :mod:`napari_pathsam.evaluation.prompting`. Each is compared with the found
mask that fits it best, as a person would pick it from the list: an upper bound, since nothing says
which found mask is an object. The pixels of all found masks together are compared with those of
all objects as well. Pixels are counted over the data set, and divided once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_pathsam.core.prompts import SMALLEST_OBJECT_PX
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.prompting import objects_of
from napari_pathsam.inference.everything import (
    EverythingSettings,
    FoundObject,
    object_map,
    segment_everything,
)
from napari_pathsam.inference.segment import encode_at

if TYPE_CHECKING:
    from napari_pathsam.models.sam2 import Sam2


class EverythingScoring(EverythingSettings):
    """How objects are looked for and counted; ``at_mpp`` as in ``PromptSettings``."""

    smallest_px: int = Field(SMALLEST_OBJECT_PX, ge=1)
    at_mpp: float | None = Field(None, gt=0)


@dataclass(frozen=True)
class EverythingScore:
    """One image: the best IoU of each of its objects, and pixels in both, found, and labelled."""

    name: str
    group: str
    done: int
    total: int
    best_iou: tuple[float, ...]
    n_found: int
    n_too_small: int
    pixels_both: int
    pixels_found: int
    pixels_labelled: int
    seconds: float


def evaluate_everything(
    model: Sam2, samples: Sequence[Sample], settings: EverythingScoring | None = None
) -> Iterator[EverythingScore]:
    """Segment everything in every sample; yields one score an image.

    Closing the generator cancels. :func:`everything_metrics` turns the scores into figures.
    """
    settings = settings or EverythingScoring()
    for done, sample in enumerate(samples, start=1):
        image, labels = sample.load()
        objects = objects_of(labels, sample.label_kind)
        started = perf_counter()
        embedding = encode_at(
            model, image, mpp=sample.mpp, at_mpp=settings.at_mpp, name=sample.name
        )
        found: tuple[FoundObject, ...] = ()
        for step in segment_everything(model, embedding, settings):
            found = step.objects
        seconds = perf_counter() - started
        ids, areas = np.unique(objects[objects > 0], return_counts=True)
        wanted = ids[areas >= settings.smallest_px]
        covered = object_map(found, objects.shape) > 0
        yield EverythingScore(
            name=sample.name,
            group=sample.group,
            done=done,
            total=len(samples),
            best_iou=best_ious(objects, wanted, found),
            n_found=len(found),
            n_too_small=len(ids) - len(wanted),
            pixels_both=int(np.count_nonzero(covered & (objects > 0))),
            pixels_found=int(np.count_nonzero(covered)),
            pixels_labelled=int(np.count_nonzero(objects)),
            seconds=seconds,
        )


def best_ious(
    objects: NDArray[np.int32], wanted: NDArray[np.int32], found: Sequence[FoundObject]
) -> tuple[float, ...]:
    """For each wanted id the largest IoU any found mask has with it."""
    areas = np.bincount(objects.ravel(), minlength=1)
    best = np.zeros(len(areas))
    for one in found:
        inside = np.bincount(objects[one.region.slices][one.mask], minlength=len(areas))
        best = np.maximum(best, inside / (areas + one.area - inside))
    return tuple(float(best[i]) for i in wanted)


def everything_metrics(scores: Sequence[EverythingScore]) -> dict[str, Any]:
    """The figures of a report; NaN where there was nothing to measure."""
    ious = [iou for score in scores for iou in score.best_iou]
    both = sum(score.pixels_both for score in scores)
    pixels = sum(score.pixels_found + score.pixels_labelled for score in scores)
    return {
        "best_iou": float(np.mean(ious)) if ious else float("nan"),
        "share_found": float(np.mean([iou >= 0.5 for iou in ious])) if ious else float("nan"),
        "foreground_dice": 2 * both / pixels if pixels else float("nan"),
        "n_objects": len(ious),
        "n_too_small": sum(score.n_too_small for score in scores),
        "n_found": sum(score.n_found for score in scores),
        "seconds_per_image": float(np.median([s.seconds for s in scores])) if scores else 0.0,
    }
