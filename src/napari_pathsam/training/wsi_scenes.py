"""Where a WSI-SAM's fields are cut from: images in memory, slides with outlines, label pyramids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import split_touching
from napari_pathsam.datasets import folder_samples, open_dataset
from napari_pathsam.datasets.base import UNKNOWN_ID, LabelKind, Sample, overriding
from napari_pathsam.datasets.objects import objects_of
from napari_pathsam.datasets.slide_patches import SlidePatch, mpp_of
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.slides import Slide, open_slide
from napari_pathsam.training.wsi_config import WsiSource

ROOM = 1.5
"""What is read of a slide is so much wider than the surroundings: they may be turned."""


@dataclass(frozen=True)
class View:
    """Part of a scene: pixels ``(H, W, 3)``, ids of objects ``(H, W)``, where somebody looked.

    ``middle``: the field's centre is the view's; otherwise it may be anywhere in it.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.int32]
    known: NDArray[np.bool_]
    middle: bool


class Scene(Protocol):
    """Something fields are cut from; ``group`` is its patient or slide."""

    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...
    def view(self, rng: np.random.Generator, side_px: float) -> View:
        """Pixels in which a field lies, its surroundings ``side_px`` wide."""


@dataclass(frozen=True)
class ImageScene:
    """An image in memory, all of which is seen."""

    name: str
    group: str
    whole: View = field(repr=False)

    def view(self, rng: np.random.Generator, side_px: float) -> View:
        return self.whole


@dataclass(frozen=True)
class SlideScene:
    """A patch of a slide with outlines: fields have their centre in it, surroundings reach out."""

    name: str
    group: str
    sample: Sample

    def view(self, rng: np.random.Generator, side_px: float) -> View:
        patch = self.sample.reader
        assert isinstance(patch, SlidePatch)
        assert patch.part is not None
        slide = open_slide(self.sample.image_path)
        try:
            downsample = patch.mpp / mpp_of(slide)
        finally:
            slide.close()
        region = _somewhere(rng, patch.part, round(ceil(side_px * ROOM) * downsample))
        image, labels = replace(self.sample, reader=replace(patch, part=region)).load()
        return _looked_at(image, labels, self.sample.label_kind, middle=True)


@dataclass(frozen=True)
class PyramidScene:
    """A slide and its label pyramid, seen at one pixel size; 255 in class maps is not labelled."""

    name: str
    group: str
    slide: Path
    labels: Path
    labels_name: str
    mpp: float
    label_kind: LabelKind

    def view(self, rng: np.random.Generator, side_px: float) -> View:
        store = LabelStore.open(self.labels, name=self.labels_name)
        slide = open_slide(self.slide)
        try:
            _check_pair(slide, store, self.labels)
            downsample = self.mpp / mpp_of(slide)
            side = ceil(side_px * ROOM)
            region = _somewhere(rng, Region.of(slide.shape_yx), max(1, round(side * downsample)))
            image = np.array(slide.read_resampled(region, (side, side)))
        finally:
            slide.close()
        labels = _labels(store, region, side)
        return _looked_at(image, labels, self.label_kind, middle=True)


def _labels(store: LabelStore, region: Region, side: int) -> NDArray[np.integer]:
    """``(side, side)`` ids of a region, nearest, 0 outside; of the coarsest level that will do."""
    wanted = region.height / side
    steps = [store.shape_yx[0] / shape[0] for shape in store.level_shapes]
    level = max((i for i, step in enumerate(steps) if step <= 1.05 * wanted), default=0)
    inside = region.intersection(Region.of(store.shape_yx))
    if inside is None:
        return np.zeros((side, side), store.dtype)
    found = store.read(inside, level=level)
    index, kept = [], []
    for axis, start in ((0, region.y), (1, region.x)):
        centres = start + (np.arange(side) + 0.5) * (region.shape_yx[axis] / side)
        origin, length = (inside.y, inside.x)[axis], inside.shape_yx[axis]
        at = np.floor((centres - origin) * (found.shape[axis] / length)).astype(int)
        here = (centres >= origin) & (centres < origin + length)
        kept.append(here)
        index.append(at.clip(0, found.shape[axis] - 1))
    return np.where(kept[0][:, None] & kept[1], found[np.ix_(*index)], 0)


