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
    painted_part,
    region_to_paint,
)
from napari_pathsam.core.errors import PathsamError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.annotations import LARGEST_WHOLE_PX
from napari_pathsam.workspace.segment_request import bounds
from napari_pathsam.workspace.teaching_store import LessonFolder, Strokes

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_pathsam._napari.finetune import FineTuneDock

COPIED = (
    "“{}” stays as it is: its ids are no classes of this lesson. What it holds was copied to “{}”, "
    "class by class: paint there. What comes to “{}” later is not in the copy."
)
PAINT_ON = "“{}” holds what you painted on this image: paint on in it."
CHOSEN = (
    "“{}” is what is learned from on this image. “Paint it” copies its classes to a layer to paint "
    "in."
)
FAR_AWAY = (
    "“{}” holds what you painted on this slide, and it is too far from here for one labels layer: "
    "from an empty one here is learned instead."
)
WIDENED = (
    "“{}” covers what is in view, and holds what you painted in “{}”, which stays as it is, hidden."
)
BEGUN_ANEW = "“{}” is hidden and not learned from now. To go back, choose it under Labels above."


class Brush(QObject):
    """Gives a person a layer to paint classes in, and the brush."""

    def __init__(self, dock: FineTuneDock) -> None:
        super().__init__(dock)
        self._dock, self._asked = dock, 0
        dock.view.new_bar.add(
            "Empty layer", "Begin anew; what is painted stays in the layer list", self.begin_anew
        )

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

    def new(self) -> None:
        """An empty layer; where something is painted on this image, that is gone on with.

        What was painted does not go because a button was pressed: an empty layer in its place is
        asked for once more.
        """
        dock = self._dock
        if dock.source is None:
            self.new_labels()  # says what is missing
            return
        key = dock.source.key
        layer = dock.paint.labels_of(key)
        layer = dock.paint.left_of(key) if layer is None else layer
        if layer is not None:
            self._go_on(layer)
        elif key in dock.teaching.lesson.images:
            self.bring_back(dock.teaching.folder, key, asked=True)
        else:
            self.new_labels()

    def _go_on(self, layer: Labels) -> None:
        """Paint on in a layer, or in a larger one with what it holds where that is out of view."""
        dock = self._dock
        assert dock.source is not None
        dock.use_labels(layer)
        painted, plane = Painted.of(layer, dock.viewer), dock.source.plane
        shape_yx = dock.source.shape_yx
        if class_names_of_objects(layer) is not None or painted.in_parts(plane, shape_yx):
            dock.view.new_bar.say(CHOSEN.format(layer.name))
            return
        try:
            at = region_to_paint(dock.source, dock.viewer)
        except PathsamError as error:
            dock.say_error(str(error))
            return
        dock.files.submit(
            painted_part, painted, plane, shape_yx, dock.teaching.choices.classes,
            then=partial(self._widen, dock.source.key, layer, at),
            failed=lambda _: self.new_labels(),  # it lies elsewhere
        )  # fmt: skip

    def _widen(
        self, key: str, layer: Labels, at: Region, found: tuple[Region, Strokes | None]
    ) -> None:
        """Take the brush in this layer, which holds what was found, or in one over ``at`` too."""
        dock, (covered, strokes) = self._dock, found
        here = dock.source is not None and dock.source.key == key
        now = dock.paint.labels_of(key)
        if not here or now is None or now is not layer:
            return  # something else was chosen meanwhile
        chosen, name = dock.view.classes.active(), str(layer.name)
        if covered.intersection(at) == at:
            self._take(chosen)
            dock.view.new_bar.say(PAINT_ON.format(name) if strokes is not None else "")
        elif strokes is None or strokes.at is None:
            self.new_labels()
        elif max((both := bounds([strokes.at, at])).shape_yx) > LARGEST_WHOLE_PX:
            dock.view.new_bar.say(FAR_AWAY.format(name))
        else:
            made = self._add(Strokes(strokes.over(both), both))
            layer.visible = False
            self._take(chosen)
            dock.say(WIDENED.format(made.name, name))

    def begin_anew(self) -> None:
        """Learn from an empty layer instead of what is painted, which stays in the layer list."""
        dock = self._dock
        old = None if dock.source is None else dock.paint.labels_of(dock.source.key)
        if self.new_labels() is not None and old is not None:
            old.visible = False
            dock.say(BEGUN_ANEW.format(old.name))

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

    def bring_back(self, folder: LessonFolder, key: str, *, asked: bool = False) -> None:
        """What was painted on an image before, in a layer that is gone.

        ``asked``: a person pressed New, and wants the brush, be it on an empty layer.
        """
        self._dock.files.submit(
            folder.newest_strokes, key, then=partial(self._on_strokes, key, asked),
            failed=lambda error: self._dock.say_error(str(error)),
        )  # fmt: skip

    def _on_strokes(self, key: str, asked: bool, strokes: Strokes | None) -> None:
        dock = self._dock
        here = dock.image is not None and dock.source is not None and dock.source.key == key
        if not here or dock.paint.labels_of(key) is not None:
            return
        if strokes is not None and (strokes.labels.any() or not asked):
            layer, chosen = self._add(strokes), dock.view.classes.active()
            if asked:
                self._take(chosen)
                dock.view.new_bar.say(PAINT_ON.format(layer.name))
        elif asked:
            self.new_labels()

    def _add(self, strokes: Strokes) -> Labels:
        """Show them as a layer, and learn from it."""
        from napari.layers import Labels

        dock = self._dock
        assert dock.image is not None
        assert dock.source is not None
        at = strokes.at or Region.of(dock.source.shape_yx)
        classes = dock.teaching.choices.classes
        layer = labels_over(
            strokes.labels, at, dock.image, dock.source.plane, classes, Labels, bare=dock.bare()
        )
        dock.viewer.layers.append(layer)
        layer.brush_size = dock.paint.brush_size()
        dock.use_labels(layer)
        return layer
