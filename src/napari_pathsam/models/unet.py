"""U-Net: the classic one, and segmentation_models_pytorch's on any timm trunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.models.task_config import Norm, TimmUNetConfig, UNetConfig


class UNet(nn.Module):
    """Halve and double, with skip connections: ``(B, 3, H, W)`` → ``[(B, channels, H, W)]``.

    H and W are multiples of 2 to the number of halves. With width 64, five levels, no norm and one
    channel it is DTU's (31,031,745 weights).

    Source: Ronneberger et al., U-Net (2015), arXiv 1505.04597, with padded convolutions.
    """

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        widths = [config.width * 2**level for level in range(config.levels)]
        sources = [3, *widths[:-1]]
        self.down = nn.ModuleList(
            double_conv(source, width, config.norm)
            for source, width in zip(sources, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[-2::-1]
        )
        self.up = nn.ModuleList(
            double_conv(2 * width, width, config.norm) for width in widths[-2::-1]
        )
        self.head = nn.Conv2d(config.width, channels, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = [self.down[0](x)]
        for down in self.down[1:]:
            levels.append(down(self.pool(levels[-1])))  # (B, 2ⁿ·width, H/2ⁿ, W/2ⁿ)
        x = levels.pop()
        for enlarge, up in zip(self.enlarge, self.up, strict=True):
            x = up(torch.cat([enlarge(x), levels.pop()], dim=1))
        return [self.head(x)]


def double_conv(source: int, width: int, norm: Norm) -> nn.Sequential:
    """Twice: 3×3 convolution, norm, ReLU."""
    parts: list[nn.Module] = []
    for n in (source, width):
        parts += [nn.Conv2d(n, width, 3, padding=1), *_norm(norm, width), nn.ReLU()]
    return nn.Sequential(*parts)


def _norm(norm: Norm, width: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(width)]
    if norm == "group":
        groups = next(n for n in (8, 4, 2, 1) if width % n == 0)
        return [nn.GroupNorm(groups, width)]
    return []


class TimmUNet(nn.Module):
    """The library's U-Net; H and W are multiples of 32. The trunk starts at random."""

    def __init__(self, config: TimmUNetConfig, channels: int) -> None:
        super().__init__()
        try:
            import segmentation_models_pytorch as smp
        except ImportError as error:
            raise UnavailableError(
                "A U-Net on a timm trunk needs segmentation_models_pytorch, which is not "
                "installed: pip install 'napari-pathsam[baselines]'."
            ) from error
        try:
            unet = smp.Unet(
                f"tu-{config.trunk}",
                encoder_weights=None,
                decoder_channels=config.decoder_widths,
                classes=channels,
                **({"pad_type": "same"} if config.padding == "same" else {}),
            )
        except (RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
            raise UnavailableError(
                f"timm has no trunk {config.trunk!r} that a U-Net can stand on ({error}). Take one "
                "with features at several strides, such as mobilenetv2_100, resnet34 or "
                "convnext_tiny."
            ) from error
        self.trunk = unet.encoder
        self.decoder = unet.decoder
        self.head = unet.segmentation_head
        self._frozen_norm = config.frozen_norm

    def train(self, mode: bool = True) -> TimmUNet:
        """With ``frozen_norm`` the trunk's batch norm keeps its statistics."""
        super().train(mode)
        if self._frozen_norm:
            for module in self.trunk.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)  # a quarter faster on CPUs
        return [self.head(self.decoder(self.trunk(x)))]
