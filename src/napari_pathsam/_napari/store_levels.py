"""A label pyramid on the disk as what napari shows: lazy levels, and a plain array of the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_pathsam.io.label_store import LabelStore


def levels_of(store: LabelStore) -> list[Any]:
    """Lazy arrays; a plain one of the coarsest, which napari reads once only."""
    return [*store.pyramid()[:-1], coarsest_of(store)]


def coarsest_of(store: LabelStore) -> np.ndarray:
    """The coarsest level as it is on the disk now."""
    return np.asarray(store.read(Region.of(store.shape_yx), len(store.level_shapes) - 1))


class StoredLabels:
    """The finest level of a label pyramid, read where something is in it; as ``SparseArray``."""

    ndim = 2

    def __init__(self, store: LabelStore) -> None:
        self._store = store
        self.shape, self.dtype = store.shape_yx, store.dtype

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.integer]:
        y, x = (part.indices(n) for part, n in zip(key, self.shape, strict=True))
        return self._store.read(Region(y[0], x[0], y[1] - y[0], x[1] - x[0]))

    def pieces(self) -> Iterator[Region]:
        """The rectangles outside of which all is 0."""
        return self._store.pieces()
