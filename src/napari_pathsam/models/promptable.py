"""What every promptable model can do, whichever network is inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask

if TYPE_CHECKING:
    import torch


class FieldConfig(Protocol):
    """What a promptable model's configuration says of the images it wants."""

    @property
    def field_px(self) -> int:
        """Longest side of an image."""
        ...

    @property
    def mpp_range(self) -> tuple[float, float] | None:
        """Pixel sizes in µm at which it is at home; None: nobody measured."""
        ...


class Promptable(Protocol):
    """A model that is shown an image once and then answers clicks, boxes and masks.

    ``models.sam2.Sam2`` is one in every configuration (SAM 2.1, MedSAM2, SAM 1, nano), and so is
    ``models.wsi_sam.WsiSam``; the ``base`` of a ``models.pathsam.PathSam`` is. No state is kept
    between calls.
    """

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> FieldConfig: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, image: NDArray[np.uint8], *, mpp: float | None = None) -> ImageEmbedding:
        """Encode ``(H, W, 3)`` uint8 once."""
        ...

    def decode_prompts(
        self,
        embedding: ImageEmbedding,
        prompts: Prompts,
        *,
        previous: PromptedMask | None = None,
        multimask: bool | None = None,
    ) -> PromptedMask:
        """The masks one object's prompts ask for."""
        ...

    def decode_many(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompts], *, whole: bool = False
    ) -> list[PromptedMask]:
        """Several objects in one decoder call."""
        ...