def _check_pair(slide: Slide, store: LabelStore, path: Path) -> None:
    if store.shape_yx != slide.shape_yx:
        raise BadFileError(
            f"{path} holds labels of {store.shape_yx[0]} × {store.shape_yx[1]} pixels, and "
            f"{slide.name} has {slide.shape_yx[0]} × {slide.shape_yx[1]}. They are of another "
            "slide; put the right pyramid beside it, under the slide's name."
        )


def _somewhere(rng: np.random.Generator, part: Region, side: int) -> Region:
    """A square of level-0 pixels whose centre lies in a region."""
    y, x = (
        int(start + rng.random() * n - side / 2)
        for start, n in zip((part.y, part.x), part.shape_yx, strict=True)
    )
    return Region(y, x, side, side)


def _looked_at(
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    kind: LabelKind,
    *,
    middle: bool,
    split_touching_px: int = 0,
) -> View:
    known = labels != UNKNOWN_ID if kind == "classes" else np.ones(labels.shape, bool)
    if split_touching_px:
        objects = split_touching(labels != 0, split_touching_px)
    else:
        objects = objects_of(np.where(known, labels, 0), kind)
    return View(image, objects, known, middle)


def load_scenes(source: WsiSource, roots: Mapping[str, Path]) -> tuple[list[Scene], list[Scene]]:
    """What a source trains on, and what it holds out.

    Raises
    ------
    BadFileError, BadImageError
        A folder was not given, or holds no such thing; a file is damaged; no such group.
    """
    found = _pyramids(source) if source.slides is not None else _samples(source, roots)
    groups = {one.group for one in found}
    if strange := set(source.hold_out) - groups:
        raise BadFileError(
            f"{source.name} has no group {', '.join(sorted(strange))} to hold out; its groups are "
            f"{', '.join(sorted(groups)[:20])}."
        )
    train = [one for one in found if one.group not in source.hold_out]
    if not train:
        raise BadFileError(f"{source.name} holds nothing to train on: no image, or all held out.")
    return train, [one for one in found if one.group in source.hold_out]


def _samples(source: WsiSource, roots: Mapping[str, Path]) -> list[Scene]:
    if source.images is not None and source.labels is not None:
        samples = folder_samples(source.images, source.labels, label_kind=source.label_kind)
    else:
        assert source.dataset is not None
        if source.dataset not in roots:
            raise BadFileError(
                f"The recipe trains on {source.dataset}: say where it lies with "
                f"--root {source.dataset}=FOLDER. `pathsam datasets info {source.dataset}` says "
                "where to get it."
            )
        root = roots[source.dataset]
        samples = open_dataset(source.dataset, root, source.split, target=source.target)
    return [_scene(one, source) for one in overriding(samples, label_kind=source.label_kind)]


def _scene(sample: Sample, source: WsiSource) -> Scene:
    if isinstance(sample.reader, SlidePatch) and sample.reader.part is not None:
        if source.mpp is not None:
            sample = replace(sample, reader=replace(sample.reader, mpp=source.mpp))
        return SlideScene(sample.name, sample.group, sample)
    image, labels = sample.load()
    px = source.split_touching_px if sample.label_kind == "binary" else 0
    pixels = np.array(image)  # one that may be written to: torch warns of others
    seen = _looked_at(pixels, labels, sample.label_kind, middle=False, split_touching_px=px)
    return ImageScene(sample.name, sample.group, seen)


def _pyramids(source: WsiSource) -> Sequence[Scene]:
    assert source.slides is not None
    assert source.pyramids is not None
    assert source.mpp is not None
    stores = {path.stem: path for path in sorted(source.pyramids.glob("*.zarr"))}
    slides = {path.stem: path for path in sorted(source.slides.iterdir()) if path.stem in stores}
    if not slides:
        raise BadFileError(
            f"No slide in {source.slides} has a label pyramid in {source.pyramids}. Each is to be "
            "called as its slide: slides/A1.svs and pyramids/A1.zarr."
        )
    return [
        PyramidScene(
            name, name, path, stores[name], source.labels_name, source.mpp,
            source.label_kind or "classes",
        )
        for name, path in slides.items()
    ]  # fmt: skip
