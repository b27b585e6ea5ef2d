"""Fields: which part of an image is encoded for a prompt, and at which resolution."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadImageError, BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import YX, Prompts, polygon_mask

if TYPE_CHECKING:
    from napari_pathsam.io.slides import Slide


class ImageSource(Protocol):
    """An image as the viewer shows it: a layer, a slide, an array."""

    @property
    def key(self) -> str:
        """Stable over sessions: names the image's content; the journal is found by it."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Level-0 rows and columns."""

    @property
    def mpp(self) -> float | None:
        """Microns per level-0 pixel, where known."""

    @property
    def slide(self) -> Slide | None:
        """The slide that is shown, as it is; None: these are other pixels."""

    def read(self, region: Region, shape_yx: tuple[int, int]) -> NDArray[np.uint8]:
        """The region ``(h, w, 3)``, resampled to ``shape_yx``; called in a worker."""


class ArraySource:
    """An RGB array ``(H, W, 3)`` uint8 as an image source."""

    slide = None

    def __init__(
        self, image: NDArray[np.uint8], *, name: str = "image", mpp: float | None = None
    ) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise BadImageError(
                f"An array of shape {image.shape} and type {image.dtype} came; an image source "
                "needs (rows, columns, 3) in uint8. Convert it with napari_pathsam.io first."
            )
        self._image = image
        self._key: str | None = None
        self.name = name
        self.mpp = mpp

    @property
    def key(self) -> str:
        """A digest of shape and pixels."""
        if self._key is None:
            digest = hashlib.blake2b(repr(self._image.shape).encode(), digest_size=16)
            digest.update(np.ascontiguousarray(self._image).data)
            self._key = digest.hexdigest()
        return self._key

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self._image.shape[0], self._image.shape[1])

    def read(self, region: Region, shape_yx: tuple[int, int]) -> NDArray[np.uint8]:
        """The region, averaged when it is made smaller, bilinear when larger."""
        crop = self._image[region.slices]
        return crop if crop.shape[:2] == shape_yx else resized(crop, shape_yx)


