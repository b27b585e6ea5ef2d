"""Segment everything: a grid of points asks for objects, and what is found twice counts once.

What SAM and SAM 2 call automatic mask generation. Of the masks at each point those stay that the
decoder trusts and whose outline does not hang on the threshold; of masks with nearly the same box
the most trusted one stays. Source: Kirillov et al., Segment Anything (2023), arXiv 2304.02643,
section 5 and appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask
    from napari_pathsam.models.sam2 import Sam2


class EverythingSettings(BaseModel):
    """How objects are looked for; the defaults are those of SAM and SAM 2.

    ``stability`` is the least IoU between the mask at ``stability_offset`` logits above and below
    the threshold. It and ``predicted_iou`` are the model's own where None (``Sam2Config.trusted``).
    Boxes that overlap by more than ``duplicate_iou`` are the same object. Masks that cover more
    than ``largest_share`` of the image are dropped; the post-processing of the SAM-Path and
    Path-SAM2 papers is 0.5, None keeps all. ``at_once`` points go into one decoder call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    points_per_side: int = Field(32, ge=1, le=256)
    predicted_iou: float | None = Field(None, ge=0, le=1)
    stability: float | None = Field(None, ge=0, le=1)
    stability_offset: float = Field(1.0, gt=0)
    duplicate_iou: float = Field(0.7, gt=0, le=1)
    largest_share: float | None = Field(None, gt=0, le=1)
    at_once: int = Field(64, ge=1)


@dataclass(frozen=True)
class FoundObject:
    """``mask`` has the shape of ``region``, in pixels of the encoded image."""

    mask: NDArray[np.bool_]
    region: Region
    predicted_iou: float
    stability: float
    point_yx: tuple[float, float]

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True)
class EverythingStep:
    """What is known after ``done`` of ``total`` points; the last step is the answer."""

    objects: tuple[FoundObject, ...]
    done: int
    total: int


def segment_everything(
    model: Sam2, embedding: ImageEmbedding, settings: EverythingSettings | None = None
) -> Iterator[EverythingStep]:
    """Look for objects at every point of a grid; yields after each decoder call.

    Closing the generator cancels. Objects come in the order of trust.
    """
    settings = settings or EverythingSettings()
    points = grid_points(embedding.shape_yx, settings.points_per_side)
    found: list[FoundObject] = []
    own = zip((settings.predicted_iou, settings.stability), model.config.trusted, strict=True)
    least = tuple(trusted if given is None else given for given, trusted in own)
    for start in range(0, len(points), settings.at_once):
        some = points[start : start + settings.at_once]
        prompts = [Prompts(points_yx=(point,), positive=(True,)) for point in some]
        answers = model.decode_many(embedding, prompts, whole=True)
        for point, answer in zip(some, answers, strict=True):
            found += _trusted(answer, point, settings, least)
        yield EverythingStep(
            tuple(without_duplicates(found, settings.duplicate_iou)),
            done=start + len(some),
            total=len(points),
        )


def grid_points(shape_yx: tuple[int, int], per_side: int) -> list[tuple[float, float]]:
    """Evenly spaced ``(y, x)``, row by row; each is the centre of its share of the image."""
    ys, xs = ((np.arange(per_side) + 0.5) * n / per_side - 0.5 for n in shape_yx)
    return [(float(y), float(x)) for y in ys for x in xs]


def _trusted(
    answer: PromptedMask,
    point: tuple[float, float],
    settings: EverythingSettings,
    least: tuple[float, ...],
) -> list[FoundObject]:
    """The masks of one point that are predicted and stable enough; only these are enlarged."""
    found = []
    for i, score in enumerate(answer.predicted_iou):
        if score <= least[0]:
            continue
        logits = answer.logits_at(i)
        mask = logits > 0
        wide = int(np.count_nonzero(logits > -settings.stability_offset))
        stability = int(np.count_nonzero(logits > settings.stability_offset)) / max(wide, 1)
        region = _region(mask)
        if stability < least[1] or region is None:
            continue
        if settings.largest_share is not None and mask.mean() > settings.largest_share:
            continue
        cut = mask[region.slices].copy()
        found.append(FoundObject(cut, region, float(score), stability, point))
    return found


def _region(mask: NDArray[np.bool_]) -> Region | None:
    """The smallest rectangle with all of a mask, None where it is empty."""
    ys, xs = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(ys):
        return None
    return Region(int(ys[0]), int(xs[0]), int(ys[-1] - ys[0]) + 1, int(xs[-1] - xs[0]) + 1)


def without_duplicates(objects: Sequence[FoundObject], largest_iou: float) -> list[FoundObject]:
    """The most trusted object of each group with nearly the same box: greedy suppression.

    Boxes run from the first to the last pixel's index, as upstream measures them.
    """
    if not objects:
        return []
    order = np.argsort([-o.predicted_iou for o in objects], kind="stable")
    boxes = np.array([_box(objects[i].region) for i in order], float)
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept, left = [], np.ones(len(boxes), bool)
    for i, box in enumerate(boxes):
        if not left[i]:
            continue
        kept.append(objects[order[i]])
        low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
        both = (high - low).clip(0).prod(axis=1)
        left &= both <= largest_iou * (sizes + sizes[i] - both)
    return kept


def _box(region: Region) -> tuple[int, int, int, int]:
    return region.y, region.x, region.y + region.height - 1, region.x + region.width - 1


def object_map(objects: Sequence[FoundObject], shape_yx: tuple[int, int]) -> NDArray[np.int32]:
    """Instance ids ``(H, W)`` 1, 2 … in the order given; smaller objects lie on larger ones."""
    ids = np.zeros(shape_yx, np.int32)
    for i in sorted(range(len(objects)), key=lambda i: -objects[i].area):
        ids[objects[i].region.slices][objects[i].mask] = i + 1
    return ids
