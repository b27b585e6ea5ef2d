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


class Addition(nn.Module):
    """What is learned beside SAM's neck; adds nothing until it is trained.

    Each input is layer-normed by itself, since encoders differ in scale; the first convolution is
    ``reach`` cells wide, the last one 3.
    """

    def __init__(self, channels: Sequence[int], hidden: int, out: int, *, reach: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(n, affine=False) for n in channels)
        self.mix = nn.Conv2d(sum(channels), hidden, reach, padding=reach // 2)
        self.add = nn.Conv2d(hidden, out, 3, padding=1, bias=False)
        nn.init.zeros_(self.add.weight)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        normed = [norm(part) for norm, part in zip(self.norms, parts, strict=True)]
        added: Tensor = self.add(functional.gelu(self.mix(torch.cat(normed, dim=1))))
        return added


class NeckAlignment(nn.Module):
    """Starts as SAM's own neck; what the encoders say beside it is added.

    With ``high_res`` it makes the two finer levels as well; otherwise SAM's frozen ones are used.
    ``levels`` are those of the trunk that it reads.
    """

    def __init__(self, sam: Sam2, pathology_channels: int | None, *, high_res: bool) -> None:
        super().__init__()
        self.neck = sam.neck_copy(high_res=high_res)
        n_levels = len(sam.trunk_channels)
        deepest = tuple(range(n_levels))[-2:]
        self.levels = tuple(range(n_levels)) if high_res else deepest
        self.makes_high_res = high_res
        self.deepest = deepest
        width = sam.config.width
        channels = [sam.trunk_channels[level] for level in deepest]
        channels += [] if pathology_channels is None else [pathology_channels]
        self.addition = Addition(channels, width, width, reach=1)
        # A finer level sees its own features and those of the next coarser one.
        self.finer_additions = nn.ModuleList(
            Addition(sam.trunk_channels[n : n + 2], width // 2, width >> (3 - n), reach=3)
            for n in ((0, 1) if high_res else ())
        )

    def forward(self, embedding: ImageEmbedding) -> Aligned:
        image_embed, high_res = self.neck(list(embedding.trunk))
        parts = [on_grid(embedding.trunk[n], image_embed.shape[-2:]) for n in self.deepest]
        if embedding.pathology is not None:
            parts.append(embedding.pathology)
        image_embed = image_embed + self.addition(parts)
        if not high_res:
            return image_embed, embedding.high_res
        finer = []
        for n, addition in enumerate(self.finer_additions):
            own, coarser = embedding.trunk[n : n + 2]
            finer.append(high_res[n] + addition([own, on_grid(coarser, own.shape[-2:])]))
        return image_embed, tuple(finer)


class FreshAlignment(nn.Module):
    """SAM-Path's: everything side by side on the stride-16 grid, then SAM's neck from scratch.

    Without ``levels`` it reads the pathology features alone.
    Source: Zhang et al., SAM-Path (2023), arXiv 2307.09570.
    """

    def __init__(self, channels: int, width: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.makes_high_res = False
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
    if config.alignment == "neck" and config.sam_encoder:
        finer = config.align_high_res and config.high_res and not sam.config.is_sam1
        return NeckAlignment(sam, pathology, high_res=finer)
    levels = config.levels if config.sam_encoder else ()
    if levels and sam.config.is_sam1:
        levels = (0,)  # its trunk has one level
    channels = sum(sam.trunk_channels[level] for level in levels) + (pathology or 0)
    return FreshAlignment(channels, sam.config.width, levels)
