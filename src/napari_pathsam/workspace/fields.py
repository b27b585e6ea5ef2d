"""Fields: which part of an image is encoded for a prompt, and at which resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region


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

    def read(self, region: Region, shape_yx: tuple[int, int]) -> NDArray[np.uint8]:
        """The region ``(h, w, 3)``, resampled to ``shape_yx``; called in a worker."""


class ArraySource:
    """An RGB array ``(H, W, 3)`` uint8 as an image source."""

    def __init__(
        self, image: NDArray[np.uint8], *, name: str = "image", mpp: float | None = None
    ) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Field:
    """A part of the image and the pixels it is encoded at."""

    region: Region
    shape_yx: tuple[int, int]


def choose_field(
    shape_yx: tuple[int, int],
    view: Region,
    *,
    view_px_per_px: float,
    mpp: float | None,
    mpp_range: tuple[float, float] | None,
    field_px: int,
    at_yx: tuple[float, float],
) -> Field:
    """The field to encode for a prompt at ``at_yx`` while ``view`` is on screen."""
    raise NotImplementedError
