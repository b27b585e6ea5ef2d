"""The mask prompt seen by image cells: upstream's convolutions of it as matrices.

An image cell is 4 × 4 cells of the picture. The mask prompt's own downscaling sees just these; the
convolutions of :class:`napari_pathsam.models.prompt_map.PromptSkip` see one more on each side: 36
numbers. A picture of clicks or of a box is empty nearly everywhere, and where it is empty all cells
are alike: that is worked out once an image, and only the others each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from napari_pathsam.models.prompt_map import PromptSkip

SEEN = 6  # picture cells a side that an image cell depends on
FAINT = 1e-9  # logits below this, the tails of clicks, count as nothing drawn


@dataclass(frozen=True)
class PictureWeights:
    """Upstream's ``mask_downscaling`` and, where there is one, the prompt skip, by image cell."""

    first: Tensor  # (16, 36): four finer cells of 4 channels
    downscaling: Any
    to_8: Tensor | None  # (36, 4·C/4)
    to_4: Tensor | None  # (36, 16·C/8)

    @classmethod
    def of(cls, downscaling: Any, skip: PromptSkip | None) -> PictureWeights:
        """Upstream's module, and a PromptSkip."""
        one = torch.eye(SEEN**2, device=downscaling[0].weight.device).view(-1, 1, SEEN, SEEN)
        first = functional.conv2d(one[..., 1:5, 1:5], downscaling[0].weight, stride=2)
        first = first.permute(0, 2, 3, 1).reshape(SEEN**2, -1).t().contiguous()
        to_8, to_4 = (None, None) if skip is None else skip.by_cell(one)
        return cls(first, downscaling, to_8, to_4)

    def features(self, parts: Tensor) -> Tensor:
        """``(…, 36)`` → ``(n, 16)``: all of the downscaling but its last convolution."""
        conv_1, norm_1, _, conv_2, norm_2, _, _ = self.downscaling
        fine = functional.linear(parts.reshape(-1, SEEN**2), self.first, conv_1.bias.repeat(4))
        c = len(norm_1.weight)
        fine = functional.layer_norm(fine.view(-1, c), (c,), norm_1.weight, norm_1.bias, norm_1.eps)
        second = conv_2.weight.permute(0, 2, 3, 1).flatten(1)
        coarse = functional.linear(functional.gelu(fine).view(-1, 4 * c), second, conv_2.bias)
        shape = (len(norm_2.weight),)
        coarse = functional.layer_norm(coarse, shape, norm_2.weight, norm_2.bias, norm_2.eps)
        return functional.gelu(coarse)

    @property
    def last(self) -> Tensor:
        """``(16, C)``, the last convolution; its bias is :attr:`last_bias`."""
        weight: Tensor = self.downscaling[6].weight
        return weight.flatten(1).t()

    @property
    def last_bias(self) -> Tensor:
        bias: Tensor = self.downscaling[6].bias
        return bias

    def empty(self) -> Tensor:
        """``(16,)``, the features of a cell in which nothing is drawn."""
        return self.features(self.first.new_zeros(1, SEEN**2))[0]


def parts_of(picture: Tensor) -> Tensor:
    """``(B, 1, 4h, 4w)`` → ``(B, 36, h·w)``: what each image cell depends on."""
    return functional.unfold(picture, SEEN, padding=1, stride=4)


class Drawn:
    """What a picture adds where the image is upscaled.

    Parameters
    ----------
    parts
        ``(n, 36)`` of the cells on which something is drawn, or of all.
    rows
        Which of ``n_cells`` cells these are; None: all.
    """

    def __init__(self, parts: Tensor, rows: Tensor | None = None, n_cells: int = 0) -> None:
        self.parts, self.at = parts, None
        if rows is not None:
            self.at = rows.new_full((n_cells,), -1)
            self.at[rows] = torch.arange(len(rows), device=rows.device)

    def add(self, values: Tensor, weight: Tensor, cells: slice | Tensor) -> None:
        """Add to the ``(n, c)`` values of some cells what their parts say by ``(36, c)``."""
        if self.at is None:
            values.addmm_(self.parts[cells], weight)
            return
        rows = self.at[cells]
        hit = (rows >= 0).nonzero()[:, 0]
        if len(hit):
            values.index_add_(0, hit, self.parts[rows[hit]] @ weight)
