"""Losses on mask logits; each leaves the batch mean to its caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Overlap = Literal["dice", "iou", "released"]


def focal_loss(logits: Tensor, target: Tensor, *, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss, mean over pixels: ``(…, H, W)`` → ``(…,)``.

    Source: Lin et al., Focal Loss for Dense Object Detection (2017), arXiv 1708.02002.
    """
    cross = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    p_true = p * target + (1 - p) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * (1 - p_true) ** gamma * cross).mean(dim=(-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus soft Dice: ``(…, H, W)`` → ``(…,)``."""
    p = logits.sigmoid()
    overlap = (p * target).sum(dim=(-2, -1))
    return 1 - (2 * overlap + 1) / (p.sum(dim=(-2, -1)) + target.sum(dim=(-2, -1)) + 1)


@torch.no_grad()
def soft_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded mask with a target in 0 … 1: ``(…, H, W)`` → ``(…,)``."""
    mask, wanted = logits > 0, target > 0.5
    overlap = (mask & wanted).sum(dim=(-2, -1)).float()
    return overlap / (mask | wanted).sum(dim=(-2, -1)).clamp(min=1).float()


@dataclass(frozen=True)
class ClassSums:
    """Sums over known pixels that a class loss is made of: count first, divide later.

    ``overlap``, ``predicted``, ``wanted`` are ``(B, K)``: of softmax × target, softmax and target;
    ``focal`` ``(B, K)`` sums the per-channel sigmoid focal loss; ``known`` ``(B,)`` counts pixels;
    ``iou_error`` ``(B, K)`` is the squared error of the predicted IoU.
    """

    overlap: Tensor
    predicted: Tensor
    wanted: Tensor
    focal: Tensor
    known: Tensor
    iou_error: Tensor

    @classmethod
    def of_nothing(cls, n_channels: int, device: torch.device) -> ClassSums:
        """The sums of no image at all."""
        none = torch.zeros(0, n_channels, device=device)
        return cls(none, none, none, none, none[:, 0], none)


def class_sums(
    logits: Tensor,
    iou: Tensor,
    target: Tensor,
    *,
    gamma: float = 2.0,
    each_alone: bool = False,
) -> ClassSums:
    """Count what :func:`class_loss` divides.

    Parameters
    ----------
    logits, iou
        ``(B, K, h, w)`` and ``(B, K)`` in 0 … 1.
    target
        ``(B, h, w)``, channel numbers; below 0 is ignored and enters nothing.
    gamma
        Of the focal loss; with 0 it is binary cross-entropy.
    each_alone
        Whether the overlap is that of each channel's sigmoid, instead of the softmax.
    """
    known = target >= 0
    channel = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    wanted = (target[:, None] == channel).to(logits.dtype)  # none of an ignored pixel
    probability = (logits.sigmoid() if each_alone else logits.softmax(dim=1)) * known[:, None]
    cross = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    single = logits.sigmoid()
    missed = torch.where(wanted > 0, 1 - single, single)
    focal = missed**gamma * cross * known[:, None]
    with torch.no_grad():
        # As argmax says, which is slow over a few channels.
        mask = (logits == logits.amax(dim=1, keepdim=True)) & known[:, None]
        both = (mask & (wanted > 0)).sum(dim=(-2, -1)).float()
        either = (mask | (wanted > 0)).sum(dim=(-2, -1)).float()
        true_iou = both / either.clamp(min=1)
    # An image without any known pixel has no IoU to learn.
    error = (iou - true_iou) ** 2 * known.flatten(1).any(dim=1)[:, None]
    return ClassSums(
        overlap=(probability * wanted).sum(dim=(-2, -1)),
        predicted=probability.sum(dim=(-2, -1)),
        wanted=wanted.sum(dim=(-2, -1)),
        focal=focal.sum(dim=(-2, -1)),
        known=known.flatten(1).sum(dim=1).float(),
        iou_error=error,
    )


def class_loss(
    sums: ClassSums,
    *,
    alpha: float,
    beta: float,
    over_classes: Literal["sum", "mean"],
    dice_over: Literal["image", "batch"],
    overlap_as: Overlap = "dice",
    weights: Sequence[float] | None = None,
    gather: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """``Σ_k w_k [(1 − α) Dice + α focal + β MSE(IoU)]`` over images with a known pixel.

    ``overlap_as`` puts 1 − IoU, or what the eU-Net3+ code has, in the place of 1 − Dice.
    ``weights`` are those of the channels, background first; only how they compare matters.

    ``gather`` adds up a vector over the processes that share the batch; everything is added before
    anything is divided, so that the loss is that of the whole batch.

    Source: Path-SAM2 (Zhang et al. 2024, arXiv 2408.03651), formula of the loss; Dice on the
    softmax, focal on each channel's sigmoid, as released.
    """
    seen = (sums.known > 0).float()
    overlap, total, focal = sums.overlap, sums.predicted + sums.wanted, sums.focal
    if dice_over == "image":
        each = _apart(overlap, total, overlap_as) * seen[:, None]
        rows = [each, focal / sums.known.clamp(min=1)[:, None], sums.iou_error]
    else:
        rows = [overlap, total, focal, sums.iou_error]
    counts = torch.stack([row.sum(dim=0) for row in rows])  # (3 or 4, K)
    packed = torch.cat([counts.flatten(), torch.stack([seen.sum(), sums.known.sum()])])
    packed = packed if gather is None else gather(packed)
    *dices, focal, error = packed[:-2].reshape(counts.shape)
    n, n_known = packed[-2].clamp(min=1), packed[-1].clamp(min=1)
    if dice_over == "image":
        dice, focal = dices[0] / n, focal / n
    else:
        dice, focal = _apart(dices[0], dices[1], overlap_as), focal / n_known
    terms = (1 - alpha) * dice + alpha * focal + beta * error / n
    if weights is not None:
        weight = terms.new_tensor(weights)
        terms = terms * weight / weight.mean()
    return terms.sum() if over_classes == "sum" else terms.mean()


def _apart(overlap: Tensor, total: Tensor, overlap_as: Overlap) -> Tensor:
    """0 where prediction and target are the same; ``total`` is the sum of their sizes."""
    if overlap_as == "iou":
        return 1 - (overlap + 1) / (total - overlap + 1)
    if overlap_as == "released":  # 1 − 2 IoU, called Dice in the code of eU-Net3+
        return 1 - (2 * overlap + 1e-6) / (total - overlap + 1e-6)
    return 1 - (2 * overlap + 1) / (total + 1)
