"""Augmentation of histology patches: geometry, tissue that bends, stains, sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional

GLASS = 244  # grey value outside the image: empty glass

# Optical density of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001), as in scikit-image.
_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_HED /= np.linalg.norm(_HED, axis=1, keepdims=True)
_HED_INVERSE = np.linalg.inv(_HED)


class AugmentConfig(BaseModel):
    """How far each augmentation goes; 0 (None for ``density``) switches it off.

    ``density``: how dark the tissue comes out, between these two (:func:`darkness`). Laboratories
    stain, and scanners expose, so differently that one data set says little about the next.
    ``elastic``: how far tissue is stretched and squeezed, in pixels of the patch (:func:`bent`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stain: float = 0.25
    density: tuple[float, float] | None = None
    brightness: float = 0.1
    sharpness: float = 1.0
    noise: float = 4.0
    anisotropy: float = 0.15
    free_rotation: float = 0.4
    elastic: float = Field(0.0, ge=0)


@dataclass(frozen=True)
class StainMixing:
    """A change of colours in optical density.

    ``(3, 3)`` matrix, ``(3,)`` shift, a gain, and the :func:`darkness` it starts from (None: the
    image's own).
    """

    matrix: NDArray[np.float32]
    shift: NDArray[np.float32]
    gain: float
    darkness: float | None = None


def draw_stain(rng: np.random.Generator, config: AugmentConfig) -> StainMixing:
    """Scale the amount of each stain by 1 ± ``stain`` in optical density, after the overall one.

    Source: Tellez et al., Med. Image Anal. 58 (2019), HED augmentation.
    """
    stain, brightness = config.stain, config.brightness
    amount = rng.uniform(1 - stain, 1 + stain, 3)
    shift = rng.uniform(-stain, stain, 3) * 0.1
    matrix = (_HED_INVERSE @ np.diag(amount) @ _HED).astype(np.float32)
    gain = 1 + rng.uniform(-brightness, brightness)
    wanted = None
    if config.density is not None:
        wanted = float(np.exp(rng.uniform(*np.log(config.density))))
    return StainMixing(matrix, (shift @ _HED).astype(np.float32), float(gain), wanted)


def optical_density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(H, W, 3)`` uint8 → how much light is absorbed: −ln of what comes through."""
    density: NDArray[np.float32] = -np.log((image.astype(np.float32) + 1) / 256)
    return density


def darkness(density: NDArray[np.float32]) -> float:
    """How dark the tissue of ``(H, W, 3)`` is: its grey optical density's upper quartile.

    About 0.2 to 1.4 in H&E: 0.3 in TNBC, 0.6 in GlaS, 1.2 in EBHI-Seg.
    """
    return float(np.percentile(density[::4, ::4].mean(axis=2), 75))


def stained(image: NDArray[np.uint8], mixing: StainMixing) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 in other colours."""
    density = optical_density(image)
    if mixing.darkness is not None:  # within reason: a patch of glass is not made tissue
        density *= np.clip(mixing.darkness / max(darkness(density), 0.1), 1 / 6, 6)
    density = density @ mixing.matrix + mixing.shift
    jittered = mixing.gain * 256 * np.exp(-density) - 1
    result: NDArray[np.uint8] = np.clip(jittered, 0, 255).astype(np.uint8)
    return result


def jitter_sharpness(
    patch: torch.Tensor, rng: np.random.Generator, *, sharpness: float, noise: float
) -> torch.Tensor:
    """Blur or sharpen, then add noise; ``(1, 3, H, W)`` float in 0 … 255.

    Scanners differ in focus, and a patch that was enlarged is blurred: the model must not take
    sharpness for magnification.
    """
    if sharpness:
        strength = rng.uniform(-0.8, sharpness * 2)
        blurred = functional.avg_pool2d(
            functional.pad(patch, (1, 1, 1, 1), mode="reflect"), 3, stride=1
        )
        patch = patch + strength * (patch - blurred)
    if noise:
        sigma = float(rng.uniform(0, noise))
        patch = patch + sigma * torch.from_numpy(
            rng.standard_normal(tuple(patch.shape), dtype=np.float32)
        )
    return patch.clamp(0, 255)


def random_affine(
    rng: np.random.Generator,
    source_yx: tuple[int, int],
    patch_px: int,
    scale: float,
    config: AugmentConfig,
) -> torch.Tensor:
    """A ``(1, 2, 3)`` matrix for ``affine_grid``: a patch somewhere in the source.

    ``scale`` is patch pixels per source pixel. Eight orientations always, any angle now and then.
    """
    height, width = source_yx
    stretch = np.exp(rng.uniform(-config.anisotropy, config.anisotropy) / 2)
    reach = np.array([patch_px / scale * stretch, patch_px / scale / stretch])  # x, y in source px
    angle = np.pi / 2 * rng.integers(4)
    if rng.random() < config.free_rotation:
        angle += rng.uniform(-np.pi / 4, np.pi / 4)
    flip = rng.choice([-1.0, 1.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([reach[0] * flip, reach[1]]) / np.array([[width], [height]])
    slack = np.maximum(1 - np.abs(matrix).sum(axis=1), 0.0)
    centre = rng.uniform(-slack, slack)
    return torch.tensor(np.column_stack([matrix, centre])[None], dtype=torch.float32)


BEND_CELLS = 4
"""Elastic deformation is drawn at so many places along a side, and smooth between them."""


def bent(
    theta: torch.Tensor, rng: np.random.Generator, patch_px: int, config: AugmentConfig
) -> torch.Tensor:
    """A cut whose pixels are moved about smoothly: a grid ``(1, P, P, 2)`` instead of a matrix.

    Displacements are normally distributed with a standard deviation of ``elastic`` patch pixels at
    a coarse grid's corners, and bicubic between them. With ``elastic`` 0 the matrix comes back as
    it is, and nothing is drawn.

    Source: Ronneberger et al., MICCAI 2015 (U-Net), section 3.1; Simard et al., ICDAR 2003.
    """
    if not config.elastic:
        return theta
    corners = rng.standard_normal((1, 2, BEND_CELLS, BEND_CELLS), dtype=np.float32)
    shift = functional.interpolate(
        torch.from_numpy(corners * config.elastic * 2 / patch_px),
        size=(patch_px, patch_px), mode="bicubic", align_corners=True,
    )  # fmt: skip
    with _exactly():
        moved = shift.permute(0, 2, 3, 1) @ theta[:, :, :2].transpose(1, 2)
    return _grid(theta, patch_px) + moved


def _grid(theta: torch.Tensor, patch_px: int) -> torch.Tensor:
    """Where each pixel of a patch comes from, ``(1, P, P, 2)``; a grid is that already."""
    if theta.ndim == 4:
        return theta
    with _exactly():
        return functional.affine_grid(theta, [1, 3, patch_px, patch_px], align_corners=False)


def _exactly() -> torch.autocast:
    """Mixed precision off: bfloat16 would put places in an image wrong by a pixel and more."""
    return torch.autocast("cpu", enabled=False)


def _shrink(theta: torch.Tensor, source_px: int, patch_px: int) -> float:
    """Source pixels per patch pixel, in the direction where there are most."""
    if theta.ndim == 3:
        return float(theta[0, :, :2].norm(dim=1).max()) * source_px / patch_px
    steps = torch.stack([theta[0, -1, 0] - theta[0, 0, 0], theta[0, 0, -1] - theta[0, 0, 0]])
    return float(steps.norm(dim=0).max()) / 2 * source_px / (patch_px - 1)


def cut(
    image: NDArray[np.uint8],
    labels: NDArray[np.int32],
    theta: torch.Tensor,
    patch_px: int,
) -> tuple[torch.Tensor, NDArray[np.int32]]:
    """Resample image ``(H, W, 3)`` bilinearly and labels ``(n, H, W)`` by nearest neighbour.

    ``theta`` is a matrix ``(1, 2, 3)``, or :func:`bent`'s grid.
    Returns ``(1, 3, P, P)`` float in 0 … 255 and ``(n, P, P)``; outside is glass and 0.
    """
    return cut_image(image, theta, patch_px), cut_labels(labels, theta, patch_px)


def cut_image(image: NDArray[np.uint8], theta: torch.Tensor, patch_px: int) -> torch.Tensor:
    """``(H, W, 3)`` uint8 → ``(1, 3, P, P)`` float in 0 … 255; outside is glass."""
    grid = _grid(theta, patch_px)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() - GLASS
    shrink = _shrink(theta, max(image.shape[:2]), patch_px)
    if shrink > 1.5:  # blur first, or thin structures alias
        k = int(shrink + 0.5) // 2 * 2 + 1
        pixels = functional.avg_pool2d(pixels, k, stride=1, padding=k // 2)
    return functional.grid_sample(pixels, grid, mode="bilinear", align_corners=False) + GLASS


def cut_labels(labels: NDArray[np.int32], theta: torch.Tensor, patch_px: int) -> NDArray[np.int32]:
    """``(n, H, W)`` ids → ``(n, P, P)``; outside is 0."""
    grid = _grid(theta, patch_px)
    ids = torch.from_numpy(labels)[None].float()  # exact up to 2^24 ids
    found = functional.grid_sample(ids, grid, mode="nearest", align_corners=False)
    return found[0].numpy().astype(np.int32)
