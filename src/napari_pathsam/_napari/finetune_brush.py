"""The labels layers that the Fine-tune dock makes: new ones, copies of objects, restored ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject

from napari_pathsam._napari.finetune_labels import (
    Painted,
    class_names_of_objects,
    copied,
    labels_over,
    region_to_paint,
)
from napari_pathsam.core.errors import PathsamError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.teaching_store import LessonFolder, Strokes

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_pathsam._napari.finetune import FineTuneDock

COPIED = (
    "“{}” stays as it is: its ids are no classes of this lesson. What it holds was copied to “{}”, "
    "class by class: paint there. What comes to “{}” later is not in the copy."
)


class Brush(QObject):
    """Gives a person a layer to paint classes in, and the brush."""

    def __init__(self, dock: FineTuneDock) -> None:
        super().__init__(dock)
        self._dock, self._asked = dock, 0

    def take(self) -> None:
        """Paint the selected class: in the labels in use, or in a new layer.

        Where ids are no classes of the lesson (objects, another table's) what they are is copied.
        """
        dock = self._dock
        labels = None if dock.source is None else dock.paint.labels_of(dock.source.key)
        if labels is None:
            self.new_labels()
        elif class_names_of_objects(labels) is not None:
            self._copy(labels)
        else:
            self._take(dock.view.classes.active())

    def new_labels(self) -> Labels | None:
        """An empty labels layer over the image, with the brush in hand."""
        dock = self._dock
        if dock.image is None or dock.source is None:
            dock.say_error("There is no image yet. Open one, or choose an image layer above.")
            return None
        try:
            at = region_to_paint(dock.source, dock.viewer)
        except PathsamError as error:
            dock.say_error(str(error))
            return None
        chosen = dock.view.classes.active()
        layer = self._add(Strokes(np.zeros(at.shape_yx, np.uint8), at))
        self._take(chosen)  # whatever a new layer has selected
        return layer

    def _copy(self, layer: Labels) -> None:
        """Paint in a copy of a layer whose ids are no classes here; it is made in a worker."""
        dock = self._dock
        if dock.source is None:
            return
        key, chosen = dock.source.key, dock.view.classes.active()
        self._asked += 1
        asked = self._asked

        def wanted() -> bool:
            """Nothing else was chosen meanwhile."""
            here = dock.source is not None and dock.source.key == key
            return here and asked == self._asked and dock.paint.labels_of(key) is layer

        def show(strokes: Strokes) -> None:
            if wanted():
                made = self._add(strokes)
                self._take(chosen)
                dock.say(COPIED.format(layer.name, made.name, layer.name))

        def failed(error: Exception) -> None:
            if wanted():
                dock.say_error(str(error))

        dock.files.submit(
            copied, Painted.of(layer, dock.viewer), dock.source.plane, dock.source.shape_yx,
            dock.teaching.choices.classes, then=show, failed=failed,
        )  # fmt: skip

    def _take(self, class_id: int | None) -> None:
        """Paint this class, or the first one, in the labels in use."""
        dock = self._dock
        ids = [c.id for c in dock.teaching.choices.classes]
        if ids and dock.source is not None:
            chosen = class_id if class_id in ids else ids[0]
            dock.view.classes.set_active(chosen)
            dock.paint.take_brush(dock.source.key, chosen)

    def bring_back(self, folder: LessonFolder, key: str) -> None:
        """What was painted on an image in an earlier session."""
        self._dock.files.submit(
            folder.strokes, key, then=partial(self._on_strokes, key),
            failed=lambda error: self._dock.say_error(str(error)),
        )  # fmt: skip

    def _on_strokes(self, key: str, strokes: Strokes | None) -> None:
        dock = self._dock
        here = dock.image is not None and dock.source is not None and dock.source.key == key
        if strokes is not None and here and dock.paint.labels_of(key) is None:
            self._add(strokes)

    def _add(self, strokes: Strokes) -> Labels:
        """Show them as a layer, and learn from it."""
        from napari.layers import Labels

        dock = self._dock
        assert dock.image is not None
        assert dock.source is not None
        at = strokes.at or Region.of(dock.source.shape_yx)
        classes = dock.teaching.choices.classes
        layer = labels_over(strokes.labels, at, dock.image, dock.source.plane, classes, Labels)
        dock.viewer.layers.append(layer)
        layer.brush_size = dock.paint.brush_size()
        dock.use_labels(layer)
        return layer
