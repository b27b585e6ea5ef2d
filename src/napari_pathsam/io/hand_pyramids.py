"""The label pyramids that follow what a person draws on a slide: plain OME-Zarr, on the disk.

Sparse labels keep there what their memory does not hold. It is all of them when they were flushed.
"""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.packed_chunks import Disk
from napari_pathsam.core.sparse_labels import CHUNK_PX
from napari_pathsam.io._in_use import InUse, in_use
from napari_pathsam.io._ngff_container import writing
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import OBJECTS, tell_class_of


class HandPyramids:
    """A container of label pyramids, made when the first labels come.

    Each has a place of its own, beside ``path`` and named after it: what shows or exports labels of
    an image that was closed still reads them, while they are drawn on anew. Earlier ones that
    nobody reads go; ``NAME.incomplete`` is what an earlier session could not finish.
    """

    def __init__(self, path: Path, shape_yx: tuple[int, int]) -> None:
        self.path = path.with_suffix(f".{secrets.token_hex(4)}.zarr")
        self._shape_yx = shape_yx
        self._stores: dict[str, LabelStore] = {}
        self._lock = threading.Lock()
        self._in_use: InUse | None = None
        for suffix in ("zarr", "incomplete"):
            for old in path.parent.glob(f"{path.stem}.*{suffix}"):
                if not in_use(old):
                    shutil.rmtree(old, ignore_errors=True)

    def set_aside(self) -> None:
        """They hold less than was drawn: give them a name that nobody takes for labels.

        Whoever still shows them reads them there.
        """
        with self._lock, suppress(OSError, BadFileError):  # none was made, or the disk is gone
            aside = self.path.with_suffix(".incomplete")
            in_use_there = InUse(aside)
            self.path, self._in_use = self.path.replace(aside), in_use_there
            for name in self._stores:
                self._stores[name] = LabelStore.open(self.path, name, writable=True)

    def disks(self, name: str, dtype: DTypeLike) -> Callable[[int], Disk]:
        """Where the levels of one of the label maps are kept."""
        return lambda level: _Level(lambda: self._store(name, np.dtype(dtype)), level)

    def describe(self, classes: ClassTable, class_of: Mapping[int, int], mpp: float | None) -> None:
        """Names and colours of the classes, the class of each object, and microns per pixel.

        Raises
        ------
        BadFileError
            The disk does not let us.
        """
        for name, store in list(self._stores.items()):
            if store.mpp != mpp:
                store.measure(mpp)
            if name == OBJECTS:
                tell_class_of(store, classes, class_of)
            else:
                store.describe(classes)

    def _store(self, name: str, dtype: np.dtype) -> LabelStore:
        with self._lock:
            if name not in self._stores:
                with writing(self.path):
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._in_use = self._in_use or InUse(self.path)
                self._stores[name] = LabelStore.create(
                    self.path, self._shape_yx, dtype=dtype, name=name, chunk_px=CHUNK_PX
                )
            return self._stores[name]


class _Level:
    """The chunks of one level."""

    def __init__(self, store: Callable[[], LabelStore], level: int) -> None:
        self._store, self._level = store, level

    def load(self, index: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.integer]:
        while True:
            store = self._store()
            chunk = store.read_level(self._level, _at(index, shape))
            if chunk.any():
                return chunk
            if store is self._store():  # else they were set aside meanwhile
                break
        raise BadFileError(  # none that is saved is empty: a missing file reads as zeros
            f"Labels that were drawn are gone from {store.path}: somebody removed or emptied it. "
            "The journal beside it still has them: close the image, open it again and restore."
        )

    def save(self, index: tuple[int, int], chunk: NDArray[np.integer]) -> None:
        self._store().write_level(self._level, _at(index, chunk.shape), chunk)


def _at(index: tuple[int, int], shape: tuple[int, ...]) -> Region:
    return Region(index[0] * CHUNK_PX, index[1] * CHUNK_PX, shape[0], shape[1])
