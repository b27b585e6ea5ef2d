"""Concentric fields: where a place of a field lies in its surroundings, and reading those.

Both fields have the same number of pixels and one centre; the surroundings are ``factor`` times as
wide. In coordinates of pixel *edges* (0 is the field's upper or left edge, S its other one)

    x_LR = x_HR / f + S (1 − 1/f) / 2,

so the field covers [S (1 − 1/f) / 2, S (1 + 1/f) / 2) of the surroundings: for S = 1024 and f = 2
rows and columns [256, 768). Source: Liu et al., WSI-SAM (2024), arXiv 2403.09257, there with f = 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from torch import Tensor

Place = TypeVar("Place", float, "Tensor")

OUTSIDE = 244
"""Grey of what lies outside the image: empty glass, as in training."""

Read = Callable[[Region, tuple[int, int]], NDArray[np.uint8]]
"""From a region of level-0 pixels inside the image, and a shape, to RGB pixels ``(H, W, 3)``."""


def to_surroundings(x: Place, side_px: Any, factor: float) -> Place:
    """A place of a field, in pixel edges along one axis → the same place in the surroundings."""
    return x / factor + side_px * (1 - 1 / factor) / 2


def to_field(x: Place, side_px: Any, factor: float) -> Place:
    """Back: a place of the surroundings in the field's pixels, outside of 0 … S too."""
    return (x - side_px * (1 - 1 / factor) / 2) * factor


def read_surroundings(
    read: Read, image_yx: tuple[int, int], field: Region, shape_yx: tuple[int, int], factor: float
) -> NDArray[np.uint8]:
    """``(H, W, 3)`` of ``shape_yx``: what lies ``factor`` times as far round a field of an image.

    What is not of the image is empty glass.
    """
    whole = np.full((*shape_yx, 3), OUTSIDE, np.uint8)
    spans = [
        _span(start, length, n, image_px, factor)
        for start, length, n, image_px in zip(
            (field.y, field.x), field.shape_yx, shape_yx, image_yx, strict=True
        )
    ]
    if any(last <= first for (first, last), _ in spans):
        return whole
    (rows, (top, bottom)), (columns, (left, right)) = spans
    size = (rows[1] - rows[0], columns[1] - columns[0])
    region = Region(top, left, max(bottom - top, 1), max(right - left, 1))
    whole[slice(*rows), slice(*columns)] = read(region, size)
    return whole


def _span(
    start: int, length: int, n: int, image_px: int, factor: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Along one axis: the pixels of the surroundings that are of the image, and what they show."""
    step = length * factor / n
    edge = start + length / 2 - length * factor / 2
    first = max(0, int(np.ceil((0 - edge) / step - 1e-6)))
    last = min(n, int(np.floor((image_px - edge) / step + 1e-6)))
    shown = [min(max(round(edge + i * step), 0), image_px) for i in (first, last)]
    return (first, last), (shown[0], shown[1])


def without_surroundings(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The surroundings of an image ``(H, W, 3)`` of which nothing more is known: all glass."""
    shape_yx = (image.shape[0], image.shape[1])
    return read_surroundings(
        lambda region, size: _resized(image[region.slices], size),
        shape_yx,
        Region.of(shape_yx),
        shape_yx,
        factor,
    )


def _resized(pixels: NDArray[np.uint8], shape_yx: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    size = (shape_yx[1], shape_yx[0])
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
