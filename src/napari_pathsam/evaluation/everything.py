"""How much of what is labelled "segment everything" finds, with nobody prompting.

Objects are those of :mod:`napari_pathsam.evaluation.prompting`. Each is compared with the found
mask that fits it best, as a person would pick it from the list: an upper bound, since nothing says
which found mask is an object. The pixels of all found masks together are compared with those of
all objects as well. Pixels are counted over the data set, and divided once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_pathsam.core.prompts import SMALLEST_OBJECT_PX
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.headlines import Headline, intervals, mean_headline
from napari_pathsam.evaluation.prompting import OVER_OBJECTS, shown_image
from napari_pathsam.inference.everything import (
    EverythingSettings,
    FoundObject,
    object_map,
    segment_everything,
)

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

    def to_values(self) -> dict[str, Any]:
        """Plain values for a line of JSON."""
        return asdict(self)

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> EverythingScore:
        """Back from :meth:`to_values`; KeyError, TypeError or ValueError for anything else."""
        return cls(**(values | {"best_iou": tuple(values["best_iou"])}))


def evaluate_everything(
    model: Sam2, samples: Sequence[Sample], settings: EverythingScoring | None = None
) -> Iterator[EverythingScore]:
    """Segment everything in every sample; yields one score an image.

    Closing the generator cancels. :func:`everything_metrics` turns the scores into figures.
    """
    settings = settings or EverythingScoring()
    for done, sample in enumerate(samples, start=1):
        image = shown_image(model, sample, settings.at_mpp)
        objects = image.objects
        started = perf_counter()
        found: tuple[FoundObject, ...] = ()
        for step in segment_everything(model, image.embedding, settings):
            found = step.objects
        seconds = image.encode_seconds + perf_counter() - started
        ids, areas = np.unique(objects[objects > 0], return_counts=True)
        wanted = ids[areas >= settings.smallest_px]
        covered = object_map(found, objects.shape) > 0
        if image.known is not None:
            covered &= image.known
        yield EverythingScore(
            name=sample.name,
            group=sample.group,
            done=done,
            total=len(samples),
            best_iou=best_ious(objects, wanted, found, image.known),
            n_found=len(found),
            n_too_small=len(ids) - len(wanted),
            pixels_both=int(np.count_nonzero(covered & (objects > 0))),
            pixels_found=int(np.count_nonzero(covered)),
            pixels_labelled=int(np.count_nonzero(objects)),
            seconds=seconds,
        )


def best_ious(
    objects: NDArray[np.int32],
    wanted: NDArray[np.int32],
    found: Sequence[FoundObject],
    known: NDArray[np.bool_] | None = None,
) -> tuple[float, ...]:
    """For each wanted id the largest IoU any found mask has with it, where anybody looked."""
    areas = np.bincount(objects.ravel(), minlength=1)
    best = np.zeros(len(areas))
    for one in found:
        mask = one.mask if known is None else one.mask & known[one.region.slices]
        inside = np.bincount(objects[one.region.slices][mask], minlength=len(areas))
        best = np.maximum(best, inside / np.maximum(areas + inside.sum() - inside, 1))
    return tuple(float(best[i]) for i in wanted)


def everything_metrics(scores: Sequence[EverythingScore], *, seed: int = 0) -> dict[str, Any]:
    """The figures of a report; NaN where there was nothing to measure."""
    headlines = everything_headlines(scores)
    return {name: h.value for name, h in headlines.items()} | {
        "n_objects": sum(len(score.best_iou) for score in scores),
        "n_too_small": sum(score.n_too_small for score in scores),
        "n_found": sum(score.n_found for score in scores),
        "seconds_per_image": float(np.median([s.seconds for s in scores])) if scores else 0.0,
        "intervals": intervals(headlines, [s.group for s in scores], seed=seed),
    }


def everything_headlines(scores: Sequence[EverythingScore]) -> dict[str, Headline]:
    """Every figure by name."""
    pixels = [(2 * s.pixels_both, s.pixels_found + s.pixels_labelled) for s in scores]
    return {
        "best_iou": mean_headline(
            "IoU of each object's best mask", OVER_OBJECTS, [s.best_iou for s in scores]
        ),
        "share_found": mean_headline(
            "objects with a mask of IoU ≥ 0.5",
            OVER_OBJECTS,
            [[float(iou >= 0.5) for iou in s.best_iou] for s in scores],
        ),
        "foreground_dice": Headline(
            "all masks as foreground, Dice",
            "pixels pooled over the data set",
            np.array(pixels, float).reshape(-1, 2),
            lambda c: float(c[0] / c[1]) if c[1] else math.nan,
        ),
    }
