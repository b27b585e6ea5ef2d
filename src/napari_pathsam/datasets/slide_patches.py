"""Slides with outlines as patches: squares at one pixel size, painted when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.datasets.base import UNKNOWN_ID, Pixels, Sample
from napari_pathsam.io.annotations import Annotation, Annotations, paint
from napari_pathsam.io.slides import Slide, open_slide

PATCH_PX = 1024
OVERVIEW_MPP = 16.0
GLASS_ABOVE = 215
"""Pixels brighter than this in every colour are glass."""
COLOURED = 18
"""Tissue is stained: its colours differ by more than this; glass, black borders and dust do not."""
LEAST_TISSUE = 0.1

Outline = tuple[str, NDArray[np.float64]]
"""Class name ("": cut out of what was painted before) and corners ``(n, 2)`` as ``x, y``."""


@dataclass(frozen=True)
class SlideOutlines:
    """What is drawn on a slide, in the order it is painted.

    ``classes`` are the outlines' own; ``lookup[id]`` is the sample's id for each, ``outside`` that
    of pixels no outline holds. With ``blank_glass`` glass outside of all outlines is background.
    """

    outlines: tuple[Outline, ...]
    classes: tuple[str, ...]
    lookup: tuple[int, ...]
    outside: int = UNKNOWN_ID
    blank_glass: bool = False
    shape_yx: tuple[int, int] | None = None


@dataclass(frozen=True)
class SlidePatch:
    """Reads ``part`` of a slide (None: all of it) at ``mpp``.

    ``drawn`` finds the outlines; a function of a module, so that it travels to worker processes.
    """

    drawn: Callable[[Sample], SlideOutlines]
    mpp: float = OVERVIEW_MPP
    part: Region | None = None

    def __call__(self, sample: Sample) -> Pixels:
        found = self.drawn(sample)
        slide = open_slide(sample.image_path)
        try:
            _check_size(sample, found, slide)
            part = self.part or Region.of(slide.shape_yx)
            downsample = self.mpp / mpp_of(slide)
            height, width = (max(1, round(n / downsample)) for n in part.shape_yx)
            image = np.array(slide.read_resampled(part, (height, width)))
        finally:
            slide.close()
        return image, painted(found, image, (part.y, part.x), downsample)


def painted(
    found: SlideOutlines, image: NDArray[np.uint8], offset_yx: tuple[int, int], downsample: float
) -> NDArray[np.uint8]:
    """Class ids ``(H, W)`` of a part of a slide, whose pixels are ``(H, W, 3)``."""
    items = tuple(Annotation(([ring],), None, name or None, None) for name, ring in found.outlines)
    drawn = Annotations(items, ClassTable.of(*found.classes))
    shape_yx = (image.shape[0], image.shape[1])
    number, raw, _ = paint(drawn, shape_yx, offset_yx=offset_yx, downsample=downsample)
    labels = np.array(found.lookup, np.uint8)[raw]
    labels[number == 0] = found.outside
    if found.blank_glass:
        labels[(number == 0) & (image.min(axis=2) > GLASS_ABOVE)] = 0
    return labels


def mpp_of(slide: Slide) -> float:
    """The slide's pixel size; BadFileError where its file does not say it."""
    if slide.mpp is None:
        raise BadFileError(
            f"{slide.name} does not say its pixel size, without which its patches cannot be cut. "
            "Take the published file; converted copies may have lost it."
        )
    return slide.mpp


def _check_size(sample: Sample, found: SlideOutlines, slide: Slide) -> None:
    if found.shape_yx is not None and found.shape_yx != slide.shape_yx:
        raise BadFileError(
            f"{sample.image_path} has {slide.shape_yx[0]} × {slide.shape_yx[1]} pixels, and its "
            f"outlines were drawn on {found.shape_yx[0]} × {found.shape_yx[1]}. Take the published "
            "slide, not a reduced copy."
        )


def patches_of(
    whole: Sample, mpp: float, *, everywhere: bool = False, side_px: int = PATCH_PX
) -> list[Sample]:
    """A slide's squares of ``side_px`` at ``mpp`` that an outline touches, none overlapping.

    With ``everywhere`` squares with tissue and no outline as well.
    """
    assert isinstance(whole.reader, SlidePatch)
    found = whole.reader.drawn(whole)
    slide = open_slide(whole.image_path)
    try:
        side = round(side_px * mpp / mpp_of(slide))
        parts = list(_squares(slide.shape_yx, side))
        chosen = touched(parts, found.outlines)
        if everywhere:
            chosen |= _with_tissue(slide, parts)
    finally:
        slide.close()
    return [_cut(whole, parts[i], mpp) for i in sorted(chosen)]


def around(patch: Sample, times: int) -> Sample:
    """The patch about the same centre that shows ``times`` as much each way, in as many pixels."""
    assert isinstance(patch.reader, SlidePatch)
    assert patch.reader.part is not None
    part, mpp = patch.reader.part, patch.reader.mpp * times
    grown = Region(
        part.y - part.height * (times - 1) // 2,
        part.x - part.width * (times - 1) // 2,
        part.height * times,
        part.width * times,
    )
    return replace(patch, mpp=mpp, reader=replace(patch.reader, part=grown, mpp=mpp))


def _cut(whole: Sample, part: Region, mpp: float) -> Sample:
    assert isinstance(whole.reader, SlidePatch)
    reader = replace(whole.reader, part=part, mpp=mpp)
    return replace(whole, name=f"{whole.name}/y{part.y}_x{part.x}", mpp=mpp, reader=reader)


def _squares(shape_yx: tuple[int, int], side: int) -> Iterator[Region]:
    """A grid of whole squares; what stands over the slide's edge is white when it is read."""
    for y in range(0, shape_yx[0], side):
        for x in range(0, shape_yx[1], side):
            yield Region(y, x, side, side)


def touched(parts: Sequence[Region], outlines: Iterable[Outline]) -> set[int]:
    """Which parts an outline of a class (not one that is cut out) has area in."""
    import shapely

    areas = [shapely.make_valid(shapely.Polygon(ring)) for name, ring in outlines if name]
    if not areas:
        return set()
    boxes = [shapely.box(p.x, p.y, p.x + p.width, p.y + p.height) for p in parts]
    pairs = shapely.STRtree(boxes).query(areas, predicate="intersects")
    return {
        int(box)
        for area, box in pairs.T.tolist()
        if shapely.intersection(areas[area], boxes[box]).area > 0
    }


def _with_tissue(slide: Slide, parts: Sequence[Region]) -> set[int]:
    """Which parts show stained tissue, looked for at low resolution."""
    scale = mpp_of(slide) / OVERVIEW_MPP
    height, width = (max(1, round(n * scale)) for n in slide.shape_yx)
    overview = slide.read_resampled(Region.of(slide.shape_yx), (height, width)).astype(np.int16)
    tissue = overview.max(axis=2) - overview.min(axis=2) > COLOURED
    found = set()
    for index, part in enumerate(parts):
        top, left = int(part.y * scale), int(part.x * scale)
        bottom, right = (
            int((at + n) * scale) for at, n in ((part.y, part.height), (part.x, part.width))
        )
        seen = tissue[top : max(bottom, top + 1), left : max(right, left + 1)]
        if seen.size and seen.mean() >= LEAST_TISSUE:
            found.add(index)
    return found
