"""Candidate: the mask on offer, where it lies, and how it gets there from a field's logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region


@dataclass(frozen=True)
class Candidate:
    """A decoded mask, not accepted yet.

    Attributes
    ----------
    mask
        ``(h, w)`` bool, cropped to the object, at the resolution of the encoded field.
    region
        The level-0 pixels ``mask`` covers; ``region.shape_yx / mask.shape`` is a layer's scale,
        :attr:`translate_yx` its translation.
    score
        Predicted IoU.
    index, n
        Which of the decoder's ``n`` masks this is.
    """

    mask: NDArray[np.bool_]
    region: Region
    score: float
    index: int
    n: int

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Level-0 pixels per mask pixel."""
        return (
            self.region.height / self.mask.shape[0],
            self.region.width / self.mask.shape[1],
        )

    @property
    def translate_yx(self) -> tuple[float, float]:
        """Level-0 position of the centre of mask pixel (0, 0)."""
        sy, sx = self.scale_yx
        return (self.region.y + (sy - 1) / 2, self.region.x + (sx - 1) / 2)
