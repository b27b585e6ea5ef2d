"""The two labels layers: accepted objects as outlines, classes as translucent areas.

They show the workspace's own arrays. What is painted in them with napari's brush, eraser and bucket
goes to the workspace as a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import Plane, own_layer_place
from napari_pathsam.core.classes import ClassTable

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_pathsam.workspace import AcceptedObject

NAMES = {"classes": "PathSAM classes", "instances": "PathSAM objects"}
STROKE_COLOR = "#ffffff"  # of labels painted with ids that are no object yet


class LabelLayers(QObject):
    """The labels layers of the open image."""

    stroke = Signal(str, object, object, object)  # kind, indices, old, new

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._image: Image | None = None
        self._plane: Plane | None = None
        self._arrays: dict[str, NDArray] = {}
        self._origin = (0, 0)
        self._slots: dict[str, Any] = {}
        self._peeked: list[Any] = []
        self._fine_contour = 1
        self._colors: dict[str, tuple[Any, dict]] = {}  # as set last, and on which layer
        self._named: tuple[Any, ...] = ()
        self.layers: dict[str, Labels] = {}

    # --- the layers ---

    def open(
        self, image: Image, plane: Plane, arrays: Mapping[str, NDArray], origin_yx: tuple[int, int]
    ) -> None:
        """Show an image's label arrays, ``{"classes": …, "instances": …}``."""
        self.close()
        self._image, self._plane = image, plane
        self.set_arrays(arrays, origin_yx)

    def set_arrays(self, arrays: Mapping[str, NDArray], origin_yx: tuple[int, int]) -> None:
        """Other arrays, or the same ones elsewhere; layers a person deleted come back."""
        self._arrays, self._origin = dict(arrays), origin_yx
        self.ensure()
        for kind, array in self._arrays.items():
            layer = self.layers.get(kind)
            if layer is not None and layer.data is not array:
                layer.data = array
        self._move()

    def ensure(self) -> None:
        """Make the layers that are missing."""
        if self._image is None or self._plane is None:
            return
        for kind, array in self._arrays.items():
            layer = self.layers.get(kind)
            if layer is None or layer not in self._viewer.layers:
                self.layers[kind] = self._make(kind, array)

    def close(self, *, keep: bool = False) -> None:
        """Remove the layers; ``keep`` leaves them in the viewer as ordinary ones."""
        self.release_peek()
        for kind, layer in self.layers.items():
            layer.events.paint.disconnect(self._slots[kind])
            if keep:
                layer.metadata.pop(OWN, None)
            elif layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.layers, self._slots, self._arrays = {}, {}, {}
        self._colors, self._named = {}, ()
        self._image = self._plane = None

    def place(self, plane: Plane) -> None:
        """The image was moved or scaled."""
        self._plane = plane
        self._move()

    def refresh(self) -> None:
        """The arrays changed in place."""
        self.ensure()
        for layer in self.layers.values():
            if layer.visible:
                layer.refresh(extent=False, thumbnail=False)

    def set_contour(self, screen_px: float) -> None:
        """Outlines about two screen pixels wide at this zoom (screen pixels per image pixel)."""
        width = int(np.clip(round(2 / max(screen_px, 1e-6)), 1, 10))
        layer = self.layers.get("instances")
        if width != self._fine_contour:
            self._fine_contour = width
            if layer is not None and layer.contour:
                layer.contour = width

    # --- how they look ---

    def set_colors(
        self,
        classes: ClassTable,
        objects: Iterable[AcceptedObject],
        hidden: frozenset[int] = frozenset(),
    ) -> None:
        """Colour classes and the outlines of their objects; hidden classes are transparent."""
        from napari.utils.colormaps import DirectLabelColormap

        by_class: dict[int | None, Any] = {
            c.id: "transparent" if c.id in hidden else c.color for c in classes
        }
        by_class = {None: STROKE_COLOR, 0: "transparent", **by_class}
        by_object: dict[int | None, Any] = {
            o.id: by_class.get(o.class_id, STROKE_COLOR) for o in objects
        }
        by_object = {None: STROKE_COLOR, 0: "transparent", **by_object}
        for kind, colors in (("classes", by_class), ("instances", by_object)):
            if kind in self.layers and self._colors.get(kind) != (self.layers[kind], colors):
                self._colors[kind] = (self.layers[kind], colors)
                self.layers[kind].colormap = DirectLabelColormap(color_dict=colors)
        if "classes" in self.layers and self._named != (self.layers["classes"], classes.names):
            self._named = (self.layers["classes"], classes.names)
            names = ["background", *(c.name for c in classes)]
            ids = [0, *(c.id for c in classes)]
            self.layers["classes"].features = {"index": ids, "class": names}

    def select(self, *, class_id: int | None = None, object_id: int | None = None) -> None:
        """What napari's brush paints in each layer."""
        for kind, value in (("classes", class_id), ("instances", object_id)):
            if value is not None and kind in self.layers:
                self.layers[kind].selected_label = value

    def peek(self) -> None:
        """Hide the layers until :meth:`release_peek`."""
        self._peeked = [layer for layer in self.layers.values() if layer.visible]
        for layer in self._peeked:
            layer.visible = False

    def release_peek(self) -> None:
        """Show what :meth:`peek` hid."""
        for layer in self._peeked:
            layer.visible = True
        self._peeked = []

    # --- making ---

    def _make(self, kind: str, array: NDArray) -> Any:
        from napari.layers import Labels

        assert self._image is not None
        assert self._plane is not None
        layer = Labels(
            array,
            name=NAMES[kind],
            opacity=0.35 if kind == "classes" else 1.0,
            metadata={OWN: kind},
            **own_layer_place(self._plane, self._image),
        )
        if kind == "instances":
            layer.contour = self._fine_contour
        active = self._viewer.layers.selection.active
        index = self._viewer.layers.index(self._image) + 1
        if kind == "instances" and self.layers.get("classes") in self._viewer.layers:
            index = self._viewer.layers.index(self.layers["classes"]) + 1
        self._viewer.layers.insert(index, layer)
        self._viewer.layers.selection.active = active
        self._slots[kind] = lambda event, kind=kind: self._on_paint(kind, event)
        layer.events.paint.connect(self._slots[kind])
        self.layers[kind] = layer
        self._move()
        return layer

    def _move(self) -> None:
        if self._image is None or self._plane is None:
            return
        place = own_layer_place(self._plane, self._image)
        for layer in self.layers.values():
            layer.scale, layer.affine, layer.units = place["scale"], place["affine"], place["units"]
            layer.translate = place["scale"] * np.asarray(self._origin)
            layer.metadata["offset_yx"] = tuple(self._origin)  # the writers add it

    def _on_paint(self, kind: str, event: Any) -> None:
        parts = [_changed(atom) for atom in event.value]
        rows, columns, old, new = (np.concatenate(part) for part in zip(*parts, strict=True))
        # A stroke passes over a pixel more than once: it was what it was first, is what it is now.
        flat = rows.astype(np.int64) * self._arrays[kind].shape[1] + columns
        _, first = np.unique(flat, return_index=True)
        rows, columns, old = rows[first], columns[first], old[first]
        new = self._arrays[kind][rows, columns].copy()
        self.stroke.emit(kind, (rows, columns), old, new)


def _changed(atom: Any) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Rows, columns, old and new values of one piece of a napari paint event."""
    if hasattr(atom, "slice_key"):
        rows_in, columns_in = atom.slice_key
        shape = (rows_in.stop - rows_in.start, columns_in.stop - columns_in.start)
        mask = np.ones(shape, bool) if atom.mask is None else np.asarray(atom.mask)
        rows, columns = np.nonzero(mask)
        old = np.asarray(atom.old_values)
        old = old[mask] if old.shape == mask.shape else old.ravel()
        new = np.full(len(rows), atom.new_value)
        return rows + rows_in.start, columns + columns_in.start, old, new
    (rows, columns), old, new = atom
    rows, columns = np.asarray(rows).ravel(), np.asarray(columns).ravel()
    return rows, columns, np.broadcast_to(old, rows.shape), np.broadcast_to(new, rows.shape)
