"""OME-Zarr labels (NGFF 0.5): label maps with names and colours, inside the image they lie on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._ngff_container import (
    check_container,
    describe_labels,
    fresh_container,
    into_container,
    make_labels,
    writing,
)
from napari_pathsam.io._ngff_metadata import (
    CHUNK_PX,
    VERSION,
    halving_shapes,
    multiscale,
    space_axes,
)
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.slides import Slide


def write_ngff_labels(
    path: str | os.PathLike[str],
    label_maps: Mapping[str, NDArray[np.integer]],
    *,
    image: Slide,
    region: Region | None = None,
    mpp: float | None = None,
    classes: ClassTable | None = None,
    class_of: Mapping[int, int] | None = None,
) -> None:
    """Write label maps as OME-Zarr labels.

    Into an OME-Zarr image of the label maps' size that is there already, beside its other labels
    (one of the same name is replaced); otherwise into a new one that holds the image, too. What is
    there stays as it is until the new is whole.

    Parameters
    ----------
    path
        The image's folder, ``NAME.zarr``.
    label_maps
        ``(H, W)`` ids by name; ``classes`` holds class ids, any other name objects.
    image
        What they lie on; copied into a new file.
    region
        Which of its level-0 pixels they cover; by default all.
    mpp
        Microns per pixel.
    classes
        Names and colours of class ids.
    class_of
        The class of each object.
    """
    path = Path(path)
    region = region or Region.of(image.shape_yx)
    for name, labels in label_maps.items():
        if labels.shape != region.shape_yx:
            raise ValueError(f"{name} has the shape {labels.shape}, the region {region.shape_yx}")
    check_container(path, region.shape_yx, image=True)
    with writing(path), fresh_container(path) as fresh:
        if not path.exists():
            _write_image(fresh, image, region, mpp)
        for name, labels in label_maps.items():
            _write_labels(fresh, name, labels, mpp, classes, class_of)
        into_container(fresh, path)


def _write_labels(
    container: Path,
    name: str,
    labels: NDArray[np.integer],
    mpp: float | None,
    classes: ClassTable | None,
    class_of: Mapping[int, int] | None,
) -> None:
    shape_yx = (int(labels.shape[0]), int(labels.shape[1]))
    dtype = np.dtype(np.uint8 if labels.max(initial=0) < 256 else np.int32)
    group = make_labels(container, name, shape_yx, mpp, dtype, CHUNK_PX)
    describe_labels(group, classes, class_of, objects=name != "classes", about={})
    store = LabelStore.open(container, name, writable=True)
    store.write_base(Region.of(store.shape_yx), labels)
    store.update_overviews()


def _write_image(target: Path, image: Slide, region: Region, mpp: float | None) -> None:
    import zarr

    group = zarr.open_group(target, mode="w", zarr_format=3)
    shapes = halving_shapes(region.shape_yx)
    for level, (height, width) in enumerate(shapes):
        array = group.create_array(
            str(level),
            shape=(3, height, width),
            chunks=(3, min(CHUNK_PX, height), min(CHUNK_PX, width)),
            dtype=np.uint8,
            dimension_names=["c", "y", "x"],
        )
        for y in range(0, height, CHUNK_PX):
            for x in range(0, width, CHUNK_PX):
                piece = Region(y, x, min(CHUNK_PX, height - y), min(CHUNK_PX, width - x))
                array[(slice(None), *piece.slices)] = np.moveaxis(
                    _read(image, region, piece, (height, width)), -1, 0
                )
    axes = [{"name": "c", "type": "channel"}, *space_axes(mpp)]
    scales: Any = multiscale(image.name, axes, shapes, mpp)
    # Viewers that know OMERO's way show the three channels as colours.
    channels: list[Any] = [
        {"label": name, "color": color, "active": True, "window": _WINDOW}
        for name, color in (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
    ]
    group.attrs["ome"] = {
        "version": VERSION,
        "multiscales": [scales],
        "omero": {"channels": channels, "rdefs": {"model": "color"}},
    }


_WINDOW = {"min": 0, "max": 255, "start": 0, "end": 255}


def _read(
    image: Slide, region: Region, piece: Region, shape_yx: tuple[int, int]
) -> NDArray[np.uint8]:
    """A piece of one level of the region."""
    spans = []
    for start, length, n, whole in zip(
        (piece.y, piece.x), piece.shape_yx, shape_yx, region.shape_yx, strict=True
    ):
        low = round(start * whole / n)
        spans.append((low, max(1, round((start + length) * whole / n) - low)))
    (y, height), (x, width) = spans
    return image.read_resampled(Region(region.y + y, region.x + x, height, width), piece.shape_yx)
