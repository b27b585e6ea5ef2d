"""How a head's answer is best tidied: what was chosen for it on validation data, and where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Area = Annotated[float, Field(ge=0)]


class Advice(BaseModel):
    """Settings of a segmentation that scored best for one model; areas in µm², whatever the image.

    Attributes
    ----------
    threshold, surest, views
        As in :class:`~napari_pathsam.inference.class_maps.SegmentSettings`.
    smallest_um2, fill_holes_um2
        Its ``smallest_px`` and ``fill_holes_px``, as areas.
    why
        What they gave, and on which images they were chosen; one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: Share = 0.0
    surest: Share = 0.0
    smallest_um2: Area = 0.0
    fill_holes_um2: Area = 0.0
    views: Literal[1, 2, 4, 8] | None = None
    why: str

    def pixels(self, mpp: float) -> tuple[int, int]:
        """``smallest_px`` and ``fill_holes_px`` of an image of this pixel size in µm."""
        return (round(self.smallest_um2 / mpp**2), round(self.fill_holes_um2 / mpp**2))

    def options(self, mpp: float) -> str:
        """The same as options of ``pathsam segment`` and ``pathsam evaluate``."""
        smallest, holes = self.pixels(mpp)
        named = {
            "--threshold": self.threshold,
            "--surest": self.surest,
            "--smallest": smallest,
            "--fill-holes": holes,
            "--views": self.views,
        }
        return " ".join(f"{option} {value:g}" for option, value in named.items() if value)
