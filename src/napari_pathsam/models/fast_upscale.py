"""Upscaling at inference: image cells → mask logits, cell by cell.

So a transposed convolution is one matrix product, a layer norm is over the last axis, and a band of
cells stays in the CPU's cache. ``N = h·w`` image cells, ``C`` channels, ``m`` masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from napari_pathsam.models.pictures import Drawn, PictureWeights

BAND = 512  # image cells upscaled at a time

Window = tuple[slice, slice]  # rows and columns of image cells


@dataclass(frozen=True)
class Skips:
    """The two finer levels of an image, by cell, with the biases that are added to them."""

    grid_yx: tuple[int, int]
    at_8: Tensor  # (N, 4·C/4)
    at_4: Tensor  # (N, 16·C/8)

    @classmethod
    def of(
        cls,
        decoder: Any,
        grid_yx: tuple[int, int],
        high_res: tuple[Tensor, ...],
        skip: Any,
    ) -> Skips:
        """Of ``(1, C/8, 4h, 4w)`` and ``(1, C/4, 2h, 2w)``, or nothing for SAM 1's decoder.

        ``skip`` is the PromptSkip whose bias counts where nothing is drawn, or None.
        """
        up_8, _, _, up_4, _ = decoder.output_upscaling
        bias_8, bias_4 = up_8.bias, up_4.bias
        if skip is not None:
            bias_8, bias_4 = bias_8 + skip.coarse.bias, bias_4 + skip.fine.bias
        bias_8, bias_4 = bias_8.repeat(4), bias_4.repeat(16)
        n = grid_yx[0] * grid_yx[1]
        if not high_res:
            return cls(grid_yx, bias_8.expand(n, -1).clone(), bias_4.expand(n, -1).clone())
        fine, coarse = high_res
        return cls(grid_yx, _by_cell(coarse[0], 1) + bias_8, _by_cell(fine[0], 2) + bias_4)


def _by_cell(feature: Tensor, halvings: int) -> Tensor:
    """``(c, 2ᵏh, 2ᵏw)`` → ``(h·w, 4ᵏ·c)``: what lies in a cell, coarse quarter first."""
    c, height, width = feature.shape
    h, w = height >> halvings, width >> halvings
    split = feature.reshape(c, h, *[2] * halvings, w, *[2] * halvings)
    k = halvings
    quarters = [axis for i in range(k) for axis in (2 + i, 3 + k + i)]
    return split.permute(1, 2 + k, *quarters, 0).reshape(h * w, -1)


@lru_cache(maxsize=64)
def _image_order(grid_yx: tuple[int, int], device: torch.device) -> Tensor:
    """Which of the cells' logits, ``h·w·16`` in the order of :func:`_by_cell`, each pixel is."""
    h, w = grid_yx
    split = torch.arange(16 * h * w, device=device).view(h, w, 2, 2, 2, 2)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(-1)  # y, y/2, y/4, x, x/2, x/4


def upscale(
    decoder: Any,
    image: Tensor,
    skips: Skips,
    weights: Tensor,
    window: Window | None,
    picture: PictureWeights,
    drawn: Drawn | None,
) -> Tensor:
    """One object's logits ``(m, 4h, 4w)`` of all or a window.

    Parameters
    ----------
    decoder
        Upstream's MaskDecoder.
    image
        ``(N, C)``.
    weights
        ``(C/8, m)``, of the masks.
    drawn
        What the object's picture adds; None where the model draws none.
    """
    h, w = skips.grid_yx
    cells: Tensor | None = None
    if window is not None:
        y, x = window
        cells = torch.arange(h * w, device=image.device).view(h, w)[y, x].flatten()
        h, w = y.stop - y.start, x.stop - x.start
    up_8, norm, _, up_4, _ = decoder.output_upscaling
    c8, c4 = up_4.weight.shape[:2]
    to_8 = up_8.weight.permute(0, 2, 3, 1).reshape(image.shape[1], -1)
    to_4 = up_4.weight.permute(0, 2, 3, 1).reshape(c8, -1)
    by_mask = weights.t().contiguous()
    n = h * w
    logits = weights.new_empty(len(by_mask), n, 16)
    size = BAND if image.device.type == "cpu" else n
    for start in range(0, n, size):
        some: slice | Tensor = slice(start, min(start + size, n))
        out = logits[:, some].flatten(1)
        if cells is not None:
            some = cells[some]
        coarse = torch.addmm(skips.at_8[some], image[some], to_8)
        if drawn is not None and picture.to_8 is not None:
            drawn.add(coarse, picture.to_8, some)
        coarse = coarse.view(-1, c8)
        coarse = functional.layer_norm(coarse, (c8,), norm.weight, norm.bias, norm.eps)
        fine = skips.at_4[some].view(len(coarse), -1)
        fine = torch.addmm(fine, functional.gelu(coarse), to_4)
        if drawn is not None and picture.to_4 is not None:
            drawn.add(fine.view(-1, skips.at_4.shape[1]), picture.to_4, some)
        finest = functional.gelu(fine).view(-1, c4)
        out.copy_(torch.mm(by_mask, finest.t()))
    in_order = logits.flatten(1).index_select(1, _image_order((h, w), image.device))
    return in_order.view(-1, 4 * h, 4 * w)
