"""Parts of an image encoder that are not upstream's: timm networks as trunks, a copied neck."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.models.sam2_config import TimmConfig

if TYPE_CHECKING:
    from napari_pathsam.models.sam2 import Sam2


class TimmTrunk(nn.Module):
    """A timm network as a SAM 2 trunk: ``(B, 3, H, W)`` → four levels, strides 4 to 32."""

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        import timm

        # Only networks of one family know of padding; "" leaves the question to the others.
        padding: dict[str, Any] = {"pad_type": config.pad_type} if config.pad_type else {}
        self.net = timm.create_model(
            config.name, features_only=True, out_indices=(-4, -3, -2, -1), **padding
        )
        info: Any = self.net.feature_info
        self.channel_list = info.channels()[::-1]  # upstream: deepest first
        self.train()

    def forward(self, pixels: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.net(pixels.contiguous(memory_format=torch.channels_last))
        return features

    def train(self, mode: bool = True) -> TimmTrunk:
        """Batch norm keeps its statistics: batches here are small and of mixed tissue."""
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


class Neck(nn.Module):
    """A trainable copy of a SAM 2's neck: trunk features → image embedding and finer levels.

    Level by level from the deepest, nearest-neighbour top-down as upstream's. Without ``high_res``
    it stops at stride 16.
    """

    def __init__(self, sam: Sam2, *, high_res: bool) -> None:
        super().__init__()
        neck, decoder = sam.image_encoder.neck, sam.sam_mask_decoder
        convs = [deepcopy(level.conv) for level in neck.convs]  # deepest first
        self.convs = nn.ModuleList(convs if high_res else convs[:2])
        self.finer = nn.ModuleList(
            [deepcopy(decoder.conv_s0), deepcopy(decoder.conv_s1)] if high_res else []
        )
        self.top_down = set(neck.fpn_top_down_levels)
        assert sam.no_mem_embed is not None
        self.no_mem_embed = nn.Parameter(sam.no_mem_embed.detach()[0, 0].clone())

    def forward(self, trunk: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        levels: list[Tensor] = []
        for n, conv in enumerate(self.convs[:3]):
            level = conv(trunk[3 - n])
            if levels and 3 - n in self.top_down:
                level = level + _doubled(levels[-1])
            levels.append(level)
        image_embed = levels[1] + self.no_mem_embed[:, None, None]
        if not len(self.finer):
            return image_embed, ()
        return image_embed, (self._finest(trunk[0], levels[2]), self.finer[1](levels[2]))

    def _finest(self, trunk: Tensor, coarser: Tensor) -> Tensor:
        """``finer[0]`` of the finest level: linear in both, so that level is never made whole."""
        first: Any = self.convs[3]
        then: Any = self.finer[0]
        weight = torch.einsum("oc,ci->oi", then.weight[..., 0, 0], first.weight[..., 0, 0])
        bias = then.weight[..., 0, 0] @ first.bias + then.bias
        found = functional.conv2d(trunk, weight[..., None, None], bias)
        if 0 in self.top_down:
            found = found + _doubled(functional.conv2d(coarser, then.weight))
        return found


def _doubled(level: Tensor) -> Tensor:
    return functional.interpolate(level, scale_factor=2, mode="nearest")
