"""A label store as a pyramidal OME-TIFF, tile by tile: what QuPath, Bio-Formats and OMERO open."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.io._files import replacing
from napari_pathsam.io.label_store import LabelStore

TILE_PX = 512
BAND_TILES = 4
"""Rows of tiles that are read at a time."""


def write_store_tiff(path: str | os.PathLike[str], store: LabelStore) -> None:
    """Write every level of a store, the coarser ones as SubIFDs of the first.

    Ids stay what they are. Maps of classes (8-bit) have a palette of the classes' colours; names,
    ids and colours are also in the image's OME description, as JSON.

    Parameters
    ----------
    path
        Ends in ``.ome.tif``.
    """
    import tifffile

    path = Path(path)
    dtype = store.dtype if store.dtype == np.uint8 else np.dtype(np.uint32)
    common: dict[str, Any] = {
        "tile": (TILE_PX, TILE_PX), "compression": "zlib", "dtype": dtype,
    }  # fmt: skip
    if dtype == np.uint8 and store.classes is not None:
        common |= {"photometric": "palette", "colormap": _colors(store.classes)}
    else:
        common["photometric"] = "minisblack"
    said: dict[str, Any] = {"axes": "YX", "Name": store.name}
    if store.classes is not None:
        said["Description"] = json.dumps([info.model_dump() for info in store.classes])
    if store.mpp is not None:
        said |= {"PhysicalSizeX": store.mpp, "PhysicalSizeXUnit": "µm"}
        said |= {"PhysicalSizeY": store.mpp, "PhysicalSizeYUnit": "µm"}
    first, *coarser = store.level_shapes
    with (
        replacing(path) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=True, ome=True) as tif,
    ):
        tif.write(
            _tiles(store, 0, dtype), shape=first, subifds=len(coarser), metadata=said,
            **_resolution(store.mpp), **common,
        )  # fmt: skip
        for level, shape in enumerate(coarser, start=1):
            size = None if store.mpp is None else store.mpp * first[0] / shape[0]
            tif.write(
                _tiles(store, level, dtype), shape=shape, subfiletype=1, metadata=None,
                **_resolution(size), **common,
            )  # fmt: skip


def _tiles(store: LabelStore, level: int, dtype: np.dtype) -> Iterator[NDArray[np.integer]]:
    """Tiles row by row, each filled up to its size."""
    array = store.pyramid()[level]
    height, width = array.shape
    for top in range(0, height, BAND_TILES * TILE_PX):
        rows = min(BAND_TILES * TILE_PX, height - top)
        band = np.asarray(array[top : top + rows]).astype(dtype, copy=False)
        for y in range(0, rows, TILE_PX):
            for x in range(0, width, TILE_PX):
                part = band[y : y + TILE_PX, x : x + TILE_PX]
                full = np.zeros((TILE_PX, TILE_PX), dtype)
                full[: part.shape[0], : part.shape[1]] = part
                yield full


def _resolution(mpp: float | None) -> dict[str, Any]:
    if mpp is None:
        return {}
    return {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}


def _colors(classes: ClassTable) -> NDArray[np.uint16]:
    """A palette ``(3, 256)``: black, the classes' colours, grey for what is no class."""
    colors = np.full((3, 256), 154 * 257, np.uint16)
    colors[:, 0] = 0
    for info in classes:
        colors[:, info.id] = [257 * part for part in bytes.fromhex(info.color[1:])]
    return colors
