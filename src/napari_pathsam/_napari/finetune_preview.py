"""The preview layer: what a version makes of the field in view, with a swipe from before to after.

It is the dock's own layer and cannot be painted in; what a person draws is in other layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_pathsam._napari.finetune_parts import Choice, form, row
from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.overlays import SwipeLine
from napari_pathsam._napari.plane import Plane, own_layer_place
from napari_pathsam._napari.segment_layers import color_classes
from napari_pathsam._napari.widgets import button
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_pathsam.workspace.teaching_work import Preview

NAME = "PathSAM preview"
PREVIEW = "preview"
"""``layer.metadata[OWN]`` of the layers of this dock; nothing else works on them."""
OPACITY = 0.4
STEPS = 1000


class PreviewLayer(QObject):
    """Shows one field's class map, left of the swipe as before and right of it as now."""

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.layer: Labels | None = None
        self.now: Preview | None = None
        self.before: Preview | None = None
        self._image: Image | None = None
        self._line = SwipeLine(viewer)
        self._split = 0.0
        self._shown = True
        viewer.layers.events.removed.connect(self._on_removed)

    def show(
        self, now: Preview, before: Preview | None, image: Image, plane: Plane, classes: ClassTable
    ) -> None:
        """Show a field; ``before`` is the same field of another version."""
        same = self.layer is not None and self.now is not None and self._image == image and (
            now.field.region == self.now.field.region
        )  # fmt: skip
        if self._image == image:
            self._line.place(plane)
        else:
            self._line.open(image, plane)
        self.now, self._image = now, image
        self.before = before if before and before.field.region == now.field.region else None
        if not same or self.layer is None:
            self._make(image, plane, now.field.region, classes)
        self._draw()

    def set_before(self, before: Preview | None) -> None:
        """Another field to compare with."""
        self.before = before
        self._draw()

    def recolor(self, classes: ClassTable) -> None:
        """The classes have other names or colours."""
        if self.layer is not None:
            color_classes(self.layer, classes)

    def set_split(self, share: float) -> None:
        """So much of the width shows how it was before."""
        self._split = share
        self._draw()

    def set_shown(self, shown: bool) -> None:
        """Show the layer, or hide it."""
        self._shown = shown
        if self.layer is not None:
            self.layer.visible = shown

    def class_map(self) -> NDArray[np.uint8] | None:
        """What is on screen."""
        return None if self.layer is None else np.asarray(self.layer.data)

    def close(self) -> None:
        """Remove the layers: they mean nothing without the dock."""
        self._line.close()
        layer, self.layer = self.layer, None
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def clear(self) -> None:
        """There is nothing to show."""
        self._line.close()
        self._image = None
        layer, self.layer, self.now, self.before = self.layer, None, None, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _make(self, image: Image, plane: Plane, region: Region, classes: ClassTable) -> None:
        from napari.layers import Labels

        place = own_layer_place(plane, image)
        if self.layer is not None:  # the same layer elsewhere: napari likes no comings and goings
            self.layer.data = np.zeros(region.shape_yx, np.uint8)
            self.layer.scale, self.layer.affine = place["scale"], place["affine"]
            self.layer.translate = place["scale"] * np.array([region.y, region.x])
            return
        layer = Labels(
            np.zeros(region.shape_yx, np.uint8), name=NAME, opacity=OPACITY, visible=self._shown,
            metadata={OWN: PREVIEW}, **place,
        )  # fmt: skip
        layer.translate = place["scale"] * np.array([region.y, region.x])
        color_classes(layer, classes)
        layers = self._viewer.layers
        active = layers.selection.active
        layers.insert(layers.index(image) + 1, layer)
        layer.editable = False
        layers.selection.active = active
        layer.events.visible.connect(self._draw_line)
        self.layer = layer

    def _draw(self) -> None:
        if self.layer is None or self.now is None:
            return
        shown = self.now.class_map
        if self.before is not None and (column := self._column()):
            shown = shown.copy()
            shown[:, :column] = self.before.class_map[:, :column]
        np.copyto(self.layer.data, shown)
        self.layer.refresh(extent=False, thumbnail=False)
        self._draw_line()

    def _column(self) -> int:
        """Where after begins."""
        return 0 if self.now is None else round(self._split * self.now.field.region.width)

    def _draw_line(self, *_: Any) -> None:
        """Where before and after meet, while both are on screen."""
        if self.layer is None or self.now is None:
            return
        region, column = self.now.field.region, self._column()
        if self.before is None or not 0 < column < region.width or not self.layer.visible:
            self._line.hide()
        else:
            self._line.show(region, column)

    def _on_removed(self, event: Any) -> None:
        if self.layer is not None and event.value == self.layer:
            self.layer = None
            self._line.hide()


