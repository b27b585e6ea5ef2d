"""The two labels layers: accepted objects as outlines, classes as translucent areas.

They show the workspace's own arrays (of slides copies of a part). What is painted in them with
napari's brush, eraser and bucket goes to the workspace as a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_pathsam._napari.label_colors import LabelLook
from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import Plane, own_layer_place, put_layer
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

NAMES = {"classes": "PathSAM classes", "instances": "PathSAM objects"}
WHOLE = "whole"
"""``layer.metadata`` of a window on a slide's labels: the layer that shows all of them."""
OPACITY = {"classes": 0.35, "instances": 1.0}
CONTOURS = (1, 2, 4)
REDRAWN_AT_ONCE_PX = 1_500_000
"""A layer of this many pixels is redrawn in less than a tenth of a second."""


class LabelLayers(QObject):
    """The labels layers of the open image."""

    stroke = Signal(str, object, object, object)  # kind, indices of the array, old, new
    replaced = Signal(str, object)  # kind, the array that somebody gave the layer

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._image: Image | None = None
        self._plane: Plane | None = None
        self.arrays: dict[str, NDArray] = {}
        self.origin_yx = (0, 0)
        self._slots: dict[str, Any] = {}
        self._peeked: list[Any] = []
        self._contour = CONTOURS[0]
        self._look = LabelLook()
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
        moved = origin_yx != self.origin_yx
        self.arrays, self.origin_yx = dict(arrays), origin_yx
        self.ensure()
        for kind, array in self.arrays.items():
            layer = self.layers.get(kind)
            if layer is not None and layer.data is not array:
                if moved:
                    self._move(layer)  # first: what is there is mapped anew by either
                layer.data = array
                with suppress(AttributeError):
                    layer._reset_history()  # napari's own undo would paint the old pixels
        if not moved:
            self._move(*self.layers.values())

    def ensure(self) -> None:
        """Make the layers that are missing."""
        if self._image is None or self._plane is None:
            return
        for kind, array in self.arrays.items():
            layer = self.layers.get(kind)
            if layer is None or layer not in self._viewer.layers:
                self.layers[kind] = self._make(kind, array)

    def close(self, *, keep: bool = False) -> None:
        """Remove the layers; ``keep`` leaves them in the viewer as ordinary ones."""
        self.release_peek()
        for kind, layer in self.layers.items():
            for emitter, slot in self._slots[kind]:
                emitter.disconnect(slot)
            if keep:
                layer.metadata.pop(OWN, None)
            elif layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.layers, self._slots, self.arrays = {}, {}, {}
        self._look.forget()
        self._image = self._plane = None

    def place(self, plane: Plane) -> None:
        """The image was moved or scaled."""
        self._plane = plane
        self._move()

    def redraw(self, regions: Iterable[Region]) -> None:
        """The arrays changed in place, in these level-0 regions."""
        self.ensure()
        y, x = self.origin_yx
        at = [Region(r.y - y, r.x - x, *r.shape_yx) for r in regions]
        for layer in self.layers.values():
            if layer.visible:
                redraw_regions(layer, at)

    def set_contour(self, screen_px: float) -> None:
        """Outlines about two screen pixels wide at this zoom (screen pixels per image pixel).

        Large layers keep a fixed width: another one is computed for every pixel, in this thread.
        """
        layer = self.layers.get("instances")
        if layer is None or layer.data.size > REDRAWN_AT_ONCE_PX:
            return
        wanted = round(2 / max(screen_px, 1e-6))
        width = next((w for w in CONTOURS if w >= wanted), CONTOURS[-1])
        if width != self._contour:
            self._contour = width
            if layer.contour:
                layer.contour = width

    # --- how they look ---

    def set_colors(
        self,
        classes: ClassTable,
        class_of: Mapping[int, int],
        hidden: frozenset[int] = frozenset(),
    ) -> None:
        """Colour classes and the outlines of their objects; hidden classes are transparent."""
        self._look.show(self.layers, classes, class_of, hidden)

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
            opacity=OPACITY[kind],
            metadata={OWN: kind},
            **own_layer_place(self._plane, self._image),
        )
        if kind == "instances":
            layer.contour = self._contour
        active = self._viewer.layers.selection.active
        index = self._viewer.layers.index(self._image) + 1
        if kind == "instances" and self.layers.get("classes") in self._viewer.layers:
            index = self._viewer.layers.index(self.layers["classes"]) + 1
        self._viewer.layers.insert(index, layer)
        self._viewer.layers.selection.active = active
        self._slots[kind] = (
            (layer.events.paint, lambda event: self._on_paint(kind, event)),
            (layer.events.data, lambda event: self._on_data(kind, layer)),
        )
        for emitter, slot in self._slots[kind]:
            emitter.connect(slot)
        self.layers[kind] = layer
        self._move()
        return layer

    def _move(self, *layers: Labels) -> None:
        if self._image is None or self._plane is None:
            return
        place = own_layer_place(self._plane, self._image)
        for layer in layers or self.layers.values():
            put_layer(layer, **place, translate=place["scale"] * np.asarray(self.origin_yx))
            layer.metadata["offset_yx"] = tuple(self.origin_yx)  # the writers add it

    def _on_data(self, kind: str, layer: Labels) -> None:
        """Our layers show the workspace's arrays and no others."""
        if kind not in self.layers or self.layers[kind] is not layer:
            return
        if layer.data is not self.arrays[kind]:
            theirs, layer.data = np.asarray(layer.data), self.arrays[kind]
            self.replaced.emit(kind, theirs)

    def _on_paint(self, kind: str, event: Any) -> None:
        parts = [painted_pixels(atom) for atom in event.value]
        rows, columns, old, new = (np.concatenate(part) for part in zip(*parts, strict=True))
        # A stroke passes over a pixel more than once: it was what it was first, is what it is now.
        flat = rows.astype(np.int64) * self.arrays[kind].shape[1] + columns
        _, first = np.unique(flat, return_index=True)
        rows, columns, old = rows[first], columns[first], old[first]
        new = self.arrays[kind][rows, columns].copy()
        self.stroke.emit(kind, (rows, columns), old, new)


def redraw_regions(layer: Labels, regions: list[Region]) -> None:
    """Show changed pixels without mapping all the others anew, as napari does after a stroke.

    napari has no public call for it; should its inside change, everything is redrawn.
    """
    try:
        raw, view, contour = layer._slice.image.raw, layer._slice.image.view, layer.contour
        if not layer.loaded or raw.shape != layer.data.shape:
            raise AttributeError
        for region in regions:
            at = tuple(
                slice(max(0, part.start - contour - 1), min(size, part.stop + contour + 1))
                for part, size in zip(region.slices, raw.shape, strict=True)
            )
            pixels = layer._raw_to_displayed(raw, data_slice=at)
            if not np.may_share_memory(view, raw):
                view[at] = pixels
            layer.events.labels_update(data=pixels, offset=[part.start for part in at])
    except AttributeError:
        layer.refresh(extent=False, thumbnail=False)


def painted_pixels(atom: Any) -> tuple[NDArray, NDArray, NDArray, NDArray]:
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
