"""How well a model answers clicks and boxes: the simulated annotator over a data set.

Objects are instance ids, or 8-connected components where labels are binary or classes. Those
under 50 pixels are left out and counted. Figures are means over objects, not over images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from napari_pathsam.core.prompts import (
    SMALLEST_OBJECT_PX,
    ellipse_in_box,
    iter_objects,
    tight_box,
)
from napari_pathsam.datasets.base import LabelKind, Sample
from napari_pathsam.inference.segment import encode_at
from napari_pathsam.inference.simulation import Interaction, annotate, mask_iou

if TYPE_CHECKING:
    from napari_pathsam.models.promptable import Promptable


class PromptSettings(BaseModel):
    """How the simulated annotator works.

    ``clicks`` are the numbers of clicks after which the IoU is reported. ``at_mpp`` resamples
    every image to this pixel size before it is encoded; masks are compared at the labels' size.
    Answers that cover more than ``largest_share`` of the image are dropped: 0.5 is the
    post-processing of the SAM-Path and Path-SAM2 papers, None keeps all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clicks: tuple[int, ...] = Field((1, 2, 3, 4, 5), min_length=1)
    smallest_px: int = Field(SMALLEST_OBJECT_PX, ge=1)
    at_mpp: float | None = Field(None, gt=0)
    largest_share: float | None = Field(None, gt=0, le=1)


@dataclass(frozen=True)
class ImageScore:
    """One image's objects, one entry each; ``done`` of ``total`` images are finished."""

    name: str
    group: str
    done: int
    total: int
    n_too_small: int
    interactions: tuple[Interaction, ...]
    iou_ellipse: tuple[float, ...]
    encode_seconds: float


def evaluate_prompts(
    model: Promptable, samples: Sequence[Sample], settings: PromptSettings | None = None
) -> Iterator[ImageScore]:
    """Click at every object of every sample; yields one score an image.

    Closing the generator cancels. :func:`prompt_metrics` turns the scores into figures.

    Raises
    ------
    BadImageError, BadFileError
        A file cannot be read, or has no pixel size while ``at_mpp`` asks for one.
    """
    settings = settings or PromptSettings()
    for done, sample in enumerate(samples, start=1):
        image, labels = sample.load()
        objects = objects_of(labels, sample.label_kind)
        started = perf_counter()
        embedding = encode_at(
            model, image, mpp=sample.mpp, at_mpp=settings.at_mpp, name=sample.name
        )
        encode_seconds = perf_counter() - started
        interactions, ellipses = [], []
        for _, target in iter_objects(objects, smallest_px=settings.smallest_px):
            interactions.append(
                annotate(
                    model,
                    embedding,
                    target,
                    clicks=max(settings.clicks),
                    largest_share=settings.largest_share,
                )
            )
            ellipses.append(mask_iou(ellipse_in_box(tight_box(target), target.shape), target))
        yield ImageScore(
            name=sample.name,
            group=sample.group,
            done=done,
            total=len(samples),
            n_too_small=int(np.count_nonzero(np.unique(objects))) - len(interactions),
            interactions=tuple(interactions),
            iou_ellipse=tuple(ellipses),
            encode_seconds=encode_seconds,
        )


def objects_of(labels: NDArray, kind: LabelKind) -> NDArray[np.int32]:
    """Instance ids as they are; of anything else the 8-connected components of each id."""
    if kind == "instances":
        return labels.astype(np.int32)
    objects = np.zeros(labels.shape, np.int32)
    for class_id in np.unique(labels[labels != 0]):
        components, _ = ndimage.label(labels == class_id, structure=np.ones((3, 3)))
        objects += np.where(components > 0, components + objects.max(), 0).astype(np.int32)
    return objects


def prompt_metrics(
    scores: Sequence[ImageScore], settings: PromptSettings | None = None
) -> dict[str, Any]:
    """The figures of a report: means over the objects of all images, medians of times.

    NaN where there was no object to measure.
    """
    clicks = (settings or PromptSettings()).clicks
    objects = [i for score in scores for i in score.interactions]
    seconds = [s for i in objects for s in i.seconds]
    return {
        "iou_at_clicks": {str(n): _mean([i.iou_at_clicks[n - 1] for i in objects]) for n in clicks},
        "iou_box": _mean([i.iou_box for i in objects]),
        "iou_ellipse": _mean([e for score in scores for e in score.iou_ellipse]),
        "n_objects": len(objects),
        "n_too_small": sum(score.n_too_small for score in scores),
        "ms_per_click": _median_ms(seconds),
        "ms_to_encode": _median_ms([score.encode_seconds for score in scores]),
    }


def _median_ms(seconds: Sequence[float]) -> float:
    return 1000 * float(np.median(seconds)) if seconds else float("nan")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
