"""What is to be segmented: parts of an image, by which model, how; and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.annotations import LARGEST_WHOLE_PX
from napari_pathsam.workspace.fields import ImageSource


@dataclass(frozen=True)
class Part:
    """A region to segment; ``within`` ``(h, w)`` bool says what of it is wanted, None: all.

    ``outline_yx`` is the polygon ``within`` came from, in level-0 pixels; ``drawn`` is what was
    asked for where that reaches beyond the image.
    """

    region: Region
    within: NDArray[np.bool_] | None = None
    outline_yx: NDArray[np.float64] | None = None
    drawn: Region | None = None

    def where(self, region: Region) -> NDArray[np.bool_] | None:
        """The wanted pixels of a region inside this one."""
        if self.within is None:
            return None
        at = Region(region.y - self.region.y, region.x - self.region.x, *region.shape_yx)
        return self.within[at.slices]


@dataclass(frozen=True)
class SegmentOptions:
    """How classes are found; see ``inference.class_maps.SegmentSettings`` for the first four.

    ``instances`` splits classes into objects, ``sharpen`` redraws those with the prompt decoder;
    ``probabilities`` and ``uncertainty`` are kept to be shown; answers to ``views`` turned and
    mirrored views of each tile are averaged, None: as many as the model says.
    """

    threshold: float = 0.0
    surest: float = 0.0
    smallest_px: int = 0
    fill_holes_px: int = 0
    instances: bool = False
    sharpen: bool = False
    probabilities: bool = False
    uncertainty: bool = False
    views: int | None = None


@dataclass(frozen=True)
class SegmentRequest:
    """What is to be segmented, by what: ``first`` is what is looked at, done before the rest.

    ``mpp`` is None where nobody knows; then pixels are taken as they are.
    """

    source: ImageSource
    parts: tuple[Part, ...]
    model: str
    device: str = "auto"
    mpp: float | None = None
    first: Region | None = None
    options: SegmentOptions = field(default_factory=SegmentOptions)


@dataclass(frozen=True)
class Progress:
    """How far a run is: what it does, tiles done of all, seconds left where that is known.

    ``reused`` counts tiles whose embedding was there already.
    """

    text: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    reused: int = 0


def result_window(request: SegmentRequest) -> Region:
    """The level-0 pixels a result covers: the image, or of a large one what was asked for."""
    return window_of(request.source.shape_yx, request.parts)


def window_of(shape_yx: tuple[int, int], parts: Sequence[Part]) -> Region:
    """What a result of these parts of an image will cover; its sides say whether it is a slide's.

    More than :data:`LARGEST_WHOLE_PX` a side is kept in a label pyramid on the disk.
    """
    if max(shape_yx) <= LARGEST_WHOLE_PX or not parts:
        return Region.of(shape_yx)
    return bounds([part.region for part in parts])


def check(request: SegmentRequest) -> None:
    """Refuse what cannot be shown.

    Raises
    ------
    BadImageError
        Nothing is asked for, or more than a labels layer can show.
    """
    if not request.parts:
        raise BadImageError(
            "There is nothing to segment: no part of the image is in view, or the shapes layer "
            "has no shape on it. Move the image into view, draw a shape, or choose “Whole image”."
        )
    window = result_window(request)
    one = len(request.parts) == 1 and request.parts[0].within is None
    if max(window.shape_yx) > LARGEST_WHOLE_PX and not one:
        raise BadImageError(
            f"The shapes lie on {window.height} × {window.width} pixels, and together up to "
            f"{LARGEST_WHOLE_PX} a side are segmented. Choose “The whole image”, one rectangle, or "
            "shapes that are nearer to each other."
        )


def bounds(regions: list[Region]) -> Region:
    """The smallest region that holds them all."""
    y, x = min(r.y for r in regions), min(r.x for r in regions)
    bottom = max(r.y + r.height for r in regions)
    right = max(r.x + r.width for r in regions)
    return Region(y, x, bottom - y, right - x)
