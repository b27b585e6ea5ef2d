"""What the dock says before a run: about the pixel size, and about the encoding it will take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_pathsam.core.duration import duration
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.segment_work import encoding_of

if TYPE_CHECKING:
    from napari_pathsam._napari.segment_heads import HeadChoice
    from napari_pathsam.workspace.segmenting import Segmenting

CELL_PX = 4.0
OVERLAP_COST = 1.5
"""Tiles overlap: so many times as much is encoded."""


def pixel_size_text(head: HeadChoice, mpp: float | None) -> str:
    """A warning where the image's pixel size is unknown or not one the model is at home in."""
    works_at = f"{head.title} works at {head.mpp:g} µm/px" if head.mpp else head.title
    if mpp is None:
        return (
            f"The pixel size of this image is unknown. {works_at}: the image is taken as if its "
            "pixels had that size. If they do not, the result is likely wrong: type the size above."
        )
    if head.mpp_range is None:
        return ""
    low, high = head.mpp_range
    if low / 1.02 <= mpp <= high * 1.02:
        return ""
    what = "coarser than what it was made for, details may be missing" if mpp > high else (
        "finer than what it was made for"
    )  # fmt: skip
    return (
        f"The image has {mpp:.3g} µm/px, and {head.title} is at home from {low:g} to {high:g}: "
        f"{what}. Check the pixel size above, and look at the result with care."
    )


def encoding_text(
    segmenting: Segmenting,
    head: HeadChoice,
    image_key: str,
    regions: tuple[Region, ...],
    mpp: float | None,
    views: int | None = None,
) -> str:
    """Whether the image must be encoded for this model, and how long that takes.

    ``views`` as in ``SegmentOptions``.
    """
    if not head.mpp or not regions or head.embedding_name == "pixels":
        return ""  # a network that reads pixels has nothing that could be there already
    encoding = encoding_of(head.embedding_name, head.mpp, head.enlarge, mpp)
    often = 1 if head.embedding_name.startswith("pixels") else views or 1
    if segmenting.is_encoded(image_key, encoding, regions, often):
        return "The encoding is there already: this takes moments."
    pixels = sum(r.height * r.width for r in regions)
    cells = pixels * ((mpp or head.mpp) / head.mpp * head.enlarge / CELL_PX) ** 2
    seconds = segmenting.seconds_for(head.embedding_name, cells * OVERLAP_COST * often)
    if seconds is None:
        return (
            f"The image is encoded at {head.mpp:g} µm/px; the first tile tells how long it takes."
        )
    if segmenting.was_encoded(image_key, encoding):
        return f"This part is encoded first: about {duration(seconds)}, less where it was before."
    if segmenting.was_encoded(image_key):
        return f"A second encoding is needed, at {head.mpp:g} µm/px: about {duration(seconds)}."
    return f"The image is encoded at {head.mpp:g} µm/px: about {duration(seconds)}."