class LookPanel(QWidget):
    """Edits what the preview shows: whether, of which version before, and how far it is swiped."""

    shown_changed = Signal(bool)
    before_changed = Signal(object)  # version number | None
    split_changed = Signal(float)
    here_wanted = Signal()
    copy_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.shown_box = QCheckBox("Show", self)
        self.shown_box.setToolTip("The layer “PathSAM preview”")
        self.shown_box.setChecked(True)
        self._gave_way = False
        self.here_button = button(
            "Field in view", "Show the version in use on what is in view now",
            self.here_wanted.emit,
        )  # fmt: skip
        self.copy_button = button(
            "Keep as labels", "Copy what is shown into a labels layer you can paint in",
            self.copy_wanted.emit,
        )  # fmt: skip
        self.before = Choice({None: "nothing"}, "The version to compare with, left of the swipe")
        self._slider = QSlider(Qt.Horizontal, self)
        self._slider.setRange(0, STEPS)
        self._slider.setToolTip("Left of it: as before. Right of it: as now")
        self._left, self._right = QLabel("all now", self), QLabel("all before", self)
        swipe = QWidget(self)
        line = QHBoxLayout(swipe)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self._left)
        line.addWidget(self._slider, 1)
        line.addWidget(self._right)
        top = row(self.shown_box, self.here_button, self.copy_button)
        top.setStretch(0, 0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addLayout(form((("Before", self.before), ("Swipe", swipe))))
        self.shown_box.toggled.connect(self.shown_changed)
        self.shown_box.toggled.connect(lambda _: setattr(self, "_gave_way", False))
        self.before.value_changed.connect(self._on_before)
        self._slider.valueChanged.connect(lambda v: self.split_changed.emit(v / STEPS))
        self.set_versions({}, None)

    def split(self) -> float:
        return float(self._slider.value() / STEPS)

    def set_split(self, share: float) -> None:
        """Swipe so far."""
        self._slider.setValue(round(STEPS * share))

    def make_room(self) -> None:
        """Hide the preview for what another dock will show in its place."""
        shown = self.shown_box.isChecked()
        self.shown_box.setChecked(False)
        self._gave_way = self._gave_way or shown

    def come_back(self) -> None:
        """Show the preview again if it had made room; a person who hid it keeps it hidden."""
        if self._gave_way:
            self.shown_box.setChecked(True)

    def set_versions(self, versions: dict[Any, str], chosen: Any) -> None:
        """The versions one can compare with; emits nothing."""
        self.before.set_values({None: "nothing", **versions})
        self.before.set_value(chosen)
        self._slider.setEnabled(self.before.value() is not None)
        for made in (self.here_button, self.copy_button):
            made.setEnabled(bool(versions))

    def print_key(self, key: str) -> None:
        """Print the key that swipes."""
        self._slider.setToolTip(
            f"Left of it: as before. Right of it: as now. {key}: all the way and back"
        )

    def _on_before(self, number: Any) -> None:
        self._slider.setEnabled(number is not None)
        if number is None:
            self.set_split(0)
        self.before_changed.emit(number)
