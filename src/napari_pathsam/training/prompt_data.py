"""Patches with one object a sample, for training a model to be prompted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional

from napari_pathsam.core.prompts import innermost_point, next_click, tight_box
from napari_pathsam.training.augment import (
    AugmentConfig,
    bent,
    cut,
    draw_stain,
    jitter_sharpness,
    random_affine,
    stained,
)

STRIDE = 4  # of the decoder's masks


@dataclass(frozen=True)
class LabelledImage:
    """An image ``(H, W, 3)`` uint8 and one or more readings of its objects ``(n, H, W)``.

    A second reading holds the same objects seen otherwise: clumps of touching nuclei beside single
    nuclei. The first is the one most samples are drawn from.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    source: int = 0


class SourceConfig(BaseModel):
    """One data set's part in training.

    ``share`` of the patches come from it, resampled by a factor between the two of ``scale``, some
    from a ``mosaic`` of four images. ``split_touching_px`` > 0 cuts clumps apart where two centres
    are at least that far from each other; then ``second_reading`` of the samples ask for the clump.
    Images with more foreground than ``largest_foreground`` are left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    split: str = "train"
    share: float = 0.5
    scale: tuple[float, float] = (0.5, 2.0)
    mosaic: float = 0.0
    second_reading: float = 0.0
    split_touching_px: int = 0
    largest_foreground: float = 1.0


@dataclass(frozen=True)
class PromptBatch:
    """Patches and the objects asked for in them.

    ``pixels`` ``(B, 3, P, P)`` in 0 … 255; ``owner`` ``(N,)`` says in which patch an object lies;
    ``targets`` ``(N, 1, P, P)`` float 0/1; ``foreground`` ``(B, 1, P, P)``; ``source`` ``(B,)``.
    """

    pixels: Tensor
    owner: Tensor
    targets: Tensor
    foreground: Tensor
    source: Tensor


def _mosaic(images: Sequence[LabelledImage]) -> LabelledImage:
    """Four images of one size, two by two; ids stay apart."""
    rows, labels, offset = [], [], 0
    for one in images:
        labels.append(np.where(one.labels > 0, one.labels + offset, 0))
        offset = max(offset, int(labels[-1].max()))
        rows.append(one.image)
    two = [np.concatenate(rows[i : i + 2], axis=1) for i in (0, 2)]
    ids = [np.concatenate(labels[i : i + 2], axis=2) for i in (0, 2)]
    return LabelledImage(
        np.concatenate(two), np.concatenate(ids, axis=1).astype(np.int32), images[0].source
    )


class PatchMaker:
    """Draws augmented patches and their objects; everything random comes from ``rng``."""

    def __init__(
        self,
        images: Sequence[LabelledImage],
        sources: Sequence[SourceConfig],
        augment: AugmentConfig,
        *,
        objects_per_patch: int = 4,
        smallest_cells: float = 3.0,
    ) -> None:
        self.by_source = [[i for i in images if i.source == s] for s in range(len(sources))]
        self.sources = sources
        self.augment = augment
        self.objects_per_patch = objects_per_patch
        self.smallest_px = smallest_cells * STRIDE**2

    def patch(
        self, rng: np.random.Generator, patch_px: int
    ) -> tuple[Tensor, NDArray[np.int32], int]:
        """One patch ``(1, 3, P, P)``, its label readings ``(n, P, P)``, its source."""
        shares = np.array([s.share for s in self.sources])
        which = int(rng.choice(len(shares), p=shares / shares.sum()))
        config, pool = self.sources[which], self.by_source[which]
        if rng.random() < config.mosaic:
            four = [pool[int(i)] for i in rng.integers(len(pool), size=4)]
            one = _mosaic(four)
        else:
            one = pool[int(rng.integers(len(pool)))]
        low, high = np.log(config.scale)
        scale = float(np.exp(rng.uniform(low, high)))
        height, width = one.labels.shape[1:]
        theta = random_affine(rng, (height, width), patch_px, scale, self.augment)
        theta = bent(theta, rng, patch_px, self.augment)
        image = stained(one.image, draw_stain(rng, self.augment))
        pixels, labels = cut(image, one.labels, theta, patch_px)
        pixels = jitter_sharpness(
            pixels, rng, sharpness=self.augment.sharpness, noise=self.augment.noise
        )
        return pixels, labels, which

    def _objects(
        self, rng: np.random.Generator, labels: NDArray[np.int32], second: float
    ) -> list[NDArray[np.bool_]]:
        """Masks of a few objects, no two alike."""
        chosen: list[NDArray[np.bool_]] = []
        readings = [np.unique(layer, return_counts=True) for layer in labels]
        pools = [
            [int(i) for i, n in zip(*reading, strict=True) if i and n >= self.smallest_px]
            for reading in readings
        ]
        for pool in pools:
            rng.shuffle(pool)
        for _ in range(self.objects_per_patch):
            layer = 1 if len(pools) > 1 and rng.random() < second else 0
            if not pools[layer]:
                break
            chosen.append(labels[layer] == pools[layer].pop())
        return chosen

    def batch(self, rng: np.random.Generator, patches: int, patch_px: int) -> PromptBatch:
        """A batch with at least one object."""
        pixels: list[Tensor] = []
        targets: list[Tensor] = []
        foreground: list[Tensor] = []
        owner: list[int] = []
        source: list[int] = []
        while not targets or len(pixels) < patches:
            patch, labels, which = self.patch(rng, patch_px)
            masks = self._objects(rng, labels, self.sources[which].second_reading)
            if len(pixels) == patches:  # nothing to click on so far: this one replaces the last
                pixels, foreground, source = pixels[:-1], foreground[:-1], source[:-1]
            owner += [len(pixels)] * len(masks)
            targets += [torch.from_numpy(mask) for mask in masks]
            pixels.append(patch)
            foreground.append(torch.from_numpy(labels[:1] > 0))
            source.append(which)
        return PromptBatch(
            pixels=torch.cat(pixels),
            owner=torch.tensor(owner),
            targets=torch.stack(targets)[:, None].float(),
            foreground=torch.stack(foreground).float(),
            source=torch.tensor(source),
        )


def first_prompts(
    targets: Tensor, rng: np.random.Generator, *, box_share: float
) -> tuple[Tensor, Tensor]:
    """A click inside each object, or a box round it that is not quite tight.

    Returns points ``(N, 2, 2)`` in patch pixels ``(x, y)`` and signs ``(N, 2)`` as the model's
    ``decode_tensors`` takes them; a lone click is padded with nothing.
    """
    points, signs = [], []
    for mask in targets[:, 0].numpy() > 0:
        if rng.random() < box_share:
            y0, x0, y1, x1 = tight_box(mask)
            if rng.random() < 0.4:  # most of the boxes as careful as the annotator's
                jitter = rng.normal(0, 0.06, 4) * np.array([y1 - y0, x1 - x0] * 2)
                y0, x0, y1, x1 = np.array([y0, x0, y1, x1]) + np.clip(jitter, -20, 20)
            points.append([[x0, y0], [x1, y1]])
            signs.append([2, 3])
            continue
        if rng.random() < 0.5:
            y, x = innermost_point(mask)
        else:
            inside = np.argwhere(mask)
            y, x = inside[int(rng.integers(len(inside)))]
        points.append([[float(x), float(y)], [0.0, 0.0]])
        signs.append([1, -1])
    return torch.tensor(points, dtype=torch.float32), torch.tensor(signs, dtype=torch.int32)


def corrections(targets: Tensor, logits: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The next click for each object, from masks ``(N, 1, P/4, P/4)`` and targets ``(N, 1, P, P)``.

    Chosen on the decoder's grid, which is fast, then moved within the cell. An object with nothing
    wrong gets another click inside it.
    """
    small = functional.avg_pool2d(targets, STRIDE)[:, 0].numpy() > 0.5
    masks = logits[:, 0].detach().float().numpy() > 0
    points, signs = [], []
    for target, mask, full in zip(small, masks, targets[:, 0].numpy() > 0, strict=True):
        click = next_click(target, mask)
        if click is None:
            inside = np.argwhere(full)
            y, x = inside[int(rng.integers(len(inside)))]
            points.append([[float(x), float(y)]])
            signs.append([1])
            continue
        (cell_y, cell_x), positive = click
        y, x = (np.array([cell_y, cell_x]) + rng.uniform(0.2, 0.8, 2)) * STRIDE
        points.append([[float(x), float(y)]])
        signs.append([int(positive)])
    return torch.tensor(points, dtype=torch.float32), torch.tensor(signs, dtype=torch.int32)
