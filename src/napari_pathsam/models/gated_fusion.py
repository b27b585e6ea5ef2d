"""The X-gated fusion block: what SAM saw, brought into a U-Net's bottleneck.

Source: Swain et al., SAM-guided eU-Net3+ (MICCAI 2024): the paper's figure, the released code, and
``recommended``, in which SAM's tokens are what is attended to. In the other two SAM is averaged
over the image before it enters, and only switches channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.models.alignment import on_grid
from napari_pathsam.models.task_config import FusionConfig


class BlurPool(nn.Module):
    """Halve by a 2×2 maximum, then blur with the binomial filter [1 2 1] each way."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", row[:, None] * row[None, :], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(x, 2)
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, 3, 3)
        padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return functional.conv2d(padded, kernel, groups=channels)


class ChannelGate(nn.Module):
    """Squeeze and excitation: what two images hold on average decides how much a channel counts."""

    def __init__(self, own: int, guide: int, config: FusionConfig) -> None:
        super().__init__()
        hidden = max(1, (own + guide) // config.squeeze)
        glu = config.gate == "glu"
        self.squeeze = nn.Conv2d(own + guide, 2 * hidden if glu else hidden, 1)
        self.between: nn.Module = nn.GLU(dim=1) if glu else nn.ReLU()
        self.excite = nn.Conv2d(hidden, own, 1)

    def forward(self, own: Tensor, guide: Tensor) -> Tensor:
        mean = torch.cat([own.mean((2, 3), keepdim=True), guide.mean((2, 3), keepdim=True)], dim=1)
        gate: Tensor = self.excite(self.between(self.squeeze(mean))).sigmoid()
        return gate * own


class XGatedFusion(nn.Module):
    """Bottleneck ``(B, C, h, w)`` and SAM's embedding ``(B, S, h', w')`` → ``(B, C, h, w)``."""

    def __init__(self, channels: int, guide_channels: int, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.pool = BlurPool()
        self.gate = ChannelGate(channels, guide_channels, config)
        heads = math.gcd(config.heads, channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        sees_sam = config.attend_to == "sam"
        self.to_tokens = nn.Linear(guide_channels, channels) if sees_sam else None
        self.guide_norm = nn.LayerNorm(channels) if sees_sam else None
        self.norm = nn.LayerNorm(channels) if config.residual else None
        if sees_sam:
            self._look_nearby()

    @torch.no_grad()
    def _look_nearby(self) -> None:
        """Queries and keys start alike, so that each place attends to its own surroundings."""
        weight = self.attention.in_proj_weight
        channels = weight.shape[1]
        weight[:channels] *= 2  # sharper than torch's start: about as wide as ten cells
        weight[channels : 2 * channels] = weight[:channels]

    def forward(self, bottleneck: Tensor, guide: Tensor) -> Tensor:
        grid = (bottleneck.shape[-2], bottleneck.shape[-1])
        guide = self._on_grid(guide, grid)
        gated = self.gate(bottleneck, guide)
        queries = keys = values = _tokens(gated)  # (B, h·w, C)
        if self.to_tokens is not None and self.guide_norm is not None:
            values = self.guide_norm(self.to_tokens(_tokens(guide)))
            # Attention knows no order: without positions a mirrored embedding would be the same.
            places = positions(grid, queries.shape[-1]).to(queries)
            queries, keys = queries + places, values + places
        elif self.config.attend_to == "unet":
            keys = values = _tokens(bottleneck)
        found, _ = self.attention(queries, keys, values, need_weights=False)
        if self.norm is not None:
            found = self.norm(_tokens(gated) + found)
        return found.transpose(1, 2).reshape(bottleneck.shape)

    def _on_grid(self, guide: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.config.pool == "max-blur":
            while guide.shape[-2] >= 2 * grid[0] and guide.shape[-1] >= 2 * grid[1]:
                guide = self.pool(guide)
        elif guide.shape[-2] > grid[0] or guide.shape[-1] > grid[1]:
            return functional.adaptive_avg_pool2d(guide, grid)
        return on_grid(guide, grid)


class LevelGates(nn.Module):
    """The released "advanced" option: SAM's embedding gates the four finer levels, too.

    Projections bring it to each level's size and half its width.
    """

    def __init__(self, widths: list[int], guide_channels: int, config: FusionConfig) -> None:
        super().__init__()
        halves = [width // 2 for width in widths]
        self.projections = nn.ModuleList(
            [
                nn.ConvTranspose2d(guide_channels, halves[0], 8, stride=4, padding=2),
                nn.ConvTranspose2d(guide_channels, halves[1], 4, stride=2, padding=1),
                nn.Conv2d(guide_channels, halves[2], 1),
                nn.Conv2d(guide_channels, halves[3], 1),
            ]
        )
        self.gates = nn.ModuleList(
            ChannelGate(width, half, config) for width, half in zip(widths, halves, strict=True)
        )

    def forward(self, levels: list[Tensor], guide: Tensor) -> list[Tensor]:
        return [
            gate(level, projection(guide))
            for level, gate, projection in zip(levels, self.gates, self.projections, strict=True)
        ]


def _tokens(x: Tensor) -> Tensor:
    """``(B, C, h, w)`` → ``(B, h·w, C)``."""
    return x.flatten(2).transpose(1, 2)


def positions(grid_yx: tuple[int, int], channels: int) -> Tensor:
    """Sines and cosines of row and column, ``(h·w, channels)``; wavelengths 4 to 400 cells.

    Source: Vaswani et al., Attention Is All You Need (2017), arXiv 1706.03762, once for each axis.
    """
    n = -(-channels // 4)
    frequencies = 2 * math.pi / torch.logspace(math.log10(4), math.log10(400), n)
    codes = []
    for size, axis in zip(grid_yx, (0, 1), strict=True):
        angles = torch.arange(size)[:, None] * frequencies  # (size, n)
        code = torch.cat([angles.sin(), angles.cos()], dim=1)
        shape = [grid_yx[0], grid_yx[1], 2 * n]
        codes.append((code[:, None] if axis == 0 else code[None]).expand(shape))
    return torch.cat(codes, dim=2).reshape(-1, 4 * n)[:, :channels]
