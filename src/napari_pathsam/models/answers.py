"""What a promptable network answers: prompts in pixels of an image → masks of objects.

The network itself is :class:`napari_pathsam.models.sam2.Sam2`. Here prompts become its tensors,
what the prompts of one image share is worked out once, and its masks become answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models import fast_decode
from napari_pathsam.models.embedding import NOTHING, ImageEmbedding, PromptedMask
from napari_pathsam.models.fast_upscale import Window
from napari_pathsam.models.octaves import merged, resized
from napari_pathsam.models.prompt_map import PromptSkip
from napari_pathsam.models.sam2_config import Sam2Config
from napari_pathsam.models.tidy import in_one_piece

LOGIT_CLAMP = 32.0  # of masks fed back, as upstream
CELL = 16  # network pixels per cell of the image embedding


class Answers(nn.Module, ABC):
    """The half of a promptable segmenter that is asked; the other half is the network."""

    config: Sam2Config
    sam_prompt_encoder: Any
    sam_mask_decoder: Any
    prompt_skip: PromptSkip | None

    @property
    def name(self) -> str:
        return self.config.name

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the network is."""

    @abstractmethod
    def dense_positions(
        self, grid_yx: tuple[int, int], offset_yx: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """Position code of each embedding cell ``(1, C, h, w)``."""

    @abstractmethod
    def encoded_points(self, points_xy: Tensor, signs: Tensor) -> Tensor:
        """Points and box corners ``(B, N, 2)`` → tokens ``(B, n, C)``."""

    @abstractmethod
    def mask_prompt(
        self, points_xy: Tensor, signs: Tensor, masks: Tensor | None, grid_yx: tuple[int, int]
    ) -> Tensor | None:
        """The logits fed back, and the prompts drawn into them where the model wants that."""

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
        answers = self._decode(levels, [prompts], previous, multimask)
        return self._answer([of_one for (of_one,) in answers], prompts)

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
        levels = (embedding, *embedding.coarser)
        answers: dict[int, PromptedMask] = {}
        # Equal numbers of tokens go together: padding would be seen by the attention.
        kinds = [self._kind(p) for p in prompts]
        for kind in sorted(set(kinds)):
            some = [i for i, k in enumerate(kinds) if k == kind]
            chosen = [prompts[i] for i in some]
            found = self._decode(levels, chosen, None, None, around=not whole)
            for i, *at_levels in zip(some, *found, strict=True):
                answers[i] = self._answer(at_levels, prompts[i])
        return [answers[i] for i in range(len(prompts))]

    def _answer(self, answers: Sequence[PromptedMask], prompts: Prompts) -> PromptedMask:
        """What the magnifications say, as one."""
        answer = merged(answers)
        return in_one_piece(answer, prompts) if self.config.one_piece else answer

    def _kind(self, prompts: Prompts) -> tuple[int, bool, bool]:
        """What must be alike for objects to share a decoder call."""
        boxed = self.config.is_sam1 and prompts.box is not None  # see `encoded_points`
        return _n_tokens(prompts), prompts.mask is not None, boxed

    def _check(self, embedding: ImageEmbedding, prompts: Sequence[Prompts]) -> None:
        if embedding.model != self.name:
            raise BadWeightsError(
                f"This embedding was made by {embedding.model}, not by {self.name}; "
                "encode the image with the model that decodes it."
            )
        for one in prompts:
            one.check(embedding.shape_yx)

    def _stamp(self) -> tuple[object, ...]:
        """What changes with the weights that :func:`fast_decode.prepare` reads."""
        weights = fast_decode.weights_read(
            self.sam_mask_decoder, self.sam_prompt_encoder, self.prompt_skip
        )
        return tuple((w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights)

    def _prepared(
        self, embedding: ImageEmbedding, stamp: tuple[object, ...]
    ) -> fast_decode.Prepared:
        """What all prompts share; kept with the embedding until the weights change."""
        found: tuple[object, fast_decode.Prepared] | None = embedding.prepared.get("decoder")
        if found is None or found[0] != stamp:
            h, w = embedding.image_embed.shape[-2:]
            shared = fast_decode.prepare(
                self.sam_mask_decoder,
                self.sam_prompt_encoder,
                embedding.image_embed,
                embedding.high_res,
                self.dense_positions((h, w)),
                self.prompt_skip,
            )
            found = embedding.prepared["decoder"] = (stamp, shared)
        return found[1]

    def _decode(
        self,
        levels: Sequence[ImageEmbedding],
        prompts: Sequence[Prompts],
        previous: PromptedMask | None,
        multimask: bool | None,
        *,
        around: bool = False,
    ) -> list[list[PromptedMask]]:
        """Objects of one kind, for each level; ``around``: only round those with a box."""
        stamp = self._stamp()
        asked = [self._asked(e, stamp, prompts, previous, around) for e in levels]
        found = fast_decode.predict_masks(self.sam_mask_decoder, asked)
        three = [_three(p, previous, multimask) for p in prompts]
        return [
            [
                self._placed(embedding, *of_one)
                for of_one in zip(
                    masks, ious, level.windows or [None] * len(prompts), three, strict=True
                )
            ]
            for embedding, level, (masks, ious) in zip(levels, asked, found, strict=True)
        ]

    def _asked(
        self,
        embedding: ImageEmbedding,
        stamp: tuple[object, ...],
        prompts: Sequence[Prompts],
        previous: PromptedMask | None,
        around: bool,
    ) -> fast_decode.Asked:
        """Prompts as the decoder takes them."""
        h, w = embedding.image_embed.shape[-2:]
        points, signs = self.prompt_tokens(embedding, prompts)
        masks = self.mask_input(embedding, prompts, previous)
        if points.shape[1]:
            sparse = self.encoded_points(points, signs)
        else:  # a mask alone: upstream adds no padding token then
            sparse = points.new_zeros(len(prompts), 0, self.config.width)
        return fast_decode.Asked(
            self._prepared(embedding, stamp),
            sparse,
            self.mask_prompt(points, signs, masks, (4 * h, 4 * w)),
            [_window(embedding, p) for p in prompts] if around else None,
        )

    def _placed(
        self,
        embedding: ImageEmbedding,
        masks: Tensor,
        ious: Tensor,
        window: Window | None,
        three: bool,
    ) -> PromptedMask:
        """An answer of the masks ``(4, …)`` of one object: three of them, or one."""
        decoder = self.sam_mask_decoder
        if three:
            shown, scores = masks[1:], ious[1:]
        elif decoder.dynamic_multimask_via_stability:
            single = decoder._dynamic_multimask_via_stability(masks[None], ious[None])
            shown, scores = single[0][0], single[1][0]
        else:
            shown, scores = masks[:1], ious[:1]
        h, w = embedding.image_embed.shape[-2:]
        rows, cols = _mask_yx(embedding)
        found = _in_whole(shown.float().cpu().numpy(), window, (4 * h, 4 * w))
        return PromptedMask(
            low_res_logits=found[:, :rows, :cols],
            predicted_iou=scores.float().cpu().numpy(),
            best=int(scores.argmax()),
            shape_yx=embedding.shape_yx,
            decoded=window and (_times_4(window[0], rows), _times_4(window[1], cols)),
        )

    def prompt_tokens(
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

    def mask_input(
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


def _mask_yx(embedding: ImageEmbedding) -> tuple[int, int]:
    """Low-resolution mask pixels of the image; padding, where there is some, lies beyond."""
    height, width = embedding.input_yx
    return height // 4, width // 4


def _times_4(cells: slice, end: int | None = None) -> slice:
    stop = 4 * cells.stop
    return slice(4 * cells.start, stop if end is None else min(stop, end))


def _in_whole(
    masks: NDArray[np.float32], window: Window | None, shape_yx: tuple[int, int]
) -> NDArray[np.float32]:
    """Masks ``(k, …)`` of a window of cells in an image of nothing."""
    if window is None:
        return masks
    whole = np.full((len(masks), *shape_yx), NOTHING, np.float32)
    whole[:, _times_4(window[0]), _times_4(window[1])] = masks
    return whole


def _n_tokens(prompts: Prompts) -> int:
    return len(prompts.points_yx) + 2 * (prompts.box is not None)


def _window(embedding: ImageEmbedding, prompts: Prompts) -> Window | None:
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


def _three(prompts: Prompts, previous: PromptedMask | None, multimask: bool | None) -> bool:
    """A lone click may mean the part or the whole; anything more says which."""
    if multimask is not None:
        return multimask
    alone = len(prompts.points_yx) == 1 and prompts.box is None and prompts.mask is None
    return alone and previous is None
