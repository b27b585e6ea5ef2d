"""Labels layers without class names: their ids are objects, all of one class, or classes."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.QtCore import QObject

from napari_pathsam._napari.finetune_labels import (
    LayerPair,
    class_names_of_objects,
    of_one_class,
    unnamed,
)
from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import level_0
from napari_pathsam.workspace.teaching_objects import (
    LAST_CLASS,
    OBJECTS_CLASS,
    Ids,
    are_objects,
    may_be_objects,
    without_unnamed,
)
from napari_pathsam.workspace.teaching_pairs import FilePair

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_pathsam._napari.finetune import FineTuneDock
    from napari_pathsam.workspace.teaching import Teaching

ASKED = "ids_without_names"
"""In a layer's metadata: nobody named its ids, which may be classes or objects."""
OBJECTS_TOLD = (
    "“{}” holds objects without class names: all of them are one class, “objects”. The rest can be "
    "background: see Unpainted, below. “Paint it” makes a copy of their class, to paint others in."
)
IDS_TOLD = "“{}” has no class names: each of its ids is a class of its own."
IDS_ARE_CLASSES = ("Ids are classes", "Each id is a class of its own")
IDS_ARE_OBJECTS = ("Ids are objects", "Glands, nuclei …: all of them are one class, “objects”")


def mark_objects(layer: Labels, known: Collection[int] = ()) -> None:
    """Note in a layer that its ids are objects, if they look so and nothing else is said.

    Ids that all are ``known`` classes are none.
    """
    said = layer.metadata.get("label_kind") or layer.metadata.get(OWN)
    features, array = getattr(layer, "features", None), level_0(layer)
    named = features is not None and "class" in features
    if said or named or not isinstance(array, np.ndarray) or array.ndim != 2:
        return
    found = Ids.of(array)
    if may_be_objects([found]):
        layer.metadata[ASKED] = True
        if not found.ids <= set(known) and are_objects([found]):
            layer.metadata["label_kind"] = "instances"


def others_hold_objects(teaching: Teaching, besides: Collection[str]) -> bool:
    """Whether the class of objects is that of some other image, too."""
    others = [p for p in teaching.pairs if p.key not in besides]
    return any(p.objects for p in others if isinstance(p, FilePair)) or any(
        p.labels.class_of == {} for p in others if isinstance(p, LayerPair)
    )


def _ids_can_be_classes(array: Any) -> bool:
    """Not asked of an array that would have to be read or computed first."""
    return isinstance(array, np.ndarray) and bool(array.max(initial=0) <= LAST_CLASS)


class ObjectsTold(QObject):
    """Says of a dock's labels layer what its ids are taken for, and takes the other."""

    def __init__(self, dock: FineTuneDock) -> None:
        super().__init__(dock)
        self._dock, self._layer = dock, None
        self._brought: WeakKeyDictionary[Labels, frozenset[int]] = WeakKeyDictionary()
        self._button = dock.view.objects_bar.add(*IDS_ARE_CLASSES, self.turn)

    def show(self, layer: Any) -> None:
        """Say it of this layer; None, or one whose classes are known: nothing."""
        if layer is not None:
            mark_objects(layer, [c.id for c in self._dock.known_classes()])
        objects = layer is not None and of_one_class(layer)
        asked = objects or (
            layer is not None
            and bool(layer.metadata.get(ASKED))
            and class_names_of_objects(layer) is None
        )
        self._layer = layer if asked else None
        told = OBJECTS_TOLD if objects else IDS_TOLD
        self._dock.view.objects_bar.say(told.format(layer.name) if asked else "")
        text, tip = IDS_ARE_CLASSES if objects else IDS_ARE_OBJECTS
        self._button.setText(text)
        self._button.setToolTip(tip)
        self._button.setVisible(asked and (not objects or _ids_can_be_classes(level_0(layer))))

    def note_brought(self, layer: Labels, ids: Collection[int]) -> None:
        """These classes joined the table with a layer: they go where its ids are none."""
        if ids:
            self._brought[layer] = frozenset(ids)

    def turn(self) -> None:
        """Its ids are classes after all, or objects after all."""
        layer, dock = self._layer, self._dock
        if layer is None:
            return
        classes, layer.metadata[ASKED] = dock.teaching.choices.classes, True
        if of_one_class(layer):
            layer.metadata["label_kind"] = "classes"
            objects = classes.find(OBJECTS_CLASS)
            here = {p.key for p in dock.paint.pairs() if p.labels_name == layer.name}
            if objects is not None and not others_hold_objects(dock.teaching, here):
                dock.teaching.set_classes(classes.without(objects))
        else:
            layer.metadata["label_kind"] = "instances"
            unnamed(layer)
            dock.teaching.set_classes(without_unnamed(classes, self._brought.pop(layer, ())))
        dock.use_labels(layer)
        dock.teaching.set_layers(dock.paint.pairs())  # at once: else ids that went are counted
