"""Labelled images as training patches: each image in a few augmented variants, each made once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.datasets.base import Sample
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.training.augment import (
    AugmentConfig,
    StainMixing,
    cut_image,
    cut_labels,
    draw_stain,
    jitter_sharpness,
    random_affine,
    stained,
)

IGNORE = -1
"""Target of pixels nobody labelled."""
TRIES = 8
"""How often a patch is drawn anew because nothing in it is labelled."""


@dataclass(frozen=True)
class TrainingImage:
    """An image at the model's pixel size and what is known of it.

    Attributes
    ----------
    image
        ``(H, W, 3)`` uint8.
    target
        ``(H, W)`` int16: channel numbers, 0 background, :data:`IGNORE` where nobody labelled.
    group
        Patient, slide or case.
    """

    image: NDArray[np.uint8]
    target: NDArray[np.int16]
    name: str = ""
    group: str = ""


def channels_of(
    labels: NDArray, classes: ClassTable, *, ignore_id: int | None = 255, sparse: bool = False
) -> NDArray[np.int16]:
    """Class ids ``(H, W)`` → channel numbers; with ``sparse``, 0 means not labelled, too.

    Raises
    ------
    BadFileError
        An id is in the labels and not in the table.
    """
    ids = [0, *(c.id for c in classes)]
    table = np.full(256, -2, np.int16)
    table[ids] = np.arange(len(ids))
    if sparse:
        table[0] = IGNORE
    if ignore_id is not None:
        table[ignore_id] = IGNORE
    found = np.unique(labels)
    strange = [int(i) for i in found if not 0 <= i <= 255 or table[i] == -2]
    if strange:
        raise BadFileError(
            f"The labels hold the ids {', '.join(map(str, strange[:8]))}, which are none of the "
            f"classes ({', '.join(f'{c.id} {c.name}' for c in classes)}). Add them to the class "
            "table, or map them onto one of it."
        )
    channels: NDArray[np.int16] = table[labels.astype(np.int64)]
    return channels


def at_mpp(
    image: NDArray[np.uint8], target: NDArray[np.int16], mpp: float, wanted: float
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Image and target at another pixel size: averaged or bilinear, and nearest."""
    height, width = target.shape
    size = (max(1, round(height * mpp / wanted)), max(1, round(width * mpp / wanted)))
    if size == target.shape:
        return image, target
    pixels = np.asarray(ArraySlide(image).read_resampled(Region.of(target.shape), size))
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * old / n).astype(int), old - 1)
        for n, old in zip(size, (height, width), strict=True)
    )
    return pixels, target[np.ix_(rows, columns)]


def load_images(
    samples: Iterable[Sample],
    classes: ClassTable,
    *,
    mpp: float,
    assumed_mpp: float | None = None,
    sparse: bool = False,
) -> list[TrainingImage]:
    """Read samples at the model's pixel size.

    Parameters
    ----------
    mpp
        What the model wants, µm per pixel.
    assumed_mpp
        Of samples that do not say theirs; None: they are taken as they are.
    sparse
        Whether background is only what is labelled so by another id.

    Raises
    ------
    BadFileError, BadImageError
        A file is damaged, or a label has an id that is no class.
    """
    found = []
    for sample in samples:
        image, labels = sample.load()
        if sample.label_kind in ("instances", "binary") and sample.class_id is None:
            labels = (labels != 0).astype(np.uint8) * next(iter(classes)).id
        try:
            target = channels_of(labels, classes, sparse=sparse)
        except BadFileError as error:
            raise BadFileError(f"{sample.labels_path}: {error}") from error
        if not (target >= 0).any():
            continue
        own = sample.mpp or assumed_mpp or mpp
        pixels, target = at_mpp(image, target, own, mpp)
        found.append(TrainingImage(pixels, target, sample.name, sample.group))
    if not found:
        raise BadImageError(
            "There is nothing to learn from: no image has a labelled pixel. Paint at least one "
            "region of each class, or check the label folder."
        )
    return found


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

    Patches have ``patch_px`` pixels of the image a side and are made at ``network_px``.
    """

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
        low, high = np.log(self.scale)
        # Outside of the image comes back as 0: labels are moved up so that it means "ignore".
        moved = (target.astype(np.int32) + 1)[None]
        for attempt in range(TRIES):  # noqa: B007
            zoom = float(np.exp(rng.uniform(low, high))) * self.network_px / self.patch_px
            theta = random_affine(rng, target.shape, self.network_px, zoom, self.augment)
            labels = cut_labels(moved, theta, self.network_px)[0]
            if labels.any():
                break
        found = torch.from_numpy(labels.astype(np.int64) - 1)
        return Placed(tuple(sources), mixing, theta, attempt, found, rng)

    def patch(self, index: int, variant: int) -> tuple[Tensor, Tensor]:
        """``(1, 3, P, P)`` in 0 … 1 and ``(P, P)`` int64 targets, P network pixels a side."""
        placed = self.place(index, variant)
        return self.pixels(placed), placed.target

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
