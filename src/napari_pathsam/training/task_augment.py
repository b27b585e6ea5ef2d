"""How DTU and eU-Net3+ cut and change their patches, as ways to draw ours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_pathsam.training.augment import AugmentConfig
from napari_pathsam.training.class_data import PatchMaker, Placed

AS_IT_IS = AugmentConfig(stain=0, brightness=0, sharpness=0, noise=0, anisotropy=0, free_rotation=0)
"""Colours and sharpness are not changed: what goes with these ways of cutting."""
SWAYING = AS_IT_IS.model_copy(update={"elastic": 6.0})
"""With an elastic deformation, as eU-Net3+ has; its size is ours."""


class DtuPatches(PatchMaker):
    """Flips, each in half of the cases; then a random cut, or the whole image made a square.

    That does not keep the aspect, in the released code; either in half of the cases.
    Source: Lehmann, Agarwal, Lund (DTU 2020), released code.
    """

    def cut(self, rng: np.random.Generator, source_yx: tuple[int, int]) -> Tensor:
        flips = rng.choice([-1.0, 1.0], 2)  # x, y
        share = np.ones(2)
        if rng.random() < 0.5:
            share = np.minimum(self.patch_px / np.array(source_yx[::-1]), 1)
        centre = rng.uniform(share - 1, 1 - share)
        return torch.tensor(np.column_stack([np.diag(share * flips), centre])[None]).float()


class EUNetPatches(PatchMaker):
    """Both flips together, any rotation, magnified up to twice; then smooth noise and gamma.

    A rotated cut lies inside the image, as theirs. Smooth noise of three octaves stands for their
    simplex noise; strength and odds (0.3, half of the cases) are theirs. The elastic deformation is
    :data:`SWAYING`'s.
    Source: Swain et al., SAM-guided eU-Net3+ (MICCAI 2024), released code.
    """

    def cut(self, rng: np.random.Generator, source_yx: tuple[int, int]) -> Tensor:
        height, width = source_yx
        angle, zoom = rng.uniform(0, 2 * np.pi), rng.uniform(1, 2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        reach = min(self.patch_px, height, width) / zoom  # a square of so many pixels
        inside = min(height, width) / (np.abs(np.cos(angle)) + np.abs(np.sin(angle)))
        matrix = turn * min(reach, inside) / np.array([[width], [height]])
        slack = np.maximum(1 - np.abs(matrix).sum(axis=1), 0)
        both = -1.0 if rng.random() < 0.5 else 1.0
        centre = rng.uniform(-slack, slack)
        return torch.tensor(np.column_stack([both * matrix, centre])[None]).float()

    def pixels(self, placed: Placed) -> Tensor:
        found, rng = super().pixels(placed), placed.rng
        if rng.random() < 0.5:
            noise = (_smooth(rng, self.network_px) + 1) / 2
            found = 0.7 * found + 0.3 * noise
        return found.clamp(0, 1) ** float(rng.choice([1.0, 1.5]))


def _smooth(rng: np.random.Generator, side: int) -> Tensor:
    """``(1, 1, P, P)``, a smooth random field in about −1 … 1: octaves, each half as strong."""
    total = torch.zeros(1, 1, side, side)
    for octave in range(3):
        n = 4 * 2**octave
        coarse = torch.from_numpy(rng.uniform(-1, 1, (1, 1, n, n))).float()
        total += 0.5**octave * functional.interpolate(
            coarse, (side, side), mode="bicubic", align_corners=False
        )
    return total / 1.75


MAKERS: dict[str, type[PatchMaker]] = {
    "ours": PatchMaker,
    "dtu": DtuPatches,
    "eunet3plus": EUNetPatches,
}
