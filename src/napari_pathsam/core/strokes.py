"""Painted labels: separate regions per class, what of them is held out, and simulated scribbles.

Label images here hold class ids; 0 means that nobody painted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

GAP_PX = 12
"""Pieces of one class that painted pixels join within twice this are one: a stroke that another
one crosses stays one region."""
NEAR_PX = 6
"""Pieces of one class no farther apart than they are wide, and than twice this, are one, whatever
lies between: an eraser as wide as the brush that is drawn across a stroke makes no two of it."""
MEASURED, MEASURED_PX = 64, 2**18
"""So many pieces are measured, and of a larger one every second, third … row and column."""
OBJECTS = 6
"""So many pieces, all of them near each other, are objects and no stroke: each is a region."""
EIGHT = np.ones((3, 3), bool)

HoldBy = Literal["region", "image"]


@dataclass(frozen=True)
class Areas:
    """Separate regions: ``areas`` ``(H, W)`` int32 numbers them from 1, 0 is not painted.

    ``class_id`` and ``n_px`` have one entry for each.
    """

    areas: NDArray[np.int32]
    class_id: tuple[int, ...]
    n_px: tuple[int, ...]


@dataclass(frozen=True)
class ClassStrokes:
    """What was painted of a class over all images."""

    class_id: int
    n_px: int
    n_regions: int
    n_images: int

    @property
    def too_few(self) -> bool:
        """Whether nothing of it can be held out: fewer than two separate regions."""
        return self.n_regions < 2


def separate_regions(labels: NDArray, ids: Sequence[int] | None = None) -> Areas:
    """Number the separate regions of each class: 8-connected, and not two pieces of one stroke.

    ``ids`` are the classes that count; by default all but 0.
    """
    numbers = np.zeros(labels.shape, np.int32)
    found = [int(i) for i in np.unique(labels) if i] if ids is None else list(ids)
    painted = np.isin(labels, found) & (labels != 0)
    classes: list[int] = []
    sizes: list[int] = []
    if not painted.any():
        return Areas(numbers, (), ())
    rows, columns = (np.flatnonzero(painted.any(axis=axis)) for axis in (1, 0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    labels, painted, inside = labels[box], painted[box], numbers[box]
    for class_id in found:
        own = labels == class_id
        if not own.any():
            continue
        pieces, n = ndimage.label(own, EIGHT)
        areas = pieces
        if n > 1:  # across other strokes: painted pixels only
            crossed = ndimage.binary_dilation(own, EIGHT, iterations=GAP_PX, mask=painted)
            joined, n = ndimage.label(crossed, EIGHT)
            near = crossed | ndimage.maximum_filter(own, 2 * _near_px(pieces) + 1)
            together, fewer = ndimage.label(near, EIGHT)
            if fewer > 1 or n < OBJECTS:
                joined, n = together, fewer
            areas = np.where(own, joined, 0)
        inside[own] = areas[own] + len(classes)
        classes += [class_id] * n
        sizes += [int(s) for s in np.bincount(areas[own], minlength=n + 1)[1:]]
    return Areas(numbers, tuple(classes), tuple(sizes))


def _near_px(pieces: NDArray[np.int32]) -> int:
    """How far the pieces of a class reach for each other: by the width that half of them have."""
    widths = []
    measured = min(MEASURED, int(pieces.max()))
    for number, box in enumerate(ndimage.find_objects(pieces, max_label=measured), start=1):
        step = max(1, int((pieces[box].size / MEASURED_PX) ** 0.5))
        piece = np.pad(pieces[box][::step, ::step] == number, 1)
        widths.append(step * (2 * float(ndimage.distance_transform_edt(piece).max()) - 1))
    return min(NEAR_PX, int(float(np.median(widths)) + 1) // 2)


def class_strokes(label_images: Sequence[NDArray], ids: Sequence[int]) -> tuple[ClassStrokes, ...]:
    """Pixels, separate regions and images of each class, in the order of ``ids``."""
    areas = [separate_regions(labels, ids) for labels in label_images]
    return strokes_of(areas, ids)


def strokes_of(areas: Sequence[Areas], ids: Sequence[int]) -> tuple[ClassStrokes, ...]:
    """:func:`class_strokes` of regions that were told apart before."""
    rows = []
    for class_id in ids:
        sizes = [
            [n for n, c in zip(a.n_px, a.class_id, strict=True) if c == class_id] for a in areas
        ]
        rows.append(
            ClassStrokes(
                class_id,
                n_px=sum(map(sum, sizes)),
                n_regions=sum(map(len, sizes)),
                n_images=sum(1 for s in sizes if s),
            )
        )
    return tuple(rows)


def held_out(
    areas: Sequence[Areas],
    *,
    by: HoldBy = "region",
    share: float = 0.2,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
    seen: Sequence[NDArray[np.bool_]] | None = None,
    before: Sequence[NDArray[np.bool_]] | None = None,
) -> list[NDArray[np.bool_]]:
    """Which painted pixels of each image are not trained on: whole regions, or whole images.

    By region: of each class as many as make up about ``share`` of its pixels, at least one, drawn
    by ``seed``; the largest is always trained on, and a class with one region keeps it. By image:
    about ``share`` of the images, at least one, such that every class stays in training; where that
    be, nothing is held out. Images of one of the ``groups`` (parts of a slide) are on the
    same side.

    What a model goes on from has ``seen`` these pixels of each image: no region, and no image, that
    holds some of them is held out. What was held out ``before`` comes first.
    """
    held = [np.zeros(a.areas.shape, bool) for a in areas]
    seen, before = seen or held, before or held
    rng = np.random.default_rng([seed, 11])
    if by == "image":
        groups = groups or range(len(areas))
        touched = [
            {group for group, mask in zip(groups, masks, strict=True) if mask.any()}
            for masks in (seen, before)
        ]
        for i in _held_images(areas, groups, share, rng, *touched):
            held[i] = areas[i].areas > 0
        return held
    barred, first = (
        {
            (image, int(number))
            for image, (a, mask) in enumerate(zip(areas, masks, strict=True))
            for number in np.unique(a.areas[mask])
        }
        for masks in (seen, before)
    )
    for class_id in sorted({c for a in areas for c in a.class_id}):
        regions = [
            (n_px, image, number)
            for image, a in enumerate(areas)
            for number, (c, n_px) in enumerate(zip(a.class_id, a.n_px, strict=True), start=1)
            if c == class_id
        ]
        wanted = share * sum(n_px for n_px, _, _ in regions)
        regions.sort(key=lambda r: (-r[0], r[1:]))
        rest = [regions[1:][i] for i in rng.permutation(len(regions) - 1)]
        rest.sort(key=lambda r: r[1:] not in first)
        taken = 0.0
        for n_px, image, number in rest:
            if (image, number) in barred:
                continue
            if taken and taken + n_px / 2 > wanted:
                continue
            held[image] |= areas[image].areas == number
            taken += n_px
    return held


def _held_images(
    areas: Sequence[Areas], groups: Sequence[Hashable], share: float, rng: np.random.Generator,
    barred: Collection[Hashable], first: Collection[Hashable],
) -> list[int]:  # fmt: skip
    """The images that are held out, such that every class is left in some other group."""
    classes: dict[Hashable, set[int]] = {}
    for group, a in zip(groups, areas, strict=True):
        if a.class_id:
            classes.setdefault(group, set()).update(a.class_id)
    n_groups = Counter(c for found in classes.values() for c in found)
    labelled = [*classes]
    wanted = max(1, round(share * len(labelled)))
    chosen: set[Hashable] = set()
    drawn = [labelled[i] for i in rng.permutation(len(labelled))]
    for group in sorted(drawn, key=lambda group: group not in first):
        free = group not in barred and all(n_groups[c] > 1 for c in classes[group])
        if len(chosen) < wanted and free:
            chosen.add(group)
            n_groups.subtract(classes[group])
    return [i for i, group in enumerate(groups) if group in chosen]


def scribbles(
    class_map: NDArray,
    *,
    share: float = 0.02,
    seed: int = 0,
    width_px: int = 7,
    length_px: int = 120,
) -> NDArray[np.uint8]:
    """What a person who paints little might paint: strokes inside the regions of a class map.

    A stroke begins at a random point of its class, away from the class's border, and wanders on in
    about the same direction, ``width_px`` wide and at most ``length_px`` long, without leaving the
    class. All classes that are there get about equally many pixels, until ``share`` of the image is
    painted.

    Parameters
    ----------
    class_map
        ``(H, W)`` class ids; 0 is never painted.
    share
        Part of the image's pixels.
    seed
        The same seed, the same strokes.

    Returns
    -------
    ``(H, W)`` uint8, ids of the class map, 0 where nothing is painted.
    """
    rng = np.random.default_rng([seed, 17])
    painted = np.zeros(class_map.shape, np.uint8)
    ids = [int(i) for i in np.unique(class_map) if i]
    if not ids:
        return painted
    each = share * class_map.size / len(ids)
    for class_id in ids:
        own = class_map == class_id
        # As far from the image's side as from the class's: a hand does not go there either.
        depth = ndimage.distance_transform_edt(np.pad(own, 1))[1:-1, 1:-1]
        inner = np.flatnonzero(depth > width_px / 2 + 1)
        if not inner.size:
            inner = np.flatnonzero(depth >= depth.max())
        weight = np.minimum(depth.ravel()[inner], 4 * width_px)
        weight /= weight.sum()
        for _ in range(1000):
            if np.count_nonzero(painted == class_id) >= each:
                break
            start = np.unravel_index(rng.choice(inner, p=weight), own.shape)
            left = each - np.count_nonzero(painted == class_id)
            length = min(length_px * rng.uniform(0.4, 1.0), max(width_px, left / width_px))
            _draw(painted, own, _walk(depth, start, length, width_px, rng), class_id, width_px)
    return painted


def _walk(
    depth: NDArray[np.float64],
    start: tuple[np.intp, ...],
    length_px: float,
    width_px: int,
    rng: np.random.Generator,
) -> list[tuple[float, float]]:
    """Points a step apart that stay deep enough inside."""
    step = max(1.0, width_px / 2)
    y, x = (float(v) for v in start)
    points = [(y, x)]
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(int(length_px / step)):
        turns = angle + rng.normal(0, 0.3, 6) + np.array([0, 0, 0.6, -0.6, 1.2, -1.2])
        ys, xs = y + step * np.sin(turns), x + step * np.cos(turns)
        rows, columns = np.rint(ys).astype(int), np.rint(xs).astype(int)
        inside = (rows >= 0) & (columns >= 0) & (rows < depth.shape[0]) & (columns < depth.shape[1])
        deep = np.zeros(len(turns))
        deep[inside] = depth[rows[inside], columns[inside]]
        good = np.flatnonzero(deep > width_px / 2)
        if not good.size:
            break
        y, x, angle = float(ys[good[0]]), float(xs[good[0]]), float(turns[good[0]])
        points.append((y, x))
    return points


def _draw(
    painted: NDArray[np.uint8],
    own: NDArray[np.bool_],
    points: Sequence[tuple[float, float]],
    class_id: int,
    width_px: int,
) -> None:
    """Paint a round brush along the points, where the class is."""
    radius = width_px / 2
    reach = int(np.ceil(radius))
    for y, x in points:
        top, left = max(0, int(y) - reach), max(0, int(x) - reach)
        rows, columns = np.ogrid[top : int(y) + reach + 2, left : int(x) + reach + 2]
        rows, columns = rows[rows[:, 0] < own.shape[0]], columns[:, columns[0] < own.shape[1]]
        brush = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        window = (slice(top, top + len(rows)), slice(left, left + columns.shape[1]))
        painted[window][brush & own[window]] = class_id
