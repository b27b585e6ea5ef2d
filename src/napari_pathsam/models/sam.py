"""SAM 1: its image encoder, and Meta's published weights under our names.

The rest of it (prompt encoder, mask decoder) is SAM 2's with three things switched off; see
:class:`napari_pathsam.models.sam2.Sam2`. Source: Kirillov et al., Segment Anything (2023), arXiv
2304.02643.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from torch import Tensor, nn

from napari_pathsam.models.sam2_config import VitConfig


class VitTrunk(nn.Module):
    """timm's SAM ViT without its neck: ``(B, 3, H, W)`` → one level ``(B, C, H/16, W/16)``."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.channel_list = [net.embed_dim]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return [self.net.forward_features(pixels)]


class VitEncoder(nn.Module):
    """SAM 1's image encoder in two parts: what semantic heads read, and the neck behind it."""

    def __init__(self, config: VitConfig, width: int, field_px: int) -> None:
        super().__init__()
        import timm

        net: Any = timm.create_model(
            "samvit_base_patch16",
            img_size=field_px,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            window_size=config.window,
            global_attn_indexes=config.global_blocks,
            neck_chans=width,
            num_classes=0,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),  # Meta's; timm's default is 1e-5
        )
        self.neck = net.neck
        net.neck = nn.Identity()
        self.trunk = VitTrunk(net)


class VitNeck(nn.Module):
    """A trainable copy of SAM 1's neck: trunk features → image embedding; no finer levels."""

    def __init__(self, neck: nn.Module) -> None:
        super().__init__()
        self.neck = deepcopy(neck)

    def forward(self, trunk: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.neck(trunk[-1]), ()


# --- Meta's layout -------------------------------------------------------------------------------

PATCHES = "image_encoder.patch_embed.proj.weight"
"""The tensor by which a SAM 1 checkpoint is known."""

_RENAMED = (
    (r"^image_encoder\.(?!neck\.)", "image_encoder.trunk.net."),
    (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
    (r"^(image_encoder\..*)\.mlp\.lin", r"\1.mlp.fc"),
    (r"^(sam_mask_decoder\..*)\.mlp\.lin1\.", r"\1.mlp.layers.0."),
    (r"^(sam_mask_decoder\..*)\.mlp\.lin2\.", r"\1.mlp.layers.1."),
)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a SAM 1 in Meta's layout, under the names they have here; none is left out."""
    found = {}
    for key, tensor in state.items():
        name = key
        for old, new in _RENAMED:
            name = re.sub(old, new, name)
        found[name] = tensor
    return found


def vit_size(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Width and depth of the ViT in Meta's layout: 768 and 12 are ViT-B."""
    blocks = {m[1] for key in state if (m := re.match(r"image_encoder\.blocks\.(\d+)\.", key))}
    return (state[PATCHES].shape[0] if state[PATCHES].ndim else 0, len(blocks))
