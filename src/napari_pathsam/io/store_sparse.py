"""Sparse labels, as a person draws them on a slide → label pyramids."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.sparse_labels import CHUNK_PX, SparseArray
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import OBJECTS, tell_class_of


def write_sparse_labels(
    path: str | os.PathLike[str],
    maps: Mapping[str, SparseArray],
    *,
    mpp: float | None = None,
    classes: ClassTable | None = None,
    class_of: Mapping[int, int] | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, LabelStore]:
    """Write label maps of one slide as OME-Zarr labels; time follows what is labelled.

    Parameters
    ----------
    path
        A new ``.zarr``, or an OME-Zarr image of the slide's size.
    maps
        By name: 8-bit ones hold class ids, others objects.
    class_of
        The class of each object of the map ``objects``.
    """
    stores = {}
    for name, labels in maps.items():
        stores[name] = store = LabelStore.create(
            path, labels.shape, mpp=mpp, classes=classes, dtype=labels.dtype, name=name,
            about=about, chunk_px=CHUNK_PX,
        )  # fmt: skip
        if name == OBJECTS and class_of is not None:
            tell_class_of(store, classes, class_of)
        for piece in labels.pieces():
            store.write_base(piece, labels[piece.slices])
        store.update_overviews()
    return stores
