"""What a model hands on: an image embedding, and the masks decoded from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


NOTHING = -32.0  # the logit where nothing was decoded


@dataclass(frozen=True)
class ImageEmbedding:
    """One image, encoded once; every click, class and training step starts from it.

    Attributes
    ----------
    image_embed
        ``(1, C, h, w)``, stride 16.
    high_res
        ``(1, C/8, 4h, 4w)`` and ``(1, C/4, 2h, 2w)``, the decoder's skip connections.
    trunk
        Pre-neck features of the image encoder, finest first: what semantic heads read.
    shape_yx
        Height and width of the image that was given.
    input_yx
        Height and width at which the network saw it.
    model
        Name of the model that made it; only that model can decode it.
    mpp
        Microns per pixel of the given image, where known.
    pathology
        ``(1, D, h, w)``, stride 16: what a pathology encoder saw, where the model has one.
    coarser
        The same image at half, a quarter … of ``input_yx``, for a model that looks at several.
    prepared
        What a decoder has worked out once for all prompts; a cache, filled when first needed.
    """

    image_embed: torch.Tensor
    high_res: tuple[torch.Tensor, ...]
    trunk: tuple[torch.Tensor, ...]
    shape_yx: tuple[int, int]
    input_yx: tuple[int, int]
    model: str
    mpp: float | None = None
    pathology: torch.Tensor | None = None
    coarser: tuple[ImageEmbedding, ...] = ()
    prepared: dict[str, Any] = field(init=False, default_factory=dict, repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Memory held by the tensors."""
        tensors = [self.image_embed, *self.high_res, *self.trunk]
        tensors += [] if self.pathology is None else [self.pathology]
        kept = sum(shared.nbytes for _, shared in self.prepared.values())
        kept += sum(level.nbytes for level in self.coarser)
        return kept + sum(t.numel() * t.element_size() for t in tensors)


@dataclass(frozen=True)
class PromptedMask:
    """The decoder's answers to one object's prompts.

    Attributes
    ----------
    low_res_logits
        ``(k, h, w)`` float32 over the whole encoded image; above 0 is object.
    predicted_iou
        ``(k,)``, the decoder's own guess of each mask's quality.
    best
        Index of the mask to show first.
    shape_yx
        Height and width of the encoded image.
    decoded
        Rows and columns of ``low_res_logits`` where something was decoded; the rest is
        ``NOTHING``. None: everywhere.
    """

    low_res_logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    best: int
    shape_yx: tuple[int, int]
    decoded: tuple[slice, slice] | None = None

    @property
    def score(self) -> float:
        """Predicted IoU of the best mask."""
        return float(self.predicted_iou[self.best])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``(H, W)``, the best mask."""
        return self.mask_at(self.best)

    def mask_at(self, index: int) -> NDArray[np.bool_]:
        """``(H, W)``, one of the ``k`` masks."""
        return self.logits_at(index) > 0

    def logits_at(
        self,
        index: int,
        shape_yx: tuple[int, int] | None = None,
        *,
        window_yx: tuple[float, float, float, float] | None = None,
    ) -> NDArray[np.float32]:
        """Logits of one mask, bilinear, at the resolution at which they are shown.

        Parameters
        ----------
        index
            Which of the ``k`` masks.
        shape_yx
            Rows and columns of the answer; by default those of the encoded image.
        window_yx
            ``(y0, x0, y1, x1)`` in pixels of the encoded image, half-open: only this part.
        """
        import torch

        shape_yx = shape_yx or self.shape_yx
        low = torch.from_numpy(self.low_res_logits[index])
        if window_yx is not None:
            return self._sampled(low, window_yx, shape_yx)
        if self.decoded is not None:
            return self._sampled_where_decoded(low, shape_yx)
        up = torch.nn.functional.interpolate(low[None, None], shape_yx, mode="bilinear")
        logits: NDArray[np.float32] = up[0, 0].numpy()
        return logits

    def _sampled(
        self, low: torch.Tensor, window_yx: tuple[float, ...], shape_yx: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Part of the image, given in its pixels, at another resolution."""
        import torch

        for axis in (0, 1):
            edges = (window_yx[axis], window_yx[axis + 2])
            n = self.low_res_logits.shape[1 + axis]
            first, second, share = _samples(edges, shape_yx[axis], n / self.shape_yx[axis], n)
            share = share[:, None] if axis == 0 else share
            low = torch.lerp(low.index_select(axis, first), low.index_select(axis, second), share)
        logits: NDArray[np.float32] = low.numpy()
        return logits

    def _sampled_where_decoded(
        self, low: torch.Tensor, shape_yx: tuple[int, int]
    ) -> NDArray[np.float32]:
        """The whole image, computed only where something was decoded."""
        assert self.decoded is not None
        whole = np.full(shape_yx, NOTHING, np.float32)
        parts, edges = [], []
        for axis in (0, 1):
            n, out = low.shape[axis], shape_yx[axis]
            first = -(-self.decoded[axis].start * out // n)
            last = max(first, self.decoded[axis].stop * out // n)
            parts.append(slice(first, last))
            edges.append([v * self.shape_yx[axis] / out for v in (first, last)])
        size = (parts[0].stop - parts[0].start, parts[1].stop - parts[1].start)
        if min(size) > 0:
            window = (edges[0][0], edges[1][0], edges[0][1], edges[1][1])
            whole[parts[0], parts[1]] = self._sampled(low, window, size)
        return whole

    def with_best(self, index: int) -> PromptedMask:
        """The same answers with another one in front."""
        return replace(self, best=index)


def _samples(
    edges: tuple[float, float], n: int, scale: float, available: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where ``n`` pixels between two edges lie on a coarser axis: two neighbours and the share."""
    import torch

    start, stop = edges
    at = start + (torch.arange(n, dtype=torch.float64) + 0.5) * ((stop - start) / n)
    at = (at * scale - 0.5).clamp(0, available - 1)
    first = at.floor().long()
    return first, (first + 1).clamp(max=available - 1), (at - first).float()
