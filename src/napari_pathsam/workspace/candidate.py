"""Candidate: the mask on offer, where it lies, and how it gets there from a field's logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.fields import Field

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import PromptedMask

STRIP_PX = 2**22
"""Pixels upsampled at a time, which bounds memory for objects as large as a slide."""


@dataclass(frozen=True)
class Candidate:
    """A decoded mask, not accepted yet.

    Attributes
    ----------
    mask
        ``(h, w)`` bool, cropped to the object, at the resolution of the encoded field.
    region
        The level-0 pixels ``mask`` covers; :attr:`scale_yx` and :attr:`translate_yx` place a
        layer with this mask.
    score
        Predicted IoU.
    index, n
        Which of the decoder's ``n`` masks this is.
    """

    mask: NDArray[np.bool_]
    region: Region
    score: float
    index: int
    n: int

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Level-0 pixels per mask pixel."""
        return (
            self.region.height / self.mask.shape[0],
            self.region.width / self.mask.shape[1],
        )

    @property
    def translate_yx(self) -> tuple[float, float]:
        """Level-0 position of the centre of mask pixel (0, 0)."""
        sy, sx = self.scale_yx
        return (self.region.y + (sy - 1) / 2, self.region.x + (sx - 1) / 2)


@dataclass(frozen=True)
class Answer:
    """What the decoder said to one state of the prompts, over which field, by which model."""

    masks: PromptedMask
    field: Field
    model: str
    candidate: Candidate | None

    def turned(self) -> Answer:
        """The same answer with the next mask in front that is not empty."""
        n = len(self.masks.low_res_logits)
        for step in range(1, n):
            masks = self.masks.with_best((self.masks.best + step) % n)
            if candidate := offer(masks, self.field):
                return Answer(masks, self.field, self.model, candidate)
        return self

    def mask_over(self, region: Region) -> NDArray[np.bool_]:
        """The candidate's mask over a level-0 region, at level-0 resolution."""
        found = self.candidate
        if found is not None and found.region == region and found.mask.shape == region.shape_yx:
            return found.mask
        low = self.masks.low_res_logits[self.masks.best]
        return mask_of(low, self.field, region, region.shape_yx)


def offer(masks: PromptedMask, field: Field) -> Candidate | None:
    """The best mask as a candidate; None when it is empty."""
    low = masks.low_res_logits[masks.best]
    region = _region_of(low > 0, field)
    if region is None:
        return None
    shape = tuple(
        max(1, min(side, round(side * s)))
        for side, s in zip(region.shape_yx, field.scale_yx, strict=True)
    )
    mask = mask_of(low, field, region, (shape[0], shape[1]))
    if not mask.any():
        return None
    return Candidate(mask, region, masks.score, masks.best, len(masks.low_res_logits))


def _region_of(positive: NDArray[np.bool_], field: Field) -> Region | None:
    """Level-0 pixels that bilinear upsampling can make positive: one more cell on each side."""
    spans = []
    for axis, origin, length in (
        (0, field.region.y, field.region.height),
        (1, field.region.x, field.region.width),
    ):
        found = np.flatnonzero(positive.any(axis=1 - axis))
        if not found.size:
            return None
        cell = length / positive.shape[axis]
        start = max(0, math.floor((found[0] - 1) * cell))
        stop = min(length, math.ceil((found[-1] + 2) * cell))
        spans.append((origin + start, stop - start))
    return Region(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def mask_of(
    low: NDArray[np.float32], field: Field, region: Region, shape_yx: tuple[int, int]
) -> NDArray[np.bool_]:
    """Where the logits ``(h, w)`` over a field are positive, over a region in ``shape_yx`` pixels.

    Bilinear between cell centres, as ``torch.nn.functional.interpolate`` with
    ``align_corners=False``, but only where it is asked for.
    """
    (r0, r1, wr), (c0, c1, wc) = (
        _taps(low.shape[i], field_span, span, shape_yx[i])
        for i, field_span, span in (
            (0, (field.region.y, field.region.height), (region.y, region.height)),
            (1, (field.region.x, field.region.width), (region.x, region.width)),
        )
    )
    mask = np.empty(shape_yx, bool)
    strip = max(1, STRIP_PX // shape_yx[1])
    for start in range(0, shape_yx[0], strip):
        at = slice(start, start + strip)
        rows = low[r0[at]] + wr[at, None] * (low[r1[at]] - low[r0[at]])
        left = rows[:, c0]
        mask[at] = left + wc * (rows[:, c1] - left) > 0
    return mask


def _taps(
    n_low: int, field_span: tuple[int, int], span: tuple[int, int], n: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For ``n`` pixels over ``span``: the two cells each lies between, and the second's weight."""
    level0 = (np.arange(n) + 0.5) * span[1] / n + span[0] - field_span[0]
    at = np.clip(level0 * n_low / field_span[1] - 0.5, 0, n_low - 1)
    first = np.floor(at).astype(np.intp)
    second = np.minimum(first + 1, n_low - 1)
    return first, second, (at - first).astype(np.float32)
