"""Which part of the image to segment: the field in view, all of it, or what shapes enclose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QVBoxLayout, QWidget

from napari_pathsam._napari.image_chooser import LayerChooser
from napari_pathsam._napari.plane import Plane, plane_of
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import polygon_mask
from napari_pathsam.workspace.segment_request import Part

if TYPE_CHECKING:
    from napari.layers import Shapes
    from napari.viewer import Viewer

VIEW, WHOLE, SHAPES = "view", "whole", "shapes"
TITLES = {VIEW: "The field in view", WHOLE: "The whole image", SHAPES: "Inside shapes of a layer"}


class ExtentChooser(QWidget):
    """Edits which part: ``(kind, shapes layer or None)``."""

    value_changed = Signal(str)

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._kind = QComboBox(self)
        self._kind.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        for kind, title in TITLES.items():
            self._kind.addItem(title, kind)
        self._kind.setToolTip(
            "What is segmented. Of the whole image the part in view is done first; move about "
            "meanwhile, and cancel when you have seen enough: what is done stays"
        )
        self.shapes = LayerChooser(viewer, ("Shapes",), "choose a shapes layer…", self)
        self.shapes.setToolTip("Its selected shapes, or all of them when none is selected")
        self.shapes.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self._kind)
        layout.addWidget(self.shapes)
        self._kind.currentIndexChanged.connect(self._on_kind)

    def value(self) -> tuple[str, Any]:
        return (self._kind.currentData(), self.shapes.value())

    def set_value(self, kind: str) -> None:
        """Choose; emits nothing."""
        self._kind.blockSignals(True)
        self._kind.setCurrentIndex(self._kind.findData(kind))
        self._kind.blockSignals(False)
        self.shapes.setVisible(kind == SHAPES)

    def _on_kind(self) -> None:
        kind = self._kind.currentData()
        self.shapes.setVisible(kind == SHAPES)
        if kind == SHAPES and self.shapes.value() is None and self.shapes.candidates():
            self.shapes.set_value(self.shapes.candidates()[0])
        self.value_changed.emit(kind)


def parts_in_shapes(
    layer: Shapes, viewer: Viewer, plane: Plane, shape_yx: tuple[int, int]
) -> tuple[Part, ...]:
    """What a layer's shapes (the selected ones, if any) enclose of an image; lines enclose none."""
    chosen = sorted(layer.selected_data) or range(len(layer.data))
    own = plane_of(layer, viewer)
    parts = []
    for i in chosen:
        kind = str(layer.shape_type[i])
        if kind in ("line", "path"):
            continue
        corners = np.asarray(layer.data[i], float)[:, -2:]
        outline = _ellipse(corners) if kind == "ellipse" else corners
        if (part := _part(plane.pixels_of(own, outline), shape_yx)) is not None:
            parts.append(part)
    return tuple(parts)


def _part(outline_yx: NDArray[np.float64], shape_yx: tuple[int, int]) -> Part | None:
    low = np.floor(outline_yx.min(axis=0) + 0.5).astype(int)
    high = np.maximum(np.ceil(outline_yx.max(axis=0) + 0.5).astype(int), low + 1)
    drawn = Region(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
    region = drawn.intersection(Region.of(shape_yx))
    if region is None:
        return None
    within = polygon_mask(outline_yx - (region.y, region.x), region.shape_yx)
    if not within.any():
        return None
    # A line drawn along the image's edge is a pixel off now and then.
    beyond = min(low) < -1 or any(high > np.array(shape_yx) + 1)
    asked = drawn if beyond else None
    if within.all():
        return Part(region, drawn=asked)
    return Part(region, within, outline_yx, asked)


def _ellipse(corners_yx: NDArray[np.float64]) -> NDArray[np.float64]:
    """An ellipse as a polygon, from the four corners of the rectangle round it."""
    centre = corners_yx.mean(axis=0)
    one, other = (corners_yx[1] - corners_yx[0]) / 2, (corners_yx[3] - corners_yx[0]) / 2
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)[:, None]
    outline: NDArray[np.float64] = centre + np.cos(turn) * one + np.sin(turn) * other
    return outline
