"""Annotations: the instance map, the class map and the objects in them, always in step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region


@dataclass(frozen=True)
class AcceptedObject:
    """One object of the instance map; ``box`` is its tight box in level-0 pixels."""

    id: int
    class_id: int
    area_px: int
    box: Region


class Annotations:
    """Label maps over a window of the image, and what is known about their objects."""

    instances: NDArray[np.int32]
    class_map: NDArray[np.uint8]
    origin_yx: tuple[int, int]
    classes: ClassTable
