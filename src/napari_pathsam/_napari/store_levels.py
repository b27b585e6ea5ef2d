"""A label pyramid on the disk as what napari shows: lazy levels, and a plain array of the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from napari_pathsam.io.label_store import LabelStore


def levels_of(store: LabelStore) -> list[Any]:
    """Lazy arrays; a plain one of the coarsest, which napari reads once only."""
    return [*store.pyramid()[:-1], coarsest_of(store)]


def coarsest_of(store: LabelStore) -> np.ndarray:
    """The coarsest level as it is on the disk now."""
    return np.asarray(store.read(Region.of(store.shape_yx), len(store.level_shapes) - 1))
