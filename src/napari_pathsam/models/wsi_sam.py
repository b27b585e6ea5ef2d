"""WSI-SAM: two resolutions, one object.

The field is encoded twice by one frozen promptable model: as it is, and (as many pixels) in its
surroundings. Each resolution has a token and a fusion module of its own; the decoded tokens become
one, which weighs the maps of both: a mask of the field, and a mask of the surroundings.
Source: Liu et al., WSI-SAM (2024), arXiv 2403.09257; network after Ke et al., HQ-SAM (2023), arXiv
2306.01567. Where paper, released code and we differ is in
:class:`~napari_pathsam.models.wsi_sam_config.WsiSamConfig`; in training, in
:class:`~napari_pathsam.training.wsi_config.WsiTrainConfig`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_pathsam.core.errors import BadImageError, BadWeightsError
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.tidy import in_one_piece
from napari_pathsam.models.wsi_sam_config import WsiSamConfig
from napari_pathsam.models.wsi_sam_fields import to_surroundings, without_surroundings
from napari_pathsam.models.wsi_sam_parts import (
    Carry,
    Resolution,
    Seen,
    Together,
    laid_into_surroundings,
    weighted,
)

STRIDE = 32  # network sizes are multiples of it
TOGETHER = 8  # objects decoded at a time
Asked = tuple[Tensor, Tensor, Tensor | None]
"""Points ``(B, N, 2)`` in network pixels, signs ``(B, N)``, mask logits ``(B, 1, 4h, 4w)``."""


@dataclass(frozen=True)
class WsiLogits:
    """Logits ``(B, 4h, 4w)`` of the field and of the surroundings; predicted IoU ``(B,)``.

    ``low`` is None without context.
    """

    high: Tensor
    low: Tensor | None
    iou: Tensor


class WsiSam(nn.Module):
    """A promptable model that also sees what is round the field.

    Parameters
    ----------
    config
        What it is made of.
    base
        The promptable model ``config.base`` names; kept inside and never changed.
    """

    def __init__(self, config: WsiSamConfig, base: Sam2) -> None:
        super().__init__()
        self.config, self.base = config, base
        self._asks = True
        width = base.config.width
        self.high = Resolution(config, base)
        self.low = Resolution(config, base) if config.context else None
        at_token = config.aggregate_at == "token"
        self.together = Together(config, width if at_token else width // 8)
        self.carry = Carry(config, width) if config.carry and config.context else None
        base.requires_grad_(False)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def context_factor(self) -> float | None:
        """How many times as wide the surroundings are that :meth:`encode` wants; None: none."""
        return self.config.factor if self.config.context and self._asks else None

    @cached_property
    def alone(self) -> WsiSam:
        """The same model, weights shared, that asks for no surroundings: they are not known."""
        one = copy(self)
        one._asks = False
        return one

    @property
    def embedding_name(self) -> str:
        """Names how images are encoded: models that share it understand each other's embeddings."""
        seen = f"{self.base.name}@{self.config.enlarge:g}"
        return f"{seen}/{self.config.factor:g}" if self.config.context else seen

    def train(self, mode: bool = True) -> WsiSam:
        """The base stays in evaluation mode."""
        super().train(mode)
        self.base.eval()
        return self

    # --- images -------------------------------------------------------------------------------

    def input_yx(self, shape_yx: tuple[int, int]) -> tuple[int, int]:
        """Network pixels for a field of this shape."""
        base = self.base.config
        if base.fixed_canvas:
            return self.base.fitted_yx(shape_yx)
        scale = min(self.config.enlarge, base.field_px / max(shape_yx))
        height, width = (
            min(max(STRIDE, round(n * scale / STRIDE) * STRIDE), base.field_px) for n in shape_yx
        )
        return (height, width)

    def encode(
        self,
        image: NDArray[np.uint8],
        *,
        mpp: float | None = None,
        surroundings: NDArray[np.uint8] | None = None,
    ) -> ImageEmbedding:
        """Encode a field ``(H, W, 3)`` and what is round it, once for all prompts.

        Parameters
        ----------
        image
            The field's pixels.
        mpp
            Its pixel size in µm; it is kept, not used to resize.
        surroundings
            ``(H, W, 3)`` as well, same centre, ``config.factor`` times as wide:
            :func:`~napari_pathsam.models.wsi_sam_fields.read_surroundings` makes it. None: nothing
            is known of them, and they are taken for empty glass.

        Returns
        -------
        ImageEmbedding
            That of the field; that of the surroundings is its ``coarser``.
        """
        if self.low is None:
            return self._encode(image, mpp)
        found = self._encode(image, mpp)
        if surroundings is None:
            surroundings = without_surroundings(image, self.config.factor)
        elif surroundings.shape != image.shape:
            raise BadImageError(
                f"The surroundings have the shape {surroundings.shape} and the field {image.shape}."
                " They must have as many pixels as the field, of an area "
                f"{self.config.factor:g} times as wide about the same centre."
            )
        low = self._encode(surroundings, mpp and mpp * self.config.factor)
        return replace(found, coarser=(low,))

    def _encode(self, image: NDArray[np.uint8], mpp: float | None) -> ImageEmbedding:
        input_yx = self.input_yx((image.shape[0], image.shape[1])) if image.ndim == 3 else None
        found = self.base.encode(image, mpp=mpp, input_yx=input_yx, octaves=1)
        return replace(found, model=self.embedding_name)

    # --- prompts ------------------------------------------------------------------------------

    def decode_tensors(
        self,
        embedding: ImageEmbedding,
        owner: Tensor,
        asked: Asked,
        asked_low: Asked | None = None,
    ) -> WsiLogits:
        """Objects of n fields, ``owner`` ``(B,)`` says of which. Differentiable.

        ``asked`` is in network pixels of the field. ``asked_low`` is what is said in those of the
        surroundings; None: the same, moved there.
        """
        high = self.high(self.base, embedding, self.high.of_image(embedding), owner, asked)
        if self.low is None:
            weights = self.high.to_weights(high.token)
            return WsiLogits(self._logits(weights, high, high.maps), None, high.iou)
        around = embedding.coarser[0]
        asked_low = asked_low or self.moved(embedding, asked)
        low = self.low(self.base, around, self.low.of_image(around), owner, asked_low)
        for_high, for_low = self._weights(high.token, low.token)
        low_logits = self._logits(for_low, low, low.maps)
        maps = high.maps
        if self.carry is not None:
            maps = maps + self.carry(low.sam_maps + low.maps, low_logits, _cells(embedding))
        return WsiLogits(self._logits(for_high, high, maps), low_logits, high.iou)

    def _weights(self, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of both resolutions → what weighs the maps of each, ``(B, C/8)``."""
        assert self.low is not None
        if self.config.aggregate_at == "token":
            token = self.together(high, low)
            return self.high.to_weights(token), self.low.to_weights(token)
        weights = self.together(self.high.to_weights(high), self.low.to_weights(low))
        return weights, weights

    def _logits(self, weights: Tensor, seen: Seen, maps: Tensor) -> Tensor:
        logits = weighted(weights, maps)
        add = self.config.add_sam == "always" or (
            self.config.add_sam == "inference" and not self.training
        )
        return logits + seen.sam_logits if add else logits

    def moved(self, embedding: ImageEmbedding, asked: Asked) -> Asked:
        """What is asked of the field, in network pixels of its surroundings."""
        points, signs, masks = asked
        height, width = embedding.input_yx
        side = torch.tensor([width, height], device=points.device)
        edge = torch.where(signs >= 2, 0.0, 0.5)[..., None]  # a click is on a pixel's centre
        points = to_surroundings(points + edge, side, self.config.factor) - edge
        if masks is not None:
            masks = laid_into_surroundings(masks, _cells(embedding), self.config.factor)
        return points, signs, masks

    @torch.inference_mode()
    def decode_prompts(
        self,
        embedding: ImageEmbedding,
        prompts: Prompts,
        *,
        previous: PromptedMask | None = None,
        multimask: bool | None = None,
    ) -> PromptedMask:
        """The mask one object's prompts ask for; there is one, whatever ``multimask`` says.

        Arguments as those of :meth:`Sam2.decode_prompts`.
        """
        self._check(embedding, [prompts])
        return self._decode(embedding, [prompts], previous)[0]

    @torch.inference_mode()
    def decode_many(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompts], *, whole: bool = False
    ) -> list[PromptedMask]:
        """Several objects, one answer each; always all of the field is decoded."""
        self._check(embedding, prompts)
        answers: dict[int, PromptedMask] = {}
        # Equal numbers of tokens go together: padding would be seen by the attention.
        kinds = [(len(p.points_yx), p.box is None, p.mask is None) for p in prompts]
        for kind in dict.fromkeys(kinds):
            alike = [i for i, k in enumerate(kinds) if k == kind]
            for start in range(0, len(alike), TOGETHER):
                some = alike[start : start + TOGETHER]
                found = self._decode(embedding, [prompts[i] for i in some], None)
                answers.update(zip(some, found, strict=True))
        return [answers[i] for i in range(len(prompts))]

    @torch.inference_mode()
    def decode_surroundings(
        self, embedding: ImageEmbedding, prompts: Prompts, *, previous: PromptedMask | None = None
    ) -> NDArray[np.float32] | None:
        """Logits ``(4h, 4w)`` of the same object in the surroundings; None without context."""
        self._check(embedding, [prompts])
        low = self._asked(embedding, [prompts], previous).low
        return None if low is None else np.asarray(low[0].float().cpu().numpy())

    def _asked(
        self,
        embedding: ImageEmbedding,
        prompts: Sequence[Prompts],
        previous: PromptedMask | None,
    ) -> WsiLogits:
        points, signs = self.base.prompt_tokens(embedding, prompts)
        masks = self.base.mask_input(embedding, prompts, previous)
        owner = torch.zeros(len(prompts), dtype=torch.long, device=self.device)
        return self.decode_tensors(embedding, owner, (points, signs, masks))

    def _decode(
        self,
        embedding: ImageEmbedding,
        prompts: Sequence[Prompts],
        previous: PromptedMask | None,
    ) -> list[PromptedMask]:
        found = self._asked(embedding, prompts, previous)
        rows, columns = (int(n) for n in _cells(embedding))
        logits = found.high[:, None, :rows, :columns].float().cpu().numpy()
        answers = [
            PromptedMask(one, np.array([float(iou)], np.float32), 0, embedding.shape_yx)
            for one, iou in zip(logits, found.iou, strict=True)
        ]
        if not self.base.config.one_piece:
            return answers
        return [in_one_piece(a, p) for a, p in zip(answers, prompts, strict=True)]

    def _check(self, embedding: ImageEmbedding, prompts: Sequence[Prompts]) -> None:
        if embedding.model != self.embedding_name:
            raise BadWeightsError(
                f"This embedding was made by {embedding.model}; {self.name} reads those of "
                f"{self.embedding_name}. Encode the image with the model that decodes it."
            )
        for one in prompts:
            one.check(embedding.shape_yx)


def _cells(embedding: ImageEmbedding) -> tuple[float, float]:
    """Cells of the maps that the image fills."""
    height, width = embedding.input_yx
    return height / 4, width / 4


def fusion_state(model: WsiSam) -> dict[str, Any]:
    """The tensors that are learned: all but the base's."""
    return {n: t for n, t in model.state_dict().items() if not n.startswith("base.")}
