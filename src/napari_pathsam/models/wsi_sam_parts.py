"""What a WSI-SAM learns: for each resolution a token and a fusion module; and what joins the two.

Shapes: ``n`` images, ``B`` objects, ``C`` channels of the base (256 in SAM, 128 in nano), ``h × w``
cells of 16 network pixels; maps have 4h × 4w cells and C/8 channels.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.models.alignment import ChannelNorm
from napari_pathsam.models.class_prompts import upscaled
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.wsi_sam_config import WsiSamConfig
from napari_pathsam.models.wsi_sam_fields import to_field, to_surroundings

SURE = 10.0
"""Logits of the surroundings beyond this say no more to the field."""


@dataclass(frozen=True)
class Seen:
    """What one decoder makes of B objects at one resolution.

    ``token`` ``(B, C)`` is its own token, decoded; ``maps`` ``(B, C/8, 4h, 4w)`` the fused maps;
    ``sam_maps`` SAM's own; ``sam_logits`` ``(B, 4h, 4w)`` and ``iou`` ``(B,)`` SAM's single mask.
    """

    token: Tensor
    maps: Tensor
    sam_maps: Tensor
    sam_logits: Tensor
    iou: Tensor


class Resolution(nn.Module):
    """Token and fusion module of one resolution; SAM's frozen decoder is the base's, and shared.

    The fused maps are the sum of three: of SAM's upscaled maps, of its image embedding, and of an
    early feature of its trunk. The paper's has 448,512 weights on TinyViT (the released code also
    keeps a copy of SAM's decoder for each resolution; here there is one).
    """

    def __init__(self, config: WsiSamConfig, base: Sam2) -> None:
        super().__init__()
        decoder, width = base.sam_mask_decoder, base.config.width
        self.token = nn.Parameter(torch.randn(1, width))
        self.to_weights: nn.Module = deepcopy(decoder.output_hypernetworks_mlps[0])
        self.to_weights.requires_grad_(True)  # that of a base in use is frozen
        channels = base.trunk_channels
        self.level = min(config.early_level, len(channels) - 1)
        n_up = 2 if len(channels) == 1 else self.level
        self.of_early = _to_maps(channels[self.level], width, n_up)
        self.of_embedding = _grown(width, width // 4, width // 8)
        self.of_sam = _convolved(width // 8, width // 8)
        if config.from_zero:
            with torch.no_grad():
                self.token.copy_(decoder.mask_tokens.weight[:1])
            for part in (self.of_early, self.of_embedding, self.of_sam):
                _zero(part[-1])
        else:
            for module in self.to_weights.modules():
                if isinstance(module, nn.Linear):
                    module.reset_parameters()

    def of_image(self, embedding: ImageEmbedding) -> Tensor:
        """What no prompt changes, ``(n, C/8, 4h, 4w)``."""
        found: Tensor = self.of_embedding(embedding.image_embed)
        return found + self.of_early(embedding.trunk[self.level])

    def forward(
        self,
        base: Sam2,
        embedding: ImageEmbedding,
        of_image: Tensor,
        owner: Tensor,
        asked: tuple[Tensor, Tensor, Tensor | None],
    ) -> Seen:
        """Decode objects of the images ``owner`` ``(B,)``.

        ``asked``: points, signs and masks, as :meth:`Sam2.decode_tensors` takes them.
        """
        decoder = base.sam_mask_decoder
        image_embed = embedding.image_embed[owner]  # (B, C, h, w)
        batch, width, h, w = image_embed.shape
        finer = [level[owner] for level in embedding.high_res]
        sparse, dense, skips = base.prompt_embeddings((h, w), finer, *asked)
        own = [decoder.obj_score_token.weight] if decoder.pred_obj_scores else []
        own += [decoder.iou_token.weight, decoder.mask_tokens.weight]
        first = len(own) - 2  # the object score comes before
        own_tokens = torch.cat([*own, self.token]).expand(batch, -1, -1)
        positions = base.dense_positions((h, w)).expand(batch, -1, -1, -1)
        tokens, image = decoder.transformer(
            image_embed + dense, positions, torch.cat([own_tokens, sparse], dim=1)
        )
        cells = image.transpose(1, 2).reshape(batch, width, h, w)
        sam_maps = upscaled(decoder.output_upscaling, cells, skips)  # (B, C/8, 4h, 4w)
        weights = decoder.output_hypernetworks_mlps[0](tokens[:, first + 1])
        return Seen(
            token=tokens[:, own_tokens.shape[1] - 1],
            maps=of_image[owner] + self.of_sam(sam_maps),
            sam_maps=sam_maps,
            sam_logits=weighted(weights, sam_maps),
            iou=decoder.iou_prediction_head(tokens[:, first])[:, 0],
        )


class Together(nn.Module):
    """Two tokens, or two sets of weights ``(B, c)``, as one."""

    def __init__(self, config: WsiSamConfig, channels: int) -> None:
        super().__init__()
        self.how = config.aggregate
        self.mix = nn.Linear(2 * channels, channels) if self.how == "concat" else None
        if self.mix is not None and config.from_zero:  # starts as their mean
            with torch.no_grad():
                half = torch.eye(channels) / 2
                self.mix.weight.copy_(torch.cat([half, half], dim=1))
                self.mix.bias.zero_()

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        if self.mix is not None:
            mixed: Tensor = self.mix(torch.cat([high, low], dim=1))
            return mixed
        if self.how == "max":
            return torch.maximum(high, low)
        return (high + low) / (2 if self.how == "mean" else 1)


class Carry(nn.Module):
    """What was seen of the surroundings, where the field lies: maps that join the field's."""

    def __init__(self, config: WsiSamConfig, width: int) -> None:
        super().__init__()
        self.factor = config.factor
        self.convolutions = _convolved(width // 8 + 1, width // 8)
        if config.from_zero:
            _zero(self.convolutions[-1])

    def forward(self, maps: Tensor, logits: Tensor, cells_yx: tuple[float, float]) -> Tensor:
        """Maps and logits of the surroundings → ``(B, C/8, 4h, 4w)`` of the field.

        ``cells_yx`` is how much of the grid the image fills; the rest is padding.
        """
        said = torch.cat([maps, logits[:, None].clamp(-SURE, SURE) / SURE], dim=1)
        carried: Tensor = self.convolutions(cut_to_field(said, cells_yx, self.factor))
        return carried


def weighted(weights: Tensor, maps: Tensor) -> Tensor:
    """``(B, c)`` and ``(B, c, h, w)`` → logits ``(B, h, w)``."""
    return torch.einsum("bc,bchw->bhw", weights, maps)


def cut_to_field(maps: Tensor, cells_yx: tuple[float, float], factor: float) -> Tensor:
    """Maps of the surroundings ``(B, c, H, W)``, enlarged where the field lies in them."""
    at = [
        to_surroundings(torch.arange(n, device=maps.device) + 0.5, cells, factor)
        for n, cells in zip(maps.shape[-2:], cells_yx, strict=True)
    ]
    return _sampled(maps, at, "border")


def laid_into_surroundings(maps: Tensor, cells_yx: tuple[float, float], factor: float) -> Tensor:
    """Logits of the field ``(B, 1, H, W)``, reduced, where it lies in its surroundings.

    Round it they are 0: nobody said anything.
    """
    at = []
    for n, cells in zip(maps.shape[-2:], cells_yx, strict=True):
        x = to_field(torch.arange(n, device=maps.device) + 0.5, cells, factor)
        outside = (x < 0) | (x > cells)
        at.append(torch.where(outside, -10.0 * n, x))
    return _sampled(maps, at, "zeros")


def _sampled(maps: Tensor, at: list[Tensor], padding: str) -> Tensor:
    """Bilinear, at rows and columns in coordinates of cell edges."""
    y, x = (2 * places / n - 1 for places, n in zip(at, maps.shape[-2:], strict=True))
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1).to(maps.dtype)
    return functional.grid_sample(
        maps, grid.expand(len(maps), -1, -1, -1), padding_mode=padding, align_corners=False
    )


def _grown(channels: int, hidden: int, out: int) -> nn.Sequential:
    """Four times as many cells each way."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, hidden, 2, stride=2),
        ChannelNorm(hidden),
        nn.GELU(),
        nn.ConvTranspose2d(hidden, out, 2, stride=2),
    )


def _convolved(channels: int, out: int) -> nn.Sequential:
    """Two 3×3 convolutions, twice as wide between them."""
    return nn.Sequential(
        nn.Conv2d(channels, 2 * out, 3, padding=1),
        ChannelNorm(2 * out),
        nn.GELU(),
        nn.Conv2d(2 * out, out, 3, padding=1),
    )


def _to_maps(channels: int, width: int, n_up: int) -> nn.Sequential:
    """A level of the trunk, stride 4·2ⁿ, as maps of stride 4."""
    if n_up == 0:
        return _convolved(channels, width // 8)
    if n_up == 1:
        return nn.Sequential(nn.ConvTranspose2d(channels, width // 8, 2, stride=2))
    more = [nn.ConvTranspose2d(channels, channels, 2, stride=2)] * (n_up == 3)
    return nn.Sequential(*more, *_grown(channels, width, width // 8))


def _zero(last: nn.Module) -> None:
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
