"""U-Net3+ and eU-Net3+: full-scale skip connections, alone or guided by SAM.

Sources: Huang et al., UNet 3+ (2020), arXiv 2004.08790; Swain et al., SAM-guided eU-Net3+
(MICCAI 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.models.gated_fusion import BlurPool, LevelGates, XGatedFusion
from napari_pathsam.models.task_config import UNet3PlusConfig
from napari_pathsam.models.unet import double_conv

HALVES = 4


class UNet3Plus(nn.Module):
    """``(B, 3, H, W)``, H and W multiples of 16 → ``(B, channels, H, W)``, more in training.

    Parameters
    ----------
    config
        What it is made of.
    channels
        Logits per pixel.
    guide_channels
        Of SAM's embedding; None: without SAM.
    """

    def __init__(
        self, config: UNet3PlusConfig, channels: int, guide_channels: int | None = None
    ) -> None:
        super().__init__()
        c = config.width
        widths = [c * 2**level for level in range(HALVES + 1)]
        unit = gated_double_conv if config.gated else _plain_double_conv
        self.encoder = nn.ModuleList(
            unit(source, width) for source, width in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.pool: nn.Module = BlurPool() if config.blur_pool else nn.MaxPool2d(2)
        self.dropout = nn.Dropout2d(config.dropout)
        self.stages = nn.ModuleList(FullScale(widths, c, d) for d in reversed(range(HALVES)))
        self.head = nn.Conv2d((HALVES + 1) * c, channels, 3, padding=1)
        sides = [widths[-1], *([(HALVES + 1) * c] * (HALVES - 1))]
        self.side_heads = nn.ModuleList(
            nn.Conv2d(n, channels, 3, padding=1) for n in (sides if config.deep_supervision else ())
        )
        self.presence = None
        if config.presence:
            self.presence = nn.Sequential(
                nn.Dropout(0.5), nn.Conv2d(widths[-1], 2, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten()
            )
        self.fusion: XGatedFusion | None = None
        self.level_gates: LevelGates | None = None
        if guide_channels is not None:
            self.fusion = XGatedFusion(widths[-1], guide_channels, config.fusion)
            if config.fusion.level_gates:
                self.level_gates = LevelGates(widths[:-1], guide_channels, config.fusion)
        self._start()

    def _start(self) -> None:
        """Kaiming-normal convolutions, norms round 1, as the reference; SAM's part as torch's."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith(("fusion", "level_gates")):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> list[Tensor]:
        """Logits, finest first; in training with deep supervision those of the sides follow."""
        return self.with_presence(x, guide)[0]

    def with_presence(
        self, x: Tensor, guide: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """The logits of :meth:`forward`, and ``(B, 2)`` of nothing or something being there."""
        size = (x.shape[-2], x.shape[-1])
        levels = [self.encoder[0](x)]
        for unit in self.encoder[1:]:
            levels.append(unit(self.pool(levels[-1])))  # (B, 2ⁿ·c, H/2ⁿ, W/2ⁿ)
        bottleneck = self.dropout(levels.pop())
        if self.fusion is not None:
            assert guide is not None
            bottleneck = self.fusion(bottleneck, guide)
        if self.level_gates is not None:
            assert guide is not None
            levels = self.level_gates(levels, guide)
        decoded = [bottleneck]
        for stage in self.stages:
            decoded.append(stage(levels, decoded))  # coarse to fine, (B, 5·c, …)
        logits = [self.head(decoded[-1])]
        if self.training:
            for head, features in zip(self.side_heads, decoded, strict=False):
                side = head(features)
                logits.append(functional.interpolate(side, size, mode="bilinear"))
        there = None if self.presence is None else self.presence(bottleneck)
        return logits, there


class FullScale(nn.Module):
    """A decoder stage: finer levels pooled, coarser ones enlarged, all in equal shares."""

    def __init__(self, widths: list[int], c: int, level: int) -> None:
        super().__init__()
        self.level = level
        coarser = [(HALVES + 1) * c] * (HALVES - 1 - level)
        sources = [*widths[: level + 1], *coarser, widths[-1]]
        self.reduce = nn.ModuleList(_conv(n, c) for n in sources)
        self.mix = _conv((HALVES + 1) * c, (HALVES + 1) * c)

    def forward(self, levels: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """``levels`` of the encoder, finest first; ``decoded`` so far, the bottleneck first."""
        size = (levels[self.level].shape[-2], levels[self.level].shape[-1])
        parts = [
            functional.max_pool2d(x, 2 ** (self.level - n), ceil_mode=True) if n < self.level else x
            for n, x in enumerate(levels[: self.level + 1])
        ]
        parts += [
            functional.interpolate(x, size, mode="bilinear", align_corners=False)
            for x in reversed(decoded)
        ]
        reduced = [one(x) for one, x in zip(self.reduce, parts, strict=True)]
        return self.mix(torch.cat(reduced, dim=1))


def _plain_double_conv(source: int, width: int) -> nn.Sequential:
    return double_conv(source, width, "batch")


def gated_double_conv(source: int, width: int) -> nn.Sequential:
    """Twice: 3×3 convolution to double the channels, batch norm, gated linear unit."""
    parts: list[nn.Module] = []
    for n in (source, width):
        conv = nn.Conv2d(n, 2 * width, 3, padding=1)
        parts += [conv, nn.BatchNorm2d(2 * width), nn.GLU(dim=1)]
    return nn.Sequential(*parts)


def _conv(source: int, width: int) -> nn.Sequential:
    conv = nn.Conv2d(source, width, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())
