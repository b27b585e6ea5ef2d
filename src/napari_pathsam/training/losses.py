"""Losses on mask logits; each leaves the batch mean to its caller."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


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
