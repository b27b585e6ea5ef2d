"""OME-Zarr labels (NGFF 0.5): label maps with names and colours, inside the image they lie on."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._ngff import is_zarr
from napari_pathsam.io.slides import Slide

VERSION = "0.5"
CHUNK_PX = 1024
COARSEST_PX = 512
"""Levels are added, each half the size, until the longer side is no more than this."""


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
    try:
        if path.exists():
            _check_target(path, region)
            target = path
        else:
            target = Path(
                tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
            )
        try:
            if target != path:
                _write_image(target, image, region, mpp)
            for name, labels in label_maps.items():
                of = None if name == "classes" else class_of or {}
                _add_labels(target, name, labels, mpp, classes or ClassTable(), of)
            if target != path:
                target.chmod(0o755)
                target.replace(path)
        finally:
            if target != path:
                shutil.rmtree(target, ignore_errors=True)
    except OSError as error:
        raise BadFileError(
            f"{path} could not be written: {error.strerror or error}. Choose another folder or "
            "free some space."
        ) from error


def _check_target(path: Path, region: Region) -> None:
    """Labels are added to an image of their size, and to nothing else."""
    from napari_pathsam.io._ngff import open_ngff

    found: tuple[int, int] | None = None
    if path.is_dir() and is_zarr(path):
        slide = open_ngff(path)
        found = slide.shape_yx
        slide.close()
    if found != region.shape_yx or not (path / "zarr.json").is_file():
        kind = "no OME-Zarr 0.5 image" if found is None or found == region.shape_yx else (
            f"an image of {found[0]} × {found[1]} pixels"
        )  # fmt: skip
        raise BadFileError(
            f"{path} is there already and is {kind}; labels of {region.height} × {region.width} "
            "pixels cannot be added to it. Choose another name; nothing was changed."
        )


def _write_image(target: Path, image: Slide, region: Region, mpp: float | None) -> None:
    import zarr

    group = zarr.open_group(target, mode="w", zarr_format=3)
    shapes = _level_shapes(region.shape_yx)
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
    axes = [{"name": "c", "type": "channel"}, *_axes(mpp)]
    multiscale: Any = _multiscale(image.name, axes, shapes, mpp, leading=1)
    # Viewers that know OMERO's way show the three channels as colours.
    channels: list[Any] = [
        {"label": name, "color": color, "active": True, "window": _WINDOW}
        for name, color in (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
    ]
    group.attrs["ome"] = {
        "version": VERSION,
        "multiscales": [multiscale],
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


def _add_labels(
    target: Path,
    name: str,
    labels: NDArray[np.integer],
    mpp: float | None,
    classes: ClassTable,
    class_of: Mapping[int, int] | None,
) -> None:
    """Write one label map beside its place, put it there, then list it."""
    import zarr

    listed = target / "labels"
    root = zarr.open_group(listed, mode="a", zarr_format=3)
    fresh = Path(tempfile.mkdtemp(dir=target, prefix=f".{name}.", suffix=".part"))
    try:
        group = zarr.open_group(fresh, mode="w", zarr_format=3)
        shapes = _level_shapes(labels.shape)
        dtype = np.uint8 if labels.max(initial=0) < 256 else np.uint32
        for level, (height, width) in enumerate(shapes):
            step = 2**level
            array = group.create_array(
                str(level),
                shape=(height, width),
                chunks=(min(CHUNK_PX, height), min(CHUNK_PX, width)),
                dtype=dtype,
                dimension_names=["y", "x"],
            )
            array[:] = labels[step // 2 :: step, step // 2 :: step][:height, :width].astype(dtype)
        multiscale = _multiscale(name, _axes(mpp), shapes, mpp, leading=0)
        group.attrs["ome"] = {
            "version": VERSION,
            "multiscales": [multiscale],
            "image-label": _image_label(classes, class_of),
        }
        fresh.chmod(0o755)
        _put(fresh, listed / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    known: Any = root.attrs.get("ome") or {}
    ome = dict(known)
    ome["version"] = VERSION
    ome["labels"] = list(dict.fromkeys([*ome.get("labels", []), name]))
    root.attrs["ome"] = ome


def _put(fresh: Path, place: Path) -> None:
    """A folder into its place; an older one goes only when the new one is there."""
    older = fresh.with_suffix(".old")
    if place.exists():
        place.replace(older)
    fresh.replace(place)
    shutil.rmtree(older, ignore_errors=True)


def _image_label(classes: ClassTable, class_of: Mapping[int, int] | None) -> dict[str, Any]:
    """Names and colours as NGFF has them; objects are named after their class."""
    known = {info.id: info for info in classes}
    named = {i: i for i in known} if class_of is None else dict(class_of)
    shown = [(label, known[i]) for label, i in sorted(named.items()) if i in known]
    return {
        "version": VERSION,
        "colors": [
            {"label-value": label, "rgba": [*bytes.fromhex(info.color[1:]), 255]}
            for label, info in shown
        ],
        "properties": [
            {"label-value": label, "name": info.name, "class_id": info.id} for label, info in shown
        ],
        "source": {"image": "../../"},
    }


def _level_shapes(shape_yx: tuple[int, ...]) -> list[tuple[int, int]]:
    """Half the size each, rounded down, but no side below one."""
    shapes = [(int(shape_yx[0]), int(shape_yx[1]))]
    while max(shapes[-1]) > COARSEST_PX and min(shapes[-1]) > 1:
        shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
    return shapes


def _axes(mpp: float | None) -> list[dict[str, str]]:
    unit = {} if mpp is None else {"unit": "micrometer"}
    return [{"name": name, "type": "space", **unit} for name in "yx"]


def _multiscale(
    name: str,
    axes: list[dict[str, str]],
    shapes: list[tuple[int, int]],
    mpp: float | None,
    *,
    leading: int,
) -> dict[str, Any]:
    datasets = []
    for level, shape in enumerate(shapes):
        scale = [(mpp or 1.0) * whole / n for whole, n in zip(shapes[0], shape, strict=True)]
        transform = {"type": "scale", "scale": [1.0] * leading + scale}
        datasets.append({"path": str(level), "coordinateTransformations": [transform]})
    return {"name": name, "axes": axes, "datasets": datasets}
