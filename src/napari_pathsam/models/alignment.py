"""Dimension alignment: trunk features of two encoders → what SAM's mask decoder reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.pathsam_config import PathSamConfig
from napari_pathsam.models.sam2 import Sam2

Aligned = tuple[Tensor, tuple[Tensor, ...]]
"""Image embedding ``(B, C, h, w)`` and the finer levels, stride 4 and 8 (none without them)."""


class ChannelNorm(nn.Module):
    """Layer norm over the channels of ``(B, C, h, w)``."""

    def __init__(self, channels: int, *, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NeckAlignment(nn.Module):
    """Starts as SAM's own neck, to the bit; pathology features come in through a branch from zero.

    With ``high_res`` it makes the two finer levels as well; otherwise SAM's frozen ones are used.
    """

    def __init__(self, sam: Sam2, pathology_channels: int | None, *, high_res: bool) -> None:
        super().__init__()
        self.neck = sam.neck_copy(high_res=high_res)
        self.pathology = None
        if pathology_channels is not None:
            width = sam.config.width
            last = nn.Conv2d(width, width, 3, padding=1, bias=False)
            nn.init.zeros_(last.weight)
            self.pathology = nn.Sequential(
                ChannelNorm(pathology_channels, affine=False),
                nn.Conv2d(pathology_channels, width, 1, bias=False),
                ChannelNorm(width),
                last,
            )

    def forward(self, embedding: ImageEmbedding) -> Aligned:
        image_embed, high_res = self.neck(list(embedding.trunk))
        if self.pathology is not None:
            assert embedding.pathology is not None
            image_embed = image_embed + self.pathology(embedding.pathology)
        return image_embed, high_res or embedding.high_res


class FreshAlignment(nn.Module):
    """SAM-Path's: everything side by side on the stride-16 grid, then SAM's neck from scratch.

    Source: Zhang et al., SAM-Path (2023), arXiv 2307.09570.
    """

    def __init__(self, channels: int, width: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            ChannelNorm(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            ChannelNorm(width),
        )

    def forward(self, embedding: ImageEmbedding) -> Aligned:
        grid = embedding.image_embed.shape[-2:]
        parts = [on_grid(embedding.trunk[level], grid) for level in self.levels]
        if embedding.pathology is not None:
            parts.append(embedding.pathology)
        return self.layers(torch.cat(parts, dim=1)), embedding.high_res


def on_grid(features: Tensor, grid_yx: Sequence[int]) -> Tensor:
    """``(B, C, h, w)`` on another grid over the same image, bilinear."""
    if tuple(features.shape[-2:]) == tuple(grid_yx):
        return features
    size = (int(grid_yx[0]), int(grid_yx[1]))
    return functional.interpolate(features, size, mode="bilinear", align_corners=False)


def build_alignment(config: PathSamConfig, sam: Sam2) -> NeckAlignment | FreshAlignment:
    """The alignment a configuration asks for."""
    pathology = None if config.encoder is None else config.encoder.embed_dim
    if config.alignment == "neck":
        return NeckAlignment(sam, pathology, high_res=config.align_high_res and config.high_res)
    levels = config.levels if config.sam_encoder else ()
    channels = sum(sam.trunk_channels[level] for level in levels) + (pathology or 0)
    return FreshAlignment(channels, sam.config.width, levels)
