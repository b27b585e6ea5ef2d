"""Promptable models of single images: SAM 2.1, MedSAM2, SAM 1, and our small `pathsam-nano`.

The only file that knows the upstream ``sam2`` package. The parts are upstream's own (image encoder,
prompt encoder, mask decoder) put together by configuration under the names of Meta's checkpoints;
what is ours is the way they are called: no state between calls, any image size, several objects in
one decoder call. Source: Ravi et al., SAM 2 (2024), arXiv 2408.00714.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.core.errors import BadImageError, BadWeightsError
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models import fast_decode
from napari_pathsam.models.embedding import NOTHING, ImageEmbedding, PromptedMask
from napari_pathsam.models.octaves import merged, resized
from napari_pathsam.models.prompt_map import PromptSkip, draw_prompts
from napari_pathsam.models.sam import VitEncoder, VitNeck
from napari_pathsam.models.sam2_config import HieraConfig, Sam2Config, TimmConfig, VitConfig
from napari_pathsam.models.tidy import in_one_piece

LOGIT_CLAMP = 32.0  # of masks fed back, as upstream
CELL = 16  # network pixels per cell of the image embedding


class TimmTrunk(nn.Module):
    """A timm network as a SAM 2 trunk: ``(B, 3, H, W)`` → four levels, strides 4 to 32."""

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        import timm

        self.net = timm.create_model(
            config.name, features_only=True, out_indices=(1, 2, 3, 4), pad_type=config.pad_type
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
        for n, conv in enumerate(self.convs):
            level = conv(trunk[3 - n])
            if levels and 3 - n in self.top_down:
                level = level + functional.interpolate(levels[-1], scale_factor=2, mode="nearest")
            levels.append(level)
        image_embed = levels[1] + self.no_mem_embed[:, None, None]
        if not len(self.finer):
            return image_embed, ()
        return image_embed, (self.finer[0](levels[3]), self.finer[1](levels[2]))


class Sam2(nn.Module):
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
    def name(self) -> str:
        return self.config.name

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
        encoder = self.sam_prompt_encoder
        batch, _, h, w = image_embed.shape
        shift = torch.tensor([window_yx[1] * 16.0, window_yx[0] * 16.0], device=self.device)
        sparse = self._sparse(points_xy + shift, signs)
        masks = self.mask_prompt(points_xy, signs, masks, (4 * h, 4 * w))
        if self.prompt_skip is not None:
            drawn = self.prompt_skip(masks)
            high_res = [level + more for level, more in zip(high_res, drawn, strict=True)]
        if masks is None:
            dense = encoder.no_mask_embed.weight[:, :, None, None].expand(batch, -1, h, w)
        else:
            dense = encoder.mask_downscaling(masks)
        logits, iou, _, _ = self.sam_mask_decoder.predict_masks(
            image_embeddings=image_embed,
            image_pe=self.dense_positions((h, w), window_yx),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=list(high_res),
        )
        return logits, iou

    def _sparse(self, points_xy: Tensor, signs: Tensor) -> Tensor:
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

    def _tokens(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompts]
    ) -> tuple[Tensor, Tensor]:
        """Points and boxes of several objects as SAM takes them, padded with nothing."""
        (height, width), (h, w) = embedding.shape_yx, embedding.input_yx
        rows: list[list[tuple[float, float, int]]] = []
        for p in prompts:
            row: list[tuple[float, float, int]] = []
            if p.box is not None:
                y0, x0, y1, x1 = p.box
                row += [(x0, y0, 2), (x1, y1, 3)]
            row += [(x, y, int(s)) for (y, x), s in zip(p.points_yx, p.positive, strict=True)]
            rows.append(row)
        n = max(len(row) for row in rows)
        table = torch.tensor([row + [(0.0, 0.0, -1)] * (n - len(row)) for row in rows])
        table = table.reshape(len(rows), n, 3).to(self.device, torch.float32)
        scale = torch.tensor([w / width, h / height], device=self.device)
        return table[..., :2] * scale, table[..., 2].int()

    def _mask_input(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompts], previous: PromptedMask | None
    ) -> Tensor | None:
        """Low-resolution logits to start from: the previous answer, or a given mask."""
        if previous is not None:
            best = previous.low_res_logits[previous.best][None]
            logits = torch.from_numpy(resized(best, _mask_yx(embedding)))[None].to(self.device)
            if not self.config.is_sam1:
                logits = logits.clamp(-LOGIT_CLAMP, LOGIT_CLAMP)
            return self._over_padding(logits, embedding)
        if all(p.mask is None for p in prompts):
            return None
        given = np.stack(
            [np.zeros(embedding.shape_yx, bool) if p.mask is None else p.mask for p in prompts]
        )
        share = functional.interpolate(
            torch.from_numpy(given)[:, None].float(),
            _mask_yx(embedding),
            mode="bilinear",
            antialias=True,
        )
        return self._over_padding(((share * 2 - 1) * 10).to(self.device), embedding)

    def _over_padding(self, logits: Tensor, embedding: ImageEmbedding) -> Tensor:
        """Logits ``(B, 1, …)`` of the image → of all the network sees: padding is no object."""
        h, w = (4 * n for n in embedding.image_embed.shape[-2:])
        right, below = w - logits.shape[-1], h - logits.shape[-2]
        if not right and not below:
            return logits
        return functional.pad(logits, (0, right, 0, below), value=float(logits.min()))

    @torch.inference_mode()
    def decode_prompts(
        self,
        embedding: ImageEmbedding,
        prompts: Prompts,
        *,
        previous: PromptedMask | None = None,
        multimask: bool | None = None,
    ) -> PromptedMask:
        """The masks one object's prompts ask for.

        Parameters
        ----------
        embedding
            From this model's :meth:`encode`.
        prompts
            In pixels of the encoded image.
        previous
            The answer before the newest prompt; it is fed back and refined.
        multimask
            Three masks to choose from, or one; by default three after a single point, which may
            mean a part or the whole.
        """
        self._check(embedding, [prompts])
        levels = (embedding, *embedding.coarser)
        answers = [self._decode(e, [prompts], previous, multimask)[0] for e in levels]
        return self._answer(answers, prompts)

    @torch.inference_mode()
    def decode_many(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompts], *, whole: bool = False
    ) -> list[PromptedMask]:
        """Several objects in one decoder call: one answer for each entry of ``prompts``.

        An object with a box is decoded inside the box and a margin of a quarter of its sides (at
        least 32 network pixels); outside nothing is reported, and the choice of the single mask is
        made on what is inside. ``whole`` decodes the whole image, exactly as
        :meth:`decode_prompts` does.
        """
        self._check(embedding, prompts)
        levels = [self._decode_level(e, prompts, whole) for e in (embedding, *embedding.coarser)]
        return [self._answer(a, one) for *a, one in zip(*levels, prompts, strict=True)]

    def _answer(self, answers: Sequence[PromptedMask], prompts: Prompts) -> PromptedMask:
        """What the magnifications say, as one."""
        answer = merged(answers)
        return in_one_piece(answer, prompts) if self.config.one_piece else answer

    def _decode_level(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompts], whole: bool
    ) -> list[PromptedMask]:
        answers: dict[int, PromptedMask] = {}
        # Equal numbers of tokens go together: padding would be seen by the attention.
        kinds = [self._kind(p) for p in prompts]
        for kind in sorted(set(kinds)):
            some = [i for i, k in enumerate(kinds) if k == kind]
            chosen = [prompts[i] for i in some]
            windows = None if whole else [_window(embedding, p) for p in chosen]
            found = self._decode(embedding, chosen, None, None, windows)
            answers.update(zip(some, found, strict=True))
        return [answers[i] for i in range(len(prompts))]

    def _kind(self, prompts: Prompts) -> tuple[int, bool, bool]:
        """What must be alike for objects to share a decoder call."""
        boxed = self.config.is_sam1 and prompts.box is not None  # see `_sparse`
        return _n_tokens(prompts), prompts.mask is not None, boxed

    def _check(self, embedding: ImageEmbedding, prompts: Sequence[Prompts]) -> None:
        if embedding.model != self.name:
            raise BadWeightsError(
                f"This embedding was made by {embedding.model}, not by {self.name}; "
                "encode the image with the model that decodes it."
            )
        for one in prompts:
            one.check(embedding.shape_yx)

    def _prepared(self, embedding: ImageEmbedding) -> fast_decode.Prepared:
        """What all prompts share; kept with the embedding until the weights change."""
        decoder, encoder = self.sam_mask_decoder, self.sam_prompt_encoder
        weights = (*decoder.transformer.layers[0].parameters(), *encoder.parameters())
        weights = (*weights, *encoder.buffers(), *decoder.output_upscaling.parameters())
        stamp = tuple((w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights)
        found: tuple[object, fast_decode.Prepared] | None = embedding.prepared.get("decoder")
        if found is None or found[0] != stamp:
            h, w = embedding.image_embed.shape[-2:]
            shared = fast_decode.prepare(
                decoder,
                embedding.image_embed,
                embedding.high_res,
                self.dense_positions((h, w)),
                encoder.no_mask_embed.weight,
            )
            found = embedding.prepared["decoder"] = (stamp, shared)
        return found[1]

    def _decode(
        self,
        embedding: ImageEmbedding,
        prompts: Sequence[Prompts],
        previous: PromptedMask | None,
        multimask: bool | None,
        windows: Sequence[fast_decode.Window | None] | None = None,
    ) -> list[PromptedMask]:
        """Objects of one kind."""
        encoder, decoder = self.sam_prompt_encoder, self.sam_mask_decoder
        h, w = embedding.image_embed.shape[-2:]
        points, signs = self._tokens(embedding, prompts)
        masks = self._mask_input(embedding, prompts, previous)
        masks = self.mask_prompt(points, signs, masks, (4 * h, 4 * w))
        if points.shape[1]:
            sparse = self._sparse(points, signs)
        else:  # a mask alone: upstream adds no padding token then
            sparse = points.new_zeros(len(prompts), 0, self.config.width)
        dense = None if masks is None else encoder.mask_downscaling(masks)
        skip = self.prompt_skip
        drawn = None if skip is None or masks is None else skip.by_cell(masks)
        logits, iou = fast_decode.predict_masks(
            decoder, self._prepared(embedding), sparse, dense, windows, drawn
        )
        answers, (rows, cols) = [], _mask_yx(embedding)
        places = windows or [None] * len(prompts)
        for one, all_masks, all_scores, window in zip(prompts, logits, iou, places, strict=True):
            three = _is_ambiguous(one, previous) if multimask is None else multimask
            if three:
                shown, scores = all_masks[1:], all_scores[1:]
            elif decoder.dynamic_multimask_via_stability:
                single = decoder._dynamic_multimask_via_stability(all_masks[None], all_scores[None])
                shown, scores = single[0][0], single[1][0]
            else:
                shown, scores = all_masks[:1], all_scores[:1]
            found = _placed(shown.float().cpu().numpy(), window, (4 * h, 4 * w))
            answers.append(
                PromptedMask(
                    low_res_logits=found[:, :rows, :cols],
                    predicted_iou=scores.float().cpu().numpy(),
                    best=int(scores.argmax()),
                    shape_yx=embedding.shape_yx,
                    decoded=window and (_times_4(window[0], rows), _times_4(window[1], cols)),
                )
            )
        return answers


def _mask_yx(embedding: ImageEmbedding) -> tuple[int, int]:
    """Low-resolution mask pixels of the image; padding, where there is some, lies beyond."""
    height, width = embedding.input_yx
    return height // 4, width // 4


def _times_4(cells: slice, end: int | None = None) -> slice:
    stop = 4 * cells.stop
    return slice(4 * cells.start, stop if end is None else min(stop, end))


def _placed(
    masks: NDArray[np.float32], window: fast_decode.Window | None, shape_yx: tuple[int, int]
) -> NDArray[np.float32]:
    """Masks ``(k, …)`` of a window of cells in an image of nothing."""
    if window is None:
        return masks
    whole = np.full((len(masks), *shape_yx), NOTHING, np.float32)
    whole[:, _times_4(window[0]), _times_4(window[1])] = masks
    return whole


def _n_tokens(prompts: Prompts) -> int:
    return len(prompts.points_yx) + 2 * (prompts.box is not None)


def _window(embedding: ImageEmbedding, prompts: Prompts) -> fast_decode.Window | None:
    """The cells round a box in which an object is decoded; None where there is no box."""
    if prompts.box is None:
        return None
    edges = []
    for axis in (0, 1):
        scale = embedding.input_yx[axis] / embedding.shape_yx[axis] / CELL
        low, high = prompts.box[axis] * scale, prompts.box[axis + 2] * scale
        margin = max((high - low) / 4, 2.0)
        n = embedding.image_embed.shape[-2 + axis]
        first = min(max(int(np.floor(low - margin)), 0), n - 1)
        edges.append(slice(first, min(max(int(np.ceil(high + margin)), first + 1), n)))
    return (edges[0], edges[1])


def _is_ambiguous(prompts: Prompts, previous: PromptedMask | None) -> bool:
    """A lone click may mean the part or the whole; anything more says which."""
    alone = len(prompts.points_yx) == 1 and prompts.box is None and prompts.mask is None
    return alone and previous is None
