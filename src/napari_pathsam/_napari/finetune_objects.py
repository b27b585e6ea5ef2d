"""Labels layers of objects without class names: one class for all of them, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from napari_pathsam._napari.finetune_labels import FIRST_CLASSES, OBJECTS_CLASS, of_one_class
from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import level_0
from napari_pathsam.core.classes import ClassTable

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_pathsam._napari.finetune import FineTuneDock

MOST_CLASSES = 20
"""A layer with more ids than this, and no names for them, may hold objects."""
CRUMBS = 1.5
"""So many pieces an object of such a layer has at most, on average; classes have more."""
LOOKED_AT_PX = 1024
TOLD = (
    "“{}” holds objects without class names: all of them are one class, “objects”. The rest can be "
    "background: see Unpainted, below. “Paint it” makes a copy of their class, to paint others in."
)


def mark_objects(layer: Labels) -> None:
    """Note in a layer that its ids are objects, if they look so and nothing else is said."""
    said = layer.metadata.get("label_kind") or layer.metadata.get(OWN)
    features, array = getattr(layer, "features", None), level_0(layer)
    named = features is not None and "class" in features
    if said or named or not isinstance(array, np.ndarray) or array.ndim != 2:
        return
    if _looks_like_objects(array):
        layer.metadata["label_kind"] = "instances"


def _looks_like_objects(array: np.ndarray) -> bool:
    """Many ids, and each in one piece; of a large layer its middle is looked at."""
    from skimage.measure import label

    middle = tuple(
        slice(max(0, (n - LOOKED_AT_PX) // 2), (n + LOOKED_AT_PX) // 2) for n in array.shape
    )
    part = array[middle]
    ids = np.unique(part[part != 0])
    if len(ids) <= MOST_CLASSES:
        return False
    _, pieces = label(part, background=0, connectivity=2, return_num=True)
    return bool(pieces <= CRUMBS * len(ids))


def _ids_can_be_classes(array: Any) -> bool:
    """Not asked of an array that would have to be read or computed first."""
    return isinstance(array, np.ndarray) and bool(array.max(initial=0) < 255)


class ObjectsTold(QObject):
    """Says of a dock's labels layer that its objects are one class, and takes that back."""

    def __init__(self, dock: FineTuneDock) -> None:
        super().__init__(dock)
        self._dock, self._layer = dock, None
        self._button = dock.view.objects_bar.add(
            "Ids are classes", "Each id of this layer is a class of its own", self.take_ids
        )

    def show(self, layer: Any) -> None:
        """Say it of this layer; None, or any other kind: nothing."""
        if layer is not None:
            mark_objects(layer)
        objects = layer is not None and of_one_class(layer)
        self._layer = layer if objects else None
        self._dock.view.objects_bar.say(TOLD.format(layer.name) if objects else "")
        self._button.setVisible(objects and _ids_can_be_classes(level_0(layer)))

    def take_ids(self) -> None:
        """Its ids are classes after all."""
        layer, teaching = self._layer, self._dock.teaching
        if layer is None:
            return
        layer.metadata["label_kind"] = "classes"
        objects = teaching.choices.classes.find(OBJECTS_CLASS)
        left = [c for c in teaching.choices.classes if c.id != objects]
        table = ClassTable(classes=tuple(left)) if left else ClassTable.of(*FIRST_CLASSES)
        teaching.replace_classes(table)
        self._dock.use_labels(layer)
