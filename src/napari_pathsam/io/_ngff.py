"""OME-Zarr 0.4 and 0.5 (and a bare zarr array that is a picture), by plain zarr."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from napari_pathsam.core.errors import BadFileError, BadImageError, UnavailableError
from napari_pathsam.io._files import reading
from napari_pathsam.io._identity import identity_of_levels
from napari_pathsam.io._layout import layout_of
from napari_pathsam.io._levels import RGB, Level
from napari_pathsam.io._origin import Origin
from napari_pathsam.io._pyramid import PyramidSlide
from napari_pathsam.io._units import microns_in
from napari_pathsam.io.images import as_rgb, believable_mpp, full_scale_of


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group or array of version 2 or 3."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"))


def address_of(path: str | os.PathLike[str]) -> str | None:
    """The address on another machine (``https://…``, ``s3://…``); None for a path on this one.

    A ``Path`` of an address, which has lost a slash, is one, too.
    """
    text = path if isinstance(path, str) else Path(path).as_posix()
    found = re.match(r"([a-z][a-z0-9]+):/{1,2}(?!/)(.+)", text)
    return f"{found[1]}://{found[2]}" if found else None


def open_ngff(place: Path | str) -> PyramidSlide:
    """Open an OME-Zarr image as a slide; of several images in one container, the first.

    Raises
    ------
    BadFileError, BadImageError
        Not OME-Zarr, damaged, out of reach; not grey or RGB.
    UnavailableError
        An address needs fsspec with the protocol's own package, and it is not installed.
    """
    path = place if isinstance(place, Path) else Path(urlsplit(place).path)
    with reading(path, "an OME-Zarr image"):
        arrays, axes, image = _arrays(path, _opened(place))
        scale = _white(path, arrays[-1], axes)
        there = partial(_still_there, place)
        always = there if isinstance(place, Path) else None
        levels = [_level(path, array, axes, scale, always) for array in arrays]
        mpp = _mpp(image, axes) if image is not None else None
    return PyramidSlide(
        levels,
        name=path.name,
        origin=Origin(partial(identity_of_levels, levels), there),
        path=place if isinstance(place, Path) else None,
        mpp=mpp,
    )


def _opened(place: Path | str) -> Any:
    import zarr

    if isinstance(place, Path):
        return zarr.open(place, mode="r")
    try:
        return zarr.open(place, mode="r")
    except ImportError as error:
        raise UnavailableError(
            f"Reading {place} needs a package that is not installed here ({error}). Install "
            "napari-pathsam[remote] for https://, s3fs for s3://; or copy the folder here."
        ) from error
    except (OSError, ValueError) as error:
        raise BadFileError(
            f"{place} could not be opened as OME-Zarr ({error or type(error).__name__}). Check the "
            "address (it ends with the image's own folder, .zarr as a rule), the network, and "
            "whether it asks for a password."
        ) from error


def _still_there(place: Path | str) -> bool:
    if isinstance(place, Path):
        return is_zarr(place)
    try:
        _opened(place)
    except BadFileError:
        return False
    return True


def is_rgb(path: Path) -> bool:
    """Whether a folder holds an OME-Zarr picture in colours: not grey, not labels, no stack."""
    try:
        with reading(path, "an OME-Zarr image"):
            arrays, axes, _ = _arrays(path, _opened(path))
            layout = layout_of(axes, arrays[0].shape, where=path.name)
    except (BadFileError, BadImageError):
        return False
    return layout.channel is not None


def _arrays(path: Path, node: Any) -> tuple[list[Any], list[str], dict[str, Any] | None]:
    """The arrays of all levels, finest first, their axes, and what is said of them."""
    import zarr

    if isinstance(node, zarr.Array):
        return [node], ["y", "x", "s"][: node.ndim], None
    image = _multiscale(path, node)
    if image is None and "0" in node and isinstance(node["0"], zarr.Group):
        node = node["0"]  # bioformats2raw puts each image into a group
        image = _multiscale(path, node)
    if image is None:
        raise BadFileError(
            f"{path.name} is zarr, but says nothing of an image (no “multiscales”). "
            "Choose the folder of the image itself, which is often one level down."
        )
    axes = [_axis_name(axis) for axis in image.get("axes") or "tczyx"]
    # Channels that come last are interleaved colours, alpha allowed.
    axes = [*axes[:-1], "s"] if axes[-1] == "c" else axes
    arrays = [node[str(dataset["path"])] for dataset in image["datasets"]]
    if not all(isinstance(array, zarr.Array) for array in arrays):
        raise BadFileError(f"{path.name} names a group where a resolution is wanted.")
    arrays.sort(key=lambda array: -math.prod(array.shape))
    return arrays, axes, image


def _multiscale(path: Path, group: Any) -> dict[str, Any] | None:
    attributes = group.attrs.asdict()
    found = attributes.get("ome", attributes).get("multiscales")
    if not found:
        return None
    if not isinstance(found[0].get("datasets"), list) or not found[0]["datasets"]:
        raise BadFileError(f"{path.name} lists no resolution under “multiscales”. Export it again.")
    return dict(found[0])


def _axis_name(axis: Any) -> str:
    return str(axis["name"] if isinstance(axis, dict) else axis).lower()


def _level(
    path: Path,
    array: Any,
    axes: list[str],
    full_scale: float | None,
    there: Callable[[], bool] | None,
) -> Level:
    if len(array.shape) < 2 or 0 in array.shape:
        raise BadImageError(f"{path.name} has the shape {array.shape}, and so no pixels.")
    layout = layout_of(axes, array.shape, where=path.name)

    def fetch(rows: slice, columns: slice) -> RGB:
        with reading(path, "an OME-Zarr image"):
            piece = layout.channels_last(np.asarray(array[layout.index(rows, columns)]))
        if there is not None and not there():  # zarr reads a missing file as an empty chunk
            raise BadFileError(f"{path} is gone since it was opened.")
        return as_rgb(piece, where=path.name, full_scale=full_scale)

    shape_yx = (int(array.shape[layout.y]), int(array.shape[layout.x]))
    return Level(shape_yx, (int(array.chunks[layout.y]), int(array.chunks[layout.x])), fetch)


def _white(path: Path, array: Any, axes: list[str]) -> float | None:
    """One full scale for the whole slide, from the middle of its coarsest level."""
    if array.dtype == np.uint8:
        return None
    layout = layout_of(axes, array.shape, where=path.name)
    size = (array.shape[layout.y], array.shape[layout.x])
    middle = [slice(max(0, n // 2 - 1024), min(n, n // 2 + 1024)) for n in size]
    return full_scale_of(np.asarray(array[layout.index(*middle)]))


def _mpp(image: dict[str, Any], axes: list[str]) -> float | None:
    """Pixel size of the first resolution: its own scale times the whole image's."""
    sizes = []
    for name in "yx":
        axis = axes.index(name)
        described = image["axes"][axis] if image.get("axes") else None
        size = microns_in(described.get("unit") if isinstance(described, dict) else None)
        if size is None:
            return None
        for owner in (image["datasets"][0], image):
            for transform in owner.get("coordinateTransformations") or []:
                if transform.get("type") == "scale":
                    size *= float(transform["scale"][axis])
        sizes.append(size)
    return believable_mpp(*sizes)
