"""Prompts: what a person says about one object; and the simulated annotator that says it in tests.

Coordinates are image pixels ``(y, x)`` with pixel centres on whole numbers; a box is
``(y0, x0, y1, x1)`` and half-open, as in scikit-image: the tight box of one pixel is
``(y, x, y + 1, x + 1)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.errors import BadPromptError

YX = tuple[float, float]
Box = tuple[float, float, float, float]

SMALLEST_OBJECT_PX = 50
"""Objects below this area are left out of evaluation, and counted."""


@dataclass(frozen=True)
class Prompts:
    """Everything said about one object: points, a box, a first mask.

    ``positive[i]`` belongs to ``points_yx[i]``. ``mask`` is a boolean image ``(H, W)`` of the
    encoded image's shape; scribbles and polygons become points or a mask before they get here
    (:func:`scribble_points`, :func:`polygon_mask`).
    """

    points_yx: tuple[YX, ...] = ()
    positive: tuple[bool, ...] = ()
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if len(self.points_yx) != len(self.positive):
            raise BadPromptError(
                f"{len(self.points_yx)} points came with {len(self.positive)} signs; "
                "each point is either positive or negative."
            )
        if self.box is not None:
            y0, x0, y1, x1 = self.box
            if not (y1 > y0 and x1 > x0):
                raise BadPromptError(
                    f"The box {self.box} has no area; it goes from its upper left (y0, x0) "
                    "to its lower right (y1, x1). Drag a box with some height and width."
                )

    def __bool__(self) -> bool:
        return bool(self.points_yx) or self.box is not None or self.mask is not None

    def with_point(self, y: float, x: float, *, positive: bool = True) -> Prompts:
        """These prompts and one more point."""
        return replace(
            self,
            points_yx=(*self.points_yx, (float(y), float(x))),
            positive=(*self.positive, bool(positive)),
        )

    def with_box(self, box: Box | None) -> Prompts:
        """These prompts with this box (None: without one)."""
        return replace(self, box=box)

    def with_mask(self, mask: NDArray[np.bool_] | None) -> Prompts:
        """These prompts with this first mask (None: without one)."""
        return replace(self, mask=mask)

    def shifted(self, dy: float, dx: float) -> Prompts:
        """Points and box moved; the mask is left to whoever crops it."""
        box = self.box and (
            self.box[0] + dy, self.box[1] + dx, self.box[2] + dy, self.box[3] + dx
        )  # fmt: skip
        points = tuple((y + dy, x + dx) for y, x in self.points_yx)
        return replace(self, points_yx=points, box=box)

    def check(self, shape_yx: tuple[int, int]) -> None:
        """Raise BadPromptError when something lies outside an image of this shape."""
        height, width = shape_yx
        for y, x in self.points_yx:
            if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
                raise BadPromptError(
                    f"The point (y={y:g}, x={x:g}) lies outside the image, which has {height} "
                    f"rows and {width} columns. Click on the image."
                )
        if self.box is not None:
            y0, x0, y1, x1 = self.box
            if y1 <= -0.5 or x1 <= -0.5 or y0 >= height - 0.5 or x0 >= width - 0.5:
                raise BadPromptError(
                    f"The box {self.box} lies outside the image, which has {height} rows and "
                    f"{width} columns. Draw it on the image."
                )
        if self.mask is not None and self.mask.shape != shape_yx:
            raise BadPromptError(
                f"The mask prompt has the shape {self.mask.shape}, the image {shape_yx}; "
                "they must be equal."
            )
        if not self:
            raise BadPromptError("There is no prompt yet: click on an object or draw a box.")


def tight_box(mask: NDArray[np.bool_]) -> Box:
    """The smallest half-open box round a mask."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise BadPromptError("An empty mask has no box.")
    return (float(rows[0]), float(cols[0]), float(rows[-1] + 1), float(cols[-1] + 1))


