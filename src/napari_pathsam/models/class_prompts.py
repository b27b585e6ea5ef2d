"""Class prompts: one learned token per class drives SAM's mask decoder through a KAN.

Sources: SAM-Path (Zhang et al. 2023, arXiv 2307.09570), whose class prompts take the place of the
decoder's mask tokens; Path-SAM2 (Zhang et al. 2024, arXiv 2408.03651), whose KANs take the place of
its hypernetworks.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from napari_pathsam.models.kan import Kan
from napari_pathsam.models.pathsam_config import PathSamConfig
from napari_pathsam.models.sam2 import Sam2


class ClassPrompts(nn.Module):
    """The class tokens, and what makes masks and predicted IoUs of them: the trainable head.

    A mask is a weighted sum of the decoder's feature maps; the weights come from the class's token,
    by a KAN of its own (or an MLP that starts as SAM's).
    """

    def __init__(self, config: PathSamConfig, sam: Sam2, n_classes: int) -> None:
        super().__init__()
        decoder: Any = sam.sam_mask_decoder
        width: int = decoder.transformer_dim
        known: Tensor = decoder.mask_tokens.weight.detach()
        if config.tokens == "pretrained":
            tokens = known[torch.arange(n_classes) % len(known)].clone()
            tokens += 0.1 * known.std() * torch.randn(n_classes, width)
        else:
            tokens = torch.randn(n_classes, width)
        self.tokens = nn.Parameter(tokens)
        if config.head == "kan":
            self.to_weights = nn.ModuleList(
                Kan((width, *config.hidden, width // 8), config.kan) for _ in range(n_classes)
            )
            self.to_iou: nn.Module = Kan((width, *config.hidden[:1], n_classes), config.kan)
        else:
            self.to_weights = nn.ModuleList(
                deepcopy(decoder.output_hypernetworks_mlps[0]) for _ in range(n_classes)
            )
            self.to_iou = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(), nn.Linear(width, n_classes)
            )

    def forward(self, iou_token: Tensor, tokens: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded tokens ``(B, C)``, ``(B, K, C)`` and maps ``(B, C/8, h, w)`` → logits, IoU."""
        weights = [one(tokens[:, k]) for k, one in enumerate(self.to_weights)]
        logits = torch.einsum("bkc,bchw->bkhw", torch.stack(weights, dim=1), maps.float())
        return logits, self.to_iou(iou_token).float().sigmoid()


class ClassDecoder(nn.Module):
    """SAM's mask decoder, copied, with class prompts for mask tokens: K masks in one call."""

    def __init__(self, sam: Sam2) -> None:
        super().__init__()
        decoder: Any = sam.sam_mask_decoder
        encoder: Any = sam.sam_prompt_encoder
        self.transformer = deepcopy(decoder.transformer)
        self.upscaling = deepcopy(decoder.output_upscaling)
        first = (
            [decoder.obj_score_token.weight] if getattr(decoder, "pred_obj_scores", False) else []
        )
        # The order in which the decoder learned to read them: object score, IoU, masks.
        own = torch.cat([*first, decoder.iou_token.weight]).detach().clone()
        self.own_tokens = nn.Parameter(own)
        self.no_mask = nn.Parameter(encoder.no_mask_embed.weight.detach()[0].clone())

    def forward(
        self,
        head: ClassPrompts,
        image_embed: Tensor,
        high_res: tuple[Tensor, ...],
        positions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Aligned features of B images → ``(B, K, 4h, 4w)`` logits, ``(B, K)`` predicted IoU."""
        batch, width, h, w = image_embed.shape
        tokens = torch.cat([self.own_tokens, head.tokens]).expand(batch, -1, -1)
        image = image_embed + self.no_mask[:, None, None]
        decoded, image = self.transformer(image, positions.expand(batch, -1, -1, -1), tokens)
        maps = image.transpose(1, 2).reshape(batch, width, h, w)
        n_own = len(self.own_tokens)
        return head(
            decoded[:, n_own - 1], decoded[:, n_own:], upscaled(self.upscaling, maps, high_res)
        )


def upscaled(upscaling: Any, maps: Tensor, high_res: Sequence[Tensor]) -> Tensor:
    """``(B, C, h, w)`` → ``(B, C/8, 4h, 4w)``; finer levels join on the way, as in SAM 2."""
    if not len(high_res):
        maps = upscaling(maps)
        return maps
    grow, norm, act, grow_again, act_again = upscaling
    maps = act(norm(grow(maps) + high_res[1]))
    maps = act_again(grow_again(maps) + high_res[0])
    return maps
