"""What a model hands on: an image embedding, and the masks decoded from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ImageEmbedding:
    """One image, encoded once; every click, class and training step starts from it.

    Attributes
    ----------
    image_embed
        ``(1, C, h, w)``, stride 16.
    high_res
        ``(1, C/8, 4h, 4w)`` and ``(1, C/4, 2h, 2w)``, the decoder's skip connections.
    trunk
        Pre-neck features of the image encoder, finest first: what semantic heads read.
    shape_yx
        Height and width of the image that was given.
    input_yx
        Height and width at which the network saw it.
    model
        Name of the model that made it; only that model can decode it.
    mpp
        Microns per pixel of the given image, where known.
    """

    image_embed: torch.Tensor
    high_res: tuple[torch.Tensor, ...]
    trunk: tuple[torch.Tensor, ...]
    shape_yx: tuple[int, int]
    input_yx: tuple[int, int]
    model: str
    mpp: float | None = None

    @property
    def nbytes(self) -> int:
        """Memory held by the tensors."""
        tensors = (self.image_embed, *self.high_res, *self.trunk)
        return sum(t.numel() * t.element_size() for t in tensors)


@dataclass(frozen=True)
class PromptedMask:
    """The decoder's answers to one object's prompts.

    Attributes
    ----------
    low_res_logits
        ``(k, h, w)`` float32 over the whole encoded image; above 0 is object.
    predicted_iou
        ``(k,)``, the decoder's own guess of each mask's quality.
    best
        Index of the mask to show first.
    shape_yx
        Height and width of the encoded image.
    """

    low_res_logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    best: int
    shape_yx: tuple[int, int]

    @property
    def score(self) -> float:
        """Predicted IoU of the best mask."""
        return float(self.predicted_iou[self.best])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``(H, W)``, the best mask."""
        return self.mask_at(self.best)

    def mask_at(self, index: int) -> NDArray[np.bool_]:
        """``(H, W)``, one of the ``k`` masks."""
        return self.logits_at(index) > 0

    def logits_at(self, index: int, shape_yx: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """``(H, W)`` logits of one mask, bilinear; ``shape_yx`` asks for another resolution."""
        import torch

        low = torch.from_numpy(self.low_res_logits[index])[None, None]
        size = shape_yx or self.shape_yx
        up = torch.nn.functional.interpolate(low, size, mode="bilinear", align_corners=False)
        logits: NDArray[np.float32] = up[0, 0].numpy()
        return logits

    def with_best(self, index: int) -> PromptedMask:
        """The same answers with another one in front."""
        return replace(self, best=index)
