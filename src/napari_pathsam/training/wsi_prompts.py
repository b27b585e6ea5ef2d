"""Prompts for training a WSI-SAM: a box, points or a noisy mask, as the paper draws them.

Everything is in pixels of the field, ``(x, y)`` and with the signs of
:meth:`~napari_pathsam.models.sam2.Sam2.decode_tensors`; :func:`to_network` makes them its own.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_pathsam.core.prompts import innermost_point, tight_box
from napari_pathsam.models.wsi_sam import Asked

MASK_LOGIT = 10.0
"""Of a mask prompt: SAM expects logits. (The released code feeds 0 and 255.)"""


def boxes(
    masks: NDArray[np.bool_], rng: np.random.Generator, noise: float
) -> tuple[Tensor, Tensor]:
    """Boxes round masks ``(B, S, S)``, moved and stretched by up to ``noise``, inside the field."""
    points = []
    for mask in masks:
        y0, x0, y1, x1 = tight_box(mask)
        edges = []
        for low, high, n in ((x0, x1, mask.shape[1]), (y0, y1, mask.shape[0])):
            middle = (low + high) / 2 + rng.uniform(-noise, noise) * (high - low) / 2
            half = (high - low) * (1 + rng.uniform(-noise, noise)) / 2
            edges.append((np.clip(middle - half, 0, n - 1), np.clip(middle + half, 1, n)))
        points.append([[edges[0][0], edges[1][0]], [edges[0][1], edges[1][1]]])
    signs = torch.tensor([[2, 3]] * len(points), dtype=torch.int32)
    return torch.tensor(np.array(points), dtype=torch.float32), signs


def clicks(
    masks: NDArray[np.bool_], rng: np.random.Generator, most: int, *, exactly: bool
) -> tuple[Tensor, Tensor]:
    """Positive points on masks ``(B, S, S)``: 1 … ``most``, or always as many.

    Of fewer than ``most`` the first is the innermost one, half of the time.
    """
    n = most if exactly else int(rng.integers(1, most + 1))
    points = np.zeros((len(masks), n, 2), np.float32)
    for i, mask in enumerate(masks):
        inside = np.argwhere(mask)
        points[i] = inside[rng.integers(len(inside), size=n)][:, ::-1]
        if not exactly and rng.random() < 0.5:
            points[i, 0] = innermost_point(mask)[::-1]
    return torch.from_numpy(points), torch.ones(len(masks), n, dtype=torch.int32)


def noisy_masks(
    masks: NDArray[np.bool_], rng: np.random.Generator, cells_yx: tuple[int, int]
) -> Tensor:
    """Masks ``(B, S, S)`` with a ragged border, as logits ``(B, 1, 4h, 4w)``.

    Where a mask differs from its copy that was reduced eight times and enlarged again, normal noise
    is added; what is above a half is mask.
    """
    given = torch.from_numpy(masks)[:, None].float()
    small = functional.interpolate(given, cells_yx, mode="bilinear", antialias=True)
    coarse_yx = tuple(max(1, n // 8) for n in cells_yx)
    coarse = functional.interpolate(small, coarse_yx, mode="bilinear", antialias=True)
    blurred = functional.interpolate(coarse, cells_yx, mode="bilinear")
    noise = torch.from_numpy(rng.standard_normal(tuple(small.shape), dtype=np.float32))
    near = (small - blurred).abs() >= 0.01
    ragged = torch.where(near, small + noise, small) > 0.5
    return (ragged.float() * 2 - 1) * MASK_LOGIT


def to_network(
    points: Tensor, signs: Tensor, masks: Tensor | None, scale: tuple[float, float]
) -> Asked:
    """Field pixels → network pixels; ``scale`` is network pixels per field pixel, x and y."""
    return points * torch.tensor(scale), signs, masks
