"""Labelled images as training patches: each image in a few augmented variants, each made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_pathsam.training.augment import (
    AugmentConfig,
    StainMixing,
    bent,
    cut_image,
    cut_labels,
    draw_stain,
    jitter_sharpness,
    random_affine,
    stained,
)
from napari_pathsam.training.class_images import (
    IGNORE,
    TrainingImage,
    at_mpp,
    channels_of,
    load_images,
)

__all__ = [
    "IGNORE",
    "Arrays",
    "PatchMaker",
    "Placed",
    "TrainingImage",
    "at_mpp",
    "channels_of",
    "load_images",
    "logits_at_stride",
    "mosaic_of",
    "thinned",
]

Arrays = list[tuple[NDArray, NDArray]]
"""Patches and their targets."""
TRIES = 8
"""How often a patch is drawn anew because nothing in it is labelled."""


@dataclass(frozen=True)
class Placed:
    """A patch before its pixels are made.

    ``sources`` are the images it is cut from (four: a mosaic), ``theta`` the cut, ``mixing`` the
    colours; ``attempt`` counts the cuts that held no label before; ``target`` is ``(P, P)`` int64.
    """

    sources: tuple[int, ...]
    mixing: StainMixing
    theta: Tensor
    attempt: int
    target: Tensor
    rng: np.random.Generator


class PatchMaker:
    """Draws patch ``(image, variant)``; the same pair gives the same patch, always.

    Patches have ``patch_px`` pixels of the image a side and are made at ``network_px``. Targets
    ``with_objects`` are ``(2, P, P)``: channel numbers, and ids of objects.
    """

    with_objects = False

    def __init__(
        self,
        images: Sequence[TrainingImage],
        augment: AugmentConfig,
        *,
        patch_px: int,
        network_px: int,
        scale: tuple[float, float],
        mosaic: float,
        seed: int,
    ) -> None:
        self.images, self.augment = images, augment
        self.patch_px, self.network_px = patch_px, network_px
        self.scale, self.mosaic, self.seed = scale, mosaic, seed

    def __len__(self) -> int:
        return len(self.images)

    def place(self, index: int, variant: int) -> Placed:
        """Where a patch is cut and how it is coloured: everything but its pixels."""
        rng = np.random.default_rng([self.seed, index, variant])
        sources = [index]
        if rng.random() < self.mosaic:
            sources += [int(i) for i in rng.integers(len(self.images), size=3)]
        mixing = draw_stain(rng, self.augment)
        target = self._source(sources).target
        # Outside of the image comes back as 0: labels are moved up so that it means "ignore".
        moved = (target.astype(np.int32) + 1)[None]
        for attempt in range(TRIES):  # noqa: B007
            theta = self.cut(rng, target.shape)
            theta = bent(theta, rng, self.network_px, self.augment)
            labels = cut_labels(moved, theta, self.network_px)[0]
            if labels.any():
                break
        found = torch.from_numpy(labels.astype(np.int64) - 1)
        return Placed(tuple(sources), mixing, theta, attempt, found, rng)

    def cut(self, rng: np.random.Generator, source_yx: tuple[int, int]) -> Tensor:
        """A ``(1, 2, 3)`` matrix for ``affine_grid``: a patch somewhere in the source."""
        low, high = np.log(self.scale)
        zoom = float(np.exp(rng.uniform(low, high))) * self.network_px / self.patch_px
        return random_affine(rng, source_yx, self.network_px, zoom, self.augment)

    def objects(self, placed: Placed) -> NDArray[np.int32]:
        """``(P, P)`` ids of the objects in a patch; without ids each area of a class is one."""
        source = self._source(placed.sources)
        ids = source.objects
        if ids is None:
            from skimage.measure import label

            ids = label(np.maximum(source.target, 0), connectivity=2).astype(np.int32)
        return cut_labels(ids[None], placed.theta, self.network_px)[0]

    def patch(self, index: int, variant: int) -> tuple[Tensor, Tensor]:
        """``(1, 3, P, P)`` in 0 … 1 and ``(P, P)`` int64 targets, P network pixels a side."""
        placed = self.place(index, variant)
        target = placed.target
        if self.with_objects:
            target = torch.stack([target, torch.from_numpy(self.objects(placed)).long()])
        return self.pixels(placed), target

    def arrays(self, items: Sequence[tuple[int, int]]) -> Arrays:
        """:meth:`patch` of each ``(image, variant)``, to be handed on between processes."""
        patches = (self.patch(*item) for item in items)
        return [(pixels.numpy(), target.numpy()) for pixels, target in patches]

    def pixels(self, placed: Placed) -> Tensor:
        """``(1, 3, P, P)`` in 0 … 1. Once for each :meth:`place`: noise goes on from there."""
        image = stained(self._source(placed.sources).image, placed.mixing)
        pixels = cut_image(image, placed.theta, self.network_px)
        augment = self.augment
        pixels = jitter_sharpness(
            pixels, placed.rng, sharpness=augment.sharpness, noise=augment.noise
        )
        return pixels / 255

    def _source(self, sources: Sequence[int]) -> TrainingImage:
        one, *others = (self.images[i] for i in sources)
        return mosaic_of([one, *others], self.patch_px) if others else one

    def settings(self) -> str:
        """Everything but the images that a variant depends on: part of a cache key."""
        return repr(
            (self.augment, self.patch_px, self.network_px, self.scale, self.mosaic, self.seed)
        )


def mosaic_of(images: Sequence[TrainingImage], patch_px: int) -> TrainingImage:
    """Four images two by two, each at most a patch large; what is missing is ignored."""
    side = min(patch_px, max(max(i.target.shape) for i in images))
    image = np.full((2 * side, 2 * side, 3), 244, np.uint8)
    target = np.full((2 * side, 2 * side), IGNORE, np.int16)
    for n, one in enumerate(images):
        height, width = (min(side, size) for size in one.target.shape)
        y, x = (n // 2 * side, n % 2 * side)
        image[y : y + height, x : x + width] = one.image[:height, :width]
        target[y : y + height, x : x + width] = one.target[:height, :width]
    return TrainingImage(image, target)


def thinned(target: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th pixel of ``(…, P, P)`` targets, from the middle of each cell."""
    return target[..., stride // 2 :: stride, stride // 2 :: stride]


def logits_at_stride(logits: Tensor, stride: int) -> Tensor:
    """The decoder's stride-4 logits ``(B, K, h, w)`` on the finer grid the loss is measured on."""
    if stride == 4:
        return logits
    return functional.interpolate(
        logits, scale_factor=4 / stride, mode="bilinear", align_corners=False
    )