def scribble_points(path_yx: NDArray[np.floating], *, at_most: int = 8) -> tuple[YX, ...]:
    """Points at equal steps along a drawn path ``(n, 2)``: how a scribble prompts."""
    path = np.asarray(path_yx, dtype=float)
    steps = np.hypot(*np.diff(path, axis=0).T) if len(path) > 1 else np.zeros(0)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    n = int(np.clip(round(along[-1] / 10) + 1, 1, at_most))
    wanted = (np.arange(n) + 0.5) / n * along[-1]
    return tuple(
        (float(np.interp(w, along, path[:, 0])), float(np.interp(w, along, path[:, 1])))
        for w in wanted
    )


def polygon_mask(polygon_yx: NDArray[np.floating], shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres a polygon ``(n, 2)`` encloses."""
    from skimage.draw import polygon2mask

    mask: NDArray[np.bool_] = polygon2mask(shape_yx, np.asarray(polygon_yx, dtype=float))
    return mask


# --- the simulated annotator -------------------------------------------------------------------
# One definition for training and evaluation alike.


def innermost_point(mask: NDArray[np.bool_]) -> YX:
    """The pixel farthest from a mask's outside (the image's border counts as outside)."""
    # The nearest outside pixel is never farther than the ring round the mask's own box.
    (y0, x0), inside = _cropped(mask)
    padded = np.pad(inside, 1)
    y, x = np.unravel_index(np.argmax(ndimage.distance_transform_edt(padded)), padded.shape)
    return (float(y0 + y - 1), float(x0 + x - 1))


def next_click(target: NDArray[np.bool_], mask: NDArray[np.bool_]) -> tuple[YX, bool] | None:
    """Where a careful annotator clicks next, and the click's sign; None when nothing is wrong.

    The innermost point of the largest 8-connected component of the error: positive where object
    is missing, negative where there is too much.
    """
    wrong = target != mask
    if not wrong.any():
        return None
    (y0, x0), wrong = _cropped(wrong)
    window = (slice(y0, y0 + wrong.shape[0]), slice(x0, x0 + wrong.shape[1]))
    largest: tuple[int, NDArray[np.bool_], bool] | None = None
    for error, positive in ((wrong & target[window], True), (wrong & mask[window], False)):
        labels, n = ndimage.label(error, structure=np.ones((3, 3)))
        if n:
            sizes = np.bincount(labels.ravel())[1:]
            which = int(sizes.argmax())
            if largest is None or sizes[which] > largest[0]:
                largest = (int(sizes[which]), labels == which + 1, positive)
    assert largest is not None  # something is wrong, so one of the two had a component
    y, x = innermost_point(largest[1])
    return (y0 + y, x0 + x), largest[2]


def _cropped(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Upper left corner of a mask's tight box, and the mask inside it."""
    y0, x0, y1, x1 = (int(v) for v in tight_box(mask))
    return (y0, x0), mask[y0:y1, x0:x1]


def ellipse_in_box(box: Box, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    """The ellipse that touches a box's four sides: the baseline every model must beat."""
    y0, x0, y1, x1 = box
    rows, cols = np.ogrid[: shape_yx[0], : shape_yx[1]]
    # Pixel centres lie on whole numbers, the half-open box's middle half a pixel before its own.
    dy = (rows - (y0 + y1 - 1) / 2) / ((y1 - y0) / 2)
    dx = (cols - (x0 + x1 - 1) / 2) / ((x1 - x0) / 2)
    inside: NDArray[np.bool_] = dy**2 + dx**2 <= 1
    return inside


def iter_objects(
    labels: NDArray, *, smallest_px: int = SMALLEST_OBJECT_PX
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """``(id, mask)`` of each object of an instance map that is large enough."""
    for index, where in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        if where is None:
            continue
        inside = labels[where] == index
        if np.count_nonzero(inside) >= smallest_px:
            mask = np.zeros(labels.shape, bool)
            mask[where] = inside
            yield index, mask
