"""PathSam: one image embedding that answers clicks and knows classes.

Path-SAM2, SAM-Path, their ablations and the heads of `pathsam-nano` are configurations of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models.alignment import Aligned, build_alignment
from napari_pathsam.models.class_prompts import ClassDecoder, ClassPrompts
from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask
from napari_pathsam.models.encoders import PathologyEncoder
from napari_pathsam.models.pathsam_config import Part, PathSamConfig
from napari_pathsam.models.sam2 import Sam2

STRIDE = 32  # network sizes are multiples of it

PART_OF: dict[str, Part] = {
    "head.": "head",
    "alignment.": "alignment",
    "decoder.": "decoder",
    "base.image_encoder.": "encoder",
    "network.trunk.": "trunk",
    "network.": "network",
}
"""Which part of a model a tensor belongs to, by the start of its name."""


@dataclass(frozen=True)
class ClassLogits:
    """What :meth:`PathSam.decode_classes` answers.

    Attributes
    ----------
    logits
        ``(K, h, w)`` float32; channel 0 is background, channel i the i-th class of the table.
    predicted_iou
        ``(K,)``, the decoder's own guess for each.
    shape_yx
        Rows and columns of the encoded image.
    classes
        The classes of channels 1 …
    """

    logits: Tensor
    predicted_iou: Tensor
    shape_yx: tuple[int, int]
    classes: ClassTable

    def logits_at(self, shape_yx: tuple[int, int] | None = None) -> Tensor:
        """``(K, H, W)``, bilinear; by default at the encoded image's own pixels."""
        return logits_at(self.logits, shape_yx or self.shape_yx)

    def probabilities(self, shape_yx: tuple[int, int] | None = None) -> Tensor:
        """Softmax over the classes, ``(K, H, W)``."""
        return self.logits_at(shape_yx).softmax(dim=0)

    def class_map(self, shape_yx: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """``(H, W)`` class ids of the table, 0 for background."""
        ids = np.array([0, *(c.id for c in self.classes)], np.uint8)
        channels: NDArray[np.int64] = self.logits_at(shape_yx).argmax(dim=0).cpu().numpy()
        return ids[channels]


class PathSam(nn.Module):
    """A promptable model, a pathology encoder beside it where wanted, and one mask per class.

    Parameters
    ----------
    config
        What it is made of.
    base
        The promptable model ``config.base`` names; kept inside, never changed by training unless
        its encoder is trained too.
    classes
        The classes; background is one more, and the first.
    encoder
        The pathology encoder ``config.encoder`` describes.
    """

    def __init__(
        self,
        config: PathSamConfig,
        base: Sam2,
        classes: ClassTable,
        encoder: PathologyEncoder | None = None,
    ) -> None:
        super().__init__()
        if (config.encoder is None) != (encoder is None):
            raise BadWeightsError(
                f"{config.name} is made {'without' if config.encoder is None else 'with'} a "
                f"pathology encoder, and {'one' if encoder is not None else 'none'} was given."
            )
        self.config, self.classes = config, classes
        self.base, self.pathology = base, encoder
        self.alignment = build_alignment(config, base)
        self.decoder = ClassDecoder(base)
        self.head = ClassPrompts(config, base, len(classes) + 1)
        self.train_only(())

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def tile_px(self) -> int:
        """Longest side of a field, in pixels of the image at ``config.mpp``."""
        return int(self.base.config.field_px / self.config.enlarge)

    @property
    def cell_px(self) -> int:
        """Network pixels per cell of the logits."""
        return 4

    @property
    def square(self) -> bool:
        """Whether it wants whole square tiles."""
        return self.base.config.fixed_canvas

    @property
    def octaves(self) -> int:
        """Magnifications in an embedding, so that heads that look at more or fewer share it."""
        return max(self.config.octaves, self.base.config.octaves)

    @property
    def embedding_name(self) -> str:
        """Names the encoders: models that share it understand each other's embeddings."""
        return (
            self.base.name
            if self.pathology is None
            else f"{self.base.name}+{self.pathology.spec.name}"
        )

    # --- training -----------------------------------------------------------------------------

    def train_only(self, parts: Sequence[Part]) -> None:
        """Make these parts trainable and freeze the rest."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(part_of(name) in parts)

    def train(self, mode: bool = True) -> PathSam:
        """Frozen encoders stay in evaluation mode: no dropout, no moving statistics."""
        super().train(mode)
        self.base.eval()
        if self.pathology is not None:
            self.pathology.eval()
        return self

    def network_px(self, patch_px: int) -> int:
        """Network pixels of a training patch's side."""
        field_px = self.base.config.field_px
        if self.square:
            return field_px
        return min(field_px, max(STRIDE, round(patch_px * self.config.enlarge / STRIDE) * STRIDE))

    # --- images -------------------------------------------------------------------------------

    def input_yx(self, shape_yx: tuple[int, int]) -> tuple[int, int]:
        """Network pixels for an image of this shape at ``config.mpp``."""
        if self.base.config.fixed_canvas:
            return self.base.input_yx(shape_yx)
        side = self.base.config.field_px
        scale = min(self.config.enlarge, side / max(shape_yx))
        height, width = (
            min(max(STRIDE, round(n * scale / STRIDE) * STRIDE), side) for n in shape_yx
        )
        return (height, width)

    @torch.no_grad()
    def encode(
        self, image: NDArray[np.uint8], *, mpp: float | None = None, octaves: int | None = None
    ) -> ImageEmbedding:
        """Encode ``(H, W, 3)`` uint8, whose pixels are ``config.mpp`` µm, once for everything."""
        input_yx = self.input_yx((image.shape[0], image.shape[1]))
        found = self.base.encode(image, mpp=mpp, input_yx=input_yx, octaves=octaves or self.octaves)
        if self.pathology is None:
            return found
        finest, *coarser = (self._with_pathology(e, image) for e in (found, *found.coarser))
        return replace(finest, coarser=tuple(coarser))

    def _with_pathology(
        self, embedding: ImageEmbedding, image: NDArray[np.uint8]
    ) -> ImageEmbedding:
        assert self.pathology is not None
        pixels = self.base.resized(image, embedding.input_yx)
        grid = (embedding.image_embed.shape[-2], embedding.image_embed.shape[-1])
        return replace(embedding, pathology=self.pathology(pixels, grid))

    def encode_batch(self, pixels: Tensor) -> ImageEmbedding:
        """``(B, 3, h, w)`` in 0 … 1 at network size → one embedding of B images, for training."""
        grid = (pixels.shape[-2] // 16, pixels.shape[-1] // 16)
        if self.config.sam_encoder:
            found = self.base.encode_pixels(self.base.normalise(pixels))
        else:  # only the shape of an image embedding
            found = (pixels.new_empty(len(pixels), 0, *grid), (), [])
        image_embed, high_res, trunk = found
        pathology = None
        if self.pathology is not None:
            with torch.no_grad():
                pathology = self.pathology(pixels, grid)
        size = (pixels.shape[-2], pixels.shape[-1])
        return ImageEmbedding(
            image_embed=image_embed,
            high_res=tuple(high_res),
            trunk=tuple(trunk),
            shape_yx=size,
            input_yx=size,
            model=self.base.name,
            mpp=self.config.mpp,
            pathology=pathology,
        )

    # --- classes ------------------------------------------------------------------------------

    def align(self, embedding: ImageEmbedding) -> Aligned:
        """Embedding of B images → what the decoder reads. Differentiable."""
        image_embed, high_res = self.alignment(embedding)
        return image_embed, high_res if self.reads_high_res else ()

    @property
    def reads_high_res(self) -> bool:
        """Whether the decoder sees the two finer levels."""
        return self.config.high_res and self.config.sam_encoder

    def decode_aligned(
        self,
        image_embed: Tensor,
        high_res: tuple[Tensor, ...],
        *,
        window_yx: tuple[int, int] = (0, 0),
    ) -> tuple[Tensor, Tensor]:
        """From :meth:`align` to ``(B, K, 4h, 4w)`` logits and ``(B, K)`` IoU. Differentiable.

        ``window_yx`` says where on the canvas of positions the images lie, in cells.
        """
        grid = (image_embed.shape[-2], image_embed.shape[-1])
        positions = self.base.dense_positions(grid, window_yx)
        logits, iou = self.decoder(self.head, image_embed, high_res, positions)
        return logits, iou

    def class_logits(
        self, embedding: ImageEmbedding, *, window_yx: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, Tensor]:
        """:meth:`align`, then :meth:`decode_aligned`."""
        return self.decode_aligned(*self.align(embedding), window_yx=window_yx)

    @torch.inference_mode()
    def decode_classes(self, embedding: ImageEmbedding) -> ClassLogits:
        """One mask per class from an embedding of this model's encoders.

        With ``config.octaves`` above 1, the mean of what is seen at so many of the magnifications
        that the embedding holds.
        """
        if embedding.model != self.base.name:
            raise BadWeightsError(
                f"This embedding was made by {embedding.model}; {self.name} reads those of "
                f"{self.base.name}. Encode the image with the model that decodes it."
            )
        if (embedding.pathology is None) != (self.pathology is None):
            raise BadWeightsError(
                f"{self.name} and this embedding do not agree on a pathology encoder; encode the "
                "image with the model that decodes it."
            )
        levels = (embedding, *embedding.coarser)[: self.config.octaves]
        decoded = [self.class_logits(level) for level in levels]
        grid = (decoded[0][0].shape[-2], decoded[0][0].shape[-1])
        logits = torch.stack([logits_at(one[0].float(), grid) for one, _ in decoded]).mean(0)
        iou = torch.stack([one[0].float() for _, one in decoded]).mean(0)
        return ClassLogits(logits, iou, embedding.shape_yx, self.classes)

    # --- prompts ------------------------------------------------------------------------------

    def decode_prompts(
        self,
        embedding: ImageEmbedding,
        prompts: Prompts,
        *,
        previous: PromptedMask | None = None,
        multimask: bool | None = None,
    ) -> PromptedMask:
        """The base model's answer, on the same embedding (:meth:`Sam2.decode_prompts`)."""
        return self.base.decode_prompts(embedding, prompts, previous=previous, multimask=multimask)

    def decode_many(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompts], *, whole: bool = False
    ) -> list[PromptedMask]:
        """The base model's answers (:meth:`Sam2.decode_many`)."""
        return self.base.decode_many(embedding, prompts, whole=whole)


def logits_at(logits: Tensor, shape_yx: tuple[int, int]) -> Tensor:
    """``(K, h, w)`` → ``(K, H, W)``, bilinear."""
    up = functional.interpolate(logits[None], shape_yx, mode="bilinear", align_corners=False)
    return up[0]


def part_of(name: str) -> Part | None:
    """The part a tensor of a model with classes belongs to; None: it is never trained."""
    return next((part for start, part in PART_OF.items() if name.startswith(start)), None)
