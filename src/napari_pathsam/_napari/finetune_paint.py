"""Follows the labels layers a person paints on: on which image each lies, and its changes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_pathsam._napari.finetune_classes import neighbour
from napari_pathsam._napari.finetune_labels import (
    LayerPair,
    Painted,
    class_names_of_objects,
    named_classes,
)
from napari_pathsam._napari.layer_source import OWN, LayerSource
from napari_pathsam._napari.plane import level_0
from napari_pathsam._napari.segment_layers import color_classes
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import PathsamError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.teaching_store import is_of

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

EVENTS = ("paint", "labels_update", "data")
UNDONE = "set_data"
"""All that tells of an undo. A pyramid's has none, and would tell of every step of panning."""
CALM_MS = 300
BRUSH_ON_SCREEN_PX = 14
BARE = "not painted"
"""What a pixel is called that nobody painted, as long as nobody says that it is background."""


class PaintWatch(QObject):
    """Keeps a :class:`LayerPair` for every image that was painted on in this viewer."""

    changed = Signal()
    """Something was painted, or a pair came or went; once things are calm."""
    picked = Signal(int)
    """The person picked another label in the layer that is painted on."""

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._pairs: dict[str, tuple[Image, Labels, LayerPair]] = {}
        self._asides: dict[str, Labels] = {}
        self._left: WeakValueDictionary[str, Labels] = WeakValueDictionary()
        self._slots: list[tuple[Any, Any]] = []
        self._ids: frozenset[int] = frozenset()
        self._own: WeakSet[Labels] = WeakSet()
        self._renamed: list[Labels] = []  # whose objects have other classes now
        self._tables: WeakKeyDictionary[Labels, ClassTable] = WeakKeyDictionary()  # of objects
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(CALM_MS)
        self._timer.timeout.connect(self._tell)
        viewer.layers.events.removed.connect(self._on_removed)

    def pairs(self) -> list[LayerPair]:
        """Every image with labels, of slides every part."""
        return [part for _, _, pair in self._pairs.values() for part in pair.parts()]

    def pairs_over(self, key: str, region: Region) -> list[LayerPair]:
        """An image and its labels; of a slide the parts that a region touches."""
        parts = self._pairs[key][2].parts() if key in self._pairs else ()
        return [p for p in parts if p.part is None or p.part.intersection(region)]

    def named(self) -> set[str]:
        """The classes of all objects that are learned from."""
        return {n for _, labels, _ in self._pairs.values() for n in named_classes(labels)}

    def renamed(self) -> dict[str, str]:
        """Old name to new of the classes of objects that were renamed since this was asked.

        Not those of which there are objects under the old name, too.
        """
        named, found = self.named(), dict[str, str]()
        for layer in {id(labels): labels for _, labels, _ in self._pairs.values()}.values():
            table = layer.metadata.get("classes")
            if not (isinstance(table, ClassTable) and class_names_of_objects(layer)):
                continue
            before = {info.id: info.name for info in self._tables.get(layer, table)}
            self._tables[layer] = table
            for info in table:
                old = before.get(info.id, info.name)
                if old != info.name and old not in named:
                    found[old] = info.name
        return found

    def is_own(self, layer: Labels) -> bool:
        """Whether its ids are known to be the lesson's: it had the lesson's names and colours."""
        return layer in self._own

    def labels_of(self, key: str) -> Labels | None:
        """The labels layer on an image."""
        found = self._pairs.get(key)
        return None if found is None else found[1]

    def left_of(self, key: str) -> Labels | None:
        """The labels layer that was on an image last, where it is still in the layer list."""
        found = self._left.get(key)
        return found if found is not None and found in self._viewer.layers else None

    def image_of(self, key: str) -> Image | None:
        """The image layer of a key, or of one of its parts'."""
        found = (image for known, (image, _, _) in self._pairs.items() if is_of(key, known))
        return next(found, None)

    def aside_of(self, key: str) -> Labels | None:
        """The labels layer that is only scored on, of an image."""
        return self._asides.get(key)

    def set_aside(self, key: str, labels: Labels | None) -> None:
        """Another one; it counts when the image is paired."""
        self._asides = {k: v for k, v in self._asides.items() if k != key}
        if labels is not None:
            self._asides[key] = labels

    def pair(
        self, image: Image, source: LayerSource, labels: Labels | None, mpp: float | None,
        aside: Labels | None = None,
    ) -> None:  # fmt: skip
        """These labels are painted on this image; None: none are."""
        if labels is None:
            if source.key in self._pairs:
                self._left[source.key] = self._pairs.pop(source.key)[1]
        else:
            path = image.source.path
            self._pairs[source.key] = (image, labels, LayerPair(
                source, Painted.of(labels, self._viewer), mpp,
                Path(path) if path and Path(path).exists() else None,
                None if aside is None else Painted.of(aside, self._viewer),
            ))  # fmt: skip
        self._follow()
        self._timer.start()

    def set_mpp(self, key: str, mpp: float | None) -> None:
        """An image's pixel size, as typed."""
        if key in self._pairs:
            image, labels, pair = self._pairs[key]
            self._pairs[key] = (image, labels, replace(pair, mpp=mpp))
            self._timer.start()

    def set_classes(self, classes: ClassTable, bare: str = BARE) -> None:
        """Give the labels layers the classes' colours and names; ``bare``: what 0 is called.

        No brush stays on a class that went: a stroke would bring it back.
        """
        before, self._ids = self._ids, frozenset(c.id for c in classes)
        gone = before - self._ids
        for _, labels, _ in self._pairs.values():
            if class_names_of_objects(labels) is None:
                if len(classes) and labels.selected_label in gone:
                    labels.selected_label = neighbour(classes, labels.selected_label)
                features = labels.features
                color_classes(labels, classes, bare)
                self._own.add(labels)
                if set(features) - {"index", "class"}:  # columns of the person's own
                    labels.features = features

    def take_brush(self, key: str, class_id: int) -> None:
        """Paint on an image's labels with this class; in objects no class is painted."""
        layer = self.labels_of(key)
        if layer is None or layer not in self._viewer.layers:
            return
        if class_names_of_objects(layer) is not None:
            return
        self._viewer.layers.selection.active = layer
        with suppress(ValueError, TypeError):  # labels of a pyramid cannot be painted in
            layer.selected_label = class_id
            if str(layer.mode) not in ("paint", "polygon", "fill"):
                layer.mode = "paint"

    def erase(self, class_id: int) -> int:
        """Erase a class on the person's own layers; so many pixels. Undo brings them back."""
        erased = 0
        for layer in {id(labels): labels for _, labels, _ in self._pairs.values()}.values():
            array = level_0(layer)
            if OWN in layer.metadata or not isinstance(array, np.ndarray):
                continue  # the other dock's, or on the disk
            if class_names_of_objects(layer) is None:
                there = np.nonzero(array == class_id)
                if len(there[0]):
                    layer.data_setitem(there, 0)
                erased += len(there[0])
        return erased

    def close(self) -> None:
        """Leave the layers to the person."""
        self._timer.stop()
        self._unfollow()
        with suppress(ValueError, TypeError, RuntimeError):
            self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._pairs = {}

    def brush_size(self) -> int:
        """In pixels of the layer, as wide on screen as a pen."""
        return max(1, round(BRUSH_ON_SCREEN_PX / max(self._viewer.scene.camera.zoom, 1e-6)))

    def _follow(self) -> None:
        self._unfollow()
        for layer in {id(labels): labels for _, labels, _ in self._pairs.values()}.values():
            names = EVENTS if layer.multiscale else (*EVENTS, UNDONE)
            events = [getattr(layer.events, name, None) for name in names]
            self._slots += [(e, self._on_paint) for e in events if e is not None]
            self._slots.append((layer.events.selected_label, self._on_picked))
            if class_names_of_objects(layer) is not None:
                self._slots.append((layer.events.features, self._on_features))
        for emitter, slot in self._slots:
            emitter.connect(slot)

    def _unfollow(self) -> None:
        for emitter, slot in self._slots:
            with suppress(ValueError, TypeError, RuntimeError):
                emitter.disconnect(slot)
        self._slots = []

    def _on_paint(self, event: Any) -> None:
        layer = event.source
        if event.type == "data":
            self._renew(layer)
        self._timer.start()

    def _on_features(self, event: Any) -> None:
        if event.source not in self._renamed:
            self._renamed.append(event.source)
        self._timer.start()

    def _tell(self) -> None:
        renamed, self._renamed = self._renamed, []
        for layer in renamed:
            self._renew(layer)
        self.changed.emit()

    def _renew(self, layer: Labels) -> None:
        """The layer has another array, or its objects other classes."""
        for key, (image, labels, pair) in list(self._pairs.items()):
            if labels == layer:
                with suppress(PathsamError, IndexError):
                    new = replace(pair, labels=Painted.of(labels, self._viewer))
                    self._pairs[key] = (image, labels, new)

    def _on_picked(self, event: Any) -> None:
        label = int(event.source.selected_label)
        if label in self._ids and class_names_of_objects(event.source) is None:
            self.picked.emit(label)

    def _on_removed(self, event: Any) -> None:
        for key in [k for k, aside in self._asides.items() if event.value == aside]:
            del self._asides[key]
            if key in self._pairs:
                image, labels, pair = self._pairs[key]
                self._pairs[key] = (image, labels, replace(pair, aside=None))
        gone = [
            key for key, (image, labels, _) in self._pairs.items() if event.value in (image, labels)
        ]
        for key in gone:
            del self._pairs[key]
        if gone:
            self._follow()
            self._timer.start()
