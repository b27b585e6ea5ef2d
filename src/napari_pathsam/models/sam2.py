"""Promptable models of single images: SAM 2.1, MedSAM2, SAM 1, and our small `pathsam-nano`.

The only file that knows the upstream ``sam2`` package. The parts are upstream's own (image encoder,
prompt encoder, mask decoder) put together by configuration under the names of Meta's checkpoints;
what is ours is the way they are called: no state between calls, any image size, several objects in
one decoder call (:mod:`napari_pathsam.models.answers`). Source: Ravi et al., SAM 2 (2024),
arXiv 2408.00714.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.core.errors import BadImageError
from napari_pathsam.models.answers import Answers
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.prompt_map import PromptSkip, draw_prompts
from napari_pathsam.models.sam import VitEncoder, VitNeck
from napari_pathsam.models.sam2_config import HieraConfig, Sam2Config, TimmConfig, VitConfig
from napari_pathsam.models.trunks import Neck, TimmTrunk


def _trunk(config: HieraConfig | TimmConfig) -> nn.Module:
    if isinstance(config, TimmConfig):
        return TimmTrunk(config)
    from sam2.modeling.backbones.hieradet import Hiera

    hiera: nn.Module = Hiera(**config.model_dump(exclude={"kind"}))
    return hiera


def _image_encoder(config: Sam2Config) -> Any:
    """A trunk and its neck, as attributes of those names."""
    if isinstance(config.trunk, VitConfig):
        return VitEncoder(config.trunk, config.width, config.field_px)
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder

    trunk = _trunk(config.trunk)
    neck = FpnNeck(
        position_encoding=nn.Identity(),  # upstream computes one per level and never uses it
        d_model=config.width,
        backbone_channel_list=trunk.channel_list,
        fpn_top_down_levels=list(config.top_down_levels),
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


class Sam2(Answers):
    """A promptable segmenter: :meth:`encode` once, :meth:`decode_prompts` as often as you like."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: Sam2Config) -> None:
        super().__init__()
        from sam2.modeling.sam.mask_decoder import MaskDecoder
        from sam2.modeling.sam.prompt_encoder import PromptEncoder
        from sam2.modeling.sam.transformer import TwoWayTransformer

        self.config = config
        width, grid, sam2 = config.width, config.field_px // 16, not config.is_sam1
        self.image_encoder = _image_encoder(config)
        self.sam_prompt_encoder = PromptEncoder(
            embed_dim=width,
            image_embedding_size=(grid, grid),
            input_image_size=(config.field_px, config.field_px),
            mask_in_chans=16,
        )
        self.sam_mask_decoder = MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=width, mlp_dim=config.mlp_dim, num_heads=8
            ),
            transformer_dim=width,
            iou_head_depth=3,
            iou_head_hidden_dim=config.iou_hidden_dim,
            use_high_res_features=sam2,
            iou_prediction_use_sigmoid=sam2,
            pred_obj_scores=config.object_score,
            pred_obj_scores_mlp=config.object_score,
            use_multimask_token_for_obj_ptr=True,
            dynamic_multimask_via_stability=sam2,
            dynamic_multimask_stability_delta=0.05,
            dynamic_multimask_stability_thresh=0.98,
        )
        self.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix *= (
            config.position_scale
        )
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, width)) if sam2 else None
        self.prompt_skip = PromptSkip(width) if config.prompt_map else None
        mean, std = torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)
        self.register_buffer("pixel_mean", mean[:, None, None], persistent=False)
        self.register_buffer("pixel_std", std[:, None, None], persistent=False)

    @property
    def device(self) -> torch.device:
        return self.get_buffer("pixel_mean").device

    @property
    def trunk_channels(self) -> tuple[int, ...]:
        """Channels of the trunk's features, finest first."""
        return tuple(self.image_encoder.trunk.channel_list[::-1])

    def neck_copy(self, *, high_res: bool) -> nn.Module:
        """What turns trunk features into what the decoder reads, as a module to be trained on."""
        if self.config.is_sam1:
            return VitNeck(self.image_encoder.neck)
        return Neck(self, high_res=high_res)

    # --- images -------------------------------------------------------------------------------

    def input_yx(self, shape_yx: tuple[int, int]) -> tuple[int, int]:
        """The size at which an image of this shape is encoded, stretched to it where need be."""
        side = self.config.field_px
        if self.config.fixed_canvas:
            return (side, side)
        longest = max(shape_yx)
        scale = min(max(longest, self.config.smallest_px), side) / longest
        height, width = (min(max(32, round(n * scale / 32) * 32), side) for n in shape_yx)
        return (height, width)

    def fitted_yx(self, shape_yx: tuple[int, int]) -> tuple[int, int]:
        """The part of the network's field that an image fills when nothing else is asked for.

        With ``pad`` it keeps its shape, but for rounding to whole cells of the mask (4 pixels;
        SAM 1 rounds to one).
        """
        if not self.config.pad:
            return self.input_yx(shape_yx)
        side, longest = self.config.field_px, max(shape_yx)
        height, width = (max(4, round(n * side / longest / 4) * 4) for n in shape_yx)
        return (height, width)

    def prepare(self, image: NDArray[np.uint8], input_yx: tuple[int, int] | None = None) -> Tensor:
        """``(H, W, 3)`` uint8 → ``(1, 3, h, w)``: resized, normalised, padded as upstream does."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise BadImageError(
                f"An image of shape {image.shape} and type {image.dtype} cannot be encoded; "
                "the model wants (height, width, 3) in uint8. `napari_pathsam.io.images.as_rgb` "
                "turns grey, 16-bit and other images into that."
            )
        size = input_yx or self.fitted_yx((image.shape[0], image.shape[1]))
        pixels = self.normalise(self.resized(image, size))
        if not self.config.pad:
            return pixels
        below, right = (max(0, self.config.field_px - n) for n in size)
        return functional.pad(pixels, (0, right, 0, below))

    def resized(self, image: NDArray[np.uint8], size_yx: tuple[int, int]) -> Tensor:
        """``(H, W, 3)`` uint8 → ``(1, 3, h, w)`` in 0 … 1 on the model's device."""
        pixels = torch.from_numpy(np.array(image)).to(self.device)
        pixels = pixels.permute(2, 0, 1)[None].float() / 255
        if pixels.shape[-2:] == size_yx:
            return pixels
        return functional.interpolate(
            pixels, size_yx, mode="bilinear", align_corners=False, antialias=True
        )

    def normalise(self, pixels: Tensor) -> Tensor:
        """``(B, 3, h, w)`` in 0 … 1 → as the trunk wants it."""
        mean, std = self.get_buffer("pixel_mean"), self.get_buffer("pixel_std")
        return (pixels - mean) / std

    def encode_pixels(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor, ...], list[Tensor]]:
        """``(B, 3, h, w)`` → image embedding, two finer levels (SAM 1: none), trunk features.

        Differentiable: training and :meth:`encode` share it.
        """
        trunk: list[Tensor] = self.image_encoder.trunk(pixels)
        if self.no_mem_embed is None:
            return self.image_encoder.neck(trunk[-1]), (), trunk
        levels, _ = self.image_encoder.neck(trunk)
        decoder = self.sam_mask_decoder
        high_res = (decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1]))
        return levels[2] + self.no_mem_embed[0, 0][:, None, None], high_res, trunk

    @torch.no_grad()
    def encode(
        self,
        image: NDArray[np.uint8],
        *,
        mpp: float | None = None,
        input_yx: tuple[int, int] | None = None,
        octaves: int | None = None,
    ) -> ImageEmbedding:
        """Encode ``(H, W, 3)`` uint8 of any size, once for all prompts and classes.

        Parameters
        ----------
        image
            Pixels as they are shown.
        mpp
            The image's pixel size in µm; it is kept, not used to resize.
        input_yx
            Rows and columns the network sees, multiples of 32; by default :meth:`fitted_yx`. On a
            fixed canvas any size means: stretched to all of it.
        octaves
            How many magnifications; by default the model's own number.
        """
        shape_yx = (image.shape[0], image.shape[1])
        if input_yx is None:
            height, width = self.fitted_yx(shape_yx)
        else:
            height, width = self.input_yx(shape_yx) if self.config.fixed_canvas else input_yx
        sizes = [(height, width)]
        for octave in range(1, octaves or self.config.octaves):
            smaller = [max(32, round(n / 2**octave / 32) * 32) for n in (height, width)]
            sizes.append((smaller[0], smaller[1]))
        finest, *coarser = (self._encode_at(image, size, mpp) for size in dict.fromkeys(sizes))
        return replace(finest, coarser=tuple(coarser))

    def _encode_at(
        self, image: NDArray[np.uint8], input_yx: tuple[int, int], mpp: float | None
    ) -> ImageEmbedding:
        image_embed, high_res, trunk = self.encode_pixels(self.prepare(image, input_yx))
        return ImageEmbedding(
            image_embed=image_embed,
            high_res=high_res,
            trunk=tuple(trunk),
            shape_yx=(image.shape[0], image.shape[1]),
            input_yx=input_yx,
            model=self.name,
            mpp=mpp,
        )

    # --- prompts ------------------------------------------------------------------------------

    def dense_positions(
        self, grid_yx: tuple[int, int], offset_yx: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """Position code of each embedding cell ``(1, C, h, w)``: a window of the canvas."""
        (h, w), (y, x) = grid_yx, offset_yx
        positions: Tensor = self.sam_prompt_encoder.get_dense_pe()
        return positions[..., y : y + h, x : x + w]

    def decode_tensors(
        self,
        image_embed: Tensor,
        high_res: Sequence[Tensor],
        points_xy: Tensor,
        signs: Tensor,
        masks: Tensor | None,
        *,
        window_yx: tuple[int, int] = (0, 0),
    ) -> tuple[Tensor, Tensor]:
        """One object an entry of the batch; all four masks. Differentiable.

        Parameters
        ----------
        image_embed, high_res
            ``(B, C, h, w)`` and the two finer levels, already repeated for each object.
        points_xy
            ``(B, N, 2)`` in pixels of the network's field.
        signs
            ``(B, N)``: 1 positive, 0 negative, 2 and 3 the corners of a box, −1 nothing.
        masks
            ``(B, 1, 4h, 4w)`` logits fed back, or None.
        window_yx
            Where on the canvas the field lies, in embedding cells: training moves it about.

        Returns
        -------
        masks, predicted IoU
            ``(B, 4, 4h, 4w)`` logits, ``(B, 4)``; index 0 is the single mask.
        """
        h, w = image_embed.shape[-2:]
        sparse, dense, high_res = self.prompt_embeddings(
            (h, w), high_res, points_xy, signs, masks, window_yx=window_yx
        )
        logits, iou, _, _ = self.sam_mask_decoder.predict_masks(
            image_embeddings=image_embed,
            image_pe=self.dense_positions((h, w), window_yx),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=list(high_res),
        )
        return logits, iou

    def prompt_embeddings(
        self,
        grid_yx: tuple[int, int],
        high_res: Sequence[Tensor],
        points_xy: Tensor,
        signs: Tensor,
        masks: Tensor | None,
        *,
        window_yx: tuple[int, int] = (0, 0),
    ) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
        """What the decoder is asked, of a grid of cells; arguments as :meth:`decode_tensors`.

        Sparse ``(B, n, C)`` and dense ``(B, C, h, w)`` prompt embeddings, and the finer levels with
        the drawn prompts where the model has them.
        """
        encoder, (h, w) = self.sam_prompt_encoder, grid_yx
        shift = torch.tensor([window_yx[1] * 16.0, window_yx[0] * 16.0], device=self.device)
        sparse = self.encoded_points(points_xy + shift, signs)
        masks = self.mask_prompt(points_xy, signs, masks, (4 * h, 4 * w))
        if self.prompt_skip is not None:
            drawn = self.prompt_skip(masks)
            high_res = [level + more for level, more in zip(high_res, drawn, strict=True)]
        if masks is None:
            dense = encoder.no_mask_embed.weight[:, :, None, None].expand(len(sparse), -1, h, w)
        else:
            dense = encoder.mask_downscaling(masks)
        return sparse, dense, high_res

    def encoded_points(self, points_xy: Tensor, signs: Tensor) -> Tensor:
        """Points and box corners ``(B, N, 2)``, encoded, with upstream's padding token.

        SAM 1 has none where there is a box; its objects then all have one, or none has.
        """
        padded = not (self.config.is_sam1 and bool((signs >= 2).any()))
        encoded: Tensor = self.sam_prompt_encoder._embed_points(points_xy, signs, pad=padded)
        return encoded

    def mask_prompt(
        self, points_xy: Tensor, signs: Tensor, masks: Tensor | None, grid_yx: tuple[int, int]
    ) -> Tensor | None:
        """The logits fed back, and the prompts drawn into them where the model wants that."""
        if self.prompt_skip is None:
            return masks
        return draw_prompts(points_xy, signs, masks, grid_yx)