def resized(image: NDArray[np.uint8], shape_yx: tuple[int, int]) -> NDArray[np.uint8]:
    """``(H, W, 3)`` at another size: area-averaged where it gets smaller, else bilinear."""
    values = image.astype(np.float32)
    for axis in (0, 1):
        values = _resampled(values.swapaxes(0, axis), shape_yx[axis]).swapaxes(0, axis)
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _resampled(values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """The first axis at ``n`` samples."""
    n_in = len(values)
    if n == n_in:
        return values
    if n > n_in:
        return _lerp(values, np.clip((np.arange(n) + 0.5) * n_in / n - 0.5, 0, n_in - 1))
    # What lies below each edge, linear between pixels; the difference of two is an area.
    below = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    at_edges = _lerp(below, np.linspace(0, n_in, n + 1))
    averaged: NDArray[np.float32] = np.diff(at_edges, axis=0) * np.float32(n / n_in)
    return averaged


def _lerp(values: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    first = np.minimum(at.astype(np.intp), len(values) - 1)
    second = np.minimum(first + 1, len(values) - 1)
    weight = (at - first).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    mixed: NDArray[np.float32] = values[first] + weight * (values[second] - values[first])
    return mixed


@dataclass(frozen=True)
class MaskPrompt:
    """A first mask: ``mask`` ``(h, w)`` bool over the level-0 pixels ``region``."""

    mask: NDArray[np.bool_]
    region: Region

    @classmethod
    def inside(cls, polygon_yx: NDArray[np.float64], shape_yx: tuple[int, int]) -> MaskPrompt:
        """What a polygon ``(n, 2)`` encloses of an image; BadPromptError when that is nothing."""
        low = np.floor(polygon_yx.min(axis=0)).astype(int)
        high = np.ceil(polygon_yx.max(axis=0)).astype(int) + 1
        drawn = Region(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
        region = drawn.intersection(Region.of(shape_yx))
        if region is not None:
            mask = polygon_mask(polygon_yx - (region.y, region.x), region.shape_yx)
            if mask.any():
                return cls(mask, region)
        raise BadPromptError(
            "The lasso encloses no pixel of the image. Draw it round the object, on the image."
        )

    def seen_in(self, field: Field) -> NDArray[np.bool_]:
        """The mask at a field's pixels, nearest pixel, False outside ``region``."""
        seen = np.zeros(field.shape_yx, bool)
        index = []
        for axis, start, n in ((0, self.region.y, self.region.height),
                               (1, self.region.x, self.region.width)):  # fmt: skip
            origin = (field.region.y, field.region.x)[axis]
            centres = (np.arange(field.shape_yx[axis]) + 0.5) / field.scale_yx[axis]
            level0 = np.floor(centres).astype(int) + origin - start
            inside = np.flatnonzero((level0 >= 0) & (level0 < n))
            index.append((inside, level0[inside]))
        (rows, from_rows), (cols, from_cols) = index
        seen[np.ix_(rows, cols)] = self.mask[np.ix_(from_rows, from_cols)]
        return seen


@dataclass(frozen=True)
class Field:
    """A part of the image, ``region`` in level-0 pixels, and the pixels it is encoded at."""

    region: Region
    shape_yx: tuple[int, int]

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Field pixels per level-0 pixel."""
        return (self.shape_yx[0] / self.region.height, self.shape_yx[1] / self.region.width)

    @property
    def scale(self) -> float:
        """The same as one number."""
        return max(self.shape_yx) / max(self.region.shape_yx)

    def prompts_seen(self, prompts: Prompts, mask: MaskPrompt | None = None) -> Prompts:
        """Level-0 prompts in field pixels; what lies outside the field is cut off."""
        sy, sx = self.scale_yx
        oy, ox = self.region.y, self.region.x
        kept = [
            ((y - oy + 0.5) * sy - 0.5, (x - ox + 0.5) * sx - 0.5, sign)
            for (y, x), sign in zip(prompts.points_yx, prompts.positive, strict=True)
            if self.region.contains(y, x)
        ]
        box = None
        if prompts.box is not None:
            y0, x0, y1, x1 = prompts.box
            box = (
                max(0.0, (y0 - oy) * sy), max(0.0, (x0 - ox) * sx),
                min(float(self.shape_yx[0]), (y1 - oy) * sy),
                min(float(self.shape_yx[1]), (x1 - ox) * sx),
            )  # fmt: skip
            if box[2] <= box[0] or box[3] <= box[1]:
                box = None
        seen = mask.seen_in(self) if mask is not None else None
        return Prompts(
            points_yx=tuple((y, x) for y, x, _ in kept),
            positive=tuple(sign for *_, sign in kept),
            box=box,
            mask=seen if seen is not None and seen.any() else None,
        )


def choose_field(
    shape_yx: tuple[int, int],
    view: Region,
    *,
    view_px_per_px: float,
    mpp: float | None,
    mpp_range: tuple[float, float] | None,
    field_px: int,
    at_yx: YX,
) -> Field:
    """The field to encode for a prompt at ``at_yx`` while ``view`` is on screen.

    It is encoded at the resolution at which it is seen, coarser only where the view would not fit
    into ``field_px`` pixels, and within ``mpp_range`` where the image's ``mpp`` is known (never
    above the image's own resolution where it is not). The field is filled up round the view to
    ``field_px``, as far as the image goes. A view too wide for the coarsest resolution gets a
    window of ``field_px`` round the prompt.

    Parameters
    ----------
    shape_yx
        Level-0 size of the image.
    view
        Level-0 pixels on screen; may reach beyond the image.
    view_px_per_px
        Screen pixels per level-0 pixel.
    mpp, mpp_range
        Microns per level-0 pixel; finest and coarsest the model works at.
    field_px
        Longest side the model encodes.
    at_yx
        Where the prompt is.
    """
    whole = Region.of(shape_yx)
    view = view.intersection(whole) or whole
    finest, coarsest = 1.0, 0.0
    if mpp is not None and mpp_range is not None:
        finest, coarsest = mpp / mpp_range[0], mpp / mpp_range[1]
    scale = min(view_px_per_px, finest, field_px / max(view.shape_yx))
    scale = max(scale, coarsest, 1e-9)
    (y, height), (x, width) = (
        _span(shape_yx[i], (view.y, view.x)[i], view.shape_yx[i], int(field_px / scale), at_yx[i])
        for i in (0, 1)
    )
    pixels = [min(field_px, max(1, round(side * scale))) for side in (height, width)]
    return Field(Region(y, x, height, width), (pixels[0], pixels[1]))


def _span(image_px: int, view_start: int, view_px: int, room_px: int, at: float) -> tuple[int, int]:
    """Start and length of a field along one axis: round the view, or round ``at``."""
    length = max(1, min(room_px, image_px))
    in_view = view_start - 0.5 <= at < view_start + view_px - 0.5
    centre = view_start + view_px / 2 if in_view and view_px <= length else at + 0.5
    start = round(centre - length / 2)
    return min(max(start, 0), image_px - length), length


def serves(field: Field, wanted: Field, at_yx: YX, shape_yx: tuple[int, int]) -> bool:
    """Whether a field that is encoded already does for a prompt that would like ``wanted``.

    It must show about the same resolution (within a quarter), and the prompt must have an eighth
    of the field round it on every side, except where the image ends.
    """
    if not 0.8 <= field.scale / wanted.scale <= 1.25:
        return False
    region = field.region
    if not region.contains(*at_yx):
        return False
    for at, start, length, image_px in (
        (at_yx[0], region.y, region.height, shape_yx[0]),
        (at_yx[1], region.x, region.width, shape_yx[1]),
    ):
        margin = length / 8
        if start > 0 and at < start + margin:
            return False
        if start + length < image_px and at > start + length - margin:
            return False
    return True


def neighbours(field: Field, shape_yx: tuple[int, int]) -> list[Field]:
    """The fields left, right, above and below, a quarter over this one, as far as there is image.

    What would overlap by three quarters or more is left out.
    """
    region, found = field.region, []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        y, x = (
            min(max(start + round(0.75 * step * length), 0), whole - length)
            for start, step, length, whole in (
                (region.y, dy, region.height, shape_yx[0]),
                (region.x, dx, region.width, shape_yx[1]),
            )
        )
        if abs(y - region.y) > region.height / 4 or abs(x - region.x) > region.width / 4:
            found.append(Field(Region(y, x, region.height, region.width), field.shape_yx))
    return found


def next_beside(field: Field, shape_yx: tuple[int, int], known: Sequence[Field]) -> Field | None:
    """The first of a field's neighbours of which none that is known shows the middle."""
    for beside in neighbours(field, shape_yx):
        region = beside.region
        middle = (region.y + region.height // 2, region.x + region.width // 2)
        if not any(serves(one, beside, middle, shape_yx) for one in known):
            return beside
    return None
