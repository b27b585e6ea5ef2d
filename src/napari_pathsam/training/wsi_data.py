"""Pairs of a field and its surroundings, and the objects in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from napari_pathsam.models.wsi_sam_fields import without_surroundings
from napari_pathsam.training.augment import (
    cut,
    draw_stain,
    jitter_sharpness,
    random_affine,
    stained,
)
from napari_pathsam.training.wsi_config import WsiSource, WsiTrainConfig
from napari_pathsam.training.wsi_scenes import Scene, View

MOST_DRAWS = 50
"""So often a field is drawn anew when there is no object in it."""


@dataclass(frozen=True)
class FieldPair:
    """A field and its surroundings.

    ``high``, ``low``: ``(S, S, 3)`` uint8. ``objects``, ``known``: ids, and where somebody looked,
    ``(f·S, f·S)``: of all the surroundings, at the field's pixel size.
    """

    high: NDArray[np.uint8]
    low: NDArray[np.uint8]
    objects: NDArray[np.int32]
    known: NDArray[np.bool_]

    def in_field(self, values: NDArray) -> NDArray:
        """The field's part ``(S, S)`` of a map of the surroundings."""
        side, whole = len(self.high), len(values)
        start = (whole - side) // 2
        return values[start : start + side, start : start + side]

    def seen(self, smallest_px: int) -> tuple[list[int], list[int]]:
        """Ids of the field's objects that are large enough: cut by its border, and whole."""
        inside = self.in_field(self.objects)
        ids, areas = np.unique(inside, return_counts=True)
        border = set(np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]]).tolist())
        large = [int(i) for i, n in zip(ids, areas, strict=True) if i and n >= smallest_px]
        return [i for i in large if i in border], [i for i in large if i not in border]

    def target(self, index: int) -> NDArray[np.bool_]:
        """The visible part ``(S, S)`` of one object."""
        found: NDArray[np.bool_] = self.in_field(self.objects) == index
        return found

    def hidden(self, factor: float) -> FieldPair:
        """The same field, of whose surroundings nothing is known."""
        return replace(self, low=without_surroundings(self.high, factor))


def shrunk(values: NDArray, side: int) -> Tensor:
    """A map ``(f·S, f·S)`` as shares of the surroundings' pixels, ``(S, S)`` float."""
    whole = torch.from_numpy(np.ascontiguousarray(values))[None, None].float()
    return functional.interpolate(whole, (side, side), mode="area")[0, 0]


def wide_px(side: int, factor: float) -> int:
    """Side of the surroundings in the field's pixels; the margins are of whole pixels."""
    return side + 2 * round(side * (factor - 1) / 2)


def pair_of(
    image: NDArray[np.uint8], objects: NDArray[np.int32], known: NDArray[np.bool_], side: int
) -> FieldPair:
    """Surroundings at the field's pixel size, ``(f·S, f·S)``, as a pair; ``side`` is S."""
    start = (len(image) - side) // 2
    middle = slice(start, start + side)
    low = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))
    return FieldPair(np.ascontiguousarray(image[middle, middle]), low, objects, known)


def draw_pair(
    scenes: Sequence[Sequence[Scene]],
    sources: Sequence[WsiSource],
    config: WsiTrainConfig,
    factor: float,
    rng: np.random.Generator,
) -> FieldPair:
    """One augmented field with an object in it; everything random comes from ``rng``."""
    shares = np.array([s.share for s in sources])
    for _ in range(MOST_DRAWS):
        which = int(rng.choice(len(sources), p=shares / shares.sum()))
        pool = scenes[which]
        low, high = np.log(sources[which].scale)
        scale = float(np.exp(rng.uniform(low, high)))
        side = wide_px(config.field_px, factor)
        view = pool[int(rng.integers(len(pool)))].view(rng, side / scale)
        pair = _cut(view, scale, side, config, rng)
        if any(pair.seen(config.smallest_px)):
            break
    return pair


def _cut(
    view: View, scale: float, side: int, config: WsiTrainConfig, rng: np.random.Generator
) -> FieldPair:
    augment = config.augment
    shape_yx = (view.image.shape[0], view.image.shape[1])
    theta = random_affine(rng, shape_yx, config.field_px, scale, augment)
    if view.middle:
        theta[:, :, 2] = 0
    theta[:, :, :2] *= side / config.field_px
    layers = np.stack([view.objects, view.known.astype(np.int32)])
    pixels, cut_layers = cut(view.image, layers, theta, side)
    pixels = jitter_sharpness(pixels, rng, sharpness=augment.sharpness, noise=augment.noise)
    image = pixels[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    image = stained(np.ascontiguousarray(image), draw_stain(rng, augment))
    return pair_of(image, cut_layers[0], cut_layers[1] > 0, config.field_px)


def choose(
    pair: FieldPair, rng: np.random.Generator, n: int, *, cut_share: float, smallest_px: int
) -> list[int]:
    """Ids of up to ``n`` objects; ``cut_share`` of them are cut by the border, if it can be."""
    cut_ones, whole = (list(rng.permutation(ids)) for ids in pair.seen(smallest_px))
    chosen: list[int] = []
    while len(chosen) < n and (cut_ones or whole):
        first, second = (cut_ones, whole) if rng.random() < cut_share else (whole, cut_ones)
        chosen.append(int((first or second).pop()))
    return chosen
