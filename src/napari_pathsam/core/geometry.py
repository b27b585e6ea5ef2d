"""Regions of an image in level-0 pixels; how frames of different resolution map."""

from __future__ import annotations

from dataclasses import dataclass

from napari_pathsam.core.errors import BadPromptError


@dataclass(frozen=True)
class Region:
    """A rectangle of whole level-0 pixels: rows ``y … y + height``, columns ``x … x + width``."""

    y: int
    x: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise BadPromptError(
                f"A region of {self.height} × {self.width} pixels is empty; "
                "it needs at least one pixel each way."
            )

    @classmethod
    def of(cls, shape_yx: tuple[int, int]) -> Region:
        """The whole of an image of this shape."""
        return cls(0, 0, int(shape_yx[0]), int(shape_yx[1]))

    @property
    def shape_yx(self) -> tuple[int, int]:
        return (self.height, self.width)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this region in a level-0 array ``(H, W, …)``."""
        return (slice(self.y, self.y + self.height), slice(self.x, self.x + self.width))

    def contains(self, y: float, x: float) -> bool:
        """Whether the pixel under ``(y, x)`` (centres on whole numbers) belongs to the region."""
        return (
            self.y - 0.5 <= y < self.y + self.height - 0.5
            and self.x - 0.5 <= x < self.x + self.width - 0.5
        )

    def round_middle(self, longest: int, shape_yx: tuple[int, int]) -> Region:
        """Up to so many pixels each way round the region's middle, inside an image."""
        spans = []
        for start, length, n in zip((self.y, self.x), self.shape_yx, shape_yx, strict=True):
            size = min(longest, n)
            spans.append((max(0, min(start + length // 2 - size // 2, n - size)), size))
        (y, height), (x, width) = spans
        return Region(y, x, height, width)

    def intersection(self, other: Region) -> Region | None:
        """What both regions cover, or None."""
        y0, x0 = max(self.y, other.y), max(self.x, other.x)
        y1 = min(self.y + self.height, other.y + other.height)
        x1 = min(self.x + self.width, other.x + other.width)
        return Region(y0, x0, y1 - y0, x1 - x0) if y1 > y0 and x1 > x0 else None

    def halved(self, shape_yx: tuple[int, int]) -> Region | None:
        """The pixels of an image half as fine, of this shape, that these pixels are part of."""
        y, x = self.y // 2, self.x // 2
        bottom, right = -(-(self.y + self.height) // 2), -(-(self.x + self.width) // 2)
        return Region(y, x, bottom - y, right - x).intersection(Region.of(shape_yx))
